"""`minillm train`: the course's adapter, from its data to the proof that it helps.

Imports nothing heavy at the top: `minillm --help` reads this file too.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from minillm.errors import MinillmError

if TYPE_CHECKING:
    from minillm.engine import LLM
    from minillm.training.evaluate import Report, SetResult

train = typer.Typer(
    help="Fine-tune the default model for the course's jobs, and try it on questions that it never saw.",
    no_args_is_help=True,
)
err = Console(stderr=True, highlight=False)

ADAPTED, BASE = "smollm2-135m+course", "smollm2-135m"


def _known_quantization(value: str | None) -> str | None:
    if value not in (None, "int8", "int4"):
        raise typer.BadParameter(f"--quantization is {value!r}; choose int8 or int4.")
    return value


Sets = Annotated[str | None, typer.Option(metavar="NAME,…", help="Which held-out sets; all if not given.")]
Seed = Annotated[int, typer.Option(help="Of the questions; another seed asks other ones.")]


@train.command()
def course(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the adapter goes.")] = Path(
        "course-adapter"
    ),
    base: Annotated[str, typer.Option(help="The model that learns.")] = BASE,
    steps: Annotated[int, typer.Option(min=1, help="How often the adapter is changed.")] = 320,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter's matrices; its size grows with it.")] = 16,
    tokens_per_step: Annotated[int, typer.Option(min=1, help="The most tokens to learn from in one step.")] = 2048,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="The highest; it rises, then falls.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of the examples and of the adapter's first values.")] = 0,
    begin_from: Annotated[
        str | None, typer.Option("--from", metavar="ADAPTER", help="Begin with this one, such as course or ./folder.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Begin again even if the folder holds a checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")] = "auto",
) -> None:
    """Train the course's adapter: an hour or more on two CPU cores, minutes on a GPU.

    Ctrl-C stops it with a checkpoint, and the same command goes on from there. What the adapter that minillm ships was
    made with is in its card. A smaller one in ten minutes: --steps 40 --rank 8.
    """
    with err.status("Loading PyTorch …"):
        from minillm.training.course import train_course
        from minillm.training.train import Recipe
    recipe = Recipe(
        rank=rank,
        alpha=2.0 * rank,
        num_steps=steps,
        warmup_steps=min(Recipe.warmup_steps, max(1, steps // 10)),
        tokens_per_step=tokens_per_step,
        learning_rate=learning_rate,
        seed=seed,
    )
    train_course(output, base_model=base, recipe=recipe, device=device, anew=anew, console=err, begin_from=begin_from)


@train.command()
def evaluate(
    model: Annotated[str, typer.Option("--model", "-m", help="What is tried, such as MODEL+ADAPTER.")] = ADAPTED,
    base: Annotated[str | None, typer.Option(help="What it's compared with; none for nothing.")] = None,
    sets: Sets = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions of each set.")] = None,
    seed: Seed = 0,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything there, each answer too.")
    ] = None,
    perplexity: Annotated[bool, typer.Option(help="Measure the perplexity on plain chat as well.")] = True,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="OPENAI_BASE_URL", help="Ask this OpenAI-compatible API instead."),
    ] = None,
    api_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to ask for there; MINILLM_MODEL if not given.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the API at once.")] = 8,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto for the device's best.")] = "auto",
    quantization: Annotated[
        str | None, typer.Option(help="Weights in int8 or int4.", callback=_known_quantization)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")] = "auto",
) -> None:
    """Put the held-out questions to a model, and to the base model for comparison.

    What runs here is smollm2-135m+course unless you name another model; its base
    is what stands before the plus. With --endpoint the same questions go to a
    model elsewhere (OPENAI_API_KEY is its key), and to a base if you name one.

    The table gives each score with its 95 % interval, how far the model is ahead
    of its base on the same questions, and p: how often chance alone would make
    as large a difference (McNemar's test).
    """
    if api_model and not endpoint:
        raise typer.BadParameter("--api-model needs --endpoint (or OPENAI_BASE_URL) to say where the model is.")
    with err.status("Loading PyTorch …"):
        from minillm.training.evaluate import Report, SetResult
        from minillm.training.registry import find_sets
    results = [SetResult(each, each.cases(seed)[:limit]) for each in find_sets(sets)]
    report = Report([], results, seed=seed)
    settings = {"dtype": dtype, "quantization": quantization, "device": device}
    # What is tried comes first, since its name is likelier to be wrong than the base's; in the table it comes last.
    for name in reversed(_local_models(model, base, is_remote=endpoint is not None)):
        _ask_engine(name, report, settings, perplexity=perplexity)
    if endpoint is not None:
        _ask_api(endpoint, api_model, results, report, concurrency)
        if perplexity:
            err.print("[dim]The API gives no log-probabilities of a given text, so there is no perplexity of it.[/]")
    report.print(Console(highlight=False))
    if json_path is not None:
        _write_json(json_path, report)


def _local_models(model: str, base: str | None, *, is_remote: bool) -> list[str]:
    """What runs in this process, the base first."""
    if is_remote:
        return [] if base in (None, "none") else [base]
    base = base or model.partition("+")[0]
    return [model] if base in ("none", model) else [base, model]


def _ask_engine(name: str, report: Report, settings: dict[str, Any], *, perplexity: bool) -> None:
    from minillm.training.answering import answer_with_engine
    from minillm.training.perplexity import chat_perplexity

    llm = _load(name, settings)
    report.models = [name, *report.models]
    with _progress(name, report.results) as progress:
        for task, result in zip(progress.task_ids, report.results, strict=True):
            result.answers[name] = answer_with_engine(llm, result.cases, partial(progress.advance, task))
    if perplexity:
        report.perplexities[name] = chat_perplexity(llm).value
    del llm
    gc.collect()  # the next model needs the room


def _load(name: str, settings: dict[str, Any]) -> LLM:
    from minillm.engine import LLM
    from minillm.weights import MODELS, fetch

    base = name.partition("+")[0]
    if base in MODELS:
        fetch(base)  # has a progress bar of its own
    with err.status(f"Loading {escape(name)} …"):
        return LLM(name, **settings)


def _ask_api(endpoint: str, model: str | None, results: Sequence[SetResult], report: Report, concurrency: int) -> None:
    try:
        import openai
    except ModuleNotFoundError as error:
        raise MinillmError("An API is asked through openai's client. Run: pip install 'minillm[course]'") from error
    from minillm.training.answering import answer_with_api

    api_key = os.environ.get("OPENAI_API_KEY") or "not-needed"
    with openai.OpenAI(base_url=endpoint, api_key=api_key) as client:
        model = model or os.environ.get("MINILLM_MODEL") or _only_model(client)
        name = f"{model} (API)" if model in report.models else model
        report.models = [*report.models, name]
        with _progress(name, results) as progress:
            for task, result in zip(progress.task_ids, results, strict=True):
                advance = partial(progress.advance, task)
                result.answers[name] = answer_with_api(client, model, result.cases, advance, concurrency)


def _only_model(client: Any) -> str:
    """The model of an endpoint that has one.

    Raises:
        MinillmError: if it has several, or doesn't say.
    """
    import openai

    try:
        names = [model.id for model in client.models.list()]
    except openai.OpenAIError as error:
        raise MinillmError(
            f"{client.base_url} doesn't list its models ({type(error).__name__}: {error}). Check the address, or name "
            "a model with --api-model."
        ) from error
    if len(names) != 1:
        raise MinillmError(f"{client.base_url} has {len(names)} models. Name one with --api-model: {', '.join(names)}.")
    return str(names[0])


def _progress(model: str, results: Sequence[SetResult]) -> Progress:
    """A bar for each set, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    for result in results:
        progress.add_task(f"{escape(model)}  {result.held_out.name}", total=len(result.cases))
    return progress


def _write_json(path: Path, report: Report) -> None:
    text = json.dumps(report.content(), ensure_ascii=False, indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise MinillmError(f"The results can't be written to {path}: {error.strerror}.") from error
    err.print(f"[dim]Every answer is in {escape(str(path))}.[/]")


@train.command()
def cases(
    set_name: Annotated[str, typer.Option("--set", metavar="NAME", help="Of which held-out set.")] = "grounded",
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 5,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show held-out questions, and what is expected of an answer."""
    from minillm.training.registry import find_sets

    console = Console(highlight=False)
    for held_out in find_sets(set_name):
        for number, case in enumerate(held_out.cases(seed)[:n], 1):
            if as_json:
                sys.stdout.write(json.dumps(asdict(case), ensure_ascii=False) + "\n")
                continue
            console.rule(f"{held_out.name} {number}")
            for message in case.messages:
                console.print(f"[bold]{escape(str(message['role']))}[/]  {escape(_content(message))}")
            for tool in case.tools or ():
                console.print(f"[bold]tool[/]  {escape(json.dumps(tool, ensure_ascii=False))}")
            if case.schema is not None:
                console.print(f"[bold]schema[/]  {escape(json.dumps(case.schema, ensure_ascii=False))}")
            console.print(f"[green]expected[/]  {escape(json.dumps(case.expected, ensure_ascii=False))}")


def _content(message: Any) -> str:
    calls = message.get("tool_calls")
    return str(message.get("content") or "") + (f" {json.dumps(calls, ensure_ascii=False)}" if calls else "")
