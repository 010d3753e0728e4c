"""The scoreboard: one fixed workload, measured the same way in every lesson, on the reader's machine.

    board = Scoreboard()
    board.measure(lesson="01", name="naive loop", serve=my_serve, llm=llm)
    board.table()
    board.waterfall()

`serve(requests, record)` is the system under test. It serves every request greedily, ignores end-of-sequence tokens,
and calls `record(request.index, token_id)` as soon as a token exists. All requests arrive at the start. A system that
produces other tokens than the reference gets no row.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from filelock import FileLock

from minillm.errors import MinillmError
from minillm.lab.display import Html, ProgressLine

SEED = 20
"""For systems that draw random numbers while they serve (a drafter, say): it is a field of every row."""

OUTPUT_TOKENS = 10
"""Tokens that every request of the workload produces."""

SYSTEM_PROMPT = (
    "You are the help desk of a public library. Answer in plain English, in at most three sentences, "
    "and say so when you do not know the answer."
)

QUESTIONS = (
    "How long may I keep a book?",
    "I lost my library card on the bus this morning. What should I do before somebody else uses it?",
    "Can you suggest three novels about the sea for a reader who liked Moby-Dick but found the chapters on whales "
    "too long?",
    "My daughter is nine, reads a lot, and starts at a new school in a country whose language she does not speak "
    "yet. Which kinds of books, and which services of a library, would help her in the first months?",
    "Please explain the difference between an abstract and a summary.",
    "I have to give a ten-minute talk about the history of the printing press next Thursday. I know about "
    "Gutenberg, but my teacher wants at least two sources from outside Europe. Where do I start looking, and how do "
    "I cite a book that I only found as a scan?",
    "Rewrite this notice so that it sounds friendlier: 'Food and drink are forbidden in the reading room.'",
    "Is the reading room open on Sunday afternoons, and do I have to book a desk?",
)

_WARM_UP_PROMPT = "One, two, three, four, five, six, seven, eight, nine, ten."


class ScoreboardError(MinillmError):
    """The scoreboard's file cannot be written, or the workload was not served as it must be."""


class WrongTokensError(ScoreboardError):
    """The system under test produced other tokens than the reference."""


class ScoreboardWarning(UserWarning):
    """A line of the scoreboard's file is not a row and was skipped."""


# -------------------------------------------------------------------------------------------------- workload


class WorkloadTokenizer(Protocol):
    """What the workload needs of a tokenizer (`minillm.text.tokenizer.Tokenizer` has it)."""

    @property
    def has_chat_template(self) -> bool:
        """Whether the model brings a chat template."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of token ids."""

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], /) -> list[int]:
        """Token ids of a conversation, up to where the answer begins."""


class MeasuredLLM(Protocol):
    """What the scoreboard needs of a model (`minillm.LLM` has it)."""

    @property
    def tokenizer(self) -> Any:
        """A `WorkloadTokenizer`."""

    @property
    def model_name(self) -> str:
        """The model's name, for the table."""

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and every setting that can change its tokens."""


@dataclass(frozen=True)
class WorkloadRequest:
    """One request of the workload: its index, its prompt's token ids, and how many tokens it produces."""

    index: int
    prompt_token_ids: list[int]
    max_tokens: int


Record: TypeAlias = Callable[[int, int], None]
"""`record(request_index, token_id)`, called at every produced token."""

Serve: TypeAlias = Callable[[Sequence[WorkloadRequest], Record], object]
"""The system under test."""


@dataclass(frozen=True)
class Workload:
    """The course's fixed workload: eight questions to one help desk, all arriving at once.

    The prompts share their beginning (the system message) and differ in length, as requests to one application do.

    Attributes:
        requests: the requests, in order of arrival.
        digest: identifies the workload; rows of different workloads are never compared.
    """

    requests: list[WorkloadRequest]
    digest: str

    @classmethod
    def for_tokenizer(cls, tokenizer: WorkloadTokenizer) -> Workload:
        """The workload in a model's own tokens and chat template (or as plain text if it has none)."""
        prompts = [_prompt(tokenizer, question) for question in QUESTIONS]
        requests = [WorkloadRequest(index, prompt, OUTPUT_TOKENS) for index, prompt in enumerate(prompts)]
        digest = hashlib.sha256(json.dumps([prompts, OUTPUT_TOKENS]).encode()).hexdigest()[:16]
        return cls(requests, digest)


def _prompt(tokenizer: WorkloadTokenizer, question: str) -> list[int]:
    if not tokenizer.has_chat_template:
        return tokenizer.encode(f"{SYSTEM_PROMPT}\n\nQuestion: {question}\nAnswer:")
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages)


# ------------------------------------------------------------------------------------------------------ rows


@dataclass(frozen=True)
class Metrics:
    """What was measured; p50 and p95 are over the requests.

    Attributes:
        tokens_per_second: all produced tokens over `total_seconds`.
        ttft_p50: seconds from the start to a request's first token.
        ttft_p95: the same, 95th percentile.
        tpot_p50: seconds per output token after the first, within a request.
        tpot_p95: the same, 95th percentile.
        total_seconds: from the start to the last token of all.
        peak_rss_bytes: largest resident memory of this process during the run; None where it is not known.
        peak_gpu_bytes: most memory that tensors held on the GPU during the run; None without one.
    """

    tokens_per_second: float
    ttft_p50: float
    ttft_p95: float
    tpot_p50: float
    tpot_p95: float
    total_seconds: float
    peak_rss_bytes: int | None = None
    peak_gpu_bytes: int | None = None

    @classmethod
    def from_times(cls, token_times: Sequence[Sequence[float]], **memory: int | None) -> Metrics:
        """Compute them from each request's token times, in seconds since the start."""
        ttft = [times[0] for times in token_times]
        tpot = [(times[-1] - times[0]) / (len(times) - 1) for times in token_times if len(times) > 1]
        total = max(times[-1] for times in token_times)
        return cls(
            tokens_per_second=sum(len(times) for times in token_times) / total,
            ttft_p50=percentile(ttft, 50),
            ttft_p95=percentile(ttft, 95),
            tpot_p50=percentile(tpot, 50),
            tpot_p95=percentile(tpot, 95),
            total_seconds=total,
            **memory,
        )


@dataclass(frozen=True, repr=False)
class Row:
    """One measurement, with everything that is needed to compare it or to compute it again.

    Attributes:
        lesson: the lesson's number.
        name: of the system under test.
        time: when it was measured, ISO 8601 in UTC.
        model: the model's name.
        fingerprint: of the model and of the settings that can change its numbers.
        workload: the workload's digest.
        seed: for systems that draw random numbers.
        hardware: cpu, cores, memory_bytes, gpu, system.
        versions: python, torch, minillm.
        metrics: the numbers of the table.
        token_ids: for each request, the produced tokens.
        token_times: for each request, when each token was there, in seconds since the start.
    """

    lesson: str
    name: str
    time: str
    model: str
    fingerprint: str
    workload: str
    seed: int
    hardware: dict[str, Any]
    versions: dict[str, str]
    metrics: Metrics
    token_ids: list[list[int]] = field(default_factory=list)
    token_times: list[list[float]] = field(default_factory=list)

    @classmethod
    def from_json(cls, line: str) -> Row:
        """Decode one line of the file.

        Raises:
            ValueError: the line is not a row.
        """
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        missing = [item.name for item in fields(cls) if item.name not in data]
        if missing:
            raise ValueError(f"no field {missing[0]!r}")
        wrong = [name for name, is_right in _FIELD_KINDS.items() if not is_right(data[name])]
        if wrong:
            raise ValueError(f"field {wrong[0]!r} has a value of the wrong kind")
        metrics = {item.name: data["metrics"].get(item.name) for item in fields(Metrics)}
        return cls(**{item.name: data[item.name] for item in fields(cls)} | {"metrics": Metrics(**metrics)})

    def to_json(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @property
    def label(self) -> str:
        """Lesson and name."""
        return f"{self.lesson} {self.name}"

    @property
    def comparable(self) -> tuple[Any, ...]:
        """Rows that agree in this were measured on the same machine, with the same model and workload."""
        return (self.model, self.workload, *(self.hardware.get(key) for key in ("cpu", "cores", "gpu")))

    def __str__(self) -> str:
        m = self.metrics
        return (
            f"{self.label}: {m.tokens_per_second:.3g} tokens/s, first token after {_seconds(m.ttft_p50)} (p50) and "
            f"{_seconds(m.ttft_p95)} (p95), {_seconds(m.tpot_p50)} per output token (p50), "
            f"{_seconds(m.total_seconds)} in all"
        )

    def __repr__(self) -> str:
        return str(self)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_metrics(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return all(
        _is_number(value.get(item.name)) or (item.default is None and value.get(item.name) is None)
        for item in fields(Metrics)
    )


def _is_number_lists(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, list) and all(map(_is_number, v)) for v in value)


_FIELD_KINDS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(
        ("lesson", "name", "time", "model", "fingerprint", "workload"), lambda value: isinstance(value, str)
    ),
    **dict.fromkeys(("hardware", "versions"), lambda value: isinstance(value, dict)),
    "metrics": _is_metrics,
    "token_ids": _is_number_lists,
    "token_times": _is_number_lists,
}


# ----------------------------------------------------------------------------------------------------- board


class Scoreboard:
    """Measures systems and keeps their rows in a file, one JSON object a line; nothing is ever overwritten.

    Args:
        path: the file; by default `scoreboard.jsonl` in the folder that `MINILLM_HOME` names.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            from minillm.weights import minillm_home

            path = minillm_home() / "scoreboard.jsonl"
        self.path = path

    def measure(
        self,
        *,
        lesson: str,
        name: str,
        serve: Serve,
        llm: MeasuredLLM,
        reference: Sequence[Sequence[int]] | None = None,
        warm_up: bool = True,
    ) -> Row:
        """Serve the workload once, check its tokens, and add a row.

        Args:
            lesson: number of the lesson.
            name: of the system, as the table shows it.
            serve: the system under test, see `Serve`.
            llm: the model that it serves; gives tokenizer, name and fingerprint.
            reference: for each request, the tokens that must come out; by default those of the first row with
                the same fingerprint and workload, and the first row of all is accepted as it is.
            warm_up: first serve one short, unrelated request that is not measured.

        Raises:
            WrongTokensError: naming the request and the position of the first difference; no row is added.
            ScoreboardError: the file cannot be written (found out before the run), or tokens are missing.
        """
        self._check_writable()
        workload = Workload.for_tokenizer(llm.tokenizer)
        expected, source = self._reference(llm.fingerprint, workload.digest, reference)
        if warm_up:
            prompt = llm.tokenizer.encode(_WARM_UP_PROMPT)
            serve([WorkloadRequest(0, prompt, 2)], lambda index, token_id: None)
        run = _Run(workload, f"Lesson {lesson}, {name}")
        memory = run.measure(serve)
        run.check_complete()
        if expected is not None:
            _check_tokens(run.token_ids, expected, source, llm.tokenizer)
        row = Row(
            lesson=lesson,
            name=name,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            model=llm.model_name,
            fingerprint=llm.fingerprint,
            workload=workload.digest,
            seed=SEED,
            hardware=hardware(),
            versions=versions(),
            metrics=Metrics.from_times(run.token_times, **memory),
            token_ids=run.token_ids,
            token_times=[[round(t, 6) for t in times] for times in run.token_times],
        )
        self._append(row)
        return row

    def rows(self) -> list[Row]:
        """Every row of the file, oldest first. A line that is not a row is skipped with a `ScoreboardWarning`."""
        rows: list[Row] = []
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return rows
        except OSError as error:
            raise ScoreboardError(f"The scoreboard {self.path} cannot be read: {error}.") from error
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                rows.append(Row.from_json(line))
            except ValueError as error:
                message = f"{self.path}, line {number} is not a scoreboard row and is skipped ({error})."
                warnings.warn(message, ScoreboardWarning, stacklevel=2)
        return rows

    def latest(self) -> list[Row]:
        """The newest row of each lesson and name, in the order of the lessons, all comparable to the newest of all."""
        rows = self.rows()
        comparable = [row for row in rows if row.comparable == rows[-1].comparable]
        first_seen: dict[str, int] = {}
        newest: dict[str, Row] = {}
        for position, row in enumerate(comparable):
            first_seen.setdefault(row.label, position)
            newest[row.label] = row
        return sorted(newest.values(), key=lambda row: (row.lesson, first_seen[row.label]))

    def table(self) -> Html:
        """The newest row of each lesson and name as a table."""
        rows = self.latest()
        if not rows:
            return Html("<p>The scoreboard is empty.</p>", "The scoreboard is empty.")
        cells = [_COLUMNS, *(_cells(row) for row in rows)]
        return Html(_html_table(cells, self._caption(rows)), _text_table(cells, self._caption(rows)))

    def waterfall(self) -> Any:
        """A figure of tokens/s from lesson to lesson, with the ratio to the row before (a `LabFigure`).

        Raises:
            ScoreboardError: there are no rows yet.
        """
        from minillm.lab.figures import WaterfallBar, waterfall

        rows = self.latest()
        if not rows:
            raise ScoreboardError("The scoreboard is empty; run a lesson's measurement first.")
        bars = [WaterfallBar(row.label, row.metrics.tokens_per_second) for row in rows]
        return waterfall(bars, "The course's workload, lesson by lesson", self._caption(rows))

    def _caption(self, rows: Sequence[Row]) -> str:
        newest = rows[-1]
        machine = newest.hardware
        caption = f"{newest.model} on {machine.get('gpu') or machine.get('cpu')}, {machine.get('cores')} cores"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScoreboardWarning)  # the caller has just been told
            others = sum(row.comparable != newest.comparable for row in self.rows())
        return f"{caption}; {others} rows of other machines or models not shown" if others else caption

    def _reference(
        self, fingerprint: str, workload: str, given: Sequence[Sequence[int]] | None
    ) -> tuple[Sequence[Sequence[int]] | None, str]:
        if given is not None:
            return given, "the given reference"
        for number, row in enumerate(self.rows(), start=1):
            if (row.fingerprint, row.workload) == (fingerprint, workload):
                return (
                    row.token_ids,
                    f"the first row of this model ({row.label!r}, row {number} of {self.path})",
                )
        return None, ""

    def _check_writable(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock(), self.path.open("ab"):
                pass
        except OSError as error:
            raise ScoreboardError(
                f"The scoreboard {self.path} cannot be written: {error}. "
                "Set the environment variable MINILLM_HOME to a folder that you may write to."
            ) from error

    def _append(self, row: Row) -> None:
        line = (row.to_json() + "\n").encode("utf-8")
        try:
            with self._lock(), self.path.open("a+b", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                if end:
                    file.seek(end - 1)
                    if file.read(1) != b"\n":  # a writer was cut off: leave its line broken, not this one
                        line = b"\n" + line
                file.write(line)  # one write at the end of the file: all of it or, on a full disk, a broken line
                os.fsync(file.fileno())
        except OSError as error:
            raise ScoreboardError(f"The row could not be added to {self.path}: {error}.") from error

    def _lock(self) -> FileLock:
        return FileLock(f"{self.path}.lock", timeout=30)


# ------------------------------------------------------------------------------------------------------- run


class _Run:
    """One measured run: takes the tokens and their times."""

    def __init__(self, workload: Workload, title: str) -> None:
        self._requests = workload.requests
        self._title = title
        self.token_ids: list[list[int]] = [[] for _ in workload.requests]
        self.token_times: list[list[float]] = [[] for _ in workload.requests]
        self._total = sum(request.max_tokens for request in workload.requests)
        self._count = 0
        self._start = 0.0
        self._progress = ProgressLine()

    def measure(self, serve: Serve) -> dict[str, int | None]:
        """Serve the workload; returns the peak memory."""
        self._progress.update(f"{self._title}: serving {len(self._requests)} requests …")
        requests = [replace(request, prompt_token_ids=list(request.prompt_token_ids)) for request in self._requests]
        with peak_memory() as memory:
            self._start = time.perf_counter()
            serve(requests, self.record)
            seconds = time.perf_counter() - self._start
        self._progress.done(f"{self._title}: {self._count} of {self._total} tokens in {seconds:.1f} s")
        return memory

    def record(self, request_index: int, token_id: int) -> None:
        token = int(token_id)  # before the clock is read: a tensor on a GPU is waited for here
        now = time.perf_counter() - self._start
        if not 0 <= request_index < len(self._requests):
            last = len(self._requests) - 1
            raise ScoreboardError(f"record() got request {request_index}; the requests are numbered 0 to {last}.")
        if len(self.token_ids[request_index]) == self._requests[request_index].max_tokens:
            limit = self._requests[request_index].max_tokens
            raise ScoreboardError(f"Request {request_index} produced more than its {limit} tokens (max_tokens).")
        self.token_ids[request_index].append(token)
        self.token_times[request_index].append(now)
        self._count += 1
        self._progress.update(f"{self._title}: {self._count} of {self._total} tokens, {now:.1f} s")

    def check_complete(self) -> None:
        for request, tokens in zip(self._requests, self.token_ids, strict=True):
            if len(tokens) < request.max_tokens:
                raise ScoreboardError(
                    f"Request {request.index} produced {len(tokens)} of its {request.max_tokens} tokens, so there is "
                    "no row. Every request must run to max_tokens (ignore the end-of-sequence token) and "
                    "record(request.index, token_id) must be called for every token."
                )


def _check_tokens(
    produced: Sequence[Sequence[int]],
    expected: Sequence[Sequence[int]],
    source: str,
    tokenizer: WorkloadTokenizer,
) -> None:
    def name(token_id: int) -> str:
        return f"{token_id} ({tokenizer.decode([token_id], skip_special_tokens=False)!r})"

    if [len(tokens) for tokens in produced] != [len(tokens) for tokens in expected]:
        raise ScoreboardError(
            f"There is nothing to compare with: {source} does not have {OUTPUT_TOKENS} tokens for each of the "
            f"{len(produced)} requests."
        )
    for index, (got, wanted) in enumerate(zip(produced, expected, strict=True)):
        for position, (mine, theirs) in enumerate(zip(got, wanted, strict=True)):
            if mine != theirs:
                raise WrongTokensError(
                    f"No row: request {index} differs at output token {position} (counted from 0): this system "
                    f"produced {name(mine)}, the reference has {name(theirs)}. Greedy decoding of the same model "
                    f"must give the same tokens. The reference is {source}."
                )


@contextmanager
def peak_memory() -> Iterator[dict[str, int | None]]:
    """Fills in the peak memory of the block: the kernel's own mark on Linux, the process's whole peak elsewhere."""
    memory: dict[str, int | None] = {"peak_rss_bytes": None, "peak_gpu_bytes": None}
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    if on_gpu and torch is not None:
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        # "5" sets the high-water mark back to what is resident now; sampling in a thread would miss short peaks.
        Path("/proc/self/clear_refs").write_text("5")
    try:
        yield memory
    finally:
        memory["peak_rss_bytes"] = high_water_mark_bytes() or _process_peak_bytes()
        if on_gpu and torch is not None:
            memory["peak_gpu_bytes"] = int(torch.cuda.max_memory_allocated())


def high_water_mark_bytes() -> int | None:
    """The largest resident memory of this process since the mark was set back, where /proc tells."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _process_peak_bytes() -> int | None:
    """The largest resident memory since the process started (macOS counts in bytes, others in KiB)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# -------------------------------------------------------------------------------------------------- machine


def hardware() -> dict[str, Any]:
    """This machine: cpu, cores (that this process may use), memory_bytes, gpu (or None), system."""
    memory: int | None = None
    with suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return {"cpu": _cpu_model(), "cores": cores, "memory_bytes": memory, "gpu": gpu, "system": system}


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of what produced the numbers."""
    found = {"python": platform.python_version()}
    for package in ("torch", "minillm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile with linear interpolation between the two nearest values (as numpy does); NaN for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


# --------------------------------------------------------------------------------------------------- tables

_COLUMNS = (
    "lesson",
    "system",
    "tokens/s",
    "TTFT p50",
    "TTFT p95",
    "time per token p50",
    "time per token p95",
    "total",
    "peak memory",
)


def _cells(row: Row) -> tuple[str, ...]:
    m = row.metrics
    memory = _gigabytes(m.peak_rss_bytes)
    if m.peak_gpu_bytes is not None:
        memory += f" + {_gigabytes(m.peak_gpu_bytes)} GPU"
    times = (m.ttft_p50, m.ttft_p95, m.tpot_p50, m.tpot_p95, m.total_seconds)
    return (row.lesson, row.name, f"{m.tokens_per_second:.3g}", *(_seconds(t) for t in times), memory)


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def _gigabytes(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 1e9:.2f} GB"


def _html_table(cells: Sequence[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col" style="text-align:{_align(i)}">{escape(c)}</th>' for i, c in enumerate(cells[0]))
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:{_align(i)}">{escape(c)}</td>' for i, c in enumerate(row)) + "</tr>"
        for row in cells[1:]
    )
    return (
        f'<table><caption style="text-align:left">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _text_table(cells: Sequence[Sequence[str]], caption: str) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            c.ljust(w) if _align(i) == "left" else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([caption, *(line.rstrip() for line in lines)])


def _align(column: int) -> str:
    return "left" if column < 2 else "right"
