"""Save the figures that a lesson shows, so that its deck can show them too.

    python slides/figures.py                         every lesson; each is run first, which takes a minute or two
    python slides/figures.py 01                      lesson 01
    python slides/figures.py --executed out.ipynb    a lesson that was run on this machine already

The figure with the title "The same 64 tokens" of lesson 01 becomes figures/01-the-same-64-tokens.svg. What each
figure says in words, and the machine that it was measured on, goes into figures/01.json. The tables, token chips
and quizzes of a lesson are HTML and stay in it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
from build import SLIDES, SlidesError
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

LESSONS = SLIDES.parent / "lessons"
ENDINGS = {"image/svg+xml": "svg", "image/png": "png"}
CELL_SECONDS = 600
# With one of these in the environment, the lesson would measure somebody else's machine.
NOT_FOR_THE_KERNEL = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "MINILLM_MODEL")

_NUMBER = re.compile(r"^# (\d\d) · ", re.MULTILINE)
_DATA_URI = re.compile(r"data:([a-z+/]+);base64,(.+)", re.DOTALL)


@dataclass(frozen=True)
class Picture:
    """One figure of a lesson.

    Attributes:
        alt: what it says in words; its title comes first.
        ending: svg or png.
        data: the file's bytes.
    """

    alt: str
    ending: str
    data: bytes

    @property
    def slug(self) -> str:
        """The title (`alt` up to its first full stop) in lower-case letters, digits and hyphens."""
        title = re.split(r"\.(?:\s|$)", self.alt, maxsplit=1)[0]
        plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
        return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-") or "figure"


class _Images(HTMLParser):
    """Collects the pictures that a piece of HTML embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Picture] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `html.parser.HTMLParser`."""
        values = dict(attrs)
        source = _DATA_URI.fullmatch(values.get("src") or "")
        if tag != "img" or source is None or source[1] not in ENDINGS:
            return
        self.found.append(Picture(values.get("alt") or "", ENDINGS[source[1]], base64.b64decode(source[2])))


# ----------------------------------------------------------------------------------------------- the notebook


def find_lessons(names: Sequence[str]) -> list[Path]:
    """The notebooks that `names` mean: paths, or beginnings of names in lessons/ (`01`); no names, all with a number.

    Raises SlidesError for a name that no lesson has.
    """
    found: list[Path] = []
    for name in names or ["[0-9][0-9]-"]:
        path = Path(name)
        matches = [path] if path.is_file() else sorted(LESSONS.glob(f"{name}*.ipynb"))
        if not matches:
            known = ", ".join(sorted(lesson.stem for lesson in LESSONS.glob("[0-9][0-9]-*.ipynb"))) or "none yet"
            raise SlidesError(f"no lesson is called {name}. The lessons: {known}.")
        found.extend(matches)
    return found


def lesson_number(notebook: Any, path: Path) -> str:
    """The two digits with which the lesson's title begins.

    Raises SlidesError when it has none.
    """
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if title := _NUMBER.search(text):
        return title[1]
    raise SlidesError(f'{path}: no title such as "# 01 · Large language models" was found, so its number is unknown.')


def run(notebook: Any, path: Path) -> None:
    """Run every cell of `notebook` in the folder of its file, with a line for each on stderr.

    Raises SlidesError when a cell fails.
    """
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    begin = time.perf_counter()
    started = {"number": 0, "at": begin}

    def on_start(cell: Any, cell_index: int) -> None:
        if cell.cell_type == "code":
            started.update(number=started["number"] + 1, at=time.perf_counter())
            first_line = next(iter(cell.source.splitlines()), "")
            print(f"  cell {started['number']:2} of {count}: {first_line[:60]:60}", end="", file=sys.stderr, flush=True)

    def on_end(cell: Any, cell_index: int, execute_reply: Any) -> None:
        print(f" {time.perf_counter() - started['at']:5.1f} s", file=sys.stderr, flush=True)

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.resolve().parent)}},
        on_cell_execute=on_start,
        on_cell_executed=on_end,
    )
    try:
        client.execute(env={key: value for key, value in os.environ.items() if key not in NOT_FOR_THE_KERNEL})
    except CellExecutionError as error:
        raise SlidesError(
            f"{path}: cell {started['number']} failed with {error.ename}: {error.evalue}\nNothing was saved."
        ) from None
    print(f"  {time.perf_counter() - begin:.1f} s in all", file=sys.stderr, flush=True)


def pictures(notebook: Any, path: Path) -> Iterator[Picture]:
    """The figures in the outputs of `notebook`, in order.

    Raises SlidesError when the notebook was not run, a cell failed, or a figure has no text alternative.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not any(cell.outputs for cell in code):
        raise SlidesError(f"{path} has no outputs: it was not run. Leave out --executed to run it now.")
    for output in (output for cell in code for output in cell.outputs):
        if output.output_type == "error":
            raise SlidesError(f"{path}: a cell failed with {output.ename}: {output.evalue}")
        images = _Images()
        images.feed(output.get("data", {}).get("text/html", ""))
        for picture in images.found:
            if not picture.alt:
                raise SlidesError(f"{path}: a figure has no text alternative; show(figure, alt='…') gives it one.")
            yield picture


# ------------------------------------------------------------------------------------------------- the files


def measured_on() -> str:
    """This machine and the versions of what runs on it, in one line."""
    import torch  # noqa: F401  hardware() names a GPU only if torch is there

    from minillm.lab.scoreboard import hardware, versions

    machine = hardware()
    parts = [machine["gpu"] or machine["cpu"], f"{machine['cores']} cores"]
    if machine["memory_bytes"]:
        parts.append(f"{machine['memory_bytes'] / 1e9:.0f} GB")
    return ", ".join([*parts, machine["system"], *(f"{name} {number}" for name, number in versions().items())])


def save(number: str, found: Sequence[Picture], folder: Path) -> list[Path]:
    """Write the figures of lesson `number` and their texts; remove those of an earlier run that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    texts: dict[str, str] = {}
    for picture in found:
        name, again = f"{number}-{picture.slug}.{picture.ending}", 2
        while name in texts:
            name, again = f"{number}-{picture.slug}-{again}.{picture.ending}", again + 1
        (folder / name).write_bytes(picture.data)
        texts[name] = picture.alt
    index = folder / f"{number}.json"
    before = json.loads(index.read_text(encoding="utf-8"))["figures"] if index.is_file() else {}
    for name in set(before) - set(texts):
        (folder / name).unlink(missing_ok=True)
    content = {"measured_on": measured_on(), "figures": texts}
    index.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return [folder / name for name in texts]


def save_lesson(path: Path, folder: Path, *, executed: bool = False) -> list[Path]:
    """Run the lesson at `path` unless it is `executed`, and save its figures; all of them or, on an error, none."""
    notebook = nbformat.read(path, as_version=4)
    number = lesson_number(notebook, path)
    print(f"Lesson {number}:", file=sys.stderr, flush=True)
    if not executed:
        run(notebook, path)
    return save(number, list(pictures(notebook, path)), folder)


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="Save the figures that the lessons show, for their decks.")
    parser.add_argument("lessons", nargs="*", help="notebooks, or beginnings of names such as 01 (default: all)")
    parser.add_argument("--executed", type=Path, metavar="PATH", help="take the figures of a notebook that was run")
    parser.add_argument("--output", type=Path, default=SLIDES / "figures", help="folder (default: slides/figures)")
    arguments = parser.parse_args()
    if arguments.executed and arguments.lessons:
        parser.error("name lessons to run, or one that was --executed, not both")
    try:
        for path in [arguments.executed] if arguments.executed else find_lessons(arguments.lessons):
            for saved in save_lesson(path, arguments.output, executed=bool(arguments.executed)):
                print(saved, flush=True)
    except (SlidesError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
