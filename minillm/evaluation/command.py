"""`minillm eval`: a model is tried on questions, as a judge, and on its safety; runs are compared.

Imports nothing heavy at the top: `minillm --help` reads this file too. Tables and JSON go to standard output, the rest
to standard error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from minillm.evaluation.asking import Progress as Tell
    from minillm.evaluation.journal import Journal

evaluation = typer.Typer(
    help="Try a model through the API: answers, judges, safety; and compare two runs.\n\n"
    "The server is OPENAI_BASE_URL's (with OPENAI_API_KEY), else `minillm serve` on this machine.",
    no_args_is_help=True,
)
err = Console(stderr=True, highlight=False)

Model = Annotated[str | None, typer.Option("--model", "-m", help="The model to ask for; MINILLM_MODEL if not given.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the result there, each answer too.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Concurrency = Annotated[int, typer.Option(min=1, help="The most requests in flight; fewer if the server is full.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many.")]


@evaluation.command()
def run(
    dataset: Annotated[
        Path | None, typer.Argument(help="A JSONL file; twelve questions that come with minillm if none.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="exact_match, f1, groundedness, mrr, recall@5, …; again for more.")
    ] = None,
    model: Model = None,
    output: Output = None,
    max_tokens: MaxTokens = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt in place of the examples'.")] = None,
    limit: Limit = None,
    concurrency: Concurrency = 64,
    as_json: AsJson = False,
) -> None:
    """Put a dataset's questions to a model and score its answers.

    Each line of a dataset is an object: id, question; answers (any of them is
    right); sources (each id, text); relevant (ids, or grades by id); retrieved
    (ids that a search found, the best first); system.

    Metrics of answers: exact_match, f1 (these need answers), groundedness,
    citation_precision, citation_recall (these need sources). Metrics of a search:
    mrr, recall@K, precision@K, ndcg@K; they need relevant and retrieved, and no
    model is asked.

    With --output, answers are kept as they come, in FILE.partial.jsonl. After an
    interruption the same command goes on from there.
    """
    from minillm.evaluation.asking import wait_for
    from minillm.evaluation.connection import Connection
    from minillm.evaluation.dataset import DATA, read_examples, with_system
    from minillm.evaluation.running import evaluate
    from minillm.evaluation.scoring import find_metric
    from minillm.evaluation.tables import print_run

    names = metric or ["f1", "groundedness", "citation_precision", "citation_recall"]
    asks = any(find_metric(name).needs_answer for name in names)
    path = dataset or DATA / "questions.jsonl"
    examples = read_examples(path)[:limit]
    if system:
        examples = with_system(examples, system)
    options = {"max_tokens": max_tokens, "temperature": temperature} | ({} if seed is None else {"seed": seed})
    with _progress() as tell:
        result = wait_for(
            evaluate(
                Connection.from_environment(model) if asks else None,
                examples,
                names,
                dataset=path.name,
                options=options,
                output=output,
                progress=tell,
                maximum=concurrency,
            )
        )
    if as_json:
        print(json.dumps(result.as_dict()))
    else:
        print_run(result, Console(highlight=False))


@evaluation.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="A result of `minillm eval run --output`.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="Another, of the same dataset.")],
    as_json: AsJson = False,
) -> None:
    """Say how far run B is ahead of run A, and whether chance alone would do that.

    The runs are paired example by example. Right or wrong: McNemar's exact test,
    Newcombe's interval. Scores: a permutation test, the paired bootstrap. p is how
    often chance would put them as far apart; p (Holm) allows for several metrics.
    """
    from minillm.evaluation.comparing import compare_runs
    from minillm.evaluation.running import read_result
    from minillm.evaluation.tables import print_comparison

    comparison = compare_runs(read_result(a), read_result(b))
    if as_json:
        print(json.dumps(comparison.as_dict()))
    else:
        print_comparison(comparison, Console(highlight=False))


@evaluation.command()
def judge(
    dataset: Annotated[
        Path | None, typer.Argument(help="A JSONL file; sixteen cases that come with minillm if none.")
    ] = None,
    model: Model = None,
    reference: Annotated[bool, typer.Option("--reference", help="Tell the judge the reference.")] = False,
    output: Output = None,
    max_tokens: MaxTokens = 256,
    limit: Limit = None,
    concurrency: Concurrency = 64,
    as_json: AsJson = False,
) -> None:
    """Say how far a model can be trusted as a judge.

    Each line of a dataset is an object: id, question, better, worse, and maybe
    reference. The judge is asked six times about each: whether either answer is
    correct; which is better, in both orders; and, in both orders, whether the
    better answer with empty words around it is better than without.
    """
    from minillm.evaluation.asking import wait_for
    from minillm.evaluation.connection import Connection
    from minillm.evaluation.dataset import DATA
    from minillm.evaluation.judges import try_judge
    from minillm.evaluation.judging import read_judge_cases
    from minillm.evaluation.tables import print_judge

    cases = read_judge_cases(dataset or DATA / "judge.jsonl")[:limit]
    connection = Connection.from_environment(model)
    with _journal(output) as journal, _progress() as tell:
        report = wait_for(
            try_judge(
                connection,
                cases,
                with_reference=reference,
                max_tokens=max_tokens,
                journal=journal,
                progress=tell,
                maximum=concurrency,
            )
        )
        _keep(report.as_dict(), output, journal)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        print_judge(report, Console(highlight=False))


@evaluation.command()
def safety(
    probes: Annotated[
        list[Path] | None, typer.Argument(help="JSONL files; the attacks and harmless requests of minillm if none.")
    ] = None,
    model: Model = None,
    alone: Annotated[bool, typer.Option("--alone", help="Each layer by itself, not on top of the others.")] = False,
    output: Output = None,
    max_tokens: MaxTokens = 96,
    concurrency: Concurrency = 64,
    as_json: AsJson = False,
) -> None:
    """Attack a model through layers of defence, and say what each prevents and costs.

    Each line of a file is an object: id; kind (injection, leak, unsafe, harmless);
    system; documents; user; signs (any of them in the answer says that it does
    what was asked). The sets are small: they show what a layer does, and are no
    proof that an application is safe.
    """
    from minillm.evaluation.asking import wait_for
    from minillm.evaluation.connection import Connection
    from minillm.evaluation.dataset import DATA
    from minillm.evaluation.defending import ALONE, LAYERS
    from minillm.evaluation.probing import probe_safety, read_probes
    from minillm.evaluation.tables import print_safety

    files = probes or [DATA / "attacks.jsonl", DATA / "harmless.jsonl"]
    chosen = [probe for file in files for probe in read_probes(file)]
    connection = Connection.from_environment(model)
    with _journal(output) as journal, _progress() as tell:
        report = wait_for(
            probe_safety(
                connection,
                chosen,
                ALONE if alone else LAYERS,
                max_tokens=max_tokens,
                journal=journal,
                progress=tell,
                maximum=concurrency,
            )
        )
        _keep(report.as_dict(), output, journal)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        print_safety(report, Console(highlight=False))


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on standard error, with the number of requests in flight."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("Asking", total=None)

        def tell(done: int, total: int, limit: int) -> None:
            bar.update(task, completed=done, total=total, description=f"Asking, up to {limit} at once")

        yield tell


@contextmanager
def _journal(output: Path | None) -> Iterator[Journal | None]:
    if output is None:
        yield None
        return
    from minillm.evaluation.journal import Journal, partial_path

    with Journal(partial_path(output)) as journal:
        yield journal


def _keep(result: Mapping[str, Any], output: Path | None, journal: Journal | None) -> None:
    """Writes a result, and deletes the answers that were kept until then."""
    if output is not None and journal is not None:
        from minillm.evaluation.journal import write_result

        write_result(output, result)
        journal.remove()
