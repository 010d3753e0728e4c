"""Values that held-out sources state, and the forms in which an answer may give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

_PLACE_BEGINNINGS = (
    "Kal", "Bren", "Tor", "Ves", "Mar", "Ond", "Sul", "Har", "Quil", "Eld", "Fenn", "Gryth", "Isk", "Lor", "Nev", "Orr",
    "Pell", "Rusk", "Skerr", "Thal", "Ulv", "Wex", "Yar", "Zell", "Ald", "Brock", "Cind", "Dorn",
)  # fmt: skip
_PLACE_ENDS = (
    "mere", "holm", "vik", "ness", "ora", "ast", "und", "ey", "owa", "stad", "ino", "ark", "ell", "eth", "garth",
    "iano",
)  # fmt: skip
_FIRST_NAMES = (
    "Ines", "Tomasz", "Adaeze", "Ravi", "Solveig", "Mateo", "Yuki", "Leila", "Piet", "Oksana", "Brandan", "Chiara",
    "Emre", "Fatou", "Gwen", "Hamid", "Ilse", "Jonas", "Kirra", "Luz", "Milos", "Nandi", "Olof", "Priya", "Quentin",
    "Rosalba", "Sven", "Tamar", "Ulrike", "Viktor", "Wanjiru", "Xavi", "Yasmin", "Zoltan",
)  # fmt: skip
_LAST_BEGINNINGS = (
    "Mar", "Okon", "Vel", "Hart", "Sand", "Brig", "Cask", "Dra", "Ferr", "Gol", "Hav", "Jan", "Kess", "Lind", "Mont",
    "Nord", "Pax", "Quar", "Rem", "Stro", "Tam", "Vass", "Wil", "Zab",
)  # fmt: skip
_LAST_ENDS = (
    "row",
    "kwo",
    "asquez",
    "mann",
    "berg",
    "stad",
    "ova",
    "elli",
    "ington",
    "sen",
    "ido",
    "ström",
    "aux",
    "ek",
)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_UNITS = {"m": "metres", "km": "kilometres", "kg": "kilograms", "t": "tonnes", "%": "percent", "°C": "degrees Celsius"}


@dataclass(frozen=True)
class Value:
    """Attributes:
    text: as a source writes it.
    forms: any of these in an answer counts as this value.
    """

    text: str
    forms: tuple[str, ...]


def place(random: Random) -> str:
    """The name of a place that isn't there, such as "Skerrvik"."""
    return _joined(random.choice(_PLACE_BEGINNINGS), random.choice(_PLACE_ENDS))


def person(random: Random) -> str:
    """First and last name."""
    return f"{random.choice(_FIRST_NAMES)} {_joined(random.choice(_LAST_BEGINNINGS), random.choice(_LAST_ENDS))}"


def _joined(beginning: str, end: str) -> str:
    """A name without a letter three times in a row."""
    return beginning + (end[1:] if beginning.endswith(end[0] * 2) else end)


def day(random: Random, year: int | None = None) -> Value:
    """A day such as "14 March", with a year if one is given."""
    number, month = random.randint(1, 28), random.choice(_MONTHS)
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number not in (11, 12, 13) else 0, "th")
    forms = [f"{number} {month}", f"{month} {number}", f"{number}{ending} of {month}", f"{number}{ending} {month}"]
    forms.append(f"{month} {number}{ending}")
    if year is None:
        return Value(random.choice(forms[:2]), tuple(forms))
    iso = f"{year}-{_MONTHS.index(month) + 1:02}-{number:02}"
    dated = [f"{form} {year}" for form in forms] + [f"{form}, {year}" for form in forms] + [iso]
    return Value(random.choice((dated[0], iso, f"{month} {number}, {year}")), tuple(dated))


def make_value(spec: str, random: Random) -> Value:
    """Draws a value.

    Args:
        spec: what kind: "int LOW HIGH UNIT", "tenths LOW HIGH UNIT", "year LOW HIGH", "person", "place", "day",
            "time FROM TO" in hours, "code PATTERN" (A a letter, 0 a digit), or "one of a|b|c", where a=x also accepts x
            for a.
        random: to draw with.
    """
    kind, _, rest = spec.partition(" ")
    match kind:
        case "int" | "tenths":
            low, high, unit = rest.split(" ", 2)
            number = random.randint(int(low), int(high))
            written = f"{number:,}" if kind == "int" else f"{number}.{random.randint(1, 9)}"
            return Value(_with_unit(written, unit, random), (written,))
        case "year":
            low, high = rest.split()
            return _exactly(str(random.randint(int(low), int(high))))
        case "person":
            name = person(random)
            return Value(name, (name, name.split()[-1]))
        case "place":
            return _exactly(place(random))
        case "day":
            return day(random)
        case "time":
            hour, minute = random.randint(*map(int, rest.split())), random.randrange(5, 60, 5)
            forms = (f"{hour}:{minute:02}", f"{hour:02}:{minute:02}", f"{hour}.{minute:02}")
            half_day = (
                f"{(hour - 1) % 12 + 1}:{minute:02} {mark}"
                for mark in (("am", "a.m.") if hour < 12 else ("pm", "p.m."))
            )
            return Value(forms[1], (*forms, *half_day))
        case "code":
            drawn = {"A": lambda: random.choice("BCDFGHKLMNPRSTVWXZ"), "0": lambda: random.choice("23456789")}
            return _exactly("".join(drawn[each]() if each in drawn else each for each in rest))
        case "one":
            return one_of(rest.removeprefix("of ").split("|"), random)
    raise ValueError(f"There is no kind of value {spec!r}.")


def one_of(options: Sequence[str], random: Random) -> Value:
    """One of some texts; "a=b=c" is a, for which b and c are accepted too."""
    forms = tuple(random.choice(options).split("="))
    return Value(forms[0], forms)


def _exactly(text: str) -> Value:
    return Value(text, (text,))


def _with_unit(written: str, unit: str, random: Random) -> str:
    return f"{written} {random.choice((unit, _UNITS.get(unit, unit)))}"
