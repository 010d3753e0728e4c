"""Names, dates, codes and amounts for the held-out cases; most are composed, and none is of somebody known."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from random import Random
from typing import Any

_FIRST = (
    "Aneta", "Baptiste", "Caoimhe", "Dragan", "Eilidh", "Fenna", "Gaspard", "Hjördis", "Iwona", "Jorunn", "Kwabena",
    "Ludmila", "Mirela", "Nkechi", "Orla", "Pietro", "Quirin", "Rosalba", "Sunniva", "Teodor", "Ulla", "Vesna",
    "Wendelin", "Xenia", "Yusra", "Zoltan", "Abebe", "Branka", "Corentin", "Dalia",
)  # fmt: skip
_LAST_START = ("Arn", "Bell", "Cor", "Dra", "Esk", "Fjel", "Gar", "Hol", "Iver", "Kess", "Lund", "Mor", "Nyg", "Ost",
               "Pell", "Rav", "Sten", "Tor", "Ves", "Wes")  # fmt: skip
_LAST_END = ("aker", "bach", "dahl", "egger", "ford", "gård", "ini", "kamp", "lov", "mann", "nes", "rup", "sson", "vik")
_PLACE_START = ("Ald", "Brack", "Cald", "Dun", "Elm", "Fenn", "Gull", "Harr", "Ivor", "Kil", "Lang", "Mar", "Ness",
                "Orm", "Pen", "Quill", "Rock", "Skar", "Thorn", "Ulver", "Wick")  # fmt: skip
_PLACE_END = ("avon", "borough", "combe", "dale", "ey", "fell", "garth", "ham", "iston", "mouth", "ness", "port",
              "sund", "toft", "wald")  # fmt: skip
_SHIP_FIRST = ("Amber", "Blue", "Northern", "Silver", "Little", "Grey", "Eastern", "Bold", "Quiet", "Lucky", "Old",
               "Crimson")  # fmt: skip
_SHIP_LAST = ("Heron", "Petrel", "Tern", "Halcyon", "Dolphin", "Curlew", "Meridian", "Sovereign", "Narwhal", "Osprey",
              "Gannet", "Thistle")  # fmt: skip
_FILM_FIRST = ("The Last", "A Second", "Her", "Under the", "No More", "The Paper", "Beyond the", "Our Slow")
_FILM_LAST = ("Orchard", "Winter", "Telegram", "Staircase", "Harvest", "Ferryman", "Aquarium", "Signal", "Carousel")
_LETTERS = "ABCDEFGHJKLMNPRSTVWX"


def person(random: Random) -> str:
    """A first and a last name."""
    return f"{random.choice(_FIRST)} {random.choice(_LAST_START)}{random.choice(_LAST_END)}"


def place(random: Random) -> str:
    """The name of a town, a harbour, a mountain or a station."""
    return random.choice(_PLACE_START) + random.choice(_PLACE_END)


def vessel(random: Random) -> str:
    """The name of a ship."""
    return f"{random.choice(_SHIP_FIRST)} {random.choice(_SHIP_LAST)}"


def film(random: Random) -> str:
    """The title of a film."""
    return f"{random.choice(_FILM_FIRST)} {random.choice(_FILM_LAST)}"


def code(random: Random) -> str:
    """A code such as "KR-418" or "T2071"."""
    letters = "".join(random.choices(_LETTERS, k=random.choice((1, 2, 3))))
    return f"{letters}{random.choice(('-', '', '-'))}{random.randint(103, 9879)}"


def date(random: Random) -> str:
    """A day of 2027 or 2028, as YYYY-MM-DD."""
    return (datetime.date(2027, 1, 4) + datetime.timedelta(days=random.randrange(700))).isoformat()


def clock(random: Random) -> str:
    """A time of day on a quarter of an hour, as HH:MM."""
    return f"{random.randint(5, 22):02d}:{random.choice((0, 15, 30, 45)):02d}"


def evening(random: Random) -> str:
    """A time from 17:00 on."""
    return f"{random.randint(17, 22)}:{random.choice((0, 10, 20, 30, 40, 50)):02d}"


def few(random: Random) -> int:
    """A count from 2 to 19."""
    return random.randint(2, 19)


def tally(random: Random) -> int:
    """A count of two digits, which one would rather not write in words."""
    return random.randint(13, 48)


def many(random: Random) -> int:
    """A count of two or three digits."""
    return random.randint(23, 960)


def decimal(random: Random) -> float:
    """A number with one digit after the point, which isn't 0."""
    return random.randint(2, 98) + random.randint(1, 9) / 10


def small(random: Random) -> float:
    """A number from 1.1 to 8.9."""
    return random.randint(1, 8) + random.randint(1, 9) / 10


def warm(random: Random) -> float:
    """A body's temperature in °C."""
    return random.randint(36, 40) + random.randint(1, 9) / 10


def percent(random: Random) -> int:
    """A percentage."""
    return random.randint(21, 94)


def phone(random: Random) -> str:
    """A telephone number that nobody has, such as "0555 48 17 203"."""
    return f"0555 {random.randint(10, 99)} {random.randint(10, 99)} {random.randint(100, 999)}"


def one_of(*values: str) -> Callable[[Random], str]:
    """Draws one of the values."""
    return lambda random: random.choice(values)


SURGERY = one_of("cardiology", "dermatology", "neurology", "orthopaedics", "ophthalmology", "paediatrics", "oncology")
GRAPE = one_of("Riesling", "Malbec", "Grenache", "Silvaner", "Pinot Noir", "Chenin Blanc", "Blaufränkisch", "Albariño")
BEER = one_of("oat stout", "pilsner", "smoked porter", "saison", "dry cider ale", "wheat bock", "red lager", "gose")
INSTRUMENT = one_of("oboe", "viola", "bassoon", "timpani", "cello", "French horn", "harp", "piccolo", "contrabassoon")
FIND = one_of("bronze brooch", "clay lamp", "bone comb", "iron spearhead", "glass bead", "stone axe", "silver coin")
STAR = one_of("Vega", "M31", "NGC 891", "Saturn", "the Crab Nebula", "Titan", "M13", "Comet Halvorsen", "Altair")
COMPOSER = one_of("Dvořák", "Sibelius", "Fauré", "Clara Schumann", "Bruckner", "Elgar", "Smetana", "Nielsen")
CARGO = one_of("timber", "cement", "rapeseed", "scrap steel", "frozen cod", "fertiliser", "road salt", "wind blades")

ALLERGY = one_of("penicillin", "latex", "walnuts", "ibuprofen", "wasp stings", "iodine", "aspirin", "shellfish")

KINDS: dict[str, tuple[str, Callable[[Random], Any]]] = {
    "person": ("string", person),
    "place": ("string", place),
    "vessel": ("string", vessel),
    "film": ("string", film),
    "code": ("string", code),
    "date": ("string", date),
    "clock": ("string", clock),
    "few": ("integer", few),
    "many": ("integer", many),
    "tally": ("integer", tally),
    "percent": ("integer", percent),
    "decimal": ("number", decimal),
    "small": ("number", small),
    "warm": ("number", warm),
    "evening": ("string", evening),
    "department": ("string", SURGERY),
    "grape": ("string", GRAPE),
    "beer": ("string", BEER),
    "instrument": ("string", INSTRUMENT),
    "find": ("string", FIND),
    "star": ("string", STAR),
    "composer": ("string", COMPOSER),
    "cargo": ("string", CARGO),
    "allergy": ("string", ALLERGY),
    "phone": ("string", phone),
}
"""By the name of a kind: its type in JSON Schema, and what draws a value."""


def frame(random: Random, request: str) -> str:
    """A request in a user's words: one that begins with a small letter is an order to put into a sentence."""
    if not request[0].islower():
        return request
    first = request[0].upper() + request[1:]
    return random.choice(
        (
            f"{first}.", f"{first}, please.", f"Please {request}.", f"Could you {request}?",
            f"I need you to {request}.",
            f"{first}. Thank you!",
            f"Good evening. Would you {request}?", f"Next job: {request}.", request,
            f"My hands are full, so please {request} for me.", f"{first} – that's all for today.",
        )
    )  # fmt: skip
