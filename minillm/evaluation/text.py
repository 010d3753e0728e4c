"""Texts as sentences, words and numbers: what an answer shares with a reference or a source."""

from __future__ import annotations

import re
import string
import unicodedata

LABEL = re.compile(r"\[\s*(\d{1,3}(?:\s*,\s*\d{1,3})*)\s*\]")
"""One or several numbers of sources in brackets: [1], [1, 2]."""

_LABELS = rf"(?:\s*{LABEL.pattern})*"
# Not the end of a sentence: "e.g.", "Dr." and the like, and initials.
_ABBREVIATIONS = "".join(rf"(?<!\b{short})" for short in ("e\\.g", "i\\.e", "Dr", "Mr", "Mrs", "Ms", "No", "[A-Z]"))
_SENTENCE = re.compile(rf".+?(?:{_ABBREVIATIONS}[.!?…]+[\"')\]”’]*{_LABELS}(?=\s|$)|(?=\n)|$)", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

_STOPWORDS = (
    "a about after all also am an and any are as at be because been before being both but by can could did do does "
    "each few for from had has have having he her his how i if in into is it its just me more most my no nor not of on "
    "only or other our out over own same she should so some such than that the their them then there these they this "
    "those through to too under until up very was we were what when where which while who whom why will with would you "
    "your never without"
)
STOPWORDS = frozenset(_STOPWORDS.split())
"""English words that say nothing about a text's subject."""
_NEGATIONS = frozenset(("no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot"))


def normalize_answer(text: str) -> str:
    """A short answer without what makes no difference: case, punctuation, articles, extra spaces.

    The steps and their order are those of SQuAD's official script (Rajpurkar et al., arXiv:1606.05250 §6.1).

    >>> normalize_answer("The  Eiffel Tower!")
    'eiffel tower'
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def split_sentences(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """The sentences without their labels, each with the numbers in its labels.

    A label alone, after a full stop or on a line of its own, belongs to the sentence before it.

    >>> split_sentences("It's 24 m high [1]. It is red. [2, 3]")
    [("It's 24 m high.", (1,)), ('It is red.', (2, 3))]
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    for match in _SENTENCE.finditer(text.strip()):
        numbers = cited_numbers(match[0])
        sentence = re.sub(r"\s+(?=[.,;:!?](?:\s|$))", "", " ".join(LABEL.sub(" ", match[0]).split()))
        if any(char.isalnum() for char in sentence):
            found.append((sentence, numbers))
        elif numbers and found:
            found[-1] = (found[-1][0], tuple(dict.fromkeys(found[-1][1] + numbers)))
    return found


def cited_numbers(text: str) -> tuple[int, ...]:
    """The numbers in a text's labels, each once, in order."""
    return tuple(dict.fromkeys(int(number) for label in LABEL.findall(text) for number in label.split(",")))


def content_words(text: str) -> set[str]:
    """The words that say something, in small letters and without accents and the commonest endings; no numbers.

    >>> sorted(content_words("The keepers weren't paid in 1901."))
    ['keeper', 'paid']
    """
    words = (match[0].replace("’", "'") for match in _WORD.finditer(_folded(text)))
    return {_stem(word.removesuffix("'s")) for word in words if word not in STOPWORDS and not word.endswith("n't")}


def numbers_in(text: str) -> set[str]:
    """The numbers of a text in digits; "1,000" and "1000" are the same, as are "24.0" and "24"."""
    found = set()
    for match in _NUMBER.finditer(_folded(text)):
        digits = match[0].replace(",", "") if _THOUSANDS.fullmatch(match[0]) else match[0].replace(",", ".")
        whole, _, fraction = digits.partition(".")
        fraction = fraction if "." in fraction else fraction.rstrip("0")
        found.add((whole.lstrip("0") or "0") + (f".{fraction}" if fraction else ""))
    return found


def negates(text: str) -> bool:
    """Whether a word turns the text round: not, never, without, …"""
    words = (match[0].replace("’", "'") for match in _WORD.finditer(_folded(text)))
    return any(word in _NEGATIONS or word.endswith("n't") for word in words)


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).lower()


def _stem(word: str) -> str:
    """Crude, but the same for the two texts that are compared."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            word = word.removesuffix(ending)
            break
    return word.removesuffix("e") if len(word) > 3 else word
