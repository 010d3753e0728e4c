"""The documentation strings of Python modules, as documents.

They are there wherever Python is, and say which version they belong to.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import platform
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from minillm.rag.document import Block, Document, Provenance
from minillm.rag.errors import UnreadableError


@dataclass(frozen=True)
class PythonModule:
    """A module whose documentation is to be indexed. To read it, it is imported, so name only those that you trust.

    Attributes:
        name: as in `import`: "json", "concurrent.futures".
    """

    name: str

    @property
    def source(self) -> str:
        """Its document's name in an index."""
        return f"python:{self.name}"

    def read(self) -> Document:
        """The module's documentation: its own, then that of its public functions, classes and methods.

        Raises:
            UnreadableError: if there's no such module, or it documents nothing.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some modules are deprecated, and say so when imported
            try:
                module = importlib.import_module(self.name)
            except Exception as error:  # a module may raise anything when it's imported
                raise UnreadableError(f"{self.source} can't be imported ({type(error).__name__}: {error}).") from error
            blocks = list(_blocks(module, self.name))
        if not blocks:
            raise UnreadableError(f"{self.source} has no documentation strings.")
        file = getattr(module, "__file__", None) or os.__file__
        content = "\n\n".join(f"{' '.join(block.headings)}\n{block.text}" for block in blocks)
        provenance = Provenance(
            source=self.source,
            title=f"Python's {self.name}",
            owner="Python",
            updated=datetime.fromtimestamp(int(Path(file).stat().st_mtime), UTC),
            classification="public",
            version=platform.python_version(),
            digest=hashlib.sha256(content.encode()).hexdigest(),
        )
        return Document(provenance, tuple(blocks))


def _blocks(module: ModuleType, name: str) -> Iterator[Block]:
    described = [(name, module), *((f"{name}.{inner}", thing) for inner, thing in public_members(module))]
    for qualified, thing in described:
        documentation = getattr(thing, "__doc__", None)
        if isinstance(documentation, str):
            for paragraph in inspect.cleandoc(documentation).split("\n\n"):
                if paragraph.strip():
                    is_code = paragraph.startswith((" ", ">>>"))
                    yield Block(paragraph.strip("\n").rstrip(), (qualified,), "code" if is_code else "text")


def public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The module's own public functions and classes by name, then the methods of its classes."""
    home = module.__name__
    listed = getattr(module, "__all__", None)
    own: dict[str, Any] = {}
    for name in sorted(listed or vars(module)):
        thing = getattr(module, name, None)
        # What a module merely imported belongs to another one; its own may come from an accelerator such as _heapq.
        at_home = listed is not None or str(getattr(thing, "__module__", "")).lstrip("_") == home
        if at_home and callable(thing) and not name.startswith("_"):
            own[name] = thing
    # `random.choice` is a method of an instance, and has the same text as `random.Random.choice`: the short name wins.
    yield from own.items()
    for name, thing in own.items():
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            for part, member in sorted(vars(thing).items()):
                if not part.startswith("_") and _is_method(member):
                    yield f"{name}.{part}", member


def _is_method(member: Any) -> bool:
    return isinstance(member, property | classmethod | staticmethod) or inspect.isroutine(member)
