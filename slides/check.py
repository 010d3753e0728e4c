"""Check the decks in a real browser: nothing overflows, nothing is missing, nothing comes from the network.

    python slides/check.py          every deck in slides/
    python slides/check.py 01       deck 01

Builds the HTML of a deck first where it is older than the deck. The exit status is 1 if anything has to be
mended.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build import SLIDES, SlidesError, argument_parser, build, find_browser, find_decks

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

SLIDE_COUNT = range(20, 31)
LESSON_MINUTES = range(40, 51)
CODE_COLUMNS = 72
PICTURE_PIXELS = 100
PARTS = {"demo": "a demonstration", "exercise": "an exercise", "question": "a knowledge check"}
# Slides that are not shown are not laid out either; this lays out all of them at once, one above the other.
LAY_OUT_ALL = "svg.bespoke-marp-slide { content-visibility: visible !important; display: block !important; }"

_TIMING = re.compile(r"^\s*(\d+(?:\.\d+)?) min\b")


@dataclass(frozen=True)
class Finding:
    """One thing to mend; `slide` counts from 1, and 0 means the deck as a whole."""

    deck: str
    slide: int
    problem: str

    def __str__(self) -> str:
        place = f"{self.deck}, slide {self.slide}" if self.slide else self.deck
        return f"{place}: {self.problem}"


@dataclass(frozen=True)
class Result:
    """What a check of one deck found."""

    deck: str
    slides: int
    minutes: float
    findings: tuple[Finding, ...]


def slide_problems(slide: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one slide, as `check.js` measured it."""
    if not slide["title"]:
        yield "has no title (a line that begins with # or ##)"
    if not slide["notes"]:
        yield "has no speaker notes"
    elif not _TIMING.match(slide["notes"]):
        yield f'its notes do not begin with a timing such as "2 min.", but with "{slide["notes"][:30]}"'
    for item in slide["layout"]:
        yield f"{item['what']} {item['problem']}"
    for line in slide["codeLines"]:
        if len(line) > CODE_COLUMNS:
            yield f'a line of code has {len(line)} columns, more than {CODE_COLUMNS}: "{line.strip()[:60]}"'
    if slide["backgrounds"]:
        yield "has a background picture, which is cropped and hides the page number; use the class columns"
    for picture in slide["pictures"]:
        name = f'the picture "{picture["alt"][:60]}"' if picture["alt"] else "a picture"
        if not picture["alt"]:
            yield "a picture has no alt text (the words in ![...])"
        if not picture["loaded"]:
            yield f"{name} cannot be shown: its file is broken"
        elif min(picture["width"], picture["height"]) < PICTURE_PIXELS:
            yield (
                f"{name} has only {picture['width']} x {picture['height']} px left "
                f"(at least {PICTURE_PIXELS} each way): the slide holds too much"
            )


def deck_problems(slides: list[dict[str, Any]], minutes: float) -> Iterator[str]:
    """What is wrong with a deck as a whole."""
    if len(slides) not in SLIDE_COUNT:
        yield f"has {len(slides)} slides instead of {SLIDE_COUNT.start} to {SLIDE_COUNT.stop - 1}"
    if not LESSON_MINUTES.start <= minutes <= LESSON_MINUTES.stop - 1:
        allowed = f"{LESSON_MINUTES.start} to {LESSON_MINUTES.stop - 1}"
        yield f"has notes that add up to {minutes:g} minutes instead of {allowed}"
    classes = [set(slide["classes"]) for slide in slides]
    if not classes or "lead" not in classes[0]:
        yield "does not begin with a slide of class lead"
    for name, part in PARTS.items():
        if not any(name in of_slide for of_slide in classes):
            yield f"lacks {part} (a slide of class {name})"


def check_html(path: Path, page: Page) -> Result:
    """Open the built deck at `path` in `page` and measure every slide."""
    troubles: list[str] = []
    url = path.resolve().as_uri()

    def answer(route: Route) -> None:
        wanted = route.request.url
        if wanted == url:
            route.continue_()
        else:
            troubles.append(f"asks for {wanted}, and a deck must be complete in itself")
            route.abort()

    page.route(lambda wanted: not wanted.startswith(("data:", "blob:")), answer)
    page.on("pageerror", lambda error: troubles.append(f"its script fails: {error}"))
    page.goto(url, wait_until="load")
    page.add_style_tag(content=LAY_OUT_ALL)
    page.evaluate("document.fonts.ready.then(() => null)")
    slides: list[dict[str, Any]] = page.evaluate((SLIDES / "check.js").read_text(encoding="utf-8"))

    timings = [_TIMING.match(slide["notes"]) for slide in slides]
    minutes = sum(float(timing[1]) for timing in timings if timing)
    findings = [Finding(path.stem, 0, problem) for problem in (*troubles, *deck_problems(slides, minutes))]
    for number, slide in enumerate(slides, start=1):
        findings.extend(Finding(path.stem, number, problem) for problem in slide_problems(slide))
    return Result(path.stem, len(slides), minutes, tuple(findings))


def check_all(paths: list[Path]) -> Iterator[Result]:
    """Check built decks one after the other in one browser, which may not reach the network.

    Raises SlidesError when the browser or Playwright is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SlidesError('Playwright is not installed. Install it with `python -m pip install -e ".[dev]"`.') from None
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(
            executable_path=find_browser(), args=["--no-sandbox", "--disable-background-networking"]
        )
        for path in paths:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            yield check_html(path, page)
            page.close()
        browser.close()


def main() -> int:
    """Run the command line and return its exit status."""
    arguments = argument_parser("Check the decks of the course in a browser.").parse_args()
    total = 0
    try:
        paths = build(find_decks(arguments.decks), arguments.output, ("html",))
        for result in check_all(paths):
            verdict = f"{len(result.findings)} to mend" if result.findings else "in order"
            print(f"{result.deck}: {result.slides} slides, {result.minutes:g} minutes, {verdict}", flush=True)
            for finding in result.findings:
                print(f"  {finding}", flush=True)
            total += len(result.findings)
    except SlidesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
