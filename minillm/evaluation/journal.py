"""Answers on disk as they come, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minillm.evaluation.errors import DatasetError


@dataclass(frozen=True)
class Reply:
    """What came back for a request.

    Attributes:
        id: the request's.
        text: the answer; empty where there is none.
        finish_reason: "stop", or "length" where it was cut off; "error" where there is none.
        seconds: from the sending to the answer, without the waiting for a place.
        prompt_tokens, completion_tokens: as the server counted them; 0 if it didn't.
        error: why there's no answer.
    """

    id: str
    text: str
    finish_reason: str
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Journal:
    """A JSONL file of replies by the key of their request. One process at a time may write to it."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file, reads what an earlier run left, and cuts off a last line that is torn.

        Raises:
            DatasetError: if it's no such file, or can't be opened.
        """
        self.path = Path(path)
        try:
            before = self.path.read_bytes() if self.path.exists() else b""
            whole = before[: before.rfind(b"\n") + 1]
            self._replies = dict(self._read(whole))
            self._file = self.path.open("ab")
            self._file.truncate(len(whole))
        except OSError as error:
            raise DatasetError(
                f"{self.path} can't be used: {error.strerror}. It keeps the answers of a run."
            ) from error

    def _read(self, content: bytes) -> list[tuple[str, Reply]]:
        replies = []
        for number, line in enumerate(content.splitlines(), 1):
            try:
                record = json.loads(line)
                replies.append((str(record["key"]), Reply(**record["reply"])))
            except (ValueError, KeyError, TypeError) as error:
                raise DatasetError(
                    f"{self.path}, line {number}: not what a run leaves ({error}). Delete the file, or name another."
                ) from error
        return replies

    def get(self, key: str) -> Reply | None:
        """The reply of an earlier run."""
        return self._replies.get(key)

    def add(self, key: str, reply: Reply) -> None:
        """Keeps a reply. An error isn't kept: the next run asks again."""
        if reply.error is None:
            line = json.dumps({"key": key, "reply": reply.as_dict()}, ensure_ascii=True)
            self._file.write(line.encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file; what's in it stays."""
        self._file.close()

    def remove(self) -> None:
        """Closes and deletes the file, once its content is safe elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def partial_path(output: str | Path) -> Path:
    """Where the answers of a run are kept until its result is written: beside it."""
    output = Path(output)
    return output.with_name(output.name + ".partial.jsonl")


def write_result(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes a result as JSON: whole or not at all.

    Raises:
        DatasetError: if it can't be written.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise DatasetError(f"{path} can't be written: {error.strerror}.") from error
