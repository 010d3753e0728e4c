"""`minillm rag` as a person or a script runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minillm as package
from minillm import LLM, EmbeddingModel
from minillm.server import LocalServer

ROOT = str(Path(package.__file__).parents[1])
COMMAND = [sys.executable, "-c", "from minillm.cli import main; main()", "rag"]


@pytest.fixture(scope="module")
def server(tiny: LLM) -> Iterator[LocalServer]:
    with LocalServer(tiny, embedding_model=EmbeddingModel("all-minilm-l6-v2", device="cpu")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook/leave.md").write_text(
        "---\nowner: Ann\ndate: 2026-03-12\n---\n# Leave\n\nThere are 25 days [x]."
    )
    (tmp_path / "handbook/travel.txt").write_text("Trains are taken first class.")
    return tmp_path


def run(
    folder: Path, *arguments: str, server: LocalServer | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("OPENAI", "MINILLM_MODEL", "MINILLM_EMB"))}
    environment = kept | {"PYTHONPATH": ROOT, "TERM": "dumb", "COLUMNS": "100"}
    environment |= {"OPENAI_BASE_URL": server.base_url if server else "http://127.0.0.1:9/v1"}
    environment |= {"MINILLM_MODEL": "tiny-random", "MINILLM_EMBEDDING_MODEL": "all-minilm-l6-v2"}
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_from_a_folder_to_an_answer(folder: Path, server: LocalServer) -> None:
    done = run(folder, "index", "handbook", "--python", "colorsys", server=server)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 added, 0 unchanged; ")
    assert done.stdout.endswith(" chunks in rag.db\n")

    done = run(folder, "search", "holiday", "days", "-k", "1", server=server)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1. Leave (Ann, 2026-03-12)  handbook/leave.md, line 7, 1. by words, 1. by vectors\n")
    assert "There are 25 days [x]." in done.stdout

    done = run(folder, "ask", "-", server=server, text="How many days?")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "I don't know: the sources don't say.\n"  # the model's weights are random
    assert "no source supports what the model wrote" in done.stderr

    content = json.loads(run(folder, "ask", "How many days?", "--json", "--source", "handbook/*", server=server).stdout)
    assert content["refused"] is True
    assert {hit["provenance"]["source"] for hit in content["sources"]} == {"handbook/leave.md", "handbook/travel.txt"}
    assert content["sources"][0]["provenance"]["updated"] == "2026-03-12T00:00:00+00:00"


def test_json_and_a_file_that_can_not_be_read(folder: Path, server: LocalServer) -> None:
    (folder / "handbook/bad.md").write_bytes(b"\xff")
    done = run(folder, "index", "handbook", "--json", "-d", "x.db", "--tenant", "acme", server=server)
    assert done.returncode == 1
    content = json.loads(done.stdout)
    assert content["added"] == ["handbook/leave.md", "handbook/travel.txt"]
    assert (content["chunks"], content["embedded"]) == (2, 2)
    assert "not read: handbook/bad.md isn't UTF-8" in done.stderr
    found = run(folder, "search", "trains", "--json", "-d", "x.db", "--mode", "words", "--tenant", "acme")
    assert [hit["provenance"]["source"] for hit in json.loads(found.stdout)] == ["handbook/travel.txt"]
    nothing = run(folder, "search", "trains", "-d", "x.db", "--mode", "words")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "Nothing was found.\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("index", "handbook"), 1, "No server answers at http://127.0.0.1:9/v1. Start one with: minillm serve"),
        (("index", "nowhere"), 1, "There's nothing at nowhere."),
        (("index",), 2, "Name a file, a folder, or a module"),
        (("search", "x"), 1, "There's no index at rag.db. Make one with: minillm rag index PATH"),
        (("ask", "x", "-d", "no.db"), 1, "There's no index at no.db."),
        (("search", "x", "--mode", "both"), 2, "choose hybrid, words or vectors"),
        (("bench", "--size", "1"), 2, "than or equal to 10"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_sentence(
    folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_the_benchmark_prints_a_row_for_each_size(folder: Path) -> None:
    rows = json.loads(run(folder, "bench", "--size", "20", "--size", "40", "--json").stdout)
    assert [row["num_chunks"] for row in rows] == [20, 40]
    assert set(rows[0]["medians"]) == {"words", "vectors", "hybrid", "filtered"}
    table = run(folder, "bench", "--size", "20").stdout
    assert table.split()[:3] == ["chunks", "added", "in"]


def test_the_command_line_starts_without_the_extra(folder: Path) -> None:
    """The packages are made impossible to import, as where they aren't installed."""
    hidden = "import sys; sys.modules.update(dict.fromkeys(['apsw', 'sqlite_vec', 'bs4', 'pypdf', 'openai'])); "
    program = [sys.executable, "-c", hidden + COMMAND[2]]
    options = {"cwd": folder, "env": os.environ | {"PYTHONPATH": ROOT}, "capture_output": True, "text": True}
    helped = subprocess.run([*program, "rag", "--help"], timeout=60, check=False, **options)  # type: ignore[call-overload]
    assert helped.returncode == 0
    refused = subprocess.run([*program, "rag", "bench"], timeout=60, check=False, **options)  # type: ignore[call-overload]
    assert refused.returncode == 1
    assert "pip install 'minillm[rag]'" in refused.stderr
