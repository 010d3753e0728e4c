"""Secrets and personal data taken out of a text before a model sees it.

Patterns find what has a form: keys, tokens, addresses, numbers with check digits. Names and street addresses have none;
for those there are models, which are wrong more often.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from minillm.rag.errors import RagError


def _is_card(text: str) -> bool:
    """Luhn's check, which one wrong digit fails (ISO/IEC 7812-1, annex B)."""
    digits = [int(char) for char in reversed(text) if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) if i % 2 else digit for i, digit in enumerate(digits)]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0 and len(set(digits)) > 1


def _is_iban(text: str) -> bool:
    """The check of ISO 7064, MOD 97-10: letters count as 10 to 35, the first four characters go last."""
    plain = text.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    return 7 <= sum(char.isdigit() for char in text) <= 15


@dataclass(frozen=True)
class _Kind:
    """A pattern, and a check of what it found. Where the pattern has groups, only what they hold is taken out."""

    pattern: re.Pattern[str]
    is_one: Callable[[str], bool] = bool

    def length(self, text: str) -> int:
        """How much of what was found it is: all, or what comes before a space, for a number may follow a number."""
        ends = [len(text)]
        if self.is_one is not bool:
            ends += [match.start() for match in re.finditer(r"[ -]", text)][::-1]
        return next((end for end in ends if self.is_one(text[:end])), 0)


# The order counts: what an earlier kind took out, a later one doesn't see. Each pattern can match a text in
# few ways, and a bounded stretch of it, so that no text makes the search slow.
_KINDS: Mapping[str, _Kind] = {
    "private key": _Kind(
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:(?!-----END)[\s\S]){0,20000}"
            r"(?:-----END [A-Z0-9 ]{0,40}-----)?"
        )
    ),
    "token": _Kind(
        re.compile(
            r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"  # JSON Web Token, RFC 7519
            r"|(?i:\bbearer\s+)(?P<value>[\w.~+/=-]{16,})"
        )
    ),
    "key": _Kind(
        re.compile(
            r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"
            r"|\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{20,}"
            r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}|\bxox[abeoprs]-[\w-]{10,}|\bhf_[A-Za-z0-9]{20,}"
            r"|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{30,}|\bSG\.[\w-]{16,}\.[\w-]{16,}"
        )
    ),
    "password": _Kind(
        re.compile(
            r"(?i:\b(?:pass(?:word|wd|phrase)|pwd|secret|api[ _-]?key|access[ _-]?key|secret[ _-]?key|auth[ _-]?token"
            r"|client[ _-]?secret)\b[\"']?\s{0,3}(?:=|:|\bis\b)\s{0,3}[\"']?)(?P<value>[^\s\"',;<>]{4,})"
            r"|://[^\s/:@]{1,64}:(?P<value2>[^\s/@]{1,128})@"
        )
    ),
    "e-mail": _Kind(re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")),
    "IBAN": _Kind(re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _is_iban),
    "card": _Kind(re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"), _is_card),
    "phone": _Kind(
        re.compile(
            r"(?<![\w+])\+\d(?:[ ()./-]{0,2}\d){6,14}(?!\w)"
            r"|(?<![\w-])(?:\(\d{3}\)|\d{3})[ .-]\d{3}[ .-]\d{4}(?![\w-])"
            r"|(?i:\b(?:tel|phone|telephone|mobile|cell|fax|call)\b\.?:?\s{0,3})"
            r"(?P<value>\(?\d(?:[ ()./-]{0,2}\d){5,14})"
        ),
        _is_phone,
    ),
}

KINDS = tuple(_KINDS)
"""What can be taken out."""


@dataclass
class Redactions:
    """What was taken out of the texts of one request. The same value gets the same name in all of them.

    Attributes:
        names: by value, such as {"ann@example.com": "<e-mail A>"}. It holds the secrets; don't log it.
    """

    names: dict[str, str] = field(default_factory=dict)

    def name(self, kind: str, value: str) -> str:
        """What stands in a text for a value."""
        if value not in self.names:
            count = sum(name.startswith(f"<{kind} ") for name in self.names.values())
            self.names[value] = f"<{kind} {_letters(count)}>"
        return self.names[value]

    @property
    def counts(self) -> dict[str, int]:
        """How many different values of each kind there were."""
        kinds = [name[1:].rpartition(" ")[0] for name in self.names.values()]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


class Redactor:
    """Takes secrets and personal data out of texts, and puts a name for each in their place.

    >>> Redactor().redact("Write to ann@example.com.")
    'Write to <e-mail A>.'
    """

    def __init__(self, kinds: Collection[str] = KINDS) -> None:
        """Chooses what is taken out.

        Raises:
            RagError: for a kind that isn't one of KINDS.
        """
        if unknown := set(kinds) - set(KINDS):
            raise RagError(f"There's no {', '.join(sorted(unknown))} to redact; choose from {', '.join(KINDS)}.")
        self.kinds = tuple(kind for kind in KINDS if kind in kinds)

    def redact(self, text: str, redactions: Redactions | None = None) -> str:
        """The text without them.

        Args:
            text: any text.
            redactions: those of the request so far, and then these as well; new ones if None.
        """
        redactions = Redactions() if redactions is None else redactions
        for name in self.kinds:
            text = self._without(text, name, redactions)
        return text

    def _without(self, text: str, name: str, redactions: Redactions) -> str:
        kind = _KINDS[name]
        groups = list(kind.pattern.groupindex)

        def replace(match: re.Match[str]) -> str:
            group: int | str = next((group for group in groups if match[group] is not None), 0)
            value = match[group][: kind.length(match[group])]
            if not value or value.startswith("<"):  # "<" begins the name of what was taken out before
                return match[0]
            start = match.start(group) - match.start()
            return match[0][:start] + redactions.name(name, value) + match[0][start + len(value) :]

        return kind.pattern.sub(replace, text)


def _letters(number: int) -> str:
    """A, B, …, Z, AA, AB, …: letters, because an answer's numbers are looked for in its sources."""
    letters = ""
    while number >= 0:
        number, rest = divmod(number, 26)
        letters = chr(ord("A") + rest) + letters
        number -= 1
    return letters
