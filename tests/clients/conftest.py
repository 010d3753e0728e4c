"""`minillm serve` with the real model, for programs that know nothing of it but its address."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MINILLM = str(Path(sys.executable).with_name("minillm"))
COMMAND = [MINILLM, "serve", "--port", "0", "--embedding-model", "all-minilm-l6-v2"]


@pytest.fixture(scope="session")
def base_url(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a client takes as its `base_url`. One server for all tests."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(COMMAND, stderr=stderr, env={**os.environ, "TERM": "dumb"})
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(timeout=60)
        print(log.read_text(encoding="utf-8"))  # pytest shows it where a test fails


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 120
    while not (match := re.search(r"http://\S+/v1", text := log.read_text(encoding="utf-8"))):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{' '.join(COMMAND)} did not come up:\n{text}")
        time.sleep(0.05)
    return match[0]
