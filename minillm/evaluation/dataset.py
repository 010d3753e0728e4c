"""What a model is tried on: questions with what is known about their answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minillm.evaluation.errors import DatasetError
from minillm.evaluation.records import Record, check_unique, read_records, write_records

DATA = Path(__file__).parent / "data"
"""The sets that come with this package."""

CITE = (
    "Answer the question from the sources in one or two short sentences. After each sentence, cite the source that it "
    "comes from by its number in brackets, like [1]."
)
"""The system prompt of examples with sources that have none of their own."""


@dataclass(frozen=True)
class Source:
    """A text that an answer may rest on.

    Attributes:
        id: what `Example.relevant` and `Example.retrieved` know it by.
        text: what the model reads.
    """

    id: str
    text: str


@dataclass(frozen=True)
class Example:
    """A question, and what is known about its answer; each metric needs a part of it.

    Attributes:
        id: differs from all others of the dataset.
        question: what the user asks.
        answers: texts that are right; any of them will do.
        sources: what the model gets to answer from, numbered from [1] on.
        relevant: grades of the sources that answer the question, by id; 1 where there are no degrees.
        retrieved: ids that a search found, the best first; for metrics of search.
        system: the system prompt; None for `CITE` where there are sources, and none at all elsewhere.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    relevant: Mapping[str, float] = field(default_factory=dict)
    retrieved: tuple[str, ...] = ()
    system: str | None = None

    def messages(self) -> list[dict[str, str]]:
        """The conversation to be completed, in the form of the API."""
        numbered = "\n\n".join(f"[{number}] {source.text}" for number, source in enumerate(self.sources, 1))
        content = f"Sources:\n\n{numbered}\n\nQuestion: {self.question}" if self.sources else self.question
        system = self.system or (CITE if self.sources else None)
        beginning = [{"role": "system", "content": system}] if system else []
        return [*beginning, {"role": "user", "content": content}]


def read_examples(path: str | Path) -> list[Example]:
    """The examples of a JSONL file. The fields are those of `Example`; only id and question are needed.

    ```json
    {"id": "q1", "question": "How high is it?", "answers": ["24 m"],
     "sources": [{"id": "a", "text": "It's 24 m high."}], "relevant": ["a"]}
    ```

    Raises:
        DatasetError: if something in it isn't as it should be; the message names the file and the line.
    """
    examples, places = [], []
    for record in read_records(path):
        example = _read_example(record)
        examples.append(example)
        places.append((example.id, record.place))
    if not examples:
        raise DatasetError(f"{path} has no examples. Expected one JSON object on each line.")
    check_unique(places)
    return examples


def with_system(examples: Iterable[Example], system: str) -> list[Example]:
    """The examples with another system prompt."""
    return [replace(example, system=system) for example in examples]


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Writes what `read_examples` reads. Fields that are empty are left out.

    Raises:
        DatasetError: if the file can't be written.
    """
    write_records(path, map(_as_record, examples))


def _read_example(record: Record) -> Example:
    sources = []
    for item in record.records("sources"):
        sources.append(Source(item.text("id"), item.text("text")))
        item.finish()
    example = Example(
        record.text("id"),
        record.text("question"),
        record.texts("answers"),
        tuple(sources),
        record.grades("relevant"),
        record.texts("retrieved"),
        record.optional_text("system"),
    )
    record.finish()
    ids = [source.id for source in sources]
    for name, given in (("sources", ids), ("retrieved", list(example.retrieved))):
        if len(set(given)) < len(given):
            record.fail(f"{name} has an id twice")
    unknown = example.relevant.keys() - set(ids)
    if ids and unknown:
        record.fail(f"relevant names {min(unknown)!r}, which isn't an id of sources")
    return example


def _as_record(example: Example) -> dict[str, Any]:
    grades = example.relevant
    record: dict[str, Any] = {
        "id": example.id,
        "question": example.question,
        "answers": list(example.answers),
        "sources": [{"id": source.id, "text": source.text} for source in example.sources],
        "relevant": list(grades) if set(grades.values()) <= {1.0} else dict(grades),
        "retrieved": list(example.retrieved),
        "system": example.system,
    }
    return {name: value for name, value in record.items() if value}
