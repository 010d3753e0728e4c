"""Figures of fine-tuning: which tokens of an example count, and how the loss and the score change meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.ticker import MaxNLocator, PercentFormatter

from minillm.lab.display import Html, pieces, visible
from minillm.lab.figures import (
    _DASHES,
    _MARKERS,
    BLACK,
    BLUE,
    GRAY,
    ORANGE,
    PALETTE,
    LabFigure,
    _chip_piece,
    _count,
    _percent,
    _styled,
)

__all__ = ["loss_mask", "training_curve"]


_CHIP = "display:inline-block;font-family:monospace;white-space:pre;padding:0 2px;border-radius:3px 3px 0 0;"
_READ = f"border-bottom:3px solid {GRAY}33"
_LEARNED = f"color:inherit;background:{ORANGE}66;border-bottom:3px solid {ORANGE};font-weight:bold"
_RECENT = 5  # steps whose losses are averaged: one step's examples are easier than another's


def loss_mask(tokens: Sequence[str | bytes], targets: Collection[int]) -> Html:
    """A text, token by token: those that a model learns to say stand out, those that it only reads don't.

    Args:
        tokens: text of each token; pass `tokenizer.token_bytes(token_id)` to see characters that are split.
        targets: the places of the tokens that the loss counts.
    """
    counts = f"{_count(len(tokens), 'token')}, of which {len(targets)} count"
    words = [f"«{visible(token)}»" if place in targets else visible(token) for place, token in enumerate(tokens)]
    chips = "".join(_mask_chip(token, place in targets) for place, token in enumerate(tokens))
    return Html(
        f'<div role="group" aria-label="{counts}" style="display:flex;flex-wrap:wrap;gap:4px 2px;max-width:60em">'
        f'{chips}</div><div style="font-size:85%;opacity:.85;margin-top:.6em">{counts}: '
        f'<mark style="{_CHIP}{_LEARNED}">bold</mark> is to be learned, '
        f'<span style="{_CHIP}{_READ}">plain</span> is only read. ␣ is a space, ⏎ a new line.</div>',
        f"{counts} (between « and »): " + " ".join(words),
    )


def _mask_chip(token: str | bytes, is_target: bool) -> str:
    inner = "".join(_chip_piece(piece.kind, piece.text) for piece in pieces(token)) or "<i>empty</i>"
    tag, look = ("mark", _LEARNED) if is_target else ("span", _READ)
    is_end = b"\n" in (token if isinstance(token, bytes) else token.encode())
    line_break = '<span aria-hidden="true" style="flex-basis:100%"></span>' if is_end else ""
    return f'<{tag} style="{_CHIP}{look}">{inner}</{tag}>{line_break}'


@_styled
def training_curve(
    losses: Sequence[float],
    scores: Mapping[str, Sequence[tuple[int, float]]],
    num_steps: int,
    *,
    intervals: Sequence[tuple[float, float]] = (),
    title: str = "What the steps have done so far",
) -> LabFigure:
    """Two panels over the steps of a training: the loss of each step, and scores that were measured now and then.

    Args:
        losses: of the steps that were taken, in nats per token; the first is of step 1.
        scores: for each quantity, the steps that had been taken and its share, from 0 to 1.
        num_steps: how many there will be.
        intervals: low and high end of each of the first quantity's shares.
        title: of the figure.
    """
    figure = LabFigure(9, 6.4, _training_alt(losses, scores, intervals, title))
    above, below = figure.subplots(2, 1, sharex=True)
    steps = range(1, len(losses) + 1)
    above.plot(steps, losses, linestyle="none", marker="o", markersize=5, color=BLUE, alpha=0.5, label="one step")
    above.plot(steps, recent_means(losses), color=BLACK, label=f"mean of the last {_RECENT}")
    above.set_ylim(0, 1.1 * max(losses, default=1.0))
    above.set_ylabel("loss (nats per token)")
    above.set_title(title)
    above.legend(loc="upper right")
    for index, (name, points) in enumerate(scores.items()):
        below.plot(
            *zip(*points, strict=True),
            color=PALETTE[index % len(PALETTE)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
            label=name,
        )
    if intervals:
        measured = [step for step, _ in next(iter(scores.values()))]
        below.vlines(measured, *zip(*intervals, strict=True), color=PALETTE[0], linewidth=7, alpha=0.25, zorder=1)
    below.set_xlim(-0.02 * num_steps, 1.02 * num_steps)
    below.set_ylim(-0.04, 1.04)
    below.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.set_xlabel("steps taken")
    below.set_ylabel("share of the questions")
    if scores:
        figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def recent_means(losses: Sequence[float]) -> list[float]:
    """For each step, the mean of its loss and those before it, at most five in all."""
    recent = (losses[max(0, end - _RECENT) : end] for end in range(1, len(losses) + 1))
    return [sum(each) / len(each) for each in recent]


def _training_alt(
    losses: Sequence[float],
    scores: Mapping[str, Sequence[tuple[int, float]]],
    intervals: Sequence[tuple[float, float]],
    title: str,
) -> str:
    words = [f"{_count(len(losses), 'step')}"]
    if losses:
        words.append(f"the loss went from {losses[0]:.2f} to {recent_means(losses)[-1]:.2f} nats per token")
    for index, (name, points) in enumerate(scores.items()):
        shares = [f"{_percent(share)} after {_count(step, 'step')}" for step, share in points]
        if intervals and index == 0:
            shares = [
                f"{share} (95 % interval {_percent(low)} to {_percent(high)})"
                for share, (low, high) in zip(shares, intervals, strict=True)
            ]
        words.append(f"{name}: {', '.join(shares)}")
    return f"{title}. {'; '.join(words)}."
