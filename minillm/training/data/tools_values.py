"""Arguments' values: each kind has a schema and draws, for one value, how a user writes it and how a call does."""

from __future__ import annotations

import json
from random import Random
from typing import Any

_FIRST = (
    "Anna Ben Carla Dmitri Elif Farid Greta Hugo Ines Jonas Kira Luis Mina Noor Otto Priya Quentin Rosa Sven Tariq "
    "Uma Viktor Wanda Xenia Yusuf Zoe Amara Bilal Chen Dora Emeka Fiona Goran Hana Ivo Jun Kofi Leila Marek Nadia"
).split()
_STARTS = "Bar Cor Del Far Gal Har Kel Lin Mor Nor Pel Ras Sol Tam Ver Wil Zan Bren Hol Sta".split()
_ENDS = "den ton field ova ini berg man sky well ley mont ero stad ford aki ura beck wood".split()
_CITIES = (
    "Lisbon Oslo Nairobi Kyoto Lima Denver Cairo Prague Hanoi Bogota Dublin Tallinn Perth Quito Accra Graz Malmo Porto "
    "Turin Zagreb Leeds Tampa Bergen Seville Osaka Dakar Tbilisi Riga Basel Ghent"
).split()
_TOPICS = (
    "budget,solar panels,the new printer,onboarding,the summer party,fire drill,rent increase,chess club,team lunch,"
    "website redesign,garden tools,parking,exam dates,the boiler,gluten free bread,data backup,hiring plan,"
    "bike repair,tomato seeds,door codes,choir practice,school trip,battery test,spring sale,voice lessons"
).split(",")
_ADJECTIVES = "quarterly final draft revised blue old weekly annual internal spare late green first shared open".split()
_NOUNS = "report plan checklist summary agenda budget forecast survey manual roster timetable proposal review".split()
_ITEMS = "milk,rice,two lemons,batteries,paper towels,oat flakes,tea,a lamp,nails,chalk,soap,apples,yeast,tape".split(
    ","
)
_ROOMS = "kitchen,bedroom,living room,office,bathroom,garage,hallway,nursery,attic,studio,workshop,basement".split(",")
_LANGUAGES = "French German Spanish Italian Polish Turkish Swedish Japanese Korean Dutch Greek Czech".split()
_CURRENCIES = "EUR USD GBP JPY CHF SEK PLN CAD AUD NOK TRY INR".split()
_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_UNITS = "km miles metres feet kg pounds litres gallons grams ounces".split()
_PROSE = (
    "the meeting moved to {t},I will be {n} minutes late,please bring the {a} {o},your parcel is at the desk,"
    "we need {n} more chairs,the {a} {o} is ready,lunch is on me today,call me after {n} o'clock,the key is with {p}"
).split(",")

ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "priority": {"low": ("low", "not urgent"), "normal": ("normal",), "high": ("high", "urgent")},
    "temperature_unit": {"celsius": ("celsius", "°C"), "fahrenheit": ("fahrenheit", "°F")},
    "format": {"pdf": ("PDF", "pdf"), "csv": ("CSV", "csv"), "xlsx": ("xlsx", "XLSX")},
    "status": {"open": ("open",), "pending": ("pending",), "closed": ("closed",)},
    "on_off": {"on": ("on",), "off": ("off",)},
    "color": {"red": ("red",), "blue": ("blue",), "warm_white": ("warm white",), "green": ("green",)},
    "size": {"small": ("small",), "medium": ("medium",), "large": ("large",)},
    "transport": {"walk": ("on foot", "walking"), "bike": ("by bike",), "car": ("by car",), "bus": ("by bus",)},
}


def draw(kind: str, random: Random) -> tuple[str, Any]:
    """Draws a value of a kind: the user's words for it, and the argument's value."""
    if kind in ENUMS:
        value = random.choice(list(ENUMS[kind]))
        return random.choice(ENUMS[kind][value]), value
    value = _value(kind, random)
    if kind in ("people", "items", "labels"):
        return (" and ".join(value) if len(value) < 3 else ", ".join(value[:-1]) + " and " + value[-1]), value
    return str(value), value


def schema_of(kind: str) -> dict[str, Any]:
    """JSON Schema of a kind."""
    if kind in ENUMS:
        return {"type": "string", "enum": list(ENUMS[kind])}
    if kind in ("people", "items", "labels"):
        return {"type": "array", "items": {"type": "string"}}
    if kind in ("count", "minutes", "degrees", "percent", "year"):
        return {"type": "integer"}
    return {"type": "number"} if kind in ("amount", "decimal") else {"type": "string"}


def person(random: Random) -> str:
    """A name; half of them with a surname."""
    first = random.choice(_FIRST)
    return first if random.random() < 0.5 else f"{first} {random.choice(_STARTS)}{random.choice(_ENDS)}"


def code(random: Random) -> str:
    """A number or code such as orders and invoices have."""
    number = random.randrange(100, 99999)
    letters = "".join(random.choices("ABCDEFGHKLMNPQRSTVWXZ", k=random.choice((1, 2, 3))))
    return random.choice((str(number), f"{letters}-{number}", f"{letters}{number}", f"{number}-{letters}"))


def _value(kind: str, random: Random) -> Any:
    match kind:
        case "id":
            return code(random)
        case "person":
            return person(random)
        case "people":
            return random.sample(_FIRST, random.choice((1, 2, 2, 3)))
        case "items":
            return random.sample(_ITEMS, random.choice((1, 2, 3)))
        case "labels":
            return random.sample(
                "urgent,paid,vip,draft,legal,2025,archive,team-a,checked,spring".split(","), random.choice((1, 2))
            )
        case "city":
            made = f"{random.choice(_STARTS)}{random.choice(_ENDS)}"
            return random.choice((random.choice(_CITIES), made))
        case "topic":
            return random.choice(_TOPICS)
        case "title":
            return f"{random.choice(_ADJECTIVES)} {random.choice(_NOUNS)}"
        case "file":
            name = f"{random.choice(_ADJECTIVES)}{random.choice('_-')}{random.choice(_NOUNS)}"
            return f"{name}.{random.choice('txt md csv pdf json py'.split())}"
        case "folder":
            return f"{random.choice(_NOUNS)}s/{random.randrange(2019, 2027)}"
        case "room" | "language" | "currency" | "unit":
            pools = {"room": _ROOMS, "language": _LANGUAGES, "currency": _CURRENCIES, "unit": _UNITS}
            return random.choice(pools[kind])
        case "date":
            day = random.randrange(1, 29)
            month = random.randrange(12)
            return random.choice((f"2026-{month + 1:02}-{day:02}", f"{day} {_MONTHS[month]}", random.choice(_DAYS)))
        case "time":
            return f"{random.randrange(6, 23):02}:{random.choice(('00', '15', '30', '45'))}"
        case "message":
            return random.choice(_PROSE).format(
                t=random.choice(_DAYS), n=random.randrange(2, 12), a=random.choice(_ADJECTIVES),
                o=random.choice(_NOUNS), p=random.choice(_FIRST),
            )  # fmt: skip
        case "email":
            return f"{random.choice(_FIRST).lower()}@{random.choice(_STARTS).lower()}{random.choice(_ENDS)}.example"
        case "expression":
            a, b, c = (random.randrange(2, 999) for _ in range(3))
            return random.choice((f"{a} * {b}", f"{a} + {b} - {c}", f"({a} + {b}) / {c}", f"{a} / {b}"))
        case "branch":
            return f"{random.choice(('fix', 'feature', 'docs'))}/{random.choice(_NOUNS)}-{random.randrange(10, 999)}"
        case "song":
            return f"{random.choice(_ADJECTIVES).title()} {random.choice(('River', 'Lights', 'Shoes', 'Moon', 'Rain'))}"
        case "count":
            return random.randrange(2, 30)
        case "minutes":
            return random.randrange(3, 95)
        case "degrees":
            return random.randrange(16, 27)
        case "percent":
            return random.randrange(1, 20) * 5
        case "year":
            return random.randrange(1950, 2026)
        case "amount":
            return random.choice((random.randrange(5, 3000), round(random.uniform(2, 900), 2)))
        case "decimal":
            return round(random.uniform(0.5, 400), 1)
    raise ValueError(f"There is no kind {json.dumps(kind)} of value.")
