"""Measures a workload from the model's name to a report: JSON for programs, a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from minillm.bench.baseline import Transformers, check_installed
from minillm.bench.measure import PartResult, Progress, Traffic, run_workload
from minillm.bench.paging import measure_paging
from minillm.bench.quality import measure_quality
from minillm.bench.workloads import SEED, TEXT, Workload, build_workload
from minillm.engine import LLM
from minillm.engine.engine import Engine
from minillm.engine.loading import resolve_dtype
from minillm.lab.scoreboard import hardware, high_water_mark_bytes, versions


@dataclass(frozen=True)
class Report:
    """All that was measured.

    Attributes:
        content: as plain data, for JSON. With `ratio` where two things were compared: ours over transformers'
            tokens/s (the lower one, of several parts), cold over warm time to first token, or paged over contiguous.
    """

    content: dict[str, Any]

    def print(self, console: Console) -> None:
        """As tables."""
        content = self.content
        machine, weights = content["hardware"], content["quantization"] or content["dtype"]
        console.print(
            f"[bold]{content['workload']}[/]  {content['model']}, {weights} weights, "
            f"{content['kv_cache_dtype']} KV cache, kernels {content['kernels']}\n"
            f"{machine['gpu'] or machine['cpu']}, {content['threads']} threads; memory "
            f"read at {_number(content['memory_bandwidth'] / 1e9)} GB/s",
            soft_wrap=True,
        )
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        columns = content["parts"]
        table.add_row("", *(f"[bold]{part['name']}[/]" for part in columns))
        for label, row in (_paging_rows if content["workload"] == "paging" else _rows)(columns):
            table.add_row(label, *row)
        console.print(table)
        for line in _remarks(content):
            console.print(line, soft_wrap=True)


def measure(
    name: str,
    model: str,
    *,
    batch_size: int | None = None,
    against: str | None = None,
    against_dtype: str | None = None,
    repeat: int = 1,
    progress: Progress = lambda _: None,
    **settings: Any,
) -> Report:
    """Loads a model and measures a workload on it.

    Args:
        name: of the workload.
        model: as in `LLM`.
        batch_size: see `build_workload`.
        against: "transformers" runs the same requests through it as well.
        against_dtype: what it computes in; the engine's dtype if not given.
        repeat: how often; the median counts.
        progress: is called with a line of text now and then.
        settings: of the engine.

    Raises:
        MinillmError: if the workload or the model can't be had, or can't be run.
    """
    if against is not None:
        check_installed()
    progress(f"Loading {model}")
    engine = LLM(model, max_num_seqs=batch_size, **settings).engine
    loading_peak = high_water_mark_bytes()
    text_token_ids = engine.tokenizer.encode(TEXT.read_text(encoding="utf-8"))
    workload = build_workload(name, text_token_ids, batch_size)
    progress("Measuring the memory's bandwidth")
    traffic = Traffic.measure(engine)
    content = _about(engine, workload, traffic, repeat) | {"loading_peak_rss_bytes": loading_peak}
    if name == "paging":
        paging = measure_paging(engine, workload, repeat=repeat, progress=progress)
        content |= {"parts": [each.to_json() for each in paging], "ratio": min(each.ratio for each in paging)}
    else:
        results = run_workload(engine, workload, traffic, repeat=repeat, progress=progress)
        content["parts"] = [each.to_json() for each in results]
        if name == "shared-prefix":
            cold, warm = (each.metrics.time_to_first_token.p50 for each in results)
            content["ratio"] = cold / warm
    if engine.config.quantization is not None:
        progress("Reading a text with these weights and with float32 ones")
        content["quality"] = asdict(measure_quality(engine, text_token_ids))
    if against is not None:
        device = engine.model.device
        dtype = resolve_dtype(against_dtype, device) if against_dtype else engine.model.dtype
        del engine  # its memory is the other's
        _compare(content, results, Transformers(model, dtype, device), progress)
    return Report(content)


def _compare(
    content: dict[str, Any], results: Sequence[PartResult], transformers: Transformers, progress: Progress
) -> None:
    """Runs transformers over the same parts, and adds what it took and the ratios."""
    for part, result in zip(content["parts"], results, strict=True):
        part["against"] = transformers.run(result.part, progress).to_json(result.outputs)
        part["ratio"] = part["tokens_per_second"] / part["against"]["tokens_per_second"]
    dtype = str(transformers.dtype).removeprefix("torch.")
    content["against"] = {"name": "transformers", "version": transformers.version, "dtype": dtype}
    content["ratio"] = min(part["ratio"] for part in content["parts"])


def _about(engine: Engine, workload: Workload, traffic: Traffic, repeat: int) -> dict[str, Any]:
    """What was measured, on what."""
    config = engine.config
    return {
        "workload": workload.name,
        "digest": workload.digest,
        "seed": SEED,
        "repeat": repeat,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": engine.model_name,
        "fingerprint": engine.fingerprint,
        "dtype": config.dtype,
        "quantization": config.quantization,
        "kv_cache_dtype": config.kv_cache_dtype,
        "device": config.device,
        "kernels": engine.model.kernels.name,
        "attention_backend": engine.runner.backend.name,
        "engine": asdict(config),
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "memory_bandwidth": traffic.bandwidth,
        "weight_bytes": traffic.weight_bytes,
        "kv_bytes_per_token": traffic.kv_bytes_per_token,
    }


# -- tables -------------------------------------------------------------------------------------------------------


def _rows(parts: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    def row(value: Any) -> list[str]:
        return [value(part) for part in parts]

    def percentiles(name: str) -> list[str]:
        return row(lambda part: " / ".join(_milliseconds((part[name] or {}).get(p)) for p in ("p50", "p95", "p99")))

    found = [
        ("tokens/s", row(lambda part: _number(part["tokens_per_second"]))),
        ("  decode steps", row(lambda part: _number(part["decode_tokens_per_second"]))),
        ("  steps with prompts", row(lambda part: _number(part["prefill_tokens_per_second"]))),
        ("first token, ms (p50/95/99)", percentiles("time_to_first_token")),
        ("next tokens, ms (p50/95/99)", percentiles("time_per_output_token")),
        ("read by decode steps, GB/s", row(lambda part: _number(part["gb_per_second"]))),
        ("  of the memory's bandwidth", row(lambda part: _percent(part["bandwidth_share"]))),
        ("scheduling's share of a step", row(lambda part: _percent(part["scheduling_share"]))),
        ("prompt tokens from the cache", row(lambda part: f"{part['cached_tokens']} of {part['prompt_tokens']}")),
        ("peak memory, GB", row(lambda part: _gigabytes(part["peak_rss_bytes"]))),
    ]
    if any(part["peak_gpu_bytes"] for part in parts):
        found.append(("peak memory of the GPU, GB", row(lambda part: _gigabytes(part["peak_gpu_bytes"]))))
    if "against" in parts[0]:
        found += [
            ("transformers, tokens/s", row(lambda part: _number(part["against"]["tokens_per_second"]))),
            ("  its fastest way", row(lambda part: part["against"]["strategy"])),
            ("  same tokens", row(lambda part: _percent(part["against"]["same_tokens"]))),
            ("ratio", row(lambda part: f"[bold]{part['ratio']:.2f}[/]")),
        ]
    return found


def _paging_rows(parts: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    ways = list(parts[0]["tokens_per_second"])
    return [
        *((f"{way}, tokens/s", [_number(part["tokens_per_second"][way]) for part in parts]) for way in ways),
        ("same tokens", ["yes" if part["same_tokens"] else "no" for part in parts]),
        ("ratio", [f"[bold]{part['ratio']:.3f}[/]" for part in parts]),
    ]


def _remarks(content: dict[str, Any]) -> list[str]:
    lines = []
    if content["workload"] == "shared-prefix":
        lines.append(f"time to first token, cold over warm: [bold]{content['ratio']:.2f}[/]")
    if against := content.get("against"):
        lines.append(f"transformers {against['version']} computes in {against['dtype']}.")
        few = [part["against"]["strategies"][0]["num_requests"] for part in content["parts"]]
        for part, count in zip(content["parts"], few, strict=True):
            if count < part["num_requests"]:
                lines.append(f"Of {part['name']}, transformers ran the first {count}.")
        for part in content["parts"]:
            lines += [f"transformers can't do {way}: {why}" for way, why in part["against"]["failed"].items()]
    if quality := content.get("quality"):
        lines.append(
            f"{content['quantization']} on a text of {quality['num_tokens']} tokens: perplexity "
            f"{quality['perplexity']:.3f} (float32: {quality['float32_perplexity']:.3f}), the same likeliest token "
            f"at {_percent(quality['greedy_agreement'])} of the positions"
        )
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.3g}" if seconds < 1 else f"{seconds * 1000:,.0f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _gigabytes(num_bytes: int | None) -> str:
    return "–" if num_bytes is None else f"{num_bytes / 1e9:.2f}"
