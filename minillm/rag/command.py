"""The command `minillm rag`: index, search, ask, bench.

What is found and answered goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from minillm.rag.errors import RagError

if TYPE_CHECKING:
    from minillm.rag.index import Index
    from minillm.rag.searching import Filters, Hit

app = typer.Typer(
    help="Answers from your own documents, with citations that are checked.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True, highlight=False)

Database = Annotated[Path, typer.Option("--database", "-d", help="The index: one SQLite file.")]
Tenant = Annotated[str, typer.Option(help="Whose documents. No search goes through several tenants'.")]
Sources = Annotated[
    list[str] | None, typer.Option("--source", metavar="PATTERN", help='Only these, such as "handbook/*"; repeatable.')
]
Clearance = Annotated[str, typer.Option(help="public, internal, confidential or restricted: the highest that's read.")]
MaxAge = Annotated[float | None, typer.Option(metavar="DAYS", help="None that is older.")]
Mode = Annotated[str, typer.Option(help="hybrid, words, or vectors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def index(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Files and folders: Markdown, text, HTML, PDF.")
    ] = None,
    database: Database = Path("rag.db"),
    python: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="A Python module's documentation; imports it. Repeatable."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose they are; one that says it's another's is refused.")] = None,
    owner: Annotated[str | None, typer.Option(help="Of those that name none.")] = None,
    classification: Annotated[str | None, typer.Option(help="Of those that name none; internal if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the index up to date with files, folders and modules.

    What hasn't changed is left alone, what is gone from a folder goes from the index. Interrupted, it goes on
    where it was.

    A Markdown file says who owns it and who may read it in lines at its top:

    \b
      ---
      owner: People team
      date: 2026-03-12
      classification: internal   # public, internal, confidential, restricted
      tenant: acme
      version: 3
      ---

    The vectors come from the server at OPENAI_BASE_URL, with OPENAI_API_KEY and MINILLM_EMBEDDING_MODEL; by
    default from this machine's minillm serve --embedding-model all-minilm-l6-v2
    """
    if not paths and not python:
        raise typer.BadParameter("Name a file, a folder, or a module with --python.")
    with _needs_extra():
        from minillm.rag import Connection, Embedder, Index, PythonModule

    with Connection() as connection, Index(database, Embedder(connection.client, connection.embedding_model)) as into:
        named = [*(paths or ()), *map(PythonModule, python or ())]
        with _progress() as progress:
            report = into.add(named, tenant=tenant, owner=owner, classification=classification, progress=progress)
        num_chunks = len(into)
    if as_json:
        print(json.dumps(asdict(report) | {"chunks": num_chunks}))
    else:
        counts = {"added": report.added, "changed": report.changed, "removed": report.removed, "failed": report.failed}
        words = [f"{len(names)} {name}" for name, names in counts.items() if names]
        print(f"{', '.join([*words, f'{report.unchanged} unchanged'])}; {num_chunks} chunks in {database}")
    for reason in report.failed.values():
        err.print(f"[bold yellow]not read:[/] {escape(reason)}", soft_wrap=True)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS…", help="Words, or a question.")],
    database: Database = Path("rag.db"),
    k: Annotated[int, typer.Option("-k", min=1, help="How many chunks.")] = 5,
    mode: Mode = "hybrid",
    tenant: Tenant = "default",
    source: Sources = None,
    clearance: Clearance = "internal",
    max_age: MaxAge = None,
    as_json: AsJson = False,
) -> None:
    """Show the chunks that fit best. With --mode words no server is needed."""
    with _needs_extra(), _opened(database, mode) as (found_in, _):
        filters = _filters(tenant, source, clearance, max_age)
        hits = found_in.search(_text(" ".join(words)), k, mode=mode, filters=filters)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps([_as_dict(hit) for hit in hits]))
        return
    console = Console(highlight=False)
    for number, hit in enumerate(hits, 1):
        ranks = [("words", hit.word_rank), ("vectors", hit.vector_rank)]
        found = ", ".join(f"{rank}. by {name}" for name, rank in ranks if rank)
        place = ", ".join(part for part in (hit.provenance.source, hit.chunk.place, found) if part)
        console.print(f"[bold]{number}. {escape(hit.title)}[/]  [dim]{escape(place)}[/]", soft_wrap=True)
        console.print(f"{escape(hit.chunk.text)}\n", soft_wrap=True)
    if not hits:
        err.print("Nothing was found.")


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="In your own words; - reads it from standard input.")],
    database: Database = Path("rag.db"),
    k: Annotated[int, typer.Option("-k", min=1, help="The most chunks that the model gets.")] = 4,
    mode: Mode = "hybrid",
    tenant: Tenant = "default",
    source: Sources = None,
    clearance: Clearance = "internal",
    warn_after: Annotated[float, typer.Option(metavar="DAYS", help="Say so when a source is older.")] = 365,
    max_age: MaxAge = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question from the index, with sources; or say that they don't say.

    The model comes from the server at OPENAI_BASE_URL, with OPENAI_API_KEY and MINILLM_MODEL; by default from
    this machine's minillm serve --embedding-model all-minilm-l6-v2
    """
    with _needs_extra(), _opened(database, mode, answers=True) as (found_in, connection):
        from minillm.rag import Answerer, Budget

        budget = Budget(timedelta(days=warn_after), None if max_age is None else timedelta(days=max_age))
        answerer = Answerer(
            found_in,
            connection.client,
            connection.model,
            k=k,
            mode=mode,  # type: ignore[arg-type]
            budgets=[budget],
        )
        text = _text(sys.stdin.read() if question == "-" else question)
        with err.status("Looking and asking …"):
            answer = answerer.answer(text, filters=_filters(tenant, source, clearance, None))
    if as_json:
        content = asdict(answer)
        content |= {
            "sources": [_as_dict(hit) for hit in answer.sources],
            "stale": [_as_dict(hit) for hit in answer.stale],
        }
        print(json.dumps(content))
        return
    print(answer.text)
    if answer.refused:
        err.print(f"[dim]({escape(answer.reason)})[/]", soft_wrap=True)
    for number in sorted({citation.number for citation in answer.citations}):
        hit = answer.sources[number - 1]
        place = ", ".join(part for part in (hit.provenance.source, hit.chunk.place) if part)
        print(f"  [{number}] {hit.title}: {place}")


@app.command()
def bench(
    size: Annotated[
        list[int] | None, typer.Option(min=10, help="How many chunks; repeatable. 1000, 10000, 100000 if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what a query costs here as an index grows, with made-up documents and vectors. No server is needed."""
    from rich.table import Table

    with _needs_extra():
        from minillm.rag.growth import SEARCHES, SIZES, measure

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("chunks", "added in", "file", *(f"{name}" for name, _, _ in SEARCHES)):
        table.add_column(heading, justify="right")
    rows = []
    with tempfile.TemporaryDirectory() as folder, err.status("") as status:
        for row in measure(Path(folder), size or SIZES, progress=status.update):
            rows.append(asdict(row))
            times = [f"{row.medians[name]:.1f} / {row.p95s[name]:.1f} ms" for name, _, _ in SEARCHES]
            table.add_row(f"{row.num_chunks:,}", f"{row.seconds_to_add:.1f} s", f"{row.megabytes:.0f} MB", *times)
    if as_json:
        print(json.dumps(rows))
    else:
        Console(highlight=False).print(table)
        print("A query's median / 95th percentile; without the time for the question's own vector.")


@contextmanager
def _needs_extra() -> Iterator[None]:
    """Says what to install where the extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise RagError(f"This needs {error.name}. Run: pip install 'minillm[rag]'") from error


@contextmanager
def _opened(database: Path, mode: str, *, answers: bool = False) -> Iterator[tuple[Index, Any]]:
    """The index, with an embedder where the mode needs one, and the connection."""
    from minillm.rag import Connection, Embedder, Index

    if mode not in ("hybrid", "words", "vectors"):
        raise typer.BadParameter(f"--mode is {mode!r}; choose hybrid, words or vectors.")
    if not database.exists():
        raise RagError(f"There's no index at {database}. Make one with: minillm rag index PATH")
    with Connection() as connection:
        embedder = None if mode == "words" else Embedder(connection.client, connection.embedding_model)
        with Index(database, embedder, create=False) as found_in:
            yield found_in, connection


def _filters(tenant: str, sources: list[str] | None, clearance: str, max_age: float | None) -> Filters:
    from minillm.rag import Filters

    days = None if max_age is None else timedelta(days=max_age)
    return Filters(tenant, tuple(sources) if sources else None, clearance, days)


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on standard error, and what `Index.add` is to tell."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("documents", total=None, note="")

        def update(now: Any) -> None:
            note = f"{now.embedded:,} texts embedded  {escape(now.source)}"
            bar.update(task, completed=now.done, total=now.total, note=note)

        yield update


def _as_dict(hit: Hit) -> dict[str, Any]:
    return asdict(hit) | {"provenance": asdict(hit.provenance) | {"updated": hit.provenance.updated.isoformat()}}


def _text(text: str) -> str:
    """Text from the command line or standard input. Bytes that Python couldn't decode may be UTF-8 after all."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
