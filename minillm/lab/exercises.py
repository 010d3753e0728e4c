"""Makes the exercises out of the solutions: `python -m minillm.lab.exercises [--check]`.

Each `solutions/NN-*.ipynb` becomes `exercises/NN-*.ipynb`. As in nbgrader's release step,

- code between `### BEGIN SOLUTION` and `### END SOLUTION` becomes a stub at the same indentation;
- a cell that is marked as a solution and has no such region is replaced as a whole;
- what lies between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS` is removed;
- outputs, execution counts and everything else that a run leaves behind are removed.

The result depends on the solution alone, so `--check` can tell when an exercise is older than its solution.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minillm.errors import MinillmError

COMMAND = "python -m minillm.lab.exercises"

CODE_STUB = ("# YOUR CODE HERE", 'raise NotImplementedError("replace this line with your code")')
TEXT_STUB = ("YOUR ANSWER HERE",)

_KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_GRADE_ID = re.compile(r"[a-zA-Z0-9_\-]+")


class ExerciseError(MinillmError):
    """A solution notebook from which no exercise can be made; the message names the file and the cell."""


@dataclass(frozen=True)
class Region:
    """A kind of marked region: its name in the markers, and which nbgrader flag its cell must carry."""

    name: str
    flag: str

    @property
    def begin(self) -> str:
        """What the region's first line contains."""
        return f"BEGIN {self.name}"

    @property
    def end(self) -> str:
        """What the region's last line contains."""
        return f"END {self.name}"


SOLUTION = Region("SOLUTION", "solution")
HIDDEN_TESTS = Region("HIDDEN TESTS", "grade")


def generate(solution: Path) -> str:
    """The exercise notebook for a solution notebook, as the text of its file.

    Raises:
        ExerciseError: naming the file and the cell (counted from 1).
    """
    try:
        notebook = json.loads(solution.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExerciseError(f"{solution} could not be read as a notebook: {error!r}.") from error
    grade_ids: dict[str, int] = {}
    made = []
    for number, cell in enumerate(cells, start=1):
        where = f"{solution}, cell {number}"
        nbgrader = _checked_nbgrader(cell, where)
        if nbgrader is not None:
            first = grade_ids.setdefault(nbgrader["grade_id"], number)
            if first != number:
                raise ExerciseError(f"{where}: grade_id {nbgrader['grade_id']!r} is already used by cell {first}.")
        # Ids as nbstripout numbers them, so that stripping a generated notebook changes nothing.
        made.append(_exercise_cell(cell, nbgrader, where) | {"id": str(number - 1)})
    result = {"cells": made, "metadata": _KERNEL, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def stub_out(source: str, *, stub: Sequence[str], where: str) -> tuple[str, bool]:
    """Replace every solution region by the stub at the indentation of its first marker.

    Returns:
        The new source, and whether there was a region.
    """
    return _replace_regions(source, SOLUTION, stub, where)


def drop_hidden_tests(source: str, *, where: str) -> tuple[str, bool]:
    """Remove every region of hidden tests; returns the new source, and whether there was one."""
    return _replace_regions(source, HIDDEN_TESTS, (), where)


def _replace_regions(source: str, region: Region, stub: Sequence[str], where: str) -> tuple[str, bool]:
    lines: list[str] = []
    begun: int | None = None
    found = False
    for number, line in enumerate(source.split("\n"), start=1):
        if region.begin in line:
            if begun is not None:
                raise ExerciseError(
                    f"{where}, line {number}: '### {region.begin}' inside the region that began in line {begun}; "
                    f"put '### {region.end}' before it."
                )
            begun, found = number, True
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + text for text in stub]
        elif region.end in line:
            if begun is None:
                raise ExerciseError(f"{where}, line {number}: '### {region.end}' without '### {region.begin}'.")
            begun = None
        elif begun is None:
            lines.append(line)
    if begun is not None:
        raise ExerciseError(f"{where}, line {begun}: '### {region.begin}' has no '### {region.end}'.")
    text = "\n".join(lines)
    return (text.rstrip("\n") if found else text), found


def _exercise_cell(cell: dict[str, Any], nbgrader: dict[str, Any] | None, where: str) -> dict[str, Any]:
    kind = cell["cell_type"]
    original = "".join(cell["source"])
    stub = CODE_STUB if kind == "code" else TEXT_STUB
    source, has_solution = stub_out(original, stub=stub, where=where)
    source, has_hidden_tests = drop_hidden_tests(source, where=where)
    for region, found in ((SOLUTION, has_solution), (HIDDEN_TESTS, has_hidden_tests)):
        if found and not (nbgrader or {}).get(region.flag):
            raise ExerciseError(
                f"{where}: it has a '### {region.begin}' region, so its nbgrader metadata must say "
                f'"{region.flag}": true (with a grade_id).'
            )
    if nbgrader is not None and nbgrader["solution"] and not has_solution:
        source = "\n".join(stub)
    if kind == "code":
        _check_syntax(original, source, where)
    return _clean_cell(cell, source, nbgrader)


def _check_syntax(original: str, stubbed: str, where: str) -> None:
    """The stub must parse if the solution does: a region that takes a `def` line away, say, leaves a ruin."""
    try:
        ast.parse(original)
    except SyntaxError:
        return  # magics and shell lines are not Python; nothing to compare with
    try:
        ast.parse(stubbed)
    except SyntaxError as error:
        raise ExerciseError(
            f"{where}: without its solution the cell is not valid Python any more ({error.msg}, line {error.lineno} "
            "of the exercise's cell); move the markers so that what stays is complete."
        ) from error


def _clean_cell(cell: dict[str, Any], source: str, nbgrader: dict[str, Any] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if cell["metadata"].get("tags"):
        metadata["tags"] = cell["metadata"]["tags"]
    if nbgrader is not None:
        metadata["nbgrader"] = nbgrader
    made = {"cell_type": cell["cell_type"], "metadata": metadata, "source": source.splitlines(keepends=True)}
    if "attachments" in cell:
        made["attachments"] = cell["attachments"]
    if cell["cell_type"] == "code":
        made |= {"execution_count": None, "outputs": []}
    return made


def _checked_nbgrader(cell: dict[str, Any], where: str) -> dict[str, Any] | None:
    """The cell's nbgrader metadata (schema 3), checked, without what a release step computes; None for none."""
    data = cell["metadata"].get("nbgrader")
    if data is None:
        return None

    def fail(problem: str) -> ExerciseError:
        return ExerciseError(f"{where}: nbgrader metadata: {problem}.")

    if not isinstance(data, dict) or data.get("schema_version") != 3:
        raise fail('it must be an object with "schema_version": 3')
    for flag in ("grade", "solution", "locked"):
        if not isinstance(data.get(flag), bool):
            raise fail(f'"{flag}" must be true or false')
    if not isinstance(data.get("grade_id"), str) or not _GRADE_ID.fullmatch(data["grade_id"]):
        raise fail('"grade_id" must be made of letters, digits, "-" and "_"')
    points = data.get("points")
    if data["grade"] and (not isinstance(points, int | float) or isinstance(points, bool) or points < 0):
        raise fail('a graded cell needs "points", zero or more')
    if data.get("cell_type", cell["cell_type"]) != cell["cell_type"]:
        raise fail(f'"cell_type" is {data["cell_type"]!r}, but this is a {cell["cell_type"]} cell')
    kept = {name: data[name] for name in ("grade", "solution", "locked", "grade_id", "schema_version")}
    kept |= {"cell_type": cell["cell_type"], "task": bool(data.get("task", False))}
    if data["grade"] or kept["task"]:
        kept["points"] = points
    return kept


@dataclass(frozen=True)
class Plan:
    """What the exercises folder should hold.

    Attributes:
        wanted: the text of every exercise file.
        orphans: exercises whose solution is gone.
    """

    wanted: dict[Path, str]
    orphans: list[Path]

    def stale(self) -> list[Path]:
        """Exercises that are missing or differ from what their solution gives now."""
        return [path for path, text in self.wanted.items() if not path.is_file() or path.read_text("utf-8") != text]


def plan(root: Path) -> Plan:
    """Work out every exercise of a checkout; writes nothing.

    Raises:
        ExerciseError: there are no solutions below `root`, or one of them cannot be used.
    """
    solutions = sorted((root / "solutions").glob("[0-9][0-9]-*.ipynb"))
    if not solutions:
        raise ExerciseError(
            f"There are no notebooks in {root / 'solutions'}; run this in the top folder of the checkout, or name it "
            "with --root."
        )
    wanted = {root / "exercises" / solution.name: generate(solution) for solution in solutions}
    present = sorted((root / "exercises").glob("[0-9][0-9]-*.ipynb"))
    return Plan(wanted, [path for path in present if path not in wanted])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 1 for a stale exercise under --check, 2 for a bad solution."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Make exercises/ out of solutions/.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if an exercise is out of date")
    parser.add_argument("--root", type=Path, default=Path("."), help="top folder of the checkout")
    options = parser.parse_args(arguments)
    try:
        work = plan(options.root)
    except ExerciseError as error:
        print(error, file=sys.stderr)
        return 2
    stale = work.stale()
    for path in work.orphans:
        print(f"{path} has no solution; delete it, or add solutions/{path.name}.", file=sys.stderr)
    if options.check:
        for path in stale:
            print(f"{path} is out of date.", file=sys.stderr)
        if stale:
            print(f"Mend with: {COMMAND}", file=sys.stderr)
        return 1 if stale or work.orphans else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".ipynb.tmp")
        temporary.write_text(work.wanted[path], encoding="utf-8", newline="\n")
        temporary.replace(path)
        print(f"wrote {path}")
    print(f"{len(work.wanted)} exercises, {len(stale)} changed")
    return 1 if work.orphans else 0


if __name__ == "__main__":
    sys.exit(main())
