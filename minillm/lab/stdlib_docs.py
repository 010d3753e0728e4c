"""A corpus that every reader has: the documentation strings of Python's standard library, from this interpreter.

    passages = standard_library()
    vectors = cached_vectors([p.text for p in passages], embed, model="all-minilm-l6-v2")

Each passage says where it comes from: module, qualified name and version of Python. Another version has other
passages; `search_questions()` asks for functions that every supported version has.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import inspect
import json
import os
import platform
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minillm.errors import MinillmError
from minillm.lab.display import ProgressLine
from minillm.rag.python_docs import public_members
from minillm.weights import minillm_home

Vectors: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]

_MODULES = (
    "argparse array asyncio atexit base64 bisect calendar codecs collections colorsys concurrent.futures "
    "configparser contextlib copy csv dataclasses datetime difflib email.message email.utils enum fileinput "
    "fnmatch fractions functools gc getpass glob graphlib gzip hashlib heapq hmac html http.client importlib "
    "inspect io ipaddress itertools json linecache locale logging lzma math mimetypes os os.path pathlib pickle "
    "platform pprint queue random re sched secrets select selectors shelve shlex shutil signal smtplib socket "
    "socketserver sqlite3 statistics string struct subprocess sys sysconfig tarfile tempfile textwrap threading "
    "time timeit tomllib traceback types unicodedata unittest urllib.parse urllib.request uuid warnings wave "
    "weakref webbrowser xml.etree.ElementTree zipfile zlib zoneinfo"
)
MODULES = tuple(_MODULES.split())
"""The modules of the corpus: those that a program is likely to use, on every system."""

_MIN_WORDS = 3  # fewer say nothing
_MAX_CHARACTERS = 160  # of a summary: some forty tokens
_SIGNATURE = re.compile(r"[\w.]+\(.*\)( *-> *[^.]*)?")


@dataclass(frozen=True)
class Passage:
    """One documented function, class or method.

    Attributes:
        name: qualified, as one would write it after importing the module: "shutil.copytree".
        module: that it was found in.
        python: version of the interpreter that it was taken from.
        summary: the first paragraph of its documentation string, on one line.
    """

    name: str
    module: str
    python: str
    summary: str

    @property
    def text(self) -> str:
        """What is embedded: the name and the summary."""
        return f"{self.name}: {self.summary}"


@dataclass(frozen=True)
class SearchQuestion:
    """A question, and the names of the passages that answer it."""

    text: str
    answers: tuple[str, ...]


def standard_library(modules: Sequence[str] = MODULES) -> list[Passage]:
    """The documented public functions, classes and methods of the modules, each summary once, in order of the modules.

    A module that this interpreter lacks (`tomllib` says what it's for, a build without SSL lacks `ssl`) is left out.
    """
    passages: list[Passage] = []
    seen: set[str] = set()
    for module_name in modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some modules are deprecated, and say so when imported
            try:
                module = importlib.import_module(module_name)
            except ImportError:
                continue
        for name, thing in public_members(module):
            summary = _summary(thing)
            if len(summary.split()) >= _MIN_WORDS and summary not in seen:
                seen.add(summary)
                passages.append(Passage(f"{module_name}.{name}", module_name, platform.python_version(), summary))
    return passages


def search_questions() -> list[SearchQuestion]:
    """The questions that ship with lesson 03."""
    text = files("minillm.lab").joinpath("data", "standard-library-questions.json").read_text(encoding="utf-8")
    return [SearchQuestion(entry["question"], tuple(entry["answers"])) for entry in json.loads(text)["questions"]]


def _summary(thing: Any) -> str:
    """The first paragraph of the documentation string on one line, cut at a word's end; "" without one."""
    documentation = getattr(thing, "__doc__", None)
    if not isinstance(documentation, str):
        return ""
    paragraphs = [" ".join(part.split()) for part in inspect.cleandoc(documentation).split("\n\n")]
    # Older modules begin with the signature: "sleep(seconds)", and say what it does after that.
    if len(paragraphs) > 1 and _SIGNATURE.fullmatch(paragraphs[0]):
        del paragraphs[0]
    line = paragraphs[0]
    return line if len(line) <= _MAX_CHARACTERS else line[:_MAX_CHARACTERS].rpartition(" ")[0] + " …"


# --------------------------------------------------------------------------------------------------- vectors


def cached_vectors(
    texts: Sequence[str],
    embed: Callable[[Sequence[str]], Any],
    *,
    model: str,
    folder: Path | None = None,
    batch: int = 256,
) -> Vectors:
    """The texts' vectors: from a file of an earlier run, or made batch by batch and kept in one.

    The file's name is a hash of the model's name and the texts, so other texts or another model never get old vectors.

    Args:
        texts: what to embed.
        embed: takes some of the texts and returns their vectors, [number of texts, dimensions].
        model: name of the model that `embed` asks, with its server if there's more than one.
        folder: where to keep the file; by default `vectors` in the folder that MINILLM_HOME names.
        batch: texts of one call.

    Returns:
        [number of texts, dimensions] float32.

    Raises:
        MinillmError: if `embed` returns anything but a vector of numbers for each text.
    """
    folder = minillm_home() / "vectors" if folder is None else folder
    digest = hashlib.sha256(json.dumps([model, list(texts)]).encode()).hexdigest()[:32]
    file = folder / f"{digest}.npy"
    found = _read(file, len(texts))
    if found is not None:
        return found
    line, parts = ProgressLine(), []
    for start in range(0, len(texts), batch):
        line.update(f"embedding text {start + 1:,} of {len(texts):,}")
        some = texts[start : start + batch]
        parts.append(_checked(embed(some), len(some)))
    line.done(f"embedded {len(texts):,} texts; kept in {file.parent.name}/{file.name} for the next run")
    vectors: Vectors = np.concatenate(parts)
    _write(file, vectors)
    return vectors


def _read(file: Path, count: int) -> Vectors | None:
    try:
        vectors: Vectors = np.load(file, allow_pickle=False)
    except (OSError, ValueError):  # not there, or cut short: it's made anew
        return None
    return vectors if vectors.ndim == 2 and len(vectors) == count and vectors.dtype == np.float32 else None


def _checked(vectors: Any, count: int) -> Vectors:
    array: Vectors = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) != count or not np.isfinite(array).all():
        raise MinillmError(f"embed returned an array of shape {list(array.shape)}; expected [{count}, dimensions].")
    return array


def _write(file: Path, vectors: Vectors) -> None:
    """Writes the whole file or none of it, also when two notebooks do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, vectors)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sentence_transformers_vectors() -> dict[str, Vectors]:
    """A few texts and their vectors as sentence-transformers made them with all-MiniLM-L6-v2, [1, 384] each.

    Which versions made them, the file itself says: `data/minilm-sentence-transformers.json`.
    """
    text = files("minillm.lab").joinpath("data", "minilm-sentence-transformers.json").read_text(encoding="utf-8")
    return {
        sentence: np.frombuffer(base64.b64decode(vector), dtype="<f4").astype(np.float32)[None]
        for sentence, vector in json.loads(text)["vectors"].items()
    }
