"""The command `minillm`: chat, generate, serve, bench, rag, eval, train, weights, doctor, lab.

Answers go to standard output, everything else to standard error. Exit codes: 0 done, 1 it could not be done
(one sentence says why), 2 the command line is wrong, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape

from minillm.errors import InvalidRequestError, MinillmError
from minillm.evaluation.command import evaluation
from minillm.rag.command import app as rag_app
from minillm.training.command import train

if TYPE_CHECKING:
    from minillm.engine import LLM, OutputChunk
    from minillm.sampling import SamplingParams

app = typer.Typer(
    help="A small, complete LLM inference engine, and the course that builds it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(rag_app, name="rag")
app.add_typer(evaluation, name="eval")
app.add_typer(train, name="train")
err = Console(stderr=True, highlight=False)

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A known name, a folder, a .gguf file, or org/name; or one of these +adapter."),
]
MaxTokens = Annotated[int, typer.Option(help="The most tokens to generate.")]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest token; 1 samples as the model says.")]
TopK = Annotated[int, typer.Option(help="Sample among the k likeliest tokens only; 0 is off.")]
TopP = Annotated[float, typer.Option(help="Sample among the likeliest tokens that together hold this much; 1 is off.")]
Seed = Annotated[int | None, typer.Option(help="Makes sampling repeatable.")]
Stop = Annotated[list[str] | None, typer.Option(help="Text that ends the output; may be given several times.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto for the device's best.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")]


def _known_quantization(value: str | None) -> str | None:
    if value not in (None, "int8", "int4"):
        raise typer.BadParameter(f"--quantization is {value!r}; choose int8 or int4.")
    return value


Quantization = Annotated[str | None, typer.Option(help="Weights in int8 or int4.", callback=_known_quantization)]


def main() -> None:
    """Runs the command line; turns minillm's errors into one sentence and an exit code."""
    _accept_every_text()
    try:
        app()
    except MinillmError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has left. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _accept_every_text() -> None:
    """What a terminal can't show becomes "?", and bytes that aren't text a replacement character; neither an error."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _decoded(text: str) -> str:
    """Text from the command line or standard input. Bytes that Python couldn't decode may be UTF-8 after all."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")],
    model: Model = "smollm2-135m",
    max_tokens: MaxTokens = 128,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = None,
    stop: Stop = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when it's done.")] = False,
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    device: Device = "auto",
) -> None:
    """Continue a text. It is printed as it's made."""
    params = _params(max_tokens, temperature, top_k, top_p, seed, stop)
    text = _decoded(sys.stdin.read() if prompt == "-" else prompt)
    llm = _load(model, dtype, quantization, device)
    if as_json:
        output = llm.generate(text, params)
        content = dataclasses.asdict(output) | {"model": llm.model_name, "fingerprint": llm.fingerprint}
        print(json.dumps(content))
    else:
        _print_stream(llm.generate(text, params, stream=True))


@app.command()
def chat(
    model: Model = "smollm2-135m",
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.6,
    top_k: TopK = 0,
    top_p: TopP = 0.9,
    seed: Seed = None,
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    device: Device = "auto",
) -> None:
    """Talk to the model. Ctrl-C stops an answer, Ctrl-D or /exit leaves, /reset begins anew."""
    params = _params(max_tokens, temperature, top_k, top_p, seed, None)
    llm = _load(model, dtype, quantization, device)
    beginning = [{"role": "system", "content": _decoded(system)}] if system else []
    history = list(beginning)
    if sys.stdin.isatty():
        err.print(
            f"[dim]{escape(llm.model_name)}. Ctrl-C stops an answer, /reset begins anew, Ctrl-D or /exit leaves.[/]"
        )
    for line in _lines():
        if line == "/exit":
            break
        if line == "/reset":
            history = list(beginning)
            err.print("[dim]The conversation begins anew.[/]")
            continue
        turn = {"role": "user", "content": line}
        try:
            answer = _print_stream(llm.chat([*history, turn], params, stream=True))
        except MinillmError as error:
            # The conversation is kept; the turn that could not be answered isn't.
            err.print(f"[bold red]error:[/] {escape(str(error))} /reset begins a new conversation.", soft_wrap=True)
            continue
        history += [turn, {"role": "assistant", "content": answer}]


@app.command()
def bench(
    workload: Annotated[str, typer.Argument(help="single, batch, mixed, shared-prefix, repetitive or paging.")],
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests of batch and paging.")] = None,
    device: Device = "auto",
    against: Annotated[str | None, typer.Option(help="Run the same through transformers, and give the ratio.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Measure the mode in which neighbours change no bit.")
    ] = False,
    against_dtype: Annotated[
        str | None, typer.Option(help="What transformers computes in; the engine's dtype if not given.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="How often to measure; the median counts.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything, raw samples too, as one JSON object.")
    ] = False,
) -> None:
    """Measure how fast the engine is here, on a fixed workload."""
    _check_bench(workload, batch_size, against)
    with err.status("Loading PyTorch …"):
        from minillm.bench.report import measure
        from minillm.lab.display import ProgressLine
        from minillm.weights import MODELS, fetch, split_adapter
    if (base := split_adapter(model)[0]) in MODELS:
        fetch(base)  # has a progress bar of its own
    line = ProgressLine()  # not a status: its thread would take time from what is measured
    report = measure(
        workload,
        model,
        batch_size=batch_size,
        against=against,
        against_dtype=against_dtype,
        deterministic=deterministic,
        repeat=repeat,
        progress=line.update,
        dtype=dtype,
        quantization=quantization,
        device=device,
    )
    line.done("")
    if as_json:
        print(json.dumps(report.content))
    else:
        report.print(Console(highlight=False))


def _check_bench(workload: str, batch_size: int | None, against: str | None) -> None:
    """Checks the options before the model is loaded."""
    from minillm.bench.workloads import COMPARING, SIZED, WORKLOADS

    if workload not in WORKLOADS:
        raise typer.BadParameter(f"There is no workload {workload!r}; choose {', '.join(WORKLOADS)}.")
    if batch_size is not None and workload not in SIZED:
        raise typer.BadParameter(f"--batch-size is for {' and '.join(SIZED)}; {workload} has a size of its own.")
    if against not in (None, "transformers"):
        raise typer.BadParameter(f"--against is {against!r}; only transformers is known.")
    if against is not None and workload in COMPARING:
        raise typer.BadParameter(f"{workload} compares the engine with itself, so --against has no place there.")


@app.command()
def serve(
    model: Model = "smollm2-135m",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.")] = 8000,
    api_keys: Annotated[
        Path | None, typer.Option("--api-keys", metavar="FILE", help="Who may come in, and with what limits.")
    ] = None,
    allow_no_keys: Annotated[
        bool, typer.Option("--allow-no-keys", help="Let everybody in who reaches the address.")
    ] = False,
    embedding_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Serve /v1/embeddings too: all-minilm-l6-v2, or a folder.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]PATH", help="A LoRA adapter, served as MODEL+NAME; may be given several times."),
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="The most requests in one step.")] = None,
    max_num_waiting: Annotated[
        int, typer.Option(min=1, help="The most requests that wait for their turn; one more gets a 429.")
    ] = 256,
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    device: Device = "auto",
    drain_seconds: Annotated[float, typer.Option(min=0, help="At the end, what runs may take this long.")] = 30.0,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log one JSON object a line.")] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Log the prompts too.")] = False,
) -> None:
    """Serve a model to any OpenAI client, at http://HOST:PORT/v1.

    [bold]What it answers[/]

    POST /v1/chat/completions, /v1/completions, /v1/responses (the last 1000 are
    kept in memory, to go on from), /v1/embeddings, /tokenize, /detokenize.
    GET /v1/models, /health (the process lives), /ready (requests are taken),
    /metrics (for Prometheus), /openapi.json.

    [bold]Adapters[/]

    One server has one model, and any number of LoRA adapters beside it. A
    request's "model" chooses: MODEL alone, or MODEL+NAME with an adapter;
    requests with different ones are computed together. --adapter takes one
    that comes with minillm, such as course, or a folder in PEFT's format.

    [bold]What it shows[/]

    Open http://HOST:PORT/ in a browser: the playground, a chat beside the live
    inside of the engine. The page draws GET /v1/engine/steps, which a program
    can read too: server-sent events, each a JSON object.

    [bold]Who may come in[/]

    Without keys everybody who reaches the address; so it's this machine only.
    To listen elsewhere, give --api-keys a TOML file with a table for each
    tenant, or say --allow-no-keys.

    \b
      \\[ann]
      keys = \\["sk-one", "sha256:…"]  # or hashed: printf %s KEY | sha256sum
      max_requests = 8               # in flight; optional
      tokens_per_minute = 60000      # prompts and outputs; optional

    Clients send a key as "Authorization: Bearer KEY". Tenants share the model
    fairly, and no part of a prompt.

    [bold]When it refuses[/]

    Every error is JSON in OpenAI's form. 400: the request is wrong; it says
    where. 401: no key, or a wrong one. 404: no such model or path. 408, 413,
    431: body or headers too slow or too large. 429 with Retry-After: the
    tenant is over its limit, or too many wait already. 503: it's stopping.

    [bold]What it writes[/]

    A line for each request on standard error: status, seconds, tokens, kind
    of error, tenant, and the id that the client got as x-request-id. 499 is a
    client that left. Never a key, and no prompt unless --log-prompts is given.

    Where OTEL_EXPORTER_OTLP_ENDPOINT names a collector, each request is a
    span, with the GenAI conventions' names and the client's trace around it.
    That needs: pip install 'minillm\\[telemetry]'.

    [bold]How it ends[/]

    At Ctrl-C or SIGTERM it takes no more requests. Those that run have
    --drain-seconds to end, the rest get an error; a second signal ends them
    at once. Exit codes: 0 it was told to stop, 1 it could not serve, 2 the
    command line is wrong.

    [bold]Examples[/]

    \b
      minillm serve
      minillm serve --model ./my-model --port 9000 --quantization int8
      minillm serve --adapter course --adapter mine=./my-adapter
      minillm serve --host 0.0.0.0 --api-keys keys.toml --log-json
    """
    with err.status("Loading PyTorch …"):
        try:
            from minillm.server import create_app
            from minillm.server.serve import is_loopback, listen, run, set_up_logging
            from minillm.server.telemetry import tracer_provider_from_environment
            from minillm.server.tenants import Tenants
        except ModuleNotFoundError as error:
            raise MinillmError(f"The server needs {error.name}. Run: pip install 'minillm[server]'") from error
    if not (is_loopback(host) or api_keys or allow_no_keys):
        raise MinillmError(
            f"Others than this machine may reach {host}, and whoever does could use the model. Give --api-keys FILE "
            "(see --help), or say --allow-no-keys if that's meant."
        )
    # Whatever may be wrong is found before the model is loaded.
    tenants = Tenants.load(api_keys) if api_keys else Tenants()
    tracer_provider = tracer_provider_from_environment()
    with listen(host, port) as listening:
        limits = {"max_num_seqs": max_num_seqs, "max_num_waiting": max_num_waiting}
        llm = _load(model, dtype, quantization, device, adapters=_adapters(adapter or []), **limits)
        embedder = None
        if embedding_model:
            from minillm.engine.embedding import EmbeddingModel

            embedder = EmbeddingModel(embedding_model, device=device)
        application = create_app(
            llm,
            tenants=tenants,
            embedding_model=embedder,
            log_prompts=log_prompts,
            tracer_provider=tracer_provider,
        )
        set_up_logging(as_json=log_json)
        run(application, listening, drain_seconds=drain_seconds)
    if tracer_provider is not None:
        tracer_provider.shutdown()  # sends the last spans


@app.command()
def weights(
    names: Annotated[list[str] | None, typer.Argument(help="Which models; all that the course uses if none.")] = None,
    force: Annotated[bool, typer.Option(help="Fetch again even what is there.")] = False,
) -> None:
    """Fetch the course's models into the cache (MINILLM_HOME, ~/.cache/minillm by default) and verify them."""
    from minillm.weights import MODELS, fetch

    for name in names or list(MODELS):
        print(f"{name}  {fetch(name, force=force)}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Say what minillm runs on here, what is missing, and the command that mends it."""
    from minillm.doctor import examine, print_findings

    findings = examine()
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        print_findings(findings)
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(1)


@app.command()
def lab(
    notebook: Annotated[Path, typer.Argument(help="What to open.")] = Path("lessons/01-large-language-models.ipynb"),
    port: Annotated[int, typer.Option(help="The port to begin with; the next free one is taken.")] = 8888,
    browser: Annotated[bool | None, typer.Option(help="Open a browser; by default where there's a screen.")] = None,
) -> None:
    """Open the course in JupyterLab. Without a screen it prints the address and stays up."""
    jupyter = Path(sys.executable).with_name("jupyter-lab")
    if not jupyter.exists():
        raise MinillmError("JupyterLab isn't installed here. Run: pip install -e '.[course]' (or `make lab`)")
    if not notebook.exists():
        raise MinillmError(f"{notebook} isn't there. Run `minillm lab` in the course's folder, or name a notebook.")
    screen = sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    here, file = Path.cwd(), notebook.resolve()
    root = here if file.is_relative_to(here) else file.parent
    command = [str(jupyter), f"--ServerApp.port={port}", f"--ServerApp.root_dir={root}"]
    # As the default address rather than as the file to open, so that it's the notebook's own address that is printed.
    command.append(f"--LabApp.default_url=/lab/tree/{quote(file.relative_to(root).as_posix())}")
    if not (screen if browser is None else browser):
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    err.print(f"Opening {escape(str(notebook))} in JupyterLab. Ctrl-C here stops it.")
    raise typer.Exit(_run_until_stopped(command))


def _run_until_stopped(command: list[str]) -> int:
    """Runs a server until it ends by itself or this process is told to stop; returns its exit code.

    JupyterLab stops its kernels and itself at SIGTERM. At Ctrl-C it asks back where it has a terminal, and without
    one now and then never ends. So it gets a process group of its own, and every signal to stop reaches it as SIGTERM.
    """
    if sys.platform == "win32":
        return subprocess.call(command)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.terminate())
    return process.wait()


def _params(
    max_tokens: int, temperature: float, top_k: int, top_p: float, seed: int | None, stop: list[str] | None
) -> SamplingParams:
    """Checks the options before the model is loaded, so that a slip of the pen costs no wait."""
    from minillm.sampling import SamplingParams

    try:
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=[_decoded(each) for each in stop or ()],
        )
    except InvalidRequestError as error:
        raise typer.BadParameter(str(error)) from error


def _load(model: str, dtype: str, quantization: str | None, device: str, **settings: Any) -> LLM:
    with err.status("Loading PyTorch …"):
        from minillm.engine import LLM
        from minillm.weights import MODELS, fetch, split_adapter
    if (base := split_adapter(model)[0]) in MODELS:
        fetch(base)  # has a progress bar of its own
    with err.status(f"Loading {escape(model)} …"):
        return LLM(model, dtype=dtype, quantization=quantization, device=device, **settings)


def _adapters(given: list[str]) -> list[str | dict[str, object]]:
    """What `LLM` takes, of "course", "./folder" and "name=./folder"."""
    adapters: list[str | dict[str, object]] = []
    for text in given:
        name, separator, path = text.partition("=")
        is_pair = separator and not Path(text).exists()
        adapters.append({name: path} if is_pair else text)
    return adapters


def _lines() -> Iterator[str]:
    """The user's lines, until the end of input. Empty ones are passed over; Ctrl-C only gives up the line."""
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):  # which Windows doesn't have
            import readline  # noqa: F401 (gives `input` editing and history)
    while True:
        try:
            line = _decoded(input("\n> " if interactive else "")).strip()
        except EOFError:
            if interactive:
                print()
            return
        except KeyboardInterrupt:
            if not interactive:
                raise
            err.print("\n[dim]Ctrl-D or /exit leaves.[/]")
            continue
        if line:
            yield line


def _print_stream(chunks: Iterator[OutputChunk]) -> str:
    """Prints text as it comes and returns it. Ctrl-C ends the output, not the program, where a person sits."""
    pieces: list[str] = []
    try:
        for chunk in chunks:
            pieces.append(chunk.text)
            print(chunk.text, end="", flush=True)
    except KeyboardInterrupt:
        print()
        if not sys.stdin.isatty():
            raise
        err.print("[dim](stopped)[/]")
    else:
        print()
    return "".join(pieces)


if __name__ == "__main__":
    main()
