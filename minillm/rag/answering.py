"""From a question to an answer that can be checked, or to a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from minillm.rag.citations import Citation, SupportCheck, check_answer
from minillm.rag.connection import explained
from minillm.rag.errors import RagError
from minillm.rag.index import Index, storable
from minillm.rag.prompt import INSTRUCTIONS, REFUSAL, in_stable_order, messages, source_texts
from minillm.rag.redaction import Redactions, Redactor
from minillm.rag.searching import Filters, Hit, Mode
from minillm.rag.staleness import Budget, freshness

if TYPE_CHECKING:
    import openai


@dataclass(frozen=True)
class Answer:
    """What came of a question.

    Attributes:
        text: the sentences that sources support, each with its labels; or the refusal. What is old is said to be old.
        citations: which source supports which sentence.
        support: of the sentence that is supported least; 0 if it's refused.
        refused: whether nothing supports an answer.
        reason: why it's refused; "" if it isn't.
        stale: the cited sources that are older than their budget.
        sources: what the model had: [1] is the first. In full, with what was kept from the model.
        unsupported: the sentences that were left out because no source supports them.
        draft: what the model wrote; "" if it wasn't asked.
        messages: what it was asked; [] if it wasn't.
        redacted: how many different values of each kind were kept from it, such as {"e-mail": 2}.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    support: float = 0.0
    refused: bool = False
    reason: str = ""
    stale: tuple[Hit, ...] = ()
    sources: tuple[Hit, ...] = ()
    unsupported: tuple[str, ...] = ()
    draft: str = ""
    messages: Sequence[dict[str, Any]] = ()
    redacted: dict[str, int] = field(default_factory=dict)


class Answerer:
    """Answers questions from an index."""

    def __init__(
        self,
        index: Index,
        client: openai.OpenAI,
        model: str,
        *,
        k: int = 4,
        mode: Mode = "hybrid",
        budgets: Sequence[Budget] = (Budget(),),
        check: SupportCheck | None = None,
        redactor: Redactor | None = None,
        instructions: str = INSTRUCTIONS,
        max_source_characters: int = 4000,
        max_tokens: int = 200,
    ) -> None:
        """Sets what doesn't change from question to question.

        Args:
            index: where the sources are.
            client: of the server that answers.
            model: what to ask for as `model`.
            k: how many sources the model gets at most.
            mode: see `Index.search`.
            budgets: how old sources may be.
            check: the measure of support; the usual one if None.
            redactor: what is kept from the model; all kinds if None.
            instructions: the system prompt.
            max_source_characters: of all sources together; those found last are left out beyond it.
            max_tokens: of an answer.
        """
        self._index, self._client, self._model = index, client, model
        self._k, self._mode, self._budgets = k, mode, tuple(budgets)
        self._check = check or SupportCheck()
        self._redactor = redactor or Redactor()
        self._instructions = instructions
        self._max_source_characters, self._max_tokens = max_source_characters, max_tokens

    def answer(self, question: str, *, filters: Filters | None = None, now: datetime | None = None) -> Answer:
        """Searches, asks the model, and keeps of its answer what the sources support.

        Args:
            question: in the words of the one who asks.
            filters: what may be used; see `Filters` for what that is by default.
            now: what ages are counted from; the present if None.

        Raises:
            RagError: if the question is empty.
            ServerError: if the server can't be reached or refuses.
        """
        question, now = storable(question).strip(), now or datetime.now(UTC)
        if not question:
            raise RagError("The question is empty.")
        # More than k, for those that are too old leave their places to others.
        found = self._index.search(question, 4 * self._k, mode=self._mode, filters=filters, now=now)
        too_old = [hit for hit in found if freshness(hit.provenance, self._budgets, now) == "too old"]
        hits = self._fitting([hit for hit in found if hit not in too_old])
        if not hits:
            return _refusal(_too_old(too_old) if too_old else "nothing was found")
        redactions = Redactions()
        sources = source_texts(hits, self._redactor, redactions)
        asked = messages(self._redactor.redact(question, redactions), sources, self._instructions)
        draft = self._complete(asked)
        answer = self._checked(draft, hits, sources, now)
        if answer.refused and too_old:
            answer = replace(answer, reason=f"{answer.reason}; {_too_old(too_old)}")
        return replace(answer, sources=tuple(hits), draft=draft, messages=asked, redacted=redactions.counts)

    def _fitting(self, hits: Sequence[Hit]) -> list[Hit]:
        """The first k, as many as there's room for, at least one; in their stable order."""
        chosen: list[Hit] = []
        room = self._max_source_characters
        for hit in hits[: self._k]:
            room -= len(hit.title) + len(hit.chunk.text)
            if room < 0 and chosen:
                break
            chosen.append(hit)
        return in_stable_order(chosen)

    def _complete(self, asked: list[dict[str, Any]]) -> str:
        with explained(self._client, self._model, "answer"):
            reply = self._client.chat.completions.create(
                model=self._model,
                messages=asked,  # type: ignore[arg-type]
                temperature=0,
                max_tokens=self._max_tokens,
            )
        return (reply.choices[0].message.content or "").strip()

    def _checked(self, draft: str, hits: Sequence[Hit], sources: Sequence[str], now: datetime) -> Answer:
        if draft.replace("’", "'").lower().startswith("i don't know"):
            return _refusal("the model found no answer in the sources")
        sentences = check_answer(draft, sources, self._check)
        kept = [sentence for sentence in sentences if sentence.cited]
        unsupported = tuple(sentence.text for sentence in sentences if not sentence.cited)
        if not kept:
            return replace(_refusal("no source supports what the model wrote"), unsupported=unsupported)
        cited = sorted({number for sentence in kept for number in sentence.cited})
        stale = [n for n in cited if freshness(hits[n - 1].provenance, self._budgets, now) == "stale"]
        notes = [f"(Old: [{n}] is from {hits[n - 1].provenance.updated:%Y-%m-%d}.)" for n in stale]
        return Answer(
            text=" ".join([*map(str, kept), *notes]),
            citations=tuple(
                Citation(number, sentence.text, sentence.support, sentence.by_model)
                for sentence in kept
                for number in sentence.cited
            ),
            support=min(sentence.support for sentence in kept),
            stale=tuple(hits[n - 1] for n in stale),
            unsupported=unsupported,
        )


def _refusal(reason: str) -> Answer:
    return Answer(text=REFUSAL, refused=True, reason=reason)


def _too_old(hits: Sequence[Hit]) -> str:
    """Which sources weren't used for their age."""
    names = {hit.provenance.source: f"{hit.provenance.updated:%Y-%m-%d}" for hit in hits}
    return "too old to be used: " + ", ".join(f"{source} ({date})" for source, date in names.items())
