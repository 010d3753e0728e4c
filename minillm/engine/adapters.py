"""Which adapters an engine has beside its model: from what a user gives to what is loaded, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from minillm.engine.loading import load_adapter
from minillm.errors import InvalidRequestError
from minillm.models.lora import LoRAAdapter
from minillm.weights import split_adapter

AdapterSource: TypeAlias = str | PathLike[str] | Mapping[str, object] | LoRAAdapter
"""A name or a path, which is then the adapter's name too; names with their paths; or an adapter that's loaded."""


def load_adapters(sources: Sequence[AdapterSource] | Mapping[str, object], model_name: str) -> dict[str, LoRAAdapter]:
    """Loads adapters. Whether they fit the model is found out when it's there.

    Args:
        sources: what `LLM(adapters=…)` was given.
        model_name: of the model that they are for.

    Returns:
        The adapters by the names that requests choose them by, in the order of `sources`.

    Raises:
        InvalidRequestError: for anything else than described, two of the same name, or a model that has one merged.
        MinillmError: if one can't be found or read.
    """
    if isinstance(sources, str) or not isinstance(sources, Sequence | Mapping):
        raise InvalidRequestError(
            f"adapters is {sources!r:.200}; expected a list of names or paths, or a mapping of names to paths.",
            "adapters",
        )
    base, merged = split_adapter(model_name)
    if sources and merged is not None:
        raise InvalidRequestError(
            f"{model_name!r:.200} has an adapter merged into its weights, so others can't be used beside it. Give "
            f"{base!r} and all adapters: LLM({base!r}, adapters=[{merged!r}, …]).",
            "adapters",
        )
    loaded: dict[str, LoRAAdapter] = {}
    for name, path in _named([sources] if isinstance(sources, Mapping) else sources):
        if not name or name in loaded:
            problem = "is given twice" if name else "has no name"
            raise InvalidRequestError(f"An adapter ({name!r}) {problem}; each needs a name of its own.", "adapters")
        loaded[name] = path if isinstance(path, LoRAAdapter) else load_adapter(name, path)
    return loaded


def _named(sources: Sequence[AdapterSource]) -> Iterator[tuple[str, Path | LoRAAdapter | None]]:
    """Name and path of each; no path where the name says it all."""
    for source in sources:
        pairs = source.items() if isinstance(source, Mapping) else [(None, source)]
        for name, value in pairs:
            if isinstance(value, LoRAAdapter) and isinstance(name, str | None):
                yield value.name if name is None else name, value
            elif isinstance(value, str | PathLike) and isinstance(name, str | None):
                yield (str(value), None) if name is None else (name, Path(value))
            else:
                raise InvalidRequestError(
                    f"adapters holds {value!r:.200}; expected the name or the path of an adapter, or "
                    '{"name": "path"}.',
                    "adapters",
                )
