"""What is judged: facts about invented things, the sources that tell them, and nearly equal values."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from minillm.training.data import form_words as words
from minillm.training.data import grounded_domains, grounded_facts, values
from minillm.training.data.grounded_values import VALUES, name

_OWN = """
the library of {n}|When does the café of {e} close?|The café of {e} closes at {v}.|In {e}, the café shuts at {v}.|clock
{c}|Who leads the {t} team at {e}?|{v} leads the {t} team at {e}.|At {e}, the head of the {t} team is {v}.|person
{c}|How much does a {t} cost at {e}?|A {t} costs {v} euros at {e}.|{e} sells the {t} for {v} euros.|int
{c}|In which town is {e}?|{e} has its office in {v}.|The office of {e} is in {v}.|town
{c}|How many people work at {e}?|{e} employs {v} people.|There are {v} people working at {e}.|int
{n}|Who won the chess cup in {e}?|{v} won the chess cup in {e}.|The chess cup in {e} went to {v}.|person
{p}|Which address does {e} live at?|{e} lives at {v}.|The home of {e} is at {v}.|address
{n}|When does the bus to {e} leave?|The bus to {e} leaves at {v}.|Departure of the bus to {e} is at {v}.|clock
{c}|For how many days may a customer of {e} keep a {t}?|Customers of {e} may keep a {t} for {v} days.|A {t} from {e} can be kept for {v} days.|int
{n}|Who planted the roses in the park of {e}?|The roses in the park of {e} were planted by {v}.|{v} planted the roses in the park of {e}.|person
{p}|What does {e} bring to the meeting?|{e} brings a {v} to the meeting.|A {v} is what {e} brings to the meeting.|thing
{p}|How many pupils are in the class of {e}?|The class of {e} has {v} pupils.|There are {v} pupils in the class of {e}.|int
{p}|Where was {e} born?|{e} was born in {v}.|The birthplace of {e} is {v}.|town
{p}|Which instrument does {e} play?|{e} plays the {v}.|The instrument of {e} is the {v}.|instrument
{p}|What did {e} study?|{e} studied {v}.|{e} has a degree in {v}.|subject
{n}|Which river flows through {e}?|The river {v} flows through {e}.|{e} lies on the river {v}.|town
{n}|How many inhabitants does {e} have?|{e} has {v} inhabitants.|{v} people live in {e}.|int
{c}|When was {e} sold?|{e} was sold in {v}.|The sale of {e} was in {v}.|month
{p}|Who taught {e} to swim?|{v} taught {e} to swim.|{e} learnt to swim from {v}.|person
{p}|How much does {e} earn a month?|{e} earns {v} euros a month.|The monthly pay of {e} is {v} euros.|int
"""
_POOLS: dict[str, Callable[[random.Random], str]] = {
    "town": words.town,
    "person": words.person,
    "thing": words.thing,
    "address": words.address,
    "clock": words.clock,
    "int": lambda rng: str(rng.randint(2, rng.choice([30, 300, 3000]))),
    "month": lambda rng: rng.choice(words.MONTHS),
    "instrument": lambda rng: rng.choice("piano|flute|drums|guitar|harp|cello|trumpet|accordion".split("|")),
    "subject": lambda rng: rng.choice("law|biology|history|physics|design|music|economics|geography".split("|")),
}


def sentence(text: str) -> str:
    """The clause as a sentence: a capital letter, one full stop at its end, and "an" where it's due."""
    text = re.sub(r"\b([Aa]) (?=[aio]\w)", r"\1n ", text[0].upper() + text[1:])
    return text if text.endswith((".", "!", "?")) else text + "."


@dataclass(frozen=True)
class Attribute:
    """What can be said of a thing: `says` with {e} for the thing and {v} for the value, `asks` with {e}."""

    says: tuple[str, ...]
    asks: tuple[str, ...]
    draw: Callable[[random.Random], str]


@dataclass
class Thing:
    """Something invented, with its attributes in any order and a value of each; no two values are alike."""

    name: str
    attributes: list[Attribute]
    values: list[str] = field(default_factory=list)

    def say(self, number: int, template: str, value: str | None = None) -> str:
        """A sentence that tells the attribute of this number, or tells it wrongly, with another value."""
        return fill(template, self.name, value or self.values[number])


def fill(template: str, thing: str, value: str) -> str:
    """The sentence that a template makes of a thing and a value."""
    return sentence(template.replace("{v}", value).replace("{e}", thing)).replace("..", ".")


def same(one: str, other: str) -> bool:
    """Whether two values mean the same, or might be taken for it."""
    if one.lower() == other.lower():
        return True
    digits = [re.sub(r"\D", "", value) for value in (one, other)]
    if digits[0] and digits[0] == digits[1] and not re.search(r"[A-Za-z]{5}", one + other):
        return True
    return _clock(one) is not None and _clock(one) == _clock(other)


def _clock(value: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)(?::(\d\d))? ?(am|pm)?", value)
    if not found or not (found[2] or found[3]):
        return None
    hour = int(found[1]) % 12 + (12 if found[3] == "pm" else 0) if found[3] else int(found[1])
    return hour, int(found[2] or 0)


def near(rng: random.Random, value: str, draw: Callable[[random.Random], str]) -> str:
    """Another value that is easily mistaken for the right one, where there is such a one."""
    chance = rng.random()
    if chance < 0.6:
        found = value
        if re.search(r" [ap]m$", value):
            found = value[:-2] + ("pm" if value.endswith("am") else "am")
        elif ":" not in value and re.search(r"\d", value):
            place = max(place for place, letter in enumerate(value) if letter.isdigit())
            found = value[:place] + rng.choice([d for d in "23456789" if d != value[place]]) + value[place + 1 :]
        elif re.fullmatch(r"[A-Z]\S+ [A-Z]\S+", value):
            first, last = value.split()
            other = draw(rng).split()
            found = f"{first} {other[-1]}" if rng.random() < 0.6 else f"{other[0]} {last}"
        if found != value:
            return found
    for _ in range(50):
        found = draw(rng)
        if not same(found, value):
            return found
    raise AssertionError("The values of an attribute must differ.")


_SMALL = "two three four five six seven eight nine ten eleven twelve".split()


def reworded(value: str) -> str:
    """The value as somebody else may write it, such as "3:30 pm" for "15:30"; itself where there is no other way."""
    if found := re.fullmatch(r"(\d+):(\d\d)", value):
        hour = int(found[1])
        return f"{hour - 12 if hour > 12 else hour}:{found[2]} {'pm' if hour >= 12 else 'am'}"
    if found := re.fullmatch(r"€([\d.]+)", value):
        return f"{found[1]} euros"
    if found := re.fullmatch(r"([\d.]+) euros", value):
        return f"€{found[1]}"
    if found := re.fullmatch(r"([\d.]+) ?(?:%|percent)", value):
        return f"{found[1]} percent" if "%" in value else f"{found[1]} %"
    if found := re.fullmatch(r"(\d+) ([A-Z][a-z]+) (\d{4})", value):
        return f"{found[2]} {found[1]}, {found[3]}"
    if (found := re.fullmatch(r"(\d+)( [a-z]+)?", value)) and 2 <= int(found[1]) <= 12:
        return _SMALL[int(found[1]) - 2] + (found[2] or "")
    return value


def things(rng: random.Random) -> list[Thing]:
    """Two to three things of one kind, with the same attributes in the same order."""
    chance = rng.random()
    if chance < 0.45:
        names, attributes = _from_domains(rng)
    elif chance < 0.8:
        names, attributes = _from_facts(rng)
    else:
        names, attributes = _from_own(rng)
    attributes = rng.sample(attributes, len(attributes))[:5]
    taken: list[str] = []
    found = []
    for thing in names:
        made = Thing(thing, attributes)
        for attribute in attributes:
            value = attribute.draw(rng)
            for _ in range(30):
                if not any(same(value, other) for other in taken):
                    break
                value = attribute.draw(rng)
            taken.append(value)
            made.values.append(value)
        found.append(made)
    return found


def _distinct(rng: random.Random, make: Callable[[], str]) -> list[str]:
    found: list[str] = []
    while len(found) < 3:
        if (made := make()) not in found:
            found.append(made)
    return found


def _from_domains(rng: random.Random) -> tuple[list[str], list[Attribute]]:
    kind, patterns = rng.choice(list(grounded_domains.DOMAINS.values()))
    pattern = rng.choice(patterns.split("|"))
    attributes = [Attribute(a.statements, a.questions, VALUES[a.value]) for a in grounded_domains.ATTRIBUTES[kind]]
    return _distinct(rng, lambda: pattern.format(n=name(rng))), attributes


def _from_facts(rng: random.Random) -> tuple[list[str], list[Attribute]]:
    kind, patterns = rng.choice(list(grounded_facts.KINDS.items()))
    pattern = rng.choice(patterns)
    found = [a for a in grounded_facts.ATTRIBUTES if kind in a.kinds.split()]
    attributes = [Attribute(a.says, a.asks, a.value) for a in found]
    return _distinct(rng, lambda: pattern.format(n=values.place(rng), c=values.code(rng))), attributes


def _from_own(rng: random.Random) -> tuple[list[str], list[Attribute]]:
    lines = [line.split("|") for line in _OWN.strip().splitlines()]
    pattern = rng.choice(lines)[0]
    thing = words.thing(rng)

    def made() -> str:
        return pattern.format(n=words.town(rng), c=words.company(rng), p=words.person(rng))

    attributes = [
        Attribute(tuple(s.replace("{t}", thing) for s in says), (ask.replace("{t}", thing),), _POOLS[pool])
        for form, ask, *says, pool in lines
        if form == pattern
    ]
    return _distinct(rng, made), attributes
