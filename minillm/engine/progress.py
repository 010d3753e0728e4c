"""Progress for long work: a bar in a terminal, nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """Yields the items; with more than one, shows a bar on standard error if it is a terminal."""
    console = Console(stderr=True)
    if len(items) < 2 or not console.is_terminal:
        yield from items
    else:
        yield from rich_track(items, description, console=console, transient=True)
