"""Names, numbers, dates and amounts that are composed anew each time, so that only copying from the prompt pays."""

from __future__ import annotations

import random
from collections.abc import Callable

_STARTS = "Al Bar Cor Dan El Far Gar Hal Ib Jor Kel Lam Mar Nor Or Pel Quin Ros Sel Tam Ul Ver Wil Yar Zan Bri Cla Dro"
_ENDS = "den ford ley ton wick more vale ster ric mond low by dale ham na sa ro lin beck worth field stead"
_FIRST = (
    "Ada Amir Bea Carlos Chen Dina Elif Farid Grace Hana Igor Ines Jonas Kofi Lena Lucía Maya Mei Nadia Noah Olga "
    "Omar Pavel Priya Quentin Rosa Sami Sofia Tariq Tessa Uma Viktor Wanda Xavier Yusuf Zoe Tom Anna Peter Ruth"
)
_MONTHS = "January February March April May June July August September October November December"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_COLOURS = "dark red|pale blue|orange|grey|olive green|white|yellow|violet|black|turquoise|cream|brown"
_MATERIALS = "oak|steel|recycled plastic|aluminium|bamboo|glass|cotton|wool|birch plywood|leather|copper|cork"


def name(rng: random.Random) -> str:
    """An invented proper name such as "Corvale"."""
    return rng.choice(_STARTS.split()) + rng.choice(_ENDS.split())


def _person(rng: random.Random) -> str:
    return f"{rng.choice(_FIRST.split())} {name(rng)}"


def _money(rng: random.Random) -> str:
    amount = rng.choice(
        [f"{rng.randint(2, 99)}", f"{rng.randint(1, 60)}.{rng.randint(10, 99)}", f"{rng.randint(100, 990)}"]
    )
    return rng.choice([f"€{amount}", f"${amount}", f"{amount} euros", f"£{amount}", f"{amount} francs"])


def _duration(rng: random.Random) -> str:
    unit = rng.choice(["minutes", "hours", "days", "weeks", "months", "years"])
    return f"{rng.randint(2, 90 if unit == 'minutes' else 20)} {unit}"


def _time(rng: random.Random) -> str:
    hour, minute = rng.randint(1, 12), rng.choice([0, 15, 30, 45, 10, 20, 50])
    return rng.choice([f"{hour}:{minute:02} {rng.choice(['am', 'pm'])}", f"{hour + 8}:{minute:02}"])


def date(rng: random.Random, year: int | None = None) -> str:
    """A day such as "4 May 2023"."""
    year = year or rng.randint(1995, 2026)
    return f"{rng.randint(1, 28)} {rng.choice(_MONTHS.split())} {year}"


def _place(rng: random.Random) -> str:
    where = name(rng)
    kinds = [
        f"{rng.randint(1, 200)} {where} Street",
        f"{where} Square",
        f"room {rng.choice('ABCDE')}{rng.randint(1, 400)}",
    ]
    kinds += [f"the {where} Building", f"{where} Park", f"hall {rng.randint(1, 30)}"]
    return rng.choice(kinds)


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHKLMNPRSTVWXZ") for _ in range(rng.randint(2, 3)))
    return f"{letters}-{rng.randint(10, 9999)}"


def _contact(rng: random.Random) -> str:
    mail = f"{name(rng).lower()}@{name(rng).lower()}.example"
    return rng.choice([mail, f"{rng.randint(200, 999)} {rng.randint(1000, 9999)}", mail])


def _size(rng: random.Random) -> str:
    return f"{rng.randint(2, 900)} {rng.choice(['cm', 'mm', 'inches'])}"


VALUES: dict[str, Callable[[random.Random], str]] = {
    "person": _person,
    "money": _money,
    "duration": _duration,
    "time": _time,
    "date": date,
    "day": lambda rng: rng.choice(_DAYS.split()),
    "place": _place,
    "code": _code,
    "contact": _contact,
    "size": _size,
    "count": lambda rng: str(rng.choice([rng.randint(3, 99), rng.randint(100, 2000)])),
    "percent": lambda rng: f"{rng.randint(1, 99)}{rng.choice(['', '.5', '.2'])}{rng.choice([' %', '%', ' percent'])}",
    "year": lambda rng: str(rng.randint(1890, 2024)),
    "temperature": lambda rng: f"{rng.randint(2, 95)} °C",
    "weight": lambda rng: f"{rng.randint(2, 90)}{rng.choice([' kg', ' g', '.5 kg', ' pounds'])}",
    "distance": lambda rng: f"{rng.randint(2, 90)} {rng.choice(['km', 'miles'])}",
    "colour": lambda rng: rng.choice(_COLOURS.split("|")),
    "material": lambda rng: rng.choice(_MATERIALS.split("|")),
    "company": lambda rng: f"{name(rng)} {rng.choice(['Ltd', 'Works', 'Partners', 'Systems', '& Sons', 'Services'])}",
    "version": lambda rng: f"{rng.randint(0, 12)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}",
    "gigabytes": lambda rng: f"{rng.randint(2, 900)} {rng.choice(['GB', 'MB', 'TB'])}",
}
