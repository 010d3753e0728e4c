"""Names, numbers, codes and dates from pools so large that only copying from the prompt pays."""

from __future__ import annotations

import random

_FIRST = (
    "Ada Ben Carla Dimitri Elif Farid Greta Hugo Ines Jonas Kaya Liam Mira Nadia Oskar Priya Quentin Rosa Samir Tara Umar "
    "Vera Wen Xenia Yusuf Zoe Anton Bella Chen Dora Emil Fatou Gus Hana Ivan Julia Kofi Lena Marco Nora Olga Pablo Rami "
    "Sofia Tom Ulla Victor Wanda Yara Zeno Agnes Bruno Clara Diego Edith Felix Gina Henrik Iris Jamal"
).split()
_ONSETS = "B Br C Ch D Dr F Fl G Gr H J K Kl L M N P Pr R S St T Tr V W Z Sch".split()
_VOWELS = "a e i o u ai ea ou ie".split()
_MIDDLES = "l r n m nd rt ll ss k v b st d g lm".split()
_ENDS = "er man sen ez ova ini son elli ard in es ton ak ura ov ey berg wood".split()
_TOWN_ENDS = "ford bury ville field stad burg ton ham mouth wick dale bridge hill".split()
_FIRM_ENDS = "Ltd|GmbH|Inc.|& Sons|Studio|Labs|Partners|Works|Foods|Systems|Design|Energy|Books|Tools".split("|")
_STREETS = "Street|Road|Lane|Avenue|Square|Way|Close".split("|")
MONTHS = "January February March April May June July August September October November December".split()
THINGS = (
    "desk lamp|oak table|garden hose|blue kettle|office chair|bike helmet|ink cartridge|yoga mat|rain jacket|wall clock|"
    "USB hub|coffee grinder|paint set|hammer|tennis racket|notebook|water bottle|backpack|toaster|mirror|guitar strap|"
    "phone case|rug|bookshelf|tripod|keyboard|monitor|plant pot|pillow|torch|ladder|soldering iron|apron|chess set"
).split("|")


def stem(rng: random.Random) -> str:
    """The composed beginning of a name, such as "Brand"."""
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_MIDDLES)


def person(rng: random.Random) -> str:
    """A first name and a composed family name."""
    return f"{rng.choice(_FIRST)} {stem(rng)}{rng.choice(_ENDS)}"


def town(rng: random.Random) -> str:
    """A composed name of a town."""
    return stem(rng) + rng.choice(_TOWN_ENDS)


def company(rng: random.Random) -> str:
    """A composed name of a firm."""
    return f"{stem(rng)}{rng.choice(['o', 'a', 'ix', 'en', 'us', 'y'])} {rng.choice(_FIRM_ENDS)}"


def address(rng: random.Random) -> str:
    """A number and a street."""
    return f"{rng.randint(1, 240)} {stem(rng)}{rng.choice(['er', 'in', 'on', 'y'])} {rng.choice(_STREETS)}"


def code(rng: random.Random) -> str:
    """An identifier such as "KX-40712"."""
    letters = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=rng.randint(1, 3)))
    return f"{letters}{rng.choice(['-', '', '/', '-'])}{rng.randint(10, 99999)}"


def thing(rng: random.Random) -> str:
    """An object that can be bought."""
    return rng.choice(THINGS)


def email(rng: random.Random) -> str:
    """An address of electronic mail, at a domain made for examples."""
    name = f"{rng.choice(_FIRST)}{rng.choice(['.', '_', ''])}{stem(rng)}{rng.choice(_ENDS)}".lower()
    return f"{name}@{stem(rng).lower()}{rng.choice(['ix', 'o', 'en'])}.example"


def phone(rng: random.Random) -> str:
    """A telephone number."""
    return rng.choice([f"+{rng.randint(20, 99)} {rng.randint(100, 999)} ", "0", "555-"]) + str(
        rng.randint(10**5, 10**7)
    )


def clock(rng: random.Random) -> str:
    """A time of day as written."""
    hour, minute = rng.randint(1, 12), rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50])
    return rng.choice([f"{hour + 6}:{minute:02}", f"{hour}:{minute:02} pm", f"{hour} am"])
