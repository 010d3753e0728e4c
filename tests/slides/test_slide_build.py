"""`slides/build.py`: what it makes, when it makes it, and what it says when something is missing."""

from __future__ import annotations

import base64
import os
import re
import runpy
import shutil
import zipfile
import zlib
from pathlib import Path

import pytest
from slide_decks import PICTURE, REPOSITORY, run_script, write_deck

SLIDES = [
    "\n<!-- _class: lead -->\n# Title 😀\n\n<!-- 1 min. Welcome everybody & smile. -->\n",
    "\n## A picture\n\n![A blue field](figures/blue.svg)\n\n<!-- 2 min. The second note. -->\n",
    '\n## Mathematics\n\n$$ a^2 $$\n\n<img src="figures/blue.svg" alt="Blue" width="99">\n\n'
    "```md\n![x](none.png)\n```\n\nand `![x](none.png)`, which are code\n\n<!-- 3 min. -->\n",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a small deck, built in all three formats."""
    folder = tmp_path_factory.mktemp("deck")
    deck = write_deck(folder / "90-small.md", SLIDES)
    result = run_script("build.py", deck, "--output", folder / "out")
    assert result.returncode == 0, result.stderr
    return folder / "out"


def test_one_command_makes_the_three_formats_and_nothing_else(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {"90-small.html", "90-small.pdf", "90-small.pptx"}


def test_html_is_complete_in_itself(built: Path) -> None:
    html = (built / "90-small.html").read_text(encoding="utf-8")
    loaded = re.findall(r"""(?:\bsrc=["']|url\((?:&quot;|["'])?|@import\s+["']|<link[^>]*href=["'])([^"'&)]*)""", html)
    assert any(url.startswith("data:") for url in loaded)
    assert [url for url in loaded if not url.startswith(("data:", "#"))] == []
    assert html.count(f'src="data:image/svg+xml;base64,{base64.b64encode(PICTURE.encode()).decode()}"') == 2
    assert "data:font/woff2;base64," in html
    assert "😀" in html
    assert "twemoji" not in html
    assert re.search(r"<mjx-container[^>]*>\s*<svg", html)


def test_pptx_has_a_slide_for_each_and_the_notes(built: Path) -> None:
    with zipfile.ZipFile(built / "90-small.pptx") as pptx:
        names = pptx.namelist()
        notes = [pptx.read(f"ppt/notesSlides/notesSlide{n}.xml").decode() for n in (1, 2, 3)]
    assert sum(bool(re.fullmatch(r"ppt/slides/slide\d+\.xml", name)) for name in names) == 3
    assert "1 min. Welcome everybody &amp; smile." in notes[0]
    assert "2 min. The second note." in notes[1]
    assert "3 min." in notes[2]


def test_pdf_has_a_page_for_each_slide(built: Path) -> None:
    raw = (built / "90-small.pdf").read_bytes()
    parts = [raw]
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", raw, re.DOTALL):
        try:
            parts.append(zlib.decompressobj().decompress(stream))
        except zlib.error:
            continue
    assert len(re.findall(rb"/Type\s*/Page\b", b"\n".join(parts))) == 3


def test_presenter_view_shows_the_notes_and_turns_the_audience_page(built: Path) -> None:
    from playwright.sync_api import sync_playwright

    find_browser = runpy.run_path(str(REPOSITORY / "slides" / "build.py"))["find_browser"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{(built / '90-small.html').as_uri()}#2")
        with page.expect_popup() as popup:
            page.keyboard.press("p")
        popup.value.get_by_text("The second note.").wait_for(timeout=10_000)
        popup.value.keyboard.press("ArrowRight")
        page.wait_for_url("**#3", timeout=10_000)
        browser.close()


def test_a_deck_is_built_again_only_when_something_is_newer(tmp_path: Path) -> None:
    deck = write_deck(tmp_path / "91-fresh.md", SLIDES)
    command = ("build.py", deck, "--formats", "html", "--output", tmp_path / "out")
    output = tmp_path / "out" / "91-fresh.html"
    run_script(*command)
    first = output.stat().st_mtime_ns

    again = run_script(*command)
    assert "91-fresh is up to date" in again.stdout
    assert output.stat().st_mtime_ns == first

    later = output.stat().st_mtime + 5
    os.utime(tmp_path / "figures" / "blue.svg", (later, later))
    assert "up to date" not in run_script(*command).stdout
    assert output.stat().st_mtime_ns > first


@pytest.mark.parametrize(
    ("slide", "message"),
    [
        ("## A\n\n![words](figures/none.svg)\n", "the picture figures/none.svg does not exist"),
        ("## A\n\n![bg left words](figures/none.png)\n", "the picture figures/none.png does not exist"),
        ("## A\n\n<img src='none.png' alt='words'>\n", "the picture none.png does not exist"),
        ("## A\n\n![words](https://example.com/a.png)\n", "https://example.com/a.png is on the network"),
    ],
)
def test_a_picture_that_cannot_be_shown_stops_the_build(slide: str, message: str, tmp_path: Path) -> None:
    deck = write_deck(tmp_path / "92-missing.md", [slide])
    result = run_script("build.py", deck, "--output", tmp_path / "out")
    assert result.returncode == 1
    assert f"92-missing.md:10: {message}" in result.stderr
    assert not list(tmp_path.glob("out/*"))


def test_an_unknown_deck_is_refused() -> None:
    result = run_script("build.py", "77")
    assert result.returncode == 1
    assert "no deck is called 77" in result.stderr


def test_a_missing_tool_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    deck = write_deck(tmp_path / "94-tools.md", SLIDES)
    programs = tmp_path / "bin"
    programs.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "CHROME_PATH"} | {"PATH": str(programs)}
    command = ("build.py", deck, "--formats", "pdf", "--output", tmp_path / "out")

    without_node = run_script(*command, env=environment)
    assert without_node.returncode == 1
    assert "apt-get install nodejs npm" in without_node.stderr

    (programs / "node").symlink_to(shutil.which("node") or "")
    without_browser = run_script(*command, env=environment)
    assert without_browser.returncode == 1
    assert "apt-get install chromium" in without_browser.stderr

    wrong_browser = run_script(*command, env=environment | {"CHROME_PATH": "/no/such/browser"})
    assert wrong_browser.returncode == 1
    assert "CHROME_PATH is /no/such/browser" in wrong_browser.stderr


def test_missing_marp_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    for name in ("build.py", "theme.css", "marp.config.mjs", "package-lock.json"):
        shutil.copy(REPOSITORY / "slides" / name, tmp_path)
    deck = write_deck(tmp_path / "95-no-marp.md", SLIDES)
    result = run_script(tmp_path / "build.py", deck, "--formats", "html")
    assert result.returncode == 1
    assert "npm ci --prefix slides" in result.stderr


def test_the_lock_file_names_no_registry() -> None:
    lock = (REPOSITORY / "slides" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert '"integrity": "sha512-' in lock
