"""Trying models on the held-out sets: one after the other, then side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from minillm.evaluation.significance import Difference, compare_paired
from minillm.evaluation.statistics import estimate_mean
from minillm.training.example import Case
from minillm.training.registry import PERPLEXITY_TARGET, HeldOutSet, Metric
from minillm.training.scoring import Answer, Scores

Answerer = Callable[[Sequence[Case]], list[Answer]]


@dataclass
class SetResult:
    """One held-out set, and what each model made of it.

    Attributes:
        held_out: the set.
        cases: those that were asked.
        answers: of each model, one for each case.
    """

    held_out: HeldOutSet
    cases: Sequence[Case]
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def scores(self, model: str) -> list[Scores]:
        """One for each case. An answer that there isn't is wrong, whatever was asked."""
        main = self.held_out.metrics[0].name
        return [
            {main: 0.0} if answer.error is not None else self.held_out.score(case, answer)
            for case, answer in zip(self.cases, self.answers[model], strict=True)
        ]

    def column(self, model: str, metric: Metric) -> list[float | None]:
        """A metric's score of each case; None where it has no meaning."""
        return [scores.get(metric.name) for scores in self.scores(model)]


@dataclass(frozen=True)
class Row:
    """A line of the report: one metric of one set.

    Attributes:
        set_name: of the set.
        metric: of the set's metrics.
        means: of each model; None where no case has a score.
        intervals: 95 %, of each model.
        counts: cases with a score, of each model.
        comparison: of the first model with the last; None if there is only one, or nothing to compare.
    """

    set_name: str
    metric: Metric
    means: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    counts: dict[str, int]
    comparison: Difference | None

    def is_met(self, model: str) -> bool | None:
        """Whether a model reaches the target; None where there is no target or no score."""
        mean = self.means[model]
        return None if self.metric.target is None or mean is None else mean >= self.metric.target


@dataclass
class Report:
    """What an evaluation found.

    Attributes:
        models: in the order in which they were asked; the last is the one that is to reach the targets.
        results: of each set.
        perplexities: on plain chat, of the models that it could be measured of.
        seed: of the cases.
    """

    models: Sequence[str]
    results: Sequence[SetResult]
    perplexities: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    def rows(self) -> list[Row]:
        """All metrics of all sets."""
        return [self._row(result, metric) for result in self.results for metric in result.held_out.metrics]

    def _row(self, result: SetResult, metric: Metric) -> Row:
        columns = {model: result.column(model, metric) for model in self.models}
        values = {model: [each for each in column if each is not None] for model, column in columns.items()}
        first, *_, last = columns.values() if len(columns) > 1 else (None, None)
        return Row(
            result.held_out.name,
            metric,
            {model: sum(each) / len(each) if each else None for model, each in values.items()},
            {model: _interval(each) for model, each in values.items()},
            {model: len(each) for model, each in values.items()},
            None if first is None or last is None else _compared(first, last),
        )

    @property
    def perplexity_ratio(self) -> float | None:
        """The last model's perplexity over the first's; None unless both are known and they are two."""
        first, last = (self.perplexities.get(self.models[index]) for index in (0, -1))
        return None if first is None or last is None or len(self.models) < 2 else last / first

    def content(self) -> dict[str, Any]:
        """Everything, as what JSON knows: the numbers first, then every answer for reading."""
        ratio = self.perplexity_ratio
        return {
            "models": list(self.models),
            "seed": self.seed,
            "rows": [_row_content(row) for row in self.rows()],
            "perplexity": {"values": self.perplexities, "ratio": ratio, "target_ratio": PERPLEXITY_TARGET},
            "sets": {result.held_out.name: _answers_content(result) for result in self.results},
        }

    def print(self, console: Console) -> None:
        """Prints the table."""
        last = self.models[-1]
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("set")
        table.add_column("what counts")
        table.add_column("n", justify="right")
        for model in self.models:
            table.add_column(f"{model} (95 %)", justify="right", overflow="fold")
        if len(self.models) > 1:
            table.add_column("difference (95 %)", justify="right", no_wrap=True)
            table.add_column("p", justify="right")
        table.add_column("target", justify="right")
        table.add_column("met")
        for row in self.rows():
            cells = [row.set_name, row.metric.title, str(row.counts[last])]
            cells += [_score_cell(row.means[model], row.intervals[model]) for model in self.models]
            if len(self.models) > 1:
                cells += _comparison_cells(row.comparison)
            table.add_row(*cells, _percent(row.metric.target), _met_cell(row.is_met(last)))
        if self.perplexities:
            table.add_row(*self._perplexity_cells())
        console.print(table)

    def _perplexity_cells(self) -> list[str]:
        ratio = self.perplexity_ratio
        values = [self.perplexities.get(model) for model in self.models]
        cells = [
            "chat",
            "perplexity",
            "",
            *("–" if each is None else f"{each:.3f}" for each in values),
        ]
        if len(self.models) > 1:
            cells += ["–" if ratio is None else f"× {ratio:.3f}", ""]
        met = None if ratio is None else ratio <= PERPLEXITY_TARGET
        return [*cells, "–" if ratio is None else f"× {PERPLEXITY_TARGET}", _met_cell(met)]


def _interval(scores: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the mean; of no scores, all that is possible."""
    estimate = estimate_mean(scores) if scores else None
    return (estimate.low, estimate.high) if estimate else (0.0, 1.0)


def _compared(first: Sequence[float | None], last: Sequence[float | None]) -> Difference | None:
    """Of the cases that both have a score for; None where there are none."""
    pairs = [(a, b) for a, b in zip(first, last, strict=True) if a is not None and b is not None]
    return compare_paired([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None


def _row_content(row: Row) -> dict[str, Any]:
    return {
        "set": row.set_name,
        "metric": row.metric.name,
        "title": row.metric.title,
        "target": row.metric.target,
        "models": {
            model: {"mean": mean, "interval": row.intervals[model], "n": row.counts[model], "met": row.is_met(model)}
            for model, mean in row.means.items()
        },
        "comparison": None if row.comparison is None else asdict(row.comparison),
    }


def _answers_content(result: SetResult) -> list[dict[str, Any]]:
    scores: Mapping[str, list[Scores]] = {model: result.scores(model) for model in result.answers}
    return [
        {
            **asdict(case),
            "answers": {
                model: asdict(answers[index]) | {"scores": scores[model][index]}
                for model, answers in result.answers.items()
            },
        }
        for index, case in enumerate(result.cases)
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _score_cell(mean: float | None, interval: tuple[float, float]) -> str:
    return "–" if mean is None else f"{_percent(mean)} ({100 * interval[0]:.0f}–{100 * interval[1]:.0f})"


def _comparison_cells(comparison: Difference | None) -> list[str]:
    if comparison is None:
        return ["–", ""]
    p = "<.001" if comparison.p_value < 0.001 else f"{comparison.p_value:.3f}".lstrip("0")
    difference, low, high = (100 * value for value in (comparison.difference, comparison.low, comparison.high))
    return [f"{difference:+.0f} ({low:+.0f} to {high:+.0f})", p]


def _met_cell(met: bool | None) -> str:
    return {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[met]
