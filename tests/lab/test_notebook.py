"""In a real kernel: what a notebook's outputs and its exported page hold when nobody looks at a front end."""

from __future__ import annotations

import copy

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook

CELLS = [
    """
from minillm.lab import Quiz, next_token_bars, sampling_explorer, show, token_chips
from minillm.testing import Case, run_cases
sampling_explorer([3.0, 2.0, 1.0], [" Paris", " the", " a"])
""",
    """
Quiz.from_data({"lesson": "99", "title": "Tokens", "questions": [{"text": "Which?", "options": [
    {"text": "this", "correct": True, "explanation": "because of this"},
    {"text": "that", "correct": False, "explanation": "because of that"},
    {"text": "none", "correct": False, "explanation": "there is one"}]}]})
""",
    """
for _ in range(2):
    show(next_token_bars([" Paris"], [0.75], "Next"))
""",
    """
def student(items):
    return items[10]

run_cases("pick", [Case("picks", lambda: student([1])), Case("ends", lambda: exec("while True: pass"), time_limit=0.2)])
""",
    """
from minillm.lab.display import ProgressLine
line = ProgressLine(every=0)
for step in range(5):
    line.update(f"step {step}")
line.done("all five steps")
""",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    notebook = new_notebook(cells=[new_code_cell(source.strip()) for source in CELLS])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path_factory.mktemp("notebook")))
    return notebook


@pytest.fixture(scope="module", params=["widget state saved", "no widget state"])
def page(request: pytest.FixtureRequest, executed: nbformat.NotebookNode) -> BeautifulSoup:
    notebook = copy.deepcopy(executed)
    if request.param == "no widget state":
        del notebook.metadata["widgets"]  # KeyError here: the cells made no widgets
    return BeautifulSoup(HTMLExporter().from_notebook_node(notebook)[0], "html.parser")


def test_the_page_shows_the_static_form_of_the_widget(page: BeautifulSoup) -> None:
    images = [str(image.get("alt", "")) for image in page.find_all("img")]
    assert any("temperature 0.5" in alt and "top-p 0.8" in alt for alt in images)


def test_the_page_has_the_quiz_with_every_explanation(page: BeautifulSoup) -> None:
    details = [found.get_text() for found in page.find_all("details")]
    assert len(details) == 3
    assert "because of that" in details[1]


def test_nothing_on_the_page_hides_the_static_form(page: BeautifulSoup) -> None:
    assert "jp-Notebook" in page.body["class"]  # type: ignore[index]
    for rule in page.find_all("style"):
        if "minillm-" in rule.text and "display: none" in rule.text:
            assert rule.text.startswith("body:not(.jp-Notebook)")


def test_show_inside_a_loop_displays_each_time(executed: nbformat.NotebookNode) -> None:
    outputs = executed.cells[2].outputs
    assert ["<img alt=" in output["data"]["text/html"] for output in outputs] == [True, True]
    assert "␣Paris 75%" in outputs[0]["data"]["text/plain"]


def test_a_report_names_the_line_of_the_cell(executed: nbformat.NotebookNode) -> None:
    [output] = executed.cells[3].outputs
    assert "in student: return items[10]" in output["data"]["text/plain"]
    assert "still running after 0.2 seconds" in output["data"]["text/html"]


def test_progress_is_one_line_that_ends_with_the_last_text(executed: nbformat.NotebookNode) -> None:
    [output] = executed.cells[4].outputs
    assert output["data"]["text/plain"] == "all five steps"
