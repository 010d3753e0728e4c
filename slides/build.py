"""Build the decks: HTML with a presenter view, PDF, and PPTX with speaker notes.

    python slides/build.py                 every deck whose outputs are older than what they are made from
    python slides/build.py 01 --force      deck 01, whatever its age
    python slides/build.py --formats html  HTML alone, which takes a second and needs no browser

Marp does the work; its version is pinned in package-lock.json. Each output is one file that needs no network.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

SLIDES = Path(__file__).resolve().parent
FORMATS = ("html", "pdf", "pptx")
MARP_OPTIONS = {
    "html": ["--parallel", "2"],
    "pdf": ["--parallel", "2", "--pdf-outlines", "--pdf-outlines.pages=false"],
    # One at a time: a page in the background is not painted, and its screenshot waits until it times out.
    "pptx": ["--no-parallel"],
}
DECK_NAMES = "[0-9][0-9]-*.md"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
MAKES_A_DECK = ("theme.css", "marp.config.mjs", "package-lock.json")

_CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*[ \t]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_PICTURES = (
    re.compile(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)"),
    re.compile(r"<img\b[^>]*?\bsrc=[\"']([^\"']+)", re.IGNORECASE),
    re.compile(r"\burl\(\s*[\"']?([^\"')]+)", re.IGNORECASE),
)


class SlidesError(Exception):
    """Something that a person has to mend; the message says what and how."""


@dataclass(frozen=True)
class Deck:
    """One Markdown file and the local pictures that it shows."""

    source: Path
    pictures: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The file's name without its ending, which the outputs share."""
        return self.source.stem

    def output(self, folder: Path, file_format: str) -> Path:
        """Where this deck goes in `folder`."""
        return folder / f"{self.name}.{file_format}"

    def is_current(self, folder: Path, formats: Sequence[str]) -> bool:
        """Whether every output is at least as new as the deck, its pictures and the toolchain."""
        outputs = [self.output(folder, file_format) for file_format in formats]
        if not all(path.is_file() for path in outputs):
            return False
        inputs = [self.source, *self.pictures, *(SLIDES / name for name in MAKES_A_DECK)]
        return max(path.stat().st_mtime for path in inputs) <= min(path.stat().st_mtime for path in outputs)


def read_deck(source: Path) -> Deck:
    """Find the pictures of the deck at `source`.

    Raises SlidesError when one is missing or lies on the network.
    """
    text = source.read_text(encoding="utf-8")
    prose = _CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    pictures: list[Path] = []
    for match in (match for pattern in _PICTURES for match in pattern.finditer(prose)):
        url, line = match[1], prose.count("\n", 0, match.start()) + 1
        if url.startswith("data:"):
            continue
        if re.match(r"[a-z][a-z0-9+.-]*:|//", url, re.IGNORECASE):
            raise SlidesError(
                f"{source.name}:{line}: {url} is on the network, and a deck must work without one. "
                f"Put the picture into {source.parent.name}/figures/."
            )
        path = source.parent / unquote(url)
        if not path.is_file():
            raise SlidesError(
                f"{source.name}:{line}: the picture {url} does not exist. "
                f"Make it, or correct the path, which is relative to {source.parent}."
            )
        pictures.append(path)
    return Deck(source, tuple(pictures))


def find_decks(names: Sequence[str] = ()) -> list[Path]:
    """The decks that `names` mean: paths, or beginnings of names in slides/ (`01`); no names mean all.

    Raises SlidesError for a name that no deck has.
    """
    if not names:
        return sorted(SLIDES.glob(DECK_NAMES))
    found: list[Path] = []
    for name in names:
        path = Path(name)
        in_slides = [deck for deck in find_decks() if deck.stem.startswith(path.stem)]
        matches = [path] if path.suffix == ".md" and path.is_file() else in_slides
        if not matches:
            known = ", ".join(path.stem for path in find_decks()) or "none yet"
            raise SlidesError(f"no deck is called {name}. The decks in slides/: {known}.")
        found.extend(match.resolve() for match in matches)
    return list(dict.fromkeys(found))


def find_browser() -> Path:
    """The system's Chromium or Chrome; CHROME_PATH names another one.

    Raises SlidesError, with the command that installs one, when there is none.
    """
    chosen = os.environ.get("CHROME_PATH")
    if chosen:
        if path := shutil.which(chosen):
            return Path(path)
        raise SlidesError(
            f"CHROME_PATH is {chosen}, which is not a program. Unset it, or set it to the path of a browser."
        )
    for candidate in (*BROWSERS, *MAC_BROWSERS):
        if path := shutil.which(candidate):
            return Path(path)
    raise SlidesError(
        "no Chromium or Chrome was found. Install one (Debian, Ubuntu: `sudo apt-get install chromium`; "
        "macOS: `brew install --cask chromium`), or set CHROME_PATH to the browser's program."
    )


def find_marp() -> list[str]:
    """The command that runs Marp.

    Raises SlidesError when Node.js or Marp is missing.
    """
    node = shutil.which("node")
    if node is None:
        raise SlidesError(
            "Node.js was not found. Install version 18 or newer "
            "(Debian, Ubuntu: `sudo apt-get install nodejs npm`; macOS: `brew install node`)."
        )
    marp = SLIDES / "node_modules" / "@marp-team" / "marp-cli" / "marp-cli.js"
    if not marp.is_file():
        raise SlidesError("Marp is not installed. Install it with `npm ci --prefix slides`.")
    return [node, str(marp)]


def run_marp(command: Sequence[str], stage: Path, deck_folder: Path) -> None:
    """Run Marp in `stage`, with a line for each file that it has finished.

    Raises SlidesError, with everything that Marp said, when it fails.
    """
    environment = os.environ | {"DECK_FOLDER": str(deck_folder)}
    said: list[str] = []
    with subprocess.Popen(
        command, cwd=stage, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as marp:
        assert marp.stdout is not None
        for line in marp.stdout:
            said.append(line)
            if finished := re.search(r" => (\S+)$", line.rstrip()):
                print(f"  {finished[1]}", flush=True)
    if marp.returncode != 0:
        raise SlidesError(f"Marp failed:\n{''.join(said)}")


def convert(decks: Sequence[Deck], file_format: str, output: Path) -> None:
    """Write `decks`, which share a folder, to `output` in one format; all of them or, on an error, none."""
    command = [*find_marp(), "--config-file", str(SLIDES / "marp.config.mjs"), "--no-stdin"]
    if file_format != "html":
        command += [f"--{file_format}", "--browser", "chrome", "--browser-path", str(find_browser())]
        command += ["--browser-timeout", "120"]
    command += MARP_OPTIONS[file_format]
    with tempfile.TemporaryDirectory(dir=output, prefix=".building-") as folder:
        stage = Path(folder)
        for deck in decks:
            shutil.copyfile(deck.source, stage / deck.source.name)
        run_marp([*command, *(deck.source.name for deck in decks)], stage, decks[0].source.parent)
        for deck in decks:
            deck.output(stage, file_format).replace(deck.output(output, file_format))


def build(
    sources: Sequence[Path], output: Path, formats: Sequence[str] = FORMATS, *, force: bool = False
) -> list[Path]:
    """Build the decks that need it, with a line for each step, and return the paths of all outputs."""
    decks = [read_deck(source) for source in sources]
    output.mkdir(parents=True, exist_ok=True)
    stale = [deck for deck in decks if force or not deck.is_current(output, formats)]
    for deck in decks:
        if deck not in stale:
            print(f"{deck.name} is up to date", flush=True)
    for folder in dict.fromkeys(deck.source.parent for deck in stale):
        together = [deck for deck in stale if deck.source.parent == folder]
        for file_format in formats:
            print(f"Making {file_format.upper()}:", flush=True)
            start = time.perf_counter()
            convert(together, file_format, output)
            print(f"  {time.perf_counter() - start:.1f} s", flush=True)
    return [deck.output(output, file_format) for deck in decks for file_format in formats]


def argument_parser(description: str) -> argparse.ArgumentParser:
    """A parser for the arguments that building and checking share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("decks", nargs="*", help="paths, or beginnings of names such as 01 (default: all decks)")
    parser.add_argument("--output", type=Path, default=SLIDES / "build", help="folder (default: slides/build)")
    return parser


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argument_parser("Build the decks of the course as HTML, PDF and PPTX.")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="default: all three")
    parser.add_argument("--force", action="store_true", help="build decks that are up to date as well")
    arguments = parser.parse_args()
    try:
        outputs = build(find_decks(arguments.decks), arguments.output, arguments.formats, force=arguments.force)
    except SlidesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(outputs)} files are in {arguments.output}" if outputs else "There is no deck to build.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
