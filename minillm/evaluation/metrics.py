"""Metrics with known definitions. Each is a function of one example's data; means are taken elsewhere.

All give a number from 0 to 1, and more is better.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from minillm.evaluation.errors import EvaluationError
from minillm.evaluation.text import content_words, negates, normalize_answer, numbers_in, split_sentences


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if the answer is one of the references, case, punctuation and articles apart.

    Source: Rajpurkar et al., arXiv:1606.05250 §6.1.
    """
    _check_references(references)
    return float(any(normalize_answer(answer) == normalize_answer(reference) for reference in references))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """The harmonic mean of precision and recall of the answer's words, for the reference that gives the most.

    Words are counted: one that the answer has three times and the reference once is shared once. Where one of the two
    has no words, it's 1 if the other hasn't either.

    Source: Rajpurkar et al., arXiv:1606.05250 §6.1.
    """
    _check_references(references)
    return max(_f1(normalize_answer(answer).split(), normalize_answer(reference).split()) for reference in references)


def _f1(words: list[str], expected: list[str]) -> float:
    if not words or not expected:
        return float(words == expected)
    shared = (Counter(words) & Counter(expected)).total()
    return 2 * shared / (len(words) + len(expected))  # what 2pr / (p + r) comes to


def recall_at_k(retrieved: Sequence[str], relevant: Collection[str], k: int) -> float:
    """The share of what is relevant that is among the first k.

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, §8.4.
    """
    _check_ranking(retrieved, relevant, k)
    return len(set(retrieved[:k]) & set(relevant)) / len(set(relevant))


def precision_at_k(retrieved: Sequence[str], relevant: Collection[str], k: int) -> float:
    """The share of the first k places that is relevant. Places that stay empty count as not relevant.

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, §8.4.
    """
    _check_ranking(retrieved, relevant, k)
    return len(set(retrieved[:k]) & set(relevant)) / k


def reciprocal_rank(retrieved: Sequence[str], relevant: Collection[str]) -> float:
    """1 / the rank of the first that is relevant; 0 if none is. Its mean over the questions is the MRR.

    Source: Voorhees, The TREC-8 Question Answering Track Report (1999), §3.
    """
    _check_ranking(retrieved, relevant, 1)
    return next((1 / rank for rank, name in enumerate(retrieved, 1) if name in relevant), 0.0)


def ndcg_at_k(retrieved: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """The discounted gain of the first k, as a share of the best that any order could have.

    What stands at rank r gives its grade / log2(r + 1). (Some give 2^grade - 1 in place of the grade; for grades of 0
    and 1 that's the same.)

    Source: Järvelin and Kekäläinen, ACM TOIS 20(4), 2002, with the discount of Burges et al., ICML 2005.

    Args:
        retrieved: ids, the best first.
        grades: from 0 on, by id; what has none counts 0.
        k: how many ranks count.
    """
    _check_ranking(retrieved, [name for name, grade in grades.items() if grade > 0], k)
    gained = _discounted([grades.get(name, 0.0) for name in retrieved[:k]])
    return gained / _discounted(sorted(grades.values(), reverse=True)[:k])


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def citation_precision(cited: Collection[str], relevant: Collection[str]) -> float:
    """The share of the cited sources that are relevant. Where nothing is cited, it's 0, or 1 if nothing is relevant.

    With entailment in place of known sources it's the measure of ALCE (Gao et al., arXiv:2305.14627 §3), whose
    convention for an answer without citations this follows.
    """
    if not cited:
        return float(not relevant)
    return len(set(cited) & set(relevant)) / len(set(cited))


def citation_recall(cited: Collection[str], relevant: Collection[str]) -> float:
    """The share of the relevant sources that are cited. If none is relevant, it's 1 if none is cited, else 0."""
    if not relevant:
        return float(not cited)
    return len(set(cited) & set(relevant)) / len(set(relevant))


def groundedness(answer: str, sources: Sequence[str], min_share: float = 0.6) -> float:
    """The share of an answer's sentences that the sources they cite support.

    A sentence is supported if it cites at least one source, all its numbers are in the sources that it cites, at least
    `min_share` of its content words are (see `content_words`), and if it says "not" or the like, so does one of them. A
    sentence without a content word or number says nothing that needs support, and isn't counted; an answer that has no
    other sentences has 0.

    The measure sees words, not meaning: it's the cheap stand-in for the entailment model of ALCE's citation recall (Gao
    et al., arXiv:2305.14627 §3), and a source's words in another order pass it.

    Args:
        answer: with labels such as [1].
        sources: the texts; [1] is the first. Labels without a source count for nothing.
        min_share: from 0 to 1; 0.6 lets an answer use a few words of its own, such as the question's.
    """
    if not 0.0 <= min_share <= 1.0:
        raise EvaluationError(f"min_share is {min_share}; expected a share from 0 to 1.")
    judged = [
        is_supported(sentence, [sources[number - 1] for number in numbers if 1 <= number <= len(sources)], min_share)
        for sentence, numbers in split_sentences(answer)
        if content_words(sentence) or numbers_in(sentence)
    ]
    return sum(judged) / len(judged) if judged else 0.0


def is_supported(sentence: str, cited: Sequence[str], min_share: float = 0.6) -> bool:
    """Whether the cited texts, taken together, support a sentence; see `groundedness`."""
    text = "\n".join(cited)
    words = content_words(sentence)
    if not cited or numbers_in(sentence) - numbers_in(text) or (negates(sentence) and not negates(text)):
        return False
    return len(words & content_words(text)) >= min_share * len(words)


def _check_references(references: Sequence[str]) -> None:
    if isinstance(references, str) or not references:
        raise EvaluationError(f"The references are {references!r}; expected a list with at least one text.")


def _check_ranking(retrieved: Sequence[str], relevant: Collection[str], k: int) -> None:
    if not relevant:
        raise EvaluationError("Nothing is relevant, so a ranking can't be scored. Expected at least one relevant id.")
    if k < 1:
        raise EvaluationError(f"k is {k}; expected 1 or more.")
    if len(set(retrieved)) < len(retrieved):
        raise EvaluationError("An id is in the ranking twice, and would count twice. Expected each once.")
