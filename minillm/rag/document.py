"""What a document is: blocks of text under headings, and where all of it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Literal

from minillm.rag.errors import UnreadableError

CLASSIFICATIONS = ("public", "internal", "confidential", "restricted")
"""Who may read a document, from everybody to the few. Whoever may read one level may read those before it."""

DEFAULT_TENANT = "default"
"""Whose documents are that name no tenant."""

DEFAULT_CLASSIFICATION = "internal"
"""The level of documents that name none."""

_FIELDS = {"owner": "owner", "author": "owner", "date": "updated", "updated": "updated", "title": "title"}
_FIELDS |= {name: name for name in ("classification", "tenant", "version")}


@dataclass(frozen=True)
class Block:
    """A paragraph, a list, a table or a piece of code.

    Attributes:
        text: as it stands in the document.
        headings: those above it, from the outermost on.
        kind: "text" can be cut between sentences, "code" between lines only.
        place: where in the document, for people: "line 12", "page 3", or "".
    """

    text: str
    headings: tuple[str, ...] = ()
    kind: Literal["text", "code"] = "text"
    place: str = ""


@dataclass(frozen=True)
class Provenance:
    """Where a document comes from, and who may see it. Every chunk carries it.

    Attributes:
        source: its name in the index, such as "handbook/leave.md"; no two documents share one.
        title: what to call it in an answer.
        owner: who answers for what it says.
        updated: when it was last true, as the document says it, or when its file was last changed.
        classification: one of CLASSIFICATIONS.
        tenant: whose it is; nobody else's searches find it.
        version: as the document says it, or the beginning of `digest`.
        digest: SHA-256 of its bytes, in hex.
    """

    source: str
    title: str
    owner: str
    updated: datetime
    classification: str = DEFAULT_CLASSIFICATION
    tenant: str = DEFAULT_TENANT
    version: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        if self.classification not in CLASSIFICATIONS:
            raise UnreadableError(
                f"{self.source}: the classification is {self.classification!r}; "
                f"expected one of {', '.join(CLASSIFICATIONS)}."
            )
        if not self.tenant:
            raise UnreadableError(f"{self.source}: the tenant is empty; name one, or leave the field out.")


@dataclass(frozen=True)
class Document:
    """A document that has been read.

    Attributes:
        provenance: where it comes from.
        blocks: its text, in order.
    """

    provenance: Provenance
    blocks: tuple[Block, ...]


def with_stated(provenance: Provenance, stated: Mapping[str, str]) -> Provenance:
    """The provenance with what the document itself says about it: owner, date, classification, tenant, version, title.

    Args:
        provenance: what is known from outside: the file's name, owner and time.
        stated: the document's fields; "author" is the owner, "updated" a date. Others are passed over.

    Raises:
        UnreadableError: for a date or a classification that isn't one.
    """
    changes: dict[str, str | datetime] = {}
    for name, value in stated.items():
        field = _FIELDS.get(name.strip().lower())
        if not field or not value.strip():
            continue
        text = " ".join(value.split())
        if field == "updated":
            changes[field] = parse_time(text, provenance.source)
        else:
            changes[field] = text.lower() if field == "classification" else text
    return replace(provenance, **changes)  # type: ignore[arg-type]


def belonging(document: Document, tenant: str | None) -> Document:
    """The document as one of the tenant's, if it's nobody's yet.

    Raises:
        UnreadableError: if it's another tenant's.
    """
    about = document.provenance
    if tenant is None or about.tenant == tenant:
        return document
    if about.tenant != DEFAULT_TENANT:
        raise UnreadableError(f"{about.source} is of tenant {about.tenant!r}, not of {tenant!r}.")
    return replace(document, provenance=replace(about, tenant=tenant))


def parse_time(text: str, source: str) -> datetime:
    """A date or a time of ISO 8601 as a time with a zone: UTC where the text names none.

    Raises:
        UnreadableError: if it's neither.
    """
    try:
        try:
            moment = datetime.combine(date.fromisoformat(text), time())
        except ValueError:
            moment = datetime.fromisoformat(text)
        # Some times near the year 1 or 9999 have no UTC.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UnreadableError(f"{source}: the date is {text!r}; expected one like 2026-03-12.") from error


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """The fields between two lines of "---" at the beginning of a Markdown file, and the rest.

    Lines are `name: value`; quotes around a value and comments after " #" are taken off. Lists and nested fields,
    which no field of ours has, are passed over. The rest keeps its line numbers: the front matter becomes empty lines.
    """
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return {}, text
    end = next((i for i, line in enumerate(lines) if i and line.rstrip() in ("---", "...")), None)
    if end is None:
        return {}, text
    fields: dict[str, str] = {}
    for line in lines[1:end]:
        name, colon, value = line.partition(":")
        if colon and name and not name[0].isspace() and not name.startswith(("#", "-")):
            fields[name.strip().lower()] = _plain(value.strip())
    return fields, "\n" * (end + 1) + "\n".join(lines[end + 1 :])


def _plain(value: str) -> str:
    if len(value) > 1 and value[0] in "\"'" and (end := value.find(value[0], 1)) > 0:
        return value[1:end]
    return value.partition(" #")[0].strip()
