"""Decks that the tests build and check for real, with the commands that an author uses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FRONT_MATTER = """---
marp: true
theme: minillm
paginate: true
title: "A deck for the tests"
footer: "minillm · tests"
---
"""
PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 200">
<rect width="400" height="200" fill="#0072B2"/></svg>
"""


def run_script(
    script: Path | str, *arguments: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run a script of slides/, or the one at a path, and wait for it."""
    command = [sys.executable, str(REPOSITORY / "slides" / script), *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def write_deck(path: Path, slides: list[str]) -> Path:
    """Write a deck of `slides`, beside the folder of figures that it may show."""
    figures = path.parent / "figures"
    figures.mkdir(exist_ok=True)
    (figures / "blue.svg").write_text(PICTURE, encoding="utf-8")
    path.write_text(FRONT_MATTER + "\n---\n".join(slides), encoding="utf-8")
    return path
