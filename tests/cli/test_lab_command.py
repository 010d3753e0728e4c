"""`minillm lab` on a machine without a screen: it prints the address, serves the notebook, and stops at Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from commands import MINILLM, environment, minillm

NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def folder_of(url: str) -> set[str]:
    """The names in the folder that is served; JupyterLab prints its address a moment before it listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return {entry["name"] for entry in json.load(answer)["content"]}
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "lesson.ipynb").write_text(json.dumps(NOTEBOOK))
    port, home = free_port(), str(tmp_path / "home")
    process = subprocess.Popen(
        [MINILLM, "lab", "lesson.ipynb", "--port", str(port), "--no-browser"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(HOME=home, IPYTHONDIR=home),
    )
    assert process.stderr is not None
    alarm = threading.Timer(90, process.kill)  # a server that says nothing would keep the test waiting
    alarm.start()
    try:
        shown = ""
        while (found := re.search(rf"http://127\.0\.0\.1:{port}/\S*token=\w+", shown)) is None:
            line = process.stderr.readline()
            assert line, f"it ended without an address:\n{shown}"
            shown += line
        assert "Opening lesson.ipynb in JupyterLab" in shown
        assert "/lab/tree/lesson.ipynb" in found.group()
        token = found.group().partition("token=")[2]
        assert "lesson.ipynb" in folder_of(f"http://127.0.0.1:{port}/api/contents?token={token}")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)  # until nobody holds the pipe any more, JupyterLab included
        assert process.returncode == 0
    finally:
        alarm.cancel()
        process.kill()
        process.wait()


def test_in_the_wrong_folder_it_says_where_to_go(tmp_path: Path) -> None:
    done = minillm("lab", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    errors = done.stderr.decode()
    assert "lessons/01-large-language-models.ipynb isn't there" in errors
    assert "course's folder" in errors
    assert "Traceback" not in errors
