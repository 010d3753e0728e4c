"""How old a source may be: from when on an answer says so, and from when on it isn't used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

from minillm.rag.document import Provenance
from minillm.rag.errors import RagError

Freshness = Literal["fresh", "stale", "too old"]


@dataclass(frozen=True)
class Budget:
    """How old documents of a kind may be.

    Attributes:
        warn_after: an answer from a document that is older says how old it is; None never does.
        refuse_after: a document that is older is not used; None uses all.
        sources: the names that it's for, with * and ?. Of several budgets, the first that fits a name counts.
    """

    warn_after: timedelta | None = timedelta(days=365)
    refuse_after: timedelta | None = None
    sources: str = "*"

    def __post_init__(self) -> None:
        if self.warn_after is not None and self.refuse_after is not None and self.warn_after > self.refuse_after:
            raise RagError(
                f"The budget of {self.sources!r} refuses what is older than {self.refuse_after.days} days, so it can't "
                f"warn after {self.warn_after.days}. Let it warn earlier, or never (None)."
            )


def freshness(provenance: Provenance, budgets: Sequence[Budget], now: datetime) -> Freshness:
    """What the first budget that fits says about a document; one that no budget fits is fresh."""
    age = now - provenance.updated
    for budget in budgets:
        if fnmatchcase(provenance.source, budget.sources):
            if budget.refuse_after is not None and age > budget.refuse_after:
                return "too old"
            return "stale" if budget.warn_after is not None and age > budget.warn_after else "fresh"
    return "fresh"
