"""Load for `minillm serve` from GuideLLM, an independent generator, and what must hold afterwards.

    python -m venv .venv-load && .venv-load/bin/pip install -r tests/load/requirements.txt
    python tests/load/run.py --guidellm .venv-load/bin/guidellm --seconds 300 --clients 64
    python tests/load/run.py --overhead

The first run starts a server, keeps that many streaming clients on it, and fails unless every request was answered,
none is stuck, all KV blocks are free, and the server's memory stayed flat. It reports the 99th percentile of the time
between two tokens beside that of a step that is full to the token budget, which is what bounds it. The second one
compares the server's tokens/s with those of the engine alone on the same requests. Both print JSON, with the hardware
and the versions; `--output` writes it to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from minillm.bench.workloads import TEXT
from minillm.lab.scoreboard import hardware, versions

BUDGET = 512
"""Tokens of a step on a CPU: `max_num_batched_tokens`."""
MAX_GROWTH = 0.10
"""What the server's memory may grow by, from the second quarter of the run to the last. In the first one the pages of
the KV cache are touched for the first time, so a run should take some minutes."""
OVERHEAD_AIM = 0.10


@dataclass
class Server:
    """A running `minillm serve`, and its memory over time.

    Attributes:
        root: its address.
        process: for CPU time and memory.
        resident: bytes, one sample a second.
    """

    root: str
    process: psutil.Process
    log: list[str]
    resident: list[int] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics without labels, by its name."""
        text = httpx.get(f"{self.root}/metrics", timeout=60).text
        families = text_string_to_metric_families(text)
        return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels} | {
            f"blocks_{sample.labels['state']}": sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "state" in sample.labels
        }

    def cpu_seconds(self) -> float:
        """So far, of all its threads."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def serving(model: str) -> Iterator[Server]:
    """Starts a server, and stops it as a supervisor would."""
    command = [sys.executable, "-m", "minillm.cli", "serve", "--model", model, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        log: list[str] = []
        try:
            while not (match := re.search(r"(http://\S+)/v1", log[-1] if log else "")):
                log.append(process.stderr.readline())
                if not log[-1]:
                    raise SystemExit("minillm serve ended: " + "".join(log))
            server = Server(match[1], psutil.Process(process.pid), log)
            reader = threading.Thread(target=log.extend, args=(process.stderr,))
            reader.start()
            try:
                yield server
                process.terminate()
                if code := process.wait(timeout=60):
                    raise SystemExit(f"minillm serve ended with {code}: " + "".join(log[-20:]))
            finally:
                process.kill()
                reader.join()
        finally:
            process.kill()


# -- GuideLLM -----------------------------------------------------------------------------------------------------


def load(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the load; returns what was measured."""
    with tempfile.TemporaryDirectory() as folder, serving(arguments.model) as server:
        budget_seconds = full_step_seconds(server, arguments.model)
        before, done = server.metrics(), threading.Event()
        sampler = threading.Thread(target=sample_memory, args=(server, done))
        sampler.start()
        try:
            report = run_guidellm(arguments, server, Path(folder))
        finally:
            done.set()
            sampler.join()
        after = wait_for_rest(server)
        errors = [line for line in server.log if re.search(r" /\S+ 5\d\d |Traceback|ERROR", line)]
    (benchmark,) = report["benchmarks"]
    result = measured(benchmark, before, after, server.resident, budget_seconds)
    result["failures"] = failures(result, errors)
    return result


def run_guidellm(arguments: argparse.Namespace, server: Server, folder: Path) -> dict[str, Any]:
    """GuideLLM's own report."""
    prompts, output = folder / "prompts.jsonl", folder / "report.json"
    words = TEXT.read_text(encoding="utf-8").split()
    with prompts.open("w", encoding="utf-8") as file:
        for index in range(20_000):  # it wants a row for each request; every one begins in its own way
            start = index * 7 % (len(words) - 200)
            text = f"{index}. " + " ".join(words[start : start + 20 + index * 13 % 150])
            file.write(json.dumps({"prompt": text, "output_tokens_count": arguments.tokens}) + "\n")
    options = {
        "--backend": f"kind=openai_http,target={server.root},model={arguments.model}",
        "--profile": f"kind=concurrent,streams={arguments.clients}",
        "--constraint": f"kind=max_duration,seconds={arguments.seconds}",
        "--data": f"kind=json_file,path={prompts}",
        "--output": f"kind=json,path={output}",
    }
    command = [arguments.guidellm, "run", *(word for pair in options.items() for word in pair)]
    done = subprocess.run([*command, "--disable-console-interactive"], text=True, capture_output=True, check=False)
    if done.returncode or not output.exists():
        raise SystemExit(f"guidellm ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return dict(json.loads(output.read_text(encoding="utf-8")))


def full_step_seconds(server: Server, model: str) -> float:
    """What one step takes whose tokens fill the budget: a prompt of that length, alone; the best of three."""
    seconds = []
    for attempt in range(3):
        prompt = [100 + attempt, *([200, 300] * BUDGET)][:BUDGET]
        body = {"model": model, "prompt": prompt, "max_tokens": 1}
        begin = time.perf_counter()
        httpx.post(f"{server.root}/v1/completions", json=body, timeout=300).raise_for_status()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def sample_memory(server: Server, done: threading.Event) -> None:
    while not done.wait(1.0):
        server.resident.append(server.process.memory_info().rss)


def wait_for_rest(server: Server, seconds: float = 60) -> dict[str, float]:
    """The metrics once nothing runs any more: the generator leaves in the middle of its last requests."""
    deadline = time.monotonic() + seconds
    while True:
        metrics = server.metrics()
        busy = metrics["minillm_num_requests_running"] + metrics["minillm_num_requests_waiting"]
        if not (busy or metrics["blocks_used"]) or time.monotonic() > deadline:
            return metrics
        time.sleep(0.5)


def measured(
    benchmark: dict[str, Any],
    before: dict[str, float],
    after: dict[str, float],
    resident: list[int],
    budget_seconds: float,
) -> dict[str, Any]:
    metrics = benchmark["metrics"]

    def percentiles(name: str) -> dict[str, float]:
        found = metrics[name]["successful"]["percentiles"]
        return {each: found[each] for each in ("p50", "p95", "p99")}

    quarter = max(1, len(resident) // 4)
    second, last = statistics.median(resident[quarter : 2 * quarter]), statistics.median(resident[-quarter:])
    steps = after["minillm_step_time_seconds_count"] - before["minillm_step_time_seconds_count"]
    step_seconds = after["minillm_step_time_seconds_sum"] - before["minillm_step_time_seconds_sum"]
    tokens = percentiles("inter_token_latency_ms")
    return {
        "requests": metrics["request_totals"],
        "output_tokens_per_second": metrics["output_tokens_per_second"]["successful"]["mean"],
        "inter_token_ms": tokens,
        "time_to_first_token_ms": percentiles("time_to_first_token_ms"),
        "mean_step_ms": 1000 * step_seconds / steps,
        "full_step_ms": 1000 * budget_seconds,
        "inter_token_p99_per_full_step": tokens["p99"] / (1000 * budget_seconds),
        "resident_mb": {"second_quarter": second / 2**20, "last_quarter": last / 2**20, "peak": max(resident) / 2**20},
        "resident_growth": last / second - 1,
        "left": {name: after[name] for name in ("minillm_num_requests_running", "minillm_num_requests_waiting")}
        | {"blocks_used": after["blocks_used"]},
    }


def failures(result: dict[str, Any], errors: list[str]) -> list[str]:
    """What did not hold."""
    found = [f"the server's log: {line.strip()}" for line in errors[:5]]
    if result["requests"]["errored"]:
        found.append(f"{result['requests']['errored']} requests failed")
    if not result["requests"]["successful"]:
        found.append("no request was answered")
    if any(result["left"].values()):
        found.append(f"something is left: {result['left']}")
    if result["resident_growth"] > MAX_GROWTH:
        found.append(f"memory grew by {result['resident_growth']:.0%} from the second quarter to the last")
    return found


# -- the server against the engine --------------------------------------------------------------------------------


def overhead(arguments: argparse.Namespace) -> dict[str, Any]:
    """Tokens/s and CPU time per token, of the engine alone and of the server, on the same requests, in turns."""
    rows: dict[str, list[tuple[float, float]]] = {"engine": [], "server": []}
    with serving(arguments.model) as server, EngineAlone(arguments.model) as engine:
        asyncio.run(ask_server(server, arguments, arguments.clients))  # both are warm before anything is measured
        engine.run(arguments, arguments.clients)
        for _ in range(arguments.repeat):
            rows["engine"].append(engine.run(arguments, arguments.requests))
            cpu, begin = server.cpu_seconds(), time.perf_counter()
            asyncio.run(ask_server(server, arguments, arguments.requests))
            rows["server"].append((time.perf_counter() - begin, server.cpu_seconds() - cpu))
    tokens = arguments.requests * arguments.tokens
    result: dict[str, Any] = {
        name: {
            "tokens_per_second": [tokens / seconds for seconds, _ in runs],
            "cpu_ms_per_token": [1000 * cpu / tokens for _, cpu in runs],
        }
        for name, runs in rows.items()
    }
    alone, served = (statistics.median(result[name]["tokens_per_second"]) for name in ("engine", "server"))
    cpu_alone, cpu_served = (statistics.median(result[name]["cpu_ms_per_token"]) for name in ("engine", "server"))
    result |= {"overhead": 1 - served / alone, "cpu_overhead": cpu_served / cpu_alone - 1}
    is_slow = result["overhead"] > OVERHEAD_AIM
    result["failures"] = [f"the server is {result['overhead']:.0%} slower than the engine alone"] if is_slow else []
    return result


def prompt(index: int) -> str:
    """The same for both; each in its own words from the beginning, so that the prefix cache helps neither."""
    return f"{index * 7919 % 1000}, {index} and the quick brown fox that jumps over the lazy dog, and then"


class EngineAlone:
    """The engine in a process of its own, which is asked for runs over its standard input."""

    def __init__(self, model: str) -> None:
        command = [sys.executable, __file__, "--engine", "--model", model]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> EngineAlone:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.communicate(timeout=60)

    def run(self, arguments: argparse.Namespace, num_requests: int) -> tuple[float, float]:
        """Seconds of the clock and of the CPU."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(num_requests, arguments.clients, arguments.tokens, file=self.process.stdin, flush=True)
        seconds, cpu = self.process.stdout.readline().split()
        return float(seconds), float(cpu)


def drive_engine(model: str) -> None:
    """What the process of `EngineAlone` does: as many requests at a time as there are clients."""
    from minillm.engine import LLM, RequestOutput
    from minillm.engine.engine import Event
    from minillm.sampling import SamplingParams

    llm = LLM(model)
    for line in sys.stdin:
        num_requests, num_clients, max_tokens = map(int, line.split())
        begin, cpu = time.perf_counter(), time.process_time()
        started, done = 0, [0]

        def count(event: Event, done: list[int] = done) -> None:
            done[0] += isinstance(event, RequestOutput)

        while done[0] < num_requests:
            while started < num_requests and started - done[0] < num_clients:
                params = SamplingParams(max_tokens=max_tokens, ignore_eos=True, seed=started)
                llm.engine.add_request(llm.tokenizer.encode(prompt(started)), params, count)
                started += 1
            llm.engine.step()
        print(time.perf_counter() - begin, time.process_time() - cpu, flush=True)


async def ask_server(server: Server, arguments: argparse.Namespace, num_requests: int) -> None:
    """Streams, read as they come by a client that costs next to nothing: it only looks for the end."""
    host, _, port = server.root.removeprefix("http://").partition(":")
    indices = iter(range(num_requests))

    async def ask(index: int) -> None:
        body = {"model": arguments.model, "prompt": prompt(index), "max_tokens": arguments.tokens, "seed": index}
        content = json.dumps(body | {"ignore_eos": True, "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n"
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        end = b""
        while piece := await reader.read(65536):
            end = (end + piece)[-1000:]
        writer.close()
        if b"data: [DONE]" not in end or b'"error"' in end:
            raise SystemExit(f"request {index} failed: {end!r}")

    async def client() -> None:
        for index in indices:
            await ask(index)

    await asyncio.gather(*(client() for _ in range(arguments.clients)))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--clients", type=int, default=64, help="at a time")
    parser.add_argument("--tokens", type=int, default=32, help="of each output")
    parser.add_argument("--seconds", type=int, default=300, help="of load")
    parser.add_argument("--guidellm", default="guidellm", help="the command, in its own environment")
    parser.add_argument("--overhead", action="store_true", help="compare the server with the engine alone")
    parser.add_argument("--requests", type=int, default=128, help="of a run of --overhead")
    parser.add_argument("--repeat", type=int, default=3, help="runs of --overhead; the median counts")
    parser.add_argument("--output", type=Path, help="a file for the result")
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        return drive_engine(arguments.model)
    settings = {name: getattr(arguments, name) for name in ("model", "clients", "tokens")}
    settings |= {"requests": arguments.requests} if arguments.overhead else {"seconds": arguments.seconds}
    result = overhead(arguments) if arguments.overhead else load(arguments)
    row = {"settings": settings, **result, "hardware": hardware(), "versions": versions()}
    text = json.dumps(row, indent=2)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    if row["failures"]:
        raise SystemExit("\n".join(row["failures"]))


if __name__ == "__main__":
    main()
