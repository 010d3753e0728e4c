"""The exercise generator: nbgrader's rules, a deterministic result, and clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.lab.exercises import CODE_STUB, COMMAND, ExerciseError, generate, main, stub_out

ROOT = Path(__file__).parents[2]


def grader(grade_id: str, *, grade: bool = False, solution: bool = False, **changes: Any) -> dict[str, Any]:
    data = {"grade": grade, "solution": solution, "locked": not solution, "grade_id": grade_id, "schema_version": 3}
    data |= {"points": 1} if grade else {}
    return {"nbgrader": {k: v for k, v in (data | changes).items() if v is not ...}}


def cell(source: str, metadata: dict[str, Any] | None = None, kind: str = "code") -> dict[str, Any]:
    made: dict[str, Any] = {"cell_type": kind, "id": f"c{abs(hash(source)) % 10**8}", "metadata": metadata or {}}
    made["source"] = source.splitlines(keepends=True)
    if kind == "code":
        made |= {"execution_count": 3, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["42\n"]}]}
    return made


def write(folder: Path, *cells: dict[str, Any], name: str = "01-x.ipynb") -> Path:
    path = folder / "solutions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "kernelspec": {"display_name": "my env", "language": "python", "name": "myenv"},
        "language_info": {"name": "python", "version": "3.11.4"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}},
    }
    notebook = {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def generated(folder: Path, *cells: dict[str, Any]) -> list[str]:
    notebook = json.loads(generate(write(folder, *cells)))
    return ["".join(made["source"]) for made in notebook["cells"]]


SOLUTION = """def add(a, b):
    \"\"\"Add two numbers.\"\"\"
    ### BEGIN SOLUTION
    total = a
    total += b
    return total
    ### END SOLUTION
"""


def test_a_region_becomes_a_stub_at_its_indentation(tmp_path: Path) -> None:
    [source] = generated(tmp_path, cell(SOLUTION, grader("add", solution=True)))
    assert source == (
        'def add(a, b):\n    """Add two numbers."""\n'
        '    # YOUR CODE HERE\n    raise NotImplementedError("replace this line with your code")'
    )


def test_several_regions_are_replaced_one_by_one(tmp_path: Path) -> None:
    text = (
        "x = 1\n### BEGIN SOLUTION\ny = 2\n### END SOLUTION\nz = 3\n"
        "if x:\n\t### BEGIN SOLUTION\n\tw = 4\n\t### END SOLUTION\n"
    )
    [source] = generated(tmp_path, cell(text, grader("many", solution=True)))
    stub = "\n".join(CODE_STUB)
    assert source == f"x = 1\n{stub}\nz = 3\nif x:\n\t{CODE_STUB[0]}\n\t{CODE_STUB[1]}"


def test_a_solution_cell_without_a_region_is_replaced_as_a_whole(tmp_path: Path) -> None:
    sources = generated(
        tmp_path,
        cell("secret = 1", grader("whole", solution=True)),
        cell("because", grader("essay", solution=True, grade=True), kind="markdown"),
    )
    assert sources == ["\n".join(CODE_STUB), "YOUR ANSWER HERE"]


def test_hidden_tests_go_and_visible_ones_stay(tmp_path: Path) -> None:
    text = "assert add(1, 2) == 3\n### BEGIN HIDDEN TESTS\nassert add(-1, 1) == 0\n### END HIDDEN TESTS\n"
    [source] = generated(tmp_path, cell(text, grader("test-add", grade=True)))
    assert source == "assert add(1, 2) == 3"


def test_ordinary_cells_stay_as_they_are(tmp_path: Path) -> None:
    sources = ["# Title\n\nText.", "%time x = 1\n!ls\n", "print('BEGIN')\n\n"]
    assert generated(tmp_path, cell(sources[0], kind="markdown"), cell(sources[1]), cell(sources[2])) == sources


def test_the_result_is_clean_valid_and_deterministic(tmp_path: Path) -> None:
    metadata = grader("add", solution=True, checksum="abc") | {
        "tags": ["core"],
        "collapsed": True,
        "execution": {"a": 1},
    }
    path = write(tmp_path, cell(SOLUTION, metadata), cell("assert add(1, 1) == 2", grader("t", grade=True)))
    text = generate(path)
    assert text == generate(path)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert first.outputs == []
    assert first.execution_count is None
    assert first.metadata == {
        "tags": ["core"],
        "nbgrader": {
            "grade": False,
            "solution": True,
            "locked": False,
            "grade_id": "add",
            "schema_version": 3,
            "cell_type": "code",
            "task": False,
        },
    }
    assert notebook.cells[1].metadata.nbgrader.points == 1
    assert "myenv" not in text
    assert "3.11.4" not in text
    assert "widgets" not in notebook.metadata


def test_nbstripout_finds_nothing_left_to_strip(tmp_path: Path) -> None:
    path = tmp_path / "out.ipynb"
    path.write_text(generate(write(tmp_path, cell(SOLUTION, grader("add", solution=True)), cell("x = 1\n"))))
    subprocess.run([sys.executable, "-m", "nbstripout", "--verify", str(path)], check=True)


def test_every_cell_of_the_stub_parses_and_raises(tmp_path: Path) -> None:
    [source] = generated(tmp_path, cell(SOLUTION, grader("add", solution=True)))
    names: dict[str, Any] = {}
    exec(source, names)
    with pytest.raises(NotImplementedError, match="replace this line"):
        names["add"](1, 2)


@pytest.mark.parametrize(
    ("source", "metadata", "message"),
    [
        ("### BEGIN SOLUTION\nx", grader("a", solution=True), "line 1: '### BEGIN SOLUTION' has no '### END SOLUTION'"),
        ("x\n### END SOLUTION", grader("a", solution=True), "line 2: '### END SOLUTION' without '### BEGIN SOLUTION'"),
        (
            "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
            grader("a", solution=True),
            "line 2: '### BEGIN SOLUTION' inside the region that began in line 1",
        ),
        (
            "### BEGIN HIDDEN TESTS\nx",
            grader("a", grade=True),
            "'### BEGIN HIDDEN TESTS' has no '### END HIDDEN TESTS'",
        ),
        (SOLUTION, {}, 'its nbgrader metadata must say "solution": true'),
        (SOLUTION, grader("a", grade=True), 'its nbgrader metadata must say "solution": true'),
        ("### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS", grader("a", solution=True), '"grade": true'),
        (
            "### BEGIN SOLUTION\ndef f():\n### END SOLUTION\n    return 1",
            grader("a", solution=True),
            "not valid Python any more",
        ),
        ("x", grader("a b", solution=True), '"grade_id" must be made of letters'),
        ("x", grader("a", solution=True, grade=True, points=...), 'needs "points"'),
        ("x", grader("a", solution=True, grade=True, points=-1), 'needs "points"'),
        ("x", grader("a", solution=True, schema_version=2), '"schema_version": 3'),
        ("x", grader("a", solution=True, locked=...), '"locked" must be true or false'),
        ("x", grader("a", solution=True, cell_type="markdown"), "this is a code cell"),
    ],
)
def test_mistakes_name_the_file_and_the_cell(
    tmp_path: Path, source: str, metadata: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, cell("import math"), cell(source, metadata))
    with pytest.raises(ExerciseError) as caught:
        generate(path)
    assert f"{path}, cell 2" in str(caught.value)
    assert message in str(caught.value)


def test_a_grade_id_may_be_used_once(tmp_path: Path) -> None:
    path = write(tmp_path, cell("x", grader("a", solution=True)), cell("y", grader("a", solution=True)))
    with pytest.raises(ExerciseError, match="cell 2: grade_id 'a' is already used by cell 1"):
        generate(path)


@given(st.lists(st.sampled_from(["x = 1", "    y = 2", "", "### BEGIN SOLUTION", "### END SOLUTION"]), max_size=12))
def test_no_line_of_a_solution_ever_survives(lines: list[str]) -> None:
    secret = [line if line.startswith("###") else f"{line}  # {number}" for number, line in enumerate(lines)]
    try:
        result, found = stub_out("\n".join(secret), stub=CODE_STUB, where="cell")
    except ExerciseError:
        return
    inside = False
    for line in secret:
        if line == "### BEGIN SOLUTION":
            inside = True
        elif line == "### END SOLUTION":
            inside = False
        else:
            assert (line in result.split("\n")) == (not inside or not line.strip())
    assert found == ("### BEGIN SOLUTION" in lines)


# --------------------------------------------------------------------------------------------- command line


def test_the_command_writes_checks_and_mends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, cell(SOLUTION, grader("add", solution=True)))
    arguments = ["--root", str(tmp_path)]
    exercise = tmp_path / "exercises" / "01-x.ipynb"
    assert main([*arguments, "--check"]) == 1
    assert not exercise.exists()
    told = capsys.readouterr().err
    assert f"{exercise} is out of date." in told
    assert f"Mend with: {COMMAND}" in told
    assert main(arguments) == 0
    assert exercise.is_file()
    assert main([*arguments, "--check"]) == 0
    write(tmp_path, cell(SOLUTION + "\n# more\n", grader("add", solution=True)))
    assert main([*arguments, "--check"]) == 1


def test_an_exercise_without_a_solution_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, cell("x = 1"))
    arguments = ["--root", str(tmp_path)]
    main(arguments)
    (tmp_path / "exercises" / "02-gone.ipynb").write_text("{}")
    assert main([*arguments, "--check"]) == 1
    assert "02-gone.ipynb has no solution" in capsys.readouterr().err


def test_a_bad_solution_is_an_error_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, cell("x = 1"), name="01-good.ipynb")
    write(tmp_path, cell("### BEGIN SOLUTION", grader("a", solution=True)), name="02-bad.ipynb")
    assert main(["--root", str(tmp_path)]) == 2
    assert "02-bad.ipynb, cell 1" in capsys.readouterr().err
    assert not (tmp_path / "exercises").exists()


def test_the_wrong_folder_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "minillm.lab.exercises", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "There are no notebooks" in done.stderr


def test_the_exercises_of_this_checkout_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    lessons = {path.name for path in (ROOT / "lessons").glob("[0-9][0-9]-*.ipynb")}
    assert lessons == {path.name for path in (ROOT / "solutions").glob("[0-9][0-9]-*.ipynb")}
    assert lessons == {path.name for path in (ROOT / "exercises").glob("[0-9][0-9]-*.ipynb")}
    if lessons:
        assert main(["--check", "--root", str(ROOT)]) == 0, capsys.readouterr().err
