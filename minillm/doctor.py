"""`minillm doctor`: what runs here, on what, and what to do about the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Status = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: "ok"; "missing" for what's optional and not there; "broken" for what minillm can't run without.
        detail: what was found.
        remedy: the command that mends it, or "".
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Looks at the machine, the packages and the models, and generates a few tokens to see that it works."""
    return [_versions(), _processor(), _memory(), *_accelerator(), _kernels(), *_models(), *_packages(), _generation()]


def print_findings(findings: list[Finding]) -> None:
    """Prints a table for people, the remedies below it."""
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        style = {"ok": "green", "missing": "yellow", "broken": "bold red"}[finding.status]
        table.add_row(f"[{style}]{finding.status}[/]", escape(finding.name), escape(finding.detail))
    console.print(table)
    for finding in findings:
        if finding.remedy:
            console.print(f"\n{escape(finding.name)}: [bold]{escape(finding.remedy)}[/]", soft_wrap=True)


def _versions() -> Finding:
    names = ("minillm", "torch", "tokenizers", "safetensors", "gguf")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    ok = sys.version_info >= (3, 11)
    return Finding("versions", "ok" if ok else "broken", f"Python {platform.python_version()}, {versions}")


def _processor() -> Finding:
    import torch

    simd = torch.backends.cpu.get_cpu_capability()
    return Finding("processor", "ok", f"{cpu_name()}, {torch.get_num_threads()} threads, PyTorch uses {simd}")


def cpu_name() -> str:
    """The processor's name as its maker gives it, or the architecture where that can't be found."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> Finding:
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (ValueError, AttributeError, OSError):
        return Finding("memory", "ok", "size unknown on this system")
    total = page * pages / 2**30
    needed = 2.0  # the default model in float32, its cache and a notebook
    remedy = "" if total >= needed else "the default model needs 2 GiB; close other programs or take a larger machine"
    return Finding("memory", "ok" if total >= needed else "broken", f"{total:.1f} GiB in all", remedy)


def _accelerator() -> list[Finding]:
    import torch

    from minillm.engine.loading import resolve_device, resolve_dtype

    device = resolve_device("auto")
    dtype = str(resolve_dtype("auto", device)).removeprefix("torch.")
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        return [Finding("device", "ok", f"{name}, {total:.0f} GiB, {dtype}")]
    findings = [Finding("device", "ok", f"CPU, {dtype}")]
    if shutil.which("nvidia-smi"):
        remedy = "install PyTorch's build for your CUDA version (pytorch.org, 'Get started')"
        findings.append(
            Finding("NVIDIA GPU", "missing", "there is one, but this build of PyTorch can't use it", remedy)
        )
    return findings


def _kernels() -> Finding:
    import torch

    if torch.cuda.is_available():
        if importlib.util.find_spec("triton") is not None:
            return Finding("kernels", "ok", "Triton")
        return Finding("kernels", "missing", "PyTorch's own; those made for GPUs need Triton", "pip install triton")
    from minillm.kernels.cpu.build import load, why_not

    if load() is not None:
        return Finding("kernels", "ok", "C, compiled for this processor")
    cost = "PyTorch's own, which take several times as long for each token"
    return Finding("kernels", "missing", f"{cost}. {why_not()}", "sudo apt-get install gcc")


def _models() -> list[Finding]:
    from minillm.weights import MODELS, is_cached, minillm_home

    home = minillm_home()
    findings = []
    for name in MODELS:
        cached = is_cached(name)
        detail = f"in {home}" if cached else f"not yet in {home}"
        findings.append(
            Finding(name, "ok" if cached else "missing", detail, "" if cached else f"minillm weights {name}")
        )
    return findings


def _packages() -> list[Finding]:
    extras = {"server": ("fastapi", "uvicorn"), "course": ("jupyterlab", "matplotlib", "ipywidgets", "openai")}
    findings = []
    for extra, names in extras.items():
        absent = [name for name in names if importlib.util.find_spec(name) is None]
        detail = f"without {', '.join(absent)}" if absent else ", ".join(f"{name} {_version(name)}" for name in names)
        remedy = f"pip install -e '.[{extra}]'" if absent else ""
        findings.append(Finding(extra, "missing" if absent else "ok", detail, remedy))
    return findings


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _generation() -> Finding:
    """The whole way from a text to tokens and back, on the tiny model."""
    from minillm import LLM, SamplingParams

    try:
        output = LLM("tiny-random").generate("Hello", SamplingParams(temperature=0, max_tokens=4, ignore_eos=True))
    except Exception as error:  # whatever it is, the doctor's report should come out
        return Finding("generation", "broken", f"{type(error).__name__}: {error}", "make clean && make lab")
    return Finding("generation", "ok", f"tiny-random made {len(output.token_ids)} tokens")
