"""Texts as words: what a search looks for, and what an answer shares with its source."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,'’]\d+)*")
_ENGLISH_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_OTHER_THOUSANDS = re.compile(r"[1-9]\d{0,2}((\.\d{3}){2,}(,\d+)?|(\.\d{3})+,\d+)")

_STOPWORDS = (
    "a about after all also am an and any are as at be because been before being between both but by can could did do "
    "does doing down during each few for from further had has have having he her here hers him his how i if in into is "
    "it its just me more most my of off on once only or other our out over own please same she should so some such "
    "tell than that the their them then there these they this those through to too under until up us very was we were "
    "what when where which while who whom why will with would you your s t re ve ll d m"
)
STOPWORDS = frozenset(_STOPWORDS.split())
"""English words that say nothing about a text's subject."""

_NEGATIONS = ("no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot")
_SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SPELLED = {word: str(number) for number, word in enumerate(_SMALL, 1)}


def content_words(text: str) -> set[str]:
    """The words that say something, in small letters, without accents and endings; numbers as digits.

    >>> sorted(content_words("Three rents weren't paid."))
    ['3', 'paid', 'rent']
    """
    found = numbers(text)
    for word in _words(text):
        if word in _SPELLED:
            found.add(_SPELLED[word])
        elif not (word in STOPWORDS or word in _NEGATIONS or word.endswith("n't") or word.isdigit()):
            found.add(_stem(word.removesuffix("'s")))
    return found


def numbers(text: str) -> set[str]:
    """The numbers of a text, in digits: "1,000", "1'000" and "1000" are the same, as are "4,2" and "4.2".

    A single comma or point before three digits is taken as English has it: "1,000" is a thousand, "1.000" is one.
    """
    return {_plain_number(match[0]) for match in _NUMBER.finditer(_folded(text))}


def negates(text: str) -> bool:
    """Whether a word turns the text round: not, never, without, …"""
    return any(word in _NEGATIONS or word.endswith("n't") for word in _words(text))


def search_terms(text: str) -> list[str]:
    """The words to look for, each once: those that say something, or all if none does."""
    terms = list(dict.fromkeys(re.findall(r"\w+", text.lower())))
    return [term for term in terms if term not in STOPWORDS] or terms


def _words(text: str) -> list[str]:
    return [match[0].replace("’", "'") for match in _WORD.finditer(_folded(text))]


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).lower()


def _plain_number(text: str) -> str:
    text = text.replace("'", "").replace("’", "")
    if _ENGLISH_THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    elif _OTHER_THOUSANDS.fullmatch(text):
        text = text.replace(".", "")
    return text.replace(",", ".").lstrip("0") or "0"


def _stem(word: str) -> str:
    """The word without its commonest endings. Crude, but the same for both texts that are compared."""
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            word = word.removesuffix(ending)
            if word[-1] == word[-2] and word[-1] not in "aeiouls":
                word = word[:-1]  # planned, plan
            break
    return word.removesuffix("e") if len(word) > 3 else word
