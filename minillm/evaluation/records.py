"""JSONL files: one JSON object a line, read with errors that name the file, the line and the field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from minillm.evaluation.errors import DatasetError


class Record:
    """One line of a JSONL file, whose fields are taken out by name and type.

    Attributes:
        place: "FILE, line 3", for errors.
    """

    def __init__(self, content: Mapping[str, Any], place: str) -> None:
        self.place = place
        self._content = dict(content)
        self._taken: set[str] = set()

    def text(self, name: str, default: str | None = None) -> str:
        """A field that holds a text, which may not be blank.

        Raises:
            DatasetError: if it's something else, or missing without a default. So do the other methods.
        """
        value = self._take(name, default)
        if not isinstance(value, str) or not value.strip():
            self.fail(f"{name} is {shortened(value)}; expected a text that isn't blank")
        return value

    def optional_text(self, name: str) -> str | None:
        """A field that holds a text or null, or is missing."""
        self._taken.add(name)
        return None if self._content.get(name) is None else self.text(name)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """A field that holds one of these texts."""
        value = self._take(name, None)
        if value not in choices:
            self.fail(f"{name} is {shortened(value)}; expected one of {', '.join(choices)}")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that holds a list of texts; empty where it's missing."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(f"{name} is {shortened(value)}; expected a list of texts")
        return tuple(value)

    def records(self, name: str) -> list[Record]:
        """A field that holds a list of objects; empty where it's missing."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.fail(f"{name} is {shortened(value)}; expected a list of objects")
        return [Record(item, f"{self.place}, {name}[{index}]") for index, item in enumerate(value)]

    def grades(self, name: str) -> dict[str, float]:
        """A field that holds a list of ids (each is graded 1), or an object of ids and grades from 0 on."""
        value = self._take(name, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return dict.fromkeys(value, 1.0)
        if not isinstance(value, dict) or not all(_is_grade(grade) for grade in value.values()):
            self.fail(f"{name} is {shortened(value)}; expected a list of ids, or an object of ids and grades ≥ 0")
        return {key: float(grade) for key, grade in value.items()}

    def finish(self) -> None:
        """Refuses fields that nobody took: a misspelt name must not pass for a missing field."""
        if unknown := sorted(self._content.keys() - self._taken):
            self.fail(f"there's no field {unknown[0]!r}; known are {', '.join(sorted(self._taken))}")

    def fail(self, message: str) -> NoReturn:
        """Raises a DatasetError that names the place."""
        raise DatasetError(f"{self.place}: {message}.")

    def _take(self, name: str, default: Any) -> Any:
        self._taken.add(name)
        return self._content.get(name, default)


def read_records(path: str | Path) -> Iterator[Record]:
    """The objects of a JSONL file in order; blank lines are passed over.

    Raises:
        DatasetError: if the file can't be read, or a line isn't a JSON object.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DatasetError(f"{path} can't be read: {error.strerror}. Expected a JSONL file.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            content = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise DatasetError(f"{place}: not UTF-8 (byte {error.start + 1} of the line). Save it as UTF-8.") from error
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{place}: not JSON ({error}). Expected one object on each line.") from error
        if not isinstance(content, dict):
            raise DatasetError(f"{place}: {shortened(content)} is no object. Expected {{…}} on each line.")
        yield Record(content, place)


def write_records(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, in UTF-8.

    Raises:
        DatasetError: if the file can't be written.
    """
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DatasetError(f"{path} can't be written: {error.strerror}.") from error


def check_unique(records: Iterable[tuple[str, str]]) -> None:
    """Refuses two records with one id: results are matched by it.

    Args:
        records: each id with its place.

    Raises:
        DatasetError: naming both places.
    """
    places: dict[str, str] = {}
    for name, place in records:
        if name in places:
            raise DatasetError(f"{place}: the id {name!r} is that of {places[name]} already. Ids must differ.")
        places[name] = place


def shortened(value: Any) -> str:
    """A value as JSON, cut to a length that an error can hold."""
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _is_grade(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
