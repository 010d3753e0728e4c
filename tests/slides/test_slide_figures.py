"""`slides/figures.py`: runs a lesson, and saves each figure that it shows under its title."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from slide_decks import REPOSITORY, run_script

ONE_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CELLS = [
    "import os\n"
    "from minillm.lab import sampling_explorer, show, step_cost, token_chips\n"
    "from minillm.lab.display import Html",
    'show(step_cost({"naive loop": [1.0, 2.0]}, title="The same 64 tokens"))',
    'show(step_cost({"naive loop": [3.0]}, title="The same 64 tokens"))',
    'show(step_cost({os.path.basename(os.getcwd()): [1.0]}, title="A model\'s cost (in ms): “naïve”"))',
    'step_cost({os.environ.get("OPENAI_BASE_URL", "local"): [1.0]}, title="Last expression of a cell")',
    'show(sampling_explorer([2.0, 1.0, 0.0], ["a", "b", "c"]))',
    f"show(Html('<p><img alt=\"A bitmap. Blue &amp; small.\" src=\"data:image/png;base64,{ONE_PIXEL}\"></p>', 'x'))",
    'show(token_chips([(1, "The"), (2, " sea")]))\nprint("no figure")',
]
SVG = "data:image/svg+xml;base64,"
FIRST = "07-the-same-64-tokens.svg"
NAMES = [
    FIRST,
    "07-the-same-64-tokens-2.svg",
    "07-a-models-cost-in-ms-naive.svg",
    "07-last-expression-of-a-cell.svg",
    "07-the-same-next-token-distribution-under-several-settings.svg",
    "07-a-bitmap.png",
]


def write_lesson(path: Path, cells: list[str], title: str = "# 07 · A lesson for the tests") -> Path:
    """Write a notebook without outputs."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_markdown_cell(title), *map(nbformat.v4.new_code_cell, cells)]
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lesson with figures of every kind."""
    return write_lesson(tmp_path_factory.mktemp("figures") / "lessons" / "07-small.ipynb", CELLS)


@pytest.fixture(scope="module")
def result(lesson: Path) -> subprocess.CompletedProcess:
    """The command's result; its figures are in figures/ beside the lesson's folder."""
    env = os.environ | {"OPENAI_BASE_URL": "http://elsewhere/v1"}
    return run_script("figures.py", lesson, "--output", lesson.parents[1] / "figures", env=env)


@pytest.fixture(scope="module")
def figures(lesson: Path, result: subprocess.CompletedProcess) -> Path:
    assert result.returncode == 0, result.stderr
    return lesson.parents[1] / "figures"


def test_each_figure_is_saved_under_its_title(figures: Path, result: subprocess.CompletedProcess) -> None:
    assert {path.name for path in figures.iterdir()} == {*NAMES, "07.json"}
    assert result.stdout.splitlines() == [str(figures / name) for name in NAMES]


def test_files_are_pictures(figures: Path) -> None:
    for name in NAMES[:-1]:
        assert ElementTree.parse(figures / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (figures / NAMES[-1]).read_bytes().startswith(b"\x89PNG")


def test_texts_and_the_machine_are_kept(figures: Path) -> None:
    kept = json.loads((figures / "07.json").read_text(encoding="utf-8"))
    assert list(kept["figures"]) == NAMES
    assert kept["figures"][FIRST].startswith("The same 64 tokens. naive loop: 1 ms for the first token, 2 ms for")
    assert kept["figures"]["07-a-bitmap.png"] == "A bitmap. Blue & small."
    assert " cores" in kept["measured_on"]
    assert "torch " in kept["measured_on"]


def test_a_lesson_runs_in_its_own_folder_and_on_the_local_engine(figures: Path) -> None:
    texts = json.loads((figures / "07.json").read_text(encoding="utf-8"))["figures"]
    assert "lessons: 1 ms" in texts["07-a-models-cost-in-ms-naive.svg"]
    assert "local: 1 ms" in texts["07-last-expression-of-a-cell.svg"]


def test_progress_has_a_line_for_each_cell(result: subprocess.CompletedProcess) -> None:
    lines = [line for line in result.stderr.splitlines() if line.startswith("  cell ")]
    assert len(lines) == len(CELLS)
    assert lines[1].startswith(f'  cell  2 of {len(CELLS)}: show(step_cost({{"naive loop": [1.0, 2.0]}}')
    assert lines[1].endswith(" s")


def test_the_lesson_itself_stays_without_outputs(lesson: Path, figures: Path) -> None:
    assert all(not cell.get("outputs") for cell in nbformat.read(lesson, as_version=4).cells)


def executed(path: Path, *pictures: tuple[str, str], error: str = "") -> Path:
    """Write a notebook that was run and shows `pictures`: pairs of alternative text and SVG markup in base64."""
    write_lesson(path, ["show(…)"])
    notebook = nbformat.read(path, as_version=4)
    outputs = [
        nbformat.v4.new_output(
            "display_data", {"text/html": f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}">'}
        )
        for alt, data in pictures
    ]
    if error:
        outputs.append(nbformat.v4.new_output("error", ename="ValueError", evalue=error, traceback=[]))
    notebook.cells[1].outputs = outputs
    nbformat.write(notebook, path)
    return path


@dataclass(frozen=True)
class Outcome:
    """What the command left behind: its exit status, and what it wrote to stderr."""

    status: int
    stderr: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def main() -> Iterator[Callable[[], int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "slides")
        yield runpy.run_path(str(REPOSITORY / "slides" / "figures.py"))["main"]
        sys.modules.pop("build", None)


@pytest.fixture
def command(main: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, which saves a start of the interpreter for each call."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["figures.py", *map(str, arguments)])
        try:
            status = main()
        except SystemExit as exit:  # argparse
            status = int(exit.code or 0)
        return Outcome(status, capsys.readouterr().err)

    return call


def test_an_executed_notebook_is_taken_as_it_is_and_its_old_figures_go(tmp_path: Path, command: Command) -> None:
    out = tmp_path / "figures"
    out.mkdir()
    (out / "07-drawn-by-hand.svg").write_text("<svg/>", encoding="utf-8")
    first = executed(tmp_path / "out.ipynb", ("Old title. Words.", "PHN2Zy8+"), ("Stays. Words.", "PHN2Zy8+"))
    assert command("--executed", first, "--output", out).status == 0
    assert (out / "07-old-title.svg").read_text(encoding="utf-8") == "<svg/>"

    second = executed(tmp_path / "out.ipynb", ("Stays. Words.", "PHN2Zy8+"))
    assert command("--executed", second, "--output", out).status == 0
    assert {path.name for path in out.iterdir()} == {"07.json", "07-stays.svg", "07-drawn-by-hand.svg"}


@pytest.mark.parametrize(
    ("pictures", "error", "message"),
    [
        ([], "", "has no outputs: it was not run"),
        ([("", "PHN2Zy8+")], "", "a figure has no text alternative"),
        ([("Title. Words.", "PHN2Zy8+")], "no tokens", "a cell failed with ValueError: no tokens"),
    ],
)
def test_an_unusable_notebook_changes_nothing(
    tmp_path: Path, command: Command, pictures: list[tuple[str, str]], error: str, message: str
) -> None:
    path = executed(tmp_path / "out.ipynb", *pictures, error=error)
    outcome = command("--executed", path, "--output", tmp_path / "figures")
    assert outcome.status == 1
    assert message in outcome.stderr
    assert not (tmp_path / "figures").exists()


def test_a_cell_that_fails_is_named(tmp_path: Path, command: Command) -> None:
    path = write_lesson(tmp_path / "07.ipynb", ["1 + 1", 'raise ValueError("no such token")'])
    outcome = command(path, "--output", tmp_path / "figures")
    assert outcome.status == 1
    assert "cell 2 failed with ValueError: no such token" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["99"], "no lesson is called 99. The lessons: 01-large-language-models"),
        (["--executed", "missing.ipynb"], "missing.ipynb"),
        (["01", "--executed", "out.ipynb"], "not both"),
    ],
)
def test_wrong_arguments_are_explained(command: Command, arguments: list[str], message: str) -> None:
    outcome = command(*arguments)
    assert outcome.status != 0
    assert message in outcome.stderr


def test_a_notebook_without_a_number_is_refused(tmp_path: Path, command: Command) -> None:
    path = write_lesson(tmp_path / "notes.ipynb", ["1 + 1"], title="# Notes")
    assert 'no title such as "# 01 ·' in command(path, "--output", tmp_path).stderr


def test_every_figure_that_is_described_is_there() -> None:
    for index in (REPOSITORY / "slides" / "figures").glob("*.json"):
        described = json.loads(index.read_text(encoding="utf-8"))["figures"]
        assert [name for name in described if not (index.parent / name).is_file()] == []
