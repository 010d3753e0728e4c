"""Compiles the C kernels of this folder at first use, with the system's compiler, for the processor at hand.

The result is kept in `minillm_home()/kernels` under a hash of all that went into it, so it's compiled once (a second
or two). The kernels have threads of their own, see threads.c.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from minillm.weights import minillm_home

SOURCES = Path(__file__).parent
FLAGS = (
    "-O3",
    "-pthread",
    "-std=gnu11",
    "-fPIC",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)


@dataclass(frozen=True)
class Library:
    """The compiled kernels.

    Attributes:
        path: the shared library.
        functions: as ctypes has them, under their names in C.
    """

    path: Path
    functions: ctypes.CDLL


@functools.cache
def load(extra_flags: tuple[str, ...] = ()) -> Library | None:
    """Compiles the kernels unless that was done before, and loads them. None if it can't be done: see `why_not`.

    Args:
        extra_flags: for the compiler, such as "-mno-avx512f" to try the code for smaller processors.
    """
    found = _build_and_load(extra_flags)
    return found if isinstance(found, Library) else None


def why_not() -> str:
    """Why `load` returned None and what to do about it, or "" if it didn't."""
    if load() is not None:
        return ""
    found = _build_and_load(())
    return found if isinstance(found, str) else ""


def _build_and_load(extra_flags: tuple[str, ...]) -> Library | str:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None:
        return "No C compiler was found. Install gcc or clang (on Debian and Ubuntu: apt install gcc)."
    try:
        version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
        flags = (*FLAGS, *extra_flags, *_machine_flags())
        path = minillm_home() / "kernels" / f"{_digest(compiler, version, *flags)}.so"
        if not path.exists():
            _compile(compiler, flags, path)
        return Library(path, ctypes.CDLL(str(path)))
    except subprocess.CalledProcessError as error:
        return f"{compiler} could not compile the CPU kernels: {_first_error(error.stderr)}"
    except OSError as error:
        return f"The CPU kernels could not be built or loaded: {error}."


def _compile(compiler: str, flags: tuple[str, ...], path: Path) -> None:
    """Compiles beside `path` and moves the result there whole, so any number of processes may do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        sources = [str(source) for source in sorted(SOURCES.glob("*.c"))]
        run = functools.partial(subprocess.run, cwd=folder, check=True, capture_output=True, text=True)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda source: run([compiler, *flags, "-c", source]), sources))
        objects = [f"{Path(name).stem}.o" for name in sources]
        run([compiler, "-shared", "-pthread", "-o", "kernels.so", *objects, "-lm"])
        os.replace(Path(folder, "kernels.so"), path)


def _digest(*parts: str) -> str:
    sources = [path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.[ch]"))]
    return hashlib.sha256("\0".join([*parts, _processor(), *sources]).encode()).hexdigest()[:24]


def _processor() -> str:
    """What tells one kind of processor from another: -march=native compiles for this one only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _machine_flags() -> tuple[str, ...]:
    return ("-march=native",) if platform.machine() in ("x86_64", "AMD64") else ("-mcpu=native",)


def _first_error(output: str) -> str:
    lines = output.splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "it said nothing").strip()
