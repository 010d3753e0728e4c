"""The held-out domains: what may be said of a lighthouse, a clinic or a vineyard, and how it is asked for.

No example that anything was trained on is about any of them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attribute:
    """Something that a source states of an entity.

    Attributes:
        key: tells it from the domain's others.
        spec: of its value; see `make_value`.
        statements: with {e} for the entity, {v} for the value and, where it differs from year to year, {y}.
        questions: with {e} and {y}.
    """

    key: str
    spec: str
    statements: Sequence[str]
    questions: Sequence[str]

    @property
    def is_yearly(self) -> bool:
        """Whether a year belongs to it."""
        return "{y}" in self.statements[0]


@dataclass(frozen=True)
class Domain:
    """Attributes:
    name: of the domain.
    entities: names with {p} for a place.
    short: how a source speaks of an entity that its title names.
    titles: of documents that don't bear an entity's name.
    attributes: of its entities.
    asides: sentences that answer no question.
    presuming: questions with {e} that take for granted what no source says.
    """

    name: str
    entities: Sequence[str]
    short: str
    titles: Sequence[str]
    attributes: Sequence[Attribute]
    asides: Sequence[str]
    presuming: Sequence[str]


def read_domains() -> tuple[Domain, ...]:
    """The held-out domains, from the file beside this one."""
    content = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return tuple(
        Domain(**{**domain, "attributes": tuple(Attribute(**each) for each in domain["attributes"])})
        for domain in content["domains"]
    )


DOMAINS = read_domains()
