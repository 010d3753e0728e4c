"""Runs the command `minillm` as a person or a script would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MINILLM = str(Path(sys.executable).with_name("minillm"))


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, without what would change the output from machine to machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "JUPYTER"))}
    # One thread: the model is so small that two only wait for each other.
    return kept | {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "100"} | changes


def minillm(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """One run, in a process of its own."""
    options = {"input": b"", "env": environment(), "timeout": 120} | options
    return subprocess.run([MINILLM, *arguments], capture_output=True, check=False, **options)
