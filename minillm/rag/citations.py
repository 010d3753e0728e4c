"""Whether an answer's citations hold: the source exists, the model had it, and it supports the sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from minillm.rag.errors import RagError
from minillm.rag.words import content_words, negates, numbers

LABEL = re.compile(r"\[\s*(\d{1,3}(?:\s*,\s*\d{1,3})*)\s*\]")
"""One or several numbers of sources in brackets: [1], [1, 2]."""

# A sentence's end, with the labels that follow it. No end: after "e.g.", "Dr." and the like, and after initials.
_ABBREVIATIONS = "".join(rf"(?<!\b{short})" for short in ("e\\.g", "i\\.e", "Dr", "Mr", "Mrs", "Ms", "No", "[A-Z]"))
_SENTENCE = re.compile(
    rf".+?(?:{_ABBREVIATIONS}[.!?…。！？]+[\"')\]”’]*(?:\s*{LABEL.pattern})*(?=\s|$)|(?=\n)|$)", re.DOTALL
)


@dataclass(frozen=True)
class SupportCheck:
    """The measure of support: a share of words, and all numbers.

    A sentence's support is the share of its content words (no "the", no "is"; without endings) that the cited sources
    have. It's 0 if a number of the sentence is in none of them, if the sentence says "not" and none of them does, or if
    it has no content word at all. The measure sees words, not meaning: a source's words in another order pass it.

    Attributes:
        min_share: what a sentence needs. 0.6 lets an answer use a few words of its own, such as the question's.
    """

    min_share: float = 0.6

    def __post_init__(self) -> None:
        if not 0.0 < self.min_share <= 1.0:
            raise RagError(f"min_share is {self.min_share}; expected more than 0 and at most 1.")

    def support(self, sentence: str, sources: Sequence[str]) -> float:
        """From 0 to 1.

        Args:
            sentence: without its labels.
            sources: the texts that it cites, as the model had them.
        """
        words = content_words(sentence)
        text = "\n".join(sources)
        known = content_words(text)
        if not words or numbers(sentence) - known or (negates(sentence) and not negates(text)):
            return 0.0
        return len(words & known) / len(words)


@dataclass(frozen=True)
class CheckedSentence:
    """A sentence of an answer.

    Attributes:
        text: without labels.
        cited: the numbers of the sources that support it, together; () if it's not supported.
        support: see `SupportCheck`; of the sources that it's best supported by.
        by_model: whether the model cited these; if not, the check found them.
    """

    text: str
    cited: tuple[int, ...]
    support: float
    by_model: bool

    def __str__(self) -> str:
        return " ".join([self.text, *("".join(f"[{number}]" for number in self.cited),) * bool(self.cited)])


@dataclass(frozen=True)
class Citation:
    """A sentence and a source that supports it.

    Attributes:
        number: the source's number in the prompt, and in the answer.
        sentence: what is supported, without labels.
        support: from `SupportCheck.min_share` to 1, of all the sources that the sentence cites, together.
        by_model: whether the model cited it; if not, the check found it.
    """

    number: int
    sentence: str
    support: float
    by_model: bool


def check_answer(text: str, sources: Sequence[str], check: SupportCheck) -> list[CheckedSentence]:
    """Checks each sentence of an answer.

    A label that's none of the sources' doesn't count, nor does a source that shares no word with the sentence. Where
    what is left doesn't support the sentence, or the model cited nothing, the source that supports it best is taken
    instead, if one does.

    Args:
        text: the model's answer, with labels.
        sources: the texts that the model had; [1] is the first.
        check: the measure.
    """
    return [_check_sentence(*part, sources, check) for part in split_answer(text)]


def split_answer(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """The sentences without their labels, and the numbers in the labels. A label alone belongs to what's before it."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for match in _SENTENCE.finditer(text.strip()):
        labels = [int(number) for label in LABEL.findall(match[0]) for number in label.split(",")]
        sentence = " ".join(LABEL.sub(" ", match[0]).split())
        sentence = re.sub(r"\s+(?=[.,;:!?](?:\s|$))", "", sentence)
        if any(char.isalnum() for char in sentence):
            found.append((sentence, tuple(dict.fromkeys(labels))))
        elif labels and found:
            before, numbers_before = found[-1]
            found[-1] = (before, tuple(dict.fromkeys([*numbers_before, *labels])))
    return found


def _check_sentence(
    sentence: str, labels: tuple[int, ...], sources: Sequence[str], check: SupportCheck
) -> CheckedSentence:
    words = content_words(sentence)
    cited = tuple(label for label in labels if 1 <= label <= len(sources) and words & content_words(sources[label - 1]))
    support = check.support(sentence, [sources[label - 1] for label in cited])
    if support >= check.min_share:
        return CheckedSentence(sentence, cited, support, by_model=True)
    alone = {number: check.support(sentence, [source]) for number, source in enumerate(sources, 1)}
    best = max(alone, key=lambda number: alone[number], default=0)  # the first of the best
    if best and alone[best] >= check.min_share:
        return CheckedSentence(sentence, (best,), alone[best], by_model=best in cited)
    return CheckedSentence(sentence, (), max(support, alone.get(best, 0.0)), by_model=False)
