"""`slides/check.py` in a real browser: a good deck passes, and each flaw is found on its own slide."""

from __future__ import annotations

from pathlib import Path

import pytest
from slide_decks import REPOSITORY, run_script, write_deck

LEAD = "\n<!-- _class: lead -->\n# A title\n\n### and a promise\n\n<!-- 2 min. Welcome. -->\n"
NOTES = "\n\n<!-- 2 min. Say it. -->\n"
CODE_72 = "```python\n" + "\n".join(["x = " + "1" * 68] * 14) + "\n```"
TABLE = "| a | b |\n|---|---|\n" + "| a cell with some words | another one |\n" * 9
COLUMNS = (
    "<!-- _class: columns -->\n## Columns\n\n<div>\n\n- left\n\n</div>\n<div>\n\n"
    "![A blue field](figures/blue.svg)\n\n</div>"
)
WIDE = COLUMNS.replace("columns -->", "columns wide-right -->")
FORMULA = r"$$ \mathrm{softmax}\left(\frac{QK^T}{\sqrt{d}}\right)V $$"
GOOD = [
    LEAD,
    *(
        slide + NOTES
        for slide in (
            "## Code of 72 columns\n\n" + CODE_72,
            "## A table\n\n" + TABLE,
            "## A picture\n\n![A blue field](figures/blue.svg)",
            COLUMNS,
            WIDE,
            f"## Mathematics\n\n{FORMULA}\n\nwith $d$ and `code`.",
            "<!-- _class: section -->\n# A part\n\nwith a line",
            "<!-- _class: statement -->\n## The question\n\nA **sentence** to keep.",
            "<!-- _class: demo -->\n## Look\n\n1. one\n2. two",
            "<!-- _class: exercise -->\n## Do\n\n> a hint",
            "<!-- _class: question -->\n## Why?\n\n1. one\n2. two\n3. three\n4. four",
            "<!-- _class: answer -->\n## Why?\n\n1. one\n2. **two**\n3. three\n4. four",
            "<!-- _class: small -->\n## Sources\n\n- " + "a paper, arXiv:0000.00000, §1\n- " * 9 + "the last",
        )
    ),
    *("\n## A plain slide\n\n- a point\n\n<!-- 3 min. -->\n" for _ in range(6)),
]
TWO_COLUMNS = "\n<!-- _class: columns -->\n## A\n\n<div>\n\n{}\n\n</div>\n<div>\n\n- right\n\n</div>" + NOTES
# A slide, and for each thing that is wrong with it a part of what the check must say.
BAD = {
    "\n## A\n\n```text\n" + "m" * 92 + "\n```" + NOTES: [
        "beyond the right edge of the slide by 1",
        "a line of code has 92 columns, more than 72",
    ],
    "\n## A\n\n" + "- one more point\n" * 16 + NOTES: [
        "beyond the bottom edge of the slide",
        "into the footer",
    ],
    "\n## A\n\n" + "- one more point\n" * 11 + NOTES: ["px into the footer"],
    "\n## No notes\n\n- a point\n": ["has no speaker notes"],
    "\n## A\n\n<!-- Say it. -->\n": ['its notes do not begin with a timing such as "2 min."'],
    "\n## A\n\n![](figures/blue.svg)" + NOTES: ["a picture has no alt text"],
    "\n## A\n\n![bg right A field](figures/blue.svg)" + NOTES: ["has a background picture"],
    "\n- a point without a title" + NOTES: ["has no title"],
    "\n## A\n\n![Broken file](figures/broken.png)" + NOTES: ['the picture "Broken file" cannot be shown'],
    "\n## A\n\n" + "- one more point\n" * 8 + "\n![A field](figures/blue.svg)" + NOTES: [
        'the picture "A field" has only 1'
    ],
    TWO_COLUMNS.format("```text\n" + "m" * 60 + "\n```"): ["px wider than the room it has"],
    TWO_COLUMNS.format("- one more point\n" * 11): ["px into the footer"],
    '\n## A\n\n<p style="font-size: 11px">small print</p>' + NOTES: ["is set in 11 px, too small to read"],
    '\n## A\n\n<div style="height: 60px; overflow: hidden">' + "words " * 60 + "</div>" + NOTES: ["px of its content"],
    "\n## A\n\n$$ " + "x_1 + " * 60 + "x $$" + NOTES: ["a formula is too broad and was shrunk to"],
    "\n## A\n\n| a | b |\n|---|---|\n| `" + "m" * 90 + "` | b |" + NOTES: ["beyond the right edge of the slide"],
    "\n## A\n\n<p style='position: relative; left: -90px'>words</p>" + NOTES: ["beyond the left edge of the slide"],
    "\n## Network\n\n<iframe src='http://127.0.0.1:9/a' width='400' height='200'></iframe>" + NOTES: [],
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the check says of a deck without a flaw and of one in which each slide has one."""
    folder = tmp_path_factory.mktemp("decks")
    good = write_deck(folder / "90-good.md", GOOD)
    bad = write_deck(folder / "91-bad.md", list(BAD))
    (folder / "figures" / "broken.png").write_bytes(b"not a picture")
    result = run_script("check.py", good, bad, "--output", folder / "out")
    assert result.returncode == 1, result.stderr
    return result.stdout.splitlines()


def test_a_good_deck_is_in_order(report: list[str]) -> None:
    assert [line for line in report if "90-good" in line and ".html" not in line] == [
        "90-good: 20 slides, 46 minutes, in order"
    ]


@pytest.mark.parametrize("number", range(1, len(BAD) + 1))
def test_each_flaw_is_found_on_its_slide_and_no_other(number: int, report: list[str]) -> None:
    said = [line for line in report if f"91-bad, slide {number}: " in line]
    expected = list(BAD.values())[number - 1]
    assert all(any(message in line for line in said) for message in expected), said
    surplus = [line for line in said if not any(message in line for message in expected)]
    assert all("wider than the room" in line for line in surplus), surplus


def test_flaws_of_the_whole_deck_are_found(report: list[str]) -> None:
    said = "\n".join(line for line in report if line.startswith("  91-bad: "))
    assert "has 18 slides instead of 20 to 30" in said
    assert "minutes instead of 40 to 50" in said
    assert "does not begin with a slide of class lead" in said
    for part in ("a demonstration", "an exercise", "a knowledge check"):
        assert f"lacks {part}" in said
    assert "asks for http://127.0.0.1:9/a, and a deck must be complete in itself" in said


def test_every_deck_of_the_course_is_in_order(tmp_path: Path) -> None:
    result = run_script("check.py", "--output", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_lesson_has_a_deck_of_the_same_name() -> None:
    lessons = {path.stem for path in (REPOSITORY / "lessons").glob("[0-9][0-9]-*.ipynb")}
    decks = {path.stem for path in (REPOSITORY / "slides").glob("[0-9][0-9]-*.md")}
    assert decks == lessons
