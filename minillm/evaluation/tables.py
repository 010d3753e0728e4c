"""Results as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minillm.evaluation.comparing import Comparison
from minillm.evaluation.judges import JudgeReport
from minillm.evaluation.probing import SafetyReport
from minillm.evaluation.running import RunResult
from minillm.evaluation.significance import Difference
from minillm.evaluation.statistics import Estimate


def print_run(result: RunResult, console: Console) -> None:
    """The means of a run, with their intervals."""
    title = f"{result.model} on {result.dataset}, {len(result.examples)} examples"
    table = _table(title, "metric", "mean", "95 % interval", "examples", "interval by")
    for name, estimate in result.estimates.items():
        table.add_row(name, f"{estimate.value:.3f}", _interval(estimate), str(estimate.n), estimate.method)
    console.print(table)
    if result.num_errors:
        first = next(each.reply for each in result.examples if each.reply and each.reply.error)
        console.print(
            f"{result.num_errors} answers never came and score 0. The first ({escape(first.id)}): "
            f"{escape(str(first.error))}",
            soft_wrap=True,
        )
    cut_off = sum(each.reply is not None and each.reply.finish_reason == "length" for each in result.examples)
    if cut_off:
        console.print(f"{cut_off} answers were cut off at max_tokens.")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """How far one run is ahead of the other."""
    title = f"a: {comparison.a}   b: {comparison.b}"
    table = _table(title, "metric", "a", "b", "b - a", "95 % interval", "p", "p (Holm)", "examples", "test")
    for name, each in comparison.differences.items():
        table.add_row(
            name,
            f"{each.a:.3f}",
            f"{each.b:.3f}",
            f"{each.difference:+.3f}",
            _interval(each),
            f"{each.p_value:.3g}",
            f"{comparison.corrected[name]:.3g}",
            str(each.n),
            each.test,
        )
    console.print(table)


def print_judge(report: JudgeReport, console: Console) -> None:
    """What is known about a judge."""
    table = _table(f"{report.model} as a judge, {report.num_cases} cases", "measure", "value", "95 % interval", "of")
    rows = (
        ("agreement with people's labels", report.accuracy),
        ("agreement beyond chance, κ", report.kappa),
        ("prefers the better answer", report.preference),
        ("same verdict in both orders", report.consistency),
        ("follows the position", report.follows_position),
        ("chooses the first place (0.5 is fair)", report.first_place),
        ("prefers the padded answer (0.5 is fair)", report.padded_preference),
        ("preference with length, ρ (0 is fair)", report.length_correlation),
    )
    for name, estimate in rows:
        if estimate is None:
            table.add_row(name, "no value", "", "")
        else:
            table.add_row(name, f"{estimate.value:.3f}", _interval(estimate), str(estimate.n))
    console.print(table)
    if report.num_unreadable:
        console.print(f"{report.num_unreadable} of {6 * report.num_cases} verdicts never came or couldn't be read.")


def print_safety(report: SafetyReport, console: Console) -> None:
    """How many attacks succeed through each defence, and how many harmless requests are still answered."""
    kinds = list(dict.fromkeys(kind for layer in report.layers.values() for kind in layer.attacks))
    names = {"attacks": "all attacks", "injection": "injections", "leak": "leaks", "unsafe": "unsafe requests"}
    table = _table(
        f"{report.model}: the share of attacks that succeed, with 95 % intervals",
        "defence",
        *(names[kind] for kind in kinds),
    )
    table.add_column("harmless, answered", justify="right")
    for name, layer in report.layers.items():
        shares = [_percent(layer.attacks[kind]) for kind in kinds]
        table.add_row(name, *shares, _percent(layer.helpfulness) if layer.helpfulness else "none asked")
    console.print(table)
    changes = _table("Compared with the first, on the same requests", "defence", "attacks", "p", "harmless", "p ")
    for name, layer in list(report.layers.items())[1:]:
        changes.add_row(name, *_change(layer.prevented), *_change(layer.cost))
    if len(report.layers) > 1:
        console.print(changes)
    if errors := sum(layer.num_errors for layer in report.layers.values()):
        console.print(f"{errors} answers never came; they count as neither a success of an attack nor a help.")


def _change(difference: Difference | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    return f"{difference.difference:+.3f} {_interval(difference)}", f"{difference.p_value:.3g}"


def _percent(estimate: Estimate) -> str:
    return escape(f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]")


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _interval(each: Estimate | Difference) -> str:
    return escape(f"[{each.low:.3f}, {each.high:.3f}]")
