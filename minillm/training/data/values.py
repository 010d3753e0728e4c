"""Names, numbers, dates and codes in quantities, so that a model has to copy them instead of knowing them."""

from __future__ import annotations

import random
import string

FIRST_NAMES = (
    "Ada Adil Agnes Aiko Alba Alma Amir Anouk Anton Aria Astrid Aylin Bela Bilal Birgit Boris Brigid Bruno Carla Cem "
    "Chidi Clara Cosmo Dalia Dario Deniz Dora Edda Elif Elio Emeka Enzo Erik Esra Farid Fatou Femi Fiona Flora Gaia Gil "
    "Goran Greta Hana Hamid Hedda Hugo Ida Idris Ilse Imran Ines Iris Isak Ivo Jada Jonas Joy Juno Kai Kamal Karin Kofi "
    "Lars Leila Lena Leon Lin Livia Luca Mads Maja Malik Mara Mario Mei Mila Milan Mina Nadia Naveen Nico Nils Noor Nora "
    "Odile Olga Omar Oskar Otto Paolo Paula Petra Priya Quinn Rana Raul Remy Rita Ronja Rosa Ruben Sami Sara Selma Silas "
    "Sofia Stella Sven Tariq Tessa Theo Tilda Tomas Uma Vera Viktor Wanda Wei Yara Yusuf Zara Zeno Zoe"
).split()
LAST_NAMES = (
    "Abbas Adler Almeida Aoki Bakker Banerjee Barros Becker Bianchi Bloom Brandt Calder Castillo Chen Costa Cruz Dahl "
    "Diallo Dogan Duarte Eklund Engel Farkas Ferrari Fischer Fontaine Garcia Gruber Haddad Hansen Hartley Horvat Ibrahim "
    "Ito Jansen Joshi Kaya Keller Khan Kim Kovacs Kowalski Kruger Larsen Lehmann Lindqvist Lopez Lund Maier Marino Mbeki "
    "Mensah Meyer Moreau Nagy Nakamura Nguyen Novak Nowak Okafor Okoye Olsen Ortiz Osei Park Patel Pereira Petrov Popescu "
    "Quist Rahman Reyes Richter Rossi Russo Sato Schmitt Sharma Silva Singh Sokolov Sommer Steiner Suzuki Takeda Tanaka "
    "Tran Ulrich Vargas Vogel Walsh Weber Wolff Yamada Yilmaz Zhang Zimmer"
).split()
_STARTS = "Al Ar Bel Bor Cal Cor Dal Dor El Er Fal Fen Gar Gil Hal Har Il Jor Kel Kor Lan Lor Mal Mer Nor Or Pel Per Quin Ral Ros Sal Sel Tal Tor Ul Val Ver Wil Yor Zel".split()
_MIDDLES = ["", "", "a", "e", "i", "o", "an", "en", "in", "ar", "er", "or"]
_ENDS = "bach berg by dale den dor field ford gate ham holm ia is ley lin mere mont na ness no on or port ra ria stad ton ton um vale ville wick wood".split()
MONTHS = ("January February March April May June July August September October November December").split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COLOURS = (
    "red orange yellow green blue purple pink brown black white grey silver golden turquoise beige violet olive crimson"
).split()
MATERIALS = "oak pine steel aluminium glass brass copper ceramic bamboo linen wool cotton leather rubber cork slate marble plywood".split()


def person(draw: random.Random) -> str:
    """First and last name."""
    return f"{draw.choice(FIRST_NAMES)} {draw.choice(LAST_NAMES)}"


def place(draw: random.Random) -> str:
    """A name of a town, a street or a product that doesn't exist."""
    return draw.choice(_STARTS) + draw.choice(_MIDDLES) + draw.choice(_ENDS)


def code(draw: random.Random) -> str:
    """Such as "KX-204"."""
    letters = "".join(draw.choices(string.ascii_uppercase, k=draw.randint(1, 3)))
    return f"{letters}{draw.choice(['-', '', '-', ' '])}{draw.randint(2, 9999)}"


def clock(draw: random.Random) -> str:
    """A time of day, in one of the usual forms."""
    hour, minute = draw.randint(6, 22), draw.choice([0, 0, 15, 30, 30, 45])
    if draw.random() < 0.35:
        return f"{(hour - 1) % 12 + 1}{f':{minute:02d}' if minute else ''} {'a.m.' if hour < 12 else 'p.m.'}"
    return f"{hour}:{minute:02d}"


def date(draw: random.Random) -> str:
    """A day, with or without its year."""
    day, month, year = draw.randint(1, 28), draw.randrange(12), draw.randint(2015, 2029)
    forms = [f"{day} {MONTHS[month]}", f"{MONTHS[month]} {day}", f"{day} {MONTHS[month]} {year}"]
    return draw.choice([*forms, f"{MONTHS[month]} {day}, {year}", f"{year}-{month + 1:02d}-{day:02d}"])


def iso_date(draw: random.Random, first: int = 2019, last: int = 2027) -> str:
    """Such as "2024-03-09"."""
    return f"{draw.randint(first, last)}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"


def money(draw: random.Random) -> str:
    """An amount with its currency."""
    amount = draw.choice([draw.randint(2, 99), draw.randint(1, 60) * 10, draw.randint(1, 90) * 25])
    text = f"{amount}" if draw.random() < 0.6 else f"{amount}.{draw.choice(['50', '90', '95', '20', '75'])}"
    return draw.choice([f"{text} euros", f"${text}", f"€{text}", f"£{text}", f"{text} francs", f"{text} dollars"])


def duration(draw: random.Random) -> str:
    """A length of time."""
    unit, top = draw.choice(
        [("minutes", 90), ("hours", 72), ("days", 45), ("weeks", 16), ("months", 30), ("years", 12)]
    )
    return f"{draw.randint(2, top)} {unit}"


def percentage(draw: random.Random) -> str:
    """Such as "12 %" or "7.5 percent"."""
    number = draw.choice([str(draw.randint(1, 99)), f"{draw.randint(0, 30)}.{draw.randint(1, 9)}"])
    return number + draw.choice([" %", "%", " percent"])


def quantity(draw: random.Random) -> str:
    """A measure with its unit."""
    return f"{draw.randint(2, 950)} " + draw.choice(
        "kilograms grams litres metres kilometres centimetres watts megabytes gigabytes pages boxes seats people".split()
    )


def email(draw: random.Random) -> str:
    """An address of somebody that doesn't exist."""
    return f"{draw.choice(FIRST_NAMES).lower()}.{draw.choice(LAST_NAMES).lower()}@{place(draw).lower()}.example"
