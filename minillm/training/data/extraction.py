"""Texts of many kinds, and the JSON object that holds some of what they say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minillm.training.data import form_words as words
from minillm.training.data.records import FILLERS, KINDS
from minillm.training.example import Example


@dataclass(frozen=True)
class Attribute:
    """What a kind of text can say.

    Attributes:
        names: names that a field for it may have.
        type: how values are made: a pool of `form_words`, or "int LOW HIGH", "enum a,b", "list POOL", "bool".
        description: in words, for the prompt.
        sentences: templates with {v}; for a boolean those that say yes.
        denials: for a boolean, those that say no.
    """

    names: tuple[str, ...]
    type: str
    description: str
    sentences: tuple[str, ...]
    denials: tuple[str, ...]


@dataclass(frozen=True)
class Field:
    """A field of the object to fill: its name, its JSON Schema, what it means and its value."""

    name: str
    schema: dict[str, Any]
    description: str
    value: Any


def _attribute(line: str) -> Attribute:
    names, kind, description, templates = line.split("|")
    yes, _, no = templates.partition(" // ")
    return Attribute(
        tuple(names.split(",")), kind, description, tuple(yes.split(" / ")), tuple(no.split(" / ")) if no else ()
    )


def _kinds() -> dict[str, list[Attribute]]:
    kinds: dict[str, list[Attribute]] = {}
    for line in KINDS.strip().splitlines():
        if line.startswith("# "):
            kinds[line[2:]] = current = []
        else:
            current.append(_attribute(line))
    return kinds


_LANGUAGES = ["English", "German", "French", "Spanish", "Polish", "Arabic", "Hindi", "Dutch", "Greek", "Turkish"]
_POOLS: dict[str, Callable[[random.Random], str]] = {
    "person": words.person,
    "town": words.town,
    "company": words.company,
    "address": words.address,
    "code": words.code,
    "thing": words.thing,
    "email": words.email,
    "phone": words.phone,
    "time": words.clock,
    "version": lambda rng: f"{rng.randint(0, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}",
    "language": lambda rng: rng.choice(_LANGUAGES),
}
BY_KIND = _kinds()


def _date(rng: random.Random, iso: bool) -> tuple[str, str]:
    year, month, day = rng.randint(2019, 2031), rng.randint(1, 12), rng.randint(1, 28)
    written = rng.choice(
        [
            f"{day} {words.MONTHS[month - 1]} {year}",
            f"{words.MONTHS[month - 1]} {day}, {year}",
            f"{year}-{month:02}-{day:02}",
            f"{day} {words.MONTHS[month - 1][:3]} {year}",
        ]
    )
    return written, f"{year}-{month:02}-{day:02}" if iso else written


def _fill(rng: random.Random, attribute: Attribute, iso: bool) -> tuple[str, dict[str, Any], str, Any]:
    """A sentence that tells the attribute, the schema and description of its field, and the field's value."""
    kind, _, rest = attribute.type.partition(" ")
    description = attribute.description
    schema: dict[str, Any] = {"type": "string"}
    template = rng.choice(attribute.sentences)
    value: Any
    if kind == "bool":
        value = rng.random() < 0.5
        return rng.choice(attribute.sentences if value else attribute.denials), {"type": "boolean"}, description, value
    if kind == "int":
        low, high = map(int, rest.split())
        value = rng.randint(low, high)
        shown, schema = f"{value:,}" if value > 9999 and rng.random() < 0.2 else str(value), {"type": "integer"}
    elif kind in ("number", "money"):
        low, high = map(int, rest.split()) if rest else (1, rng.choice([20, 300, 2000]))
        value = round(rng.uniform(low, high), 1 if kind == "number" else 2)
        shown, schema = (f"{value:.2f}" if kind == "money" else str(value)), {"type": "number"}
    elif kind == "enum":
        choices = rest.split(",")
        shown = value = rng.choice(choices)
        schema = {"type": "string", "enum": choices} if rng.random() < 0.6 else schema
    elif kind == "date":
        shown, value = _date(rng, iso)
        description += " (YYYY-MM-DD)" if iso else rng.choice([", as written", ""])
        schema = {"type": "string", "format": "date"} if iso else schema
    elif kind == "list":
        pool = _POOLS[rest]
        value = list(dict.fromkeys(pool(rng) for _ in range(rng.randint(1, 4))))
        shown = ", ".join(value[:-1]) + rng.choice([" and ", ", "]) + value[-1] if len(value) > 1 else value[0]
        schema = {"type": "array", "items": {"type": "string"}}
    else:
        shown = value = _POOLS[kind](rng)
    return template.replace("{v}", shown), schema, description, value


def _ask(rng: random.Random, kind: str, fields: list[Field], nullable: bool) -> str:
    """Names the fields in one of many ways."""
    names = [field.name for field in fields]
    style = rng.randrange(6)
    missing = rng.choice([" Use null for what the text doesn't say.", " Missing values are null."]) if nullable else ""
    hints = "".join(f" {f.name}: {f.description}." for f in fields if f.schema.get("format") == "date")
    if style == 0:
        properties = {field.name: field.schema for field in fields}
        schema = {"type": "object", "properties": properties, "required": names}
        return (
            rng.choice(["Fill this JSON Schema", "Extract JSON that follows this schema"])
            + f": {json.dumps(schema)}"
            + missing
        )
    if style == 1:
        lines = "\n".join(f"- {field.name} ({_type(field)}): {field.description}" for field in fields)
        return f"Extract these fields from the {kind} as JSON:\n{lines}\n{missing}".strip()
    if style == 2:
        listed = ", ".join(f'"{name}"' for name in names)
        return f"Give a JSON object with {listed}.{hints}{missing}"
    if style == 3:
        template = json.dumps({field.name: f"<{_type(field)}>" for field in fields})
        return f"Complete this object from the text: {template}{hints}{missing}"
    if style == 4:
        listed = "; ".join(f"{field.description} as {field.name}" for field in fields)
        return f"From the text, take {listed}. Answer with JSON only.{missing}"
    return f"Extract {', '.join(names)} from this {kind}. Return JSON.{hints}{missing}"


def _type(field: Field) -> str:
    if "enum" in field.schema:
        return " | ".join(str(choice) for choice in field.schema["enum"] if choice is not None)
    kind = field.schema["type"]
    if isinstance(kind, list):
        kind = kind[0]
    return "list of strings" if kind == "array" else str(kind)


_DECOYS = {
    "date": ("We first talked about it on {v}.", "The letter before this one is of {v}.", "{v} was a rainy day."),
    "person": ("{v} sends regards.", "I met {v} at the bakery.", "A copy of this goes to {v}."),
    "phone": ("The old number, {v}, no longer works.", "Don't call {v}, nobody is there."),
    "email": ("Please don't use {v} any more.", "The old address {v} has been closed."),
    "code": ("Please ignore the old number {v}.", "Don't mix it up with {v}, which is done."),
    "town": ("Greetings from {v}, where I am on holiday.", "My sister has just moved to {v}."),
    "company": ("We no longer work with {v}.", "{v} has nothing to do with it."),
    "time": ("I had lunch at {v}.", "The radio said at {v} that it would rain."),
    "version": ("Version {v} was fine.", "In {v} all was well."),
}
"""Sentences with a value of the same kind as a field's that isn't the field's."""


def _text(
    rng: random.Random, told: Sequence[Attribute], iso: Mapping[Attribute, bool], names: Mapping[Attribute, str]
) -> tuple[str, dict[Attribute, Field]]:
    """A text that tells the attributes, with other values of their kinds and other sentences between, and its fields."""
    sentences: list[str] = []
    fields: dict[Attribute, Field] = {}
    for attribute in told:
        sentence, schema, description, value = _fill(rng, attribute, iso[attribute])
        sentences.append(sentence)
        fields[attribute] = Field(names[attribute], schema, description, value)
        kind = attribute.type.split()[0]
        if kind in _DECOYS and rng.random() < 0.2:
            other = _date(rng, False)[0] if kind == "date" else _POOLS[kind](rng)
            sentences.append(rng.choice(_DECOYS[kind]).replace("{v}", other))
    sentences += rng.sample(FILLERS, rng.choice([0, 1, 1, 2, 3, 5]))
    rng.shuffle(sentences)
    joined = rng.choice([" ", " ", "\n"]).join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    return joined, fields


def _asked(rng: random.Random, told: Mapping[Attribute, Field], untold: Sequence[Field]) -> list[Field]:
    """Some of the fields in any order, no name twice."""
    found = rng.sample(list(told.values()), rng.randint(1, len(told)))
    unique = {field.name: field for field in [*found, *untold]}
    return rng.sample(list(unique.values()), len(unique))


def _asking(rng: random.Random, kind: str, fields: list[Field], nullable: bool) -> tuple[str, str]:
    """What is asked for, and the name of a field to put the object into, if any."""
    ask = _ask(rng, kind, fields, nullable)
    if rng.random() < 0.12 and len(fields) > 1:
        outer = rng.choice(["data", "record", "details", "result", kind.replace(" ", "_")])
        return ask + f' Put the object into the field "{outer}": {{"{outer}": {{...}}}}.', outer
    return ask, ""


def _example(rng: random.Random) -> Example:
    """An example with siblings: other fields of the same text where that stands first, else the same of other texts."""
    kind = rng.choice(list(BY_KIND))
    attributes = rng.sample(BY_KIND[kind], len(BY_KIND[kind]))
    iso = {attribute: rng.random() < 0.4 for attribute in attributes}
    names = {attribute: rng.choice(attribute.names) for attribute in attributes}
    count = rng.randint(2, len(attributes))
    text, told = _text(rng, attributes[:count], iso, names)
    nullable = rng.random() < 0.4
    layout, text_first = _layout(rng)

    def asked() -> list[Field]:
        untold: list[Field] = []
        for attribute in attributes[count:][: rng.randint(0, 2)] if nullable else []:
            _, schema, description, _ = _fill(rng, attribute, iso[attribute])
            untold.append(Field(names[attribute], schema, description, None))
        fields = _asked(rng, told, untold)
        return [replace(field, schema=_or_null(field.schema)) for field in fields] if nullable else fields

    def example(asking: tuple[str, str], text: str, values: dict[str, Any]) -> Example:
        ask, outer = asking
        return Example("extraction", [*layout(ask, text), _answer({outer: values} if outer else values)])

    fields = asked()
    asking = _asking(rng, kind, fields, nullable)
    found = [example(asking, text, {field.name: field.value for field in fields})]
    for _ in range(rng.choice([1, 2, 3])):
        if text_first:
            fields = asked()
            values = {field.name: field.value for field in fields}
            found.append(example(_asking(rng, kind, fields, nullable), text, values))
            continue
        wanted = [next(a for a in attributes if names[a] == field.name) for field in fields]
        more = [attribute for attribute in attributes if attribute not in wanted]
        said = [attribute for attribute in wanted if not nullable or rng.random() < 0.75]
        said += rng.sample(more, min(len(more), rng.randint(0, 2)))
        other, other_told = _text(rng, said or more[:1], iso, names)
        values = {names[a]: other_told[a].value if a in other_told else None for a in wanted}
        found.append(example(asking, other, values))
    unique = {str(each.messages[:-1]): each for each in found}
    first, *siblings = unique.values()
    return replace(first, siblings=tuple(siblings))


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if schema["type"] == "array":
        return {**schema, "type": ["array", "null"]}
    nullable = {**schema, "type": [schema["type"], "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def _answer(values: dict[str, Any]) -> dict[str, str]:
    return {"role": "assistant", "content": json.dumps(values, ensure_ascii=False)}


def _layout(rng: random.Random) -> tuple[Callable[[str, str], list[dict[str, str]]], bool]:
    """A function that puts an instruction and a text into messages, and whether the text comes first."""
    form = rng.choice(["{t}", "Text: {t}", '"""\n{t}\n"""', "<text>\n{t}\n</text>"])
    chance, text_first = rng.random(), rng.random() < 0.4
    systems = ["You extract data.", "You answer only with JSON.", "You read texts and fill in forms."]
    system = rng.choice(systems) if rng.random() < 0.25 else ""

    def layout(ask: str, text: str) -> list[dict[str, str]]:
        body = form.replace("{t}", text)
        if chance < 0.25:
            return [{"role": "system", "content": ask}, {"role": "user", "content": body}]
        parts = [body, ask] if text_first else [ask, body]
        turns = [{"role": "system", "content": system}] if system else []
        return [*turns, {"role": "user", "content": "\n\n".join(parts)}]

    return layout, text_first and chance >= 0.25


def extraction_examples(seed: int) -> Iterator[Example]:
    """Endless examples of extraction: the answer is JSON with the asked fields in the order of the prompt."""
    rng = random.Random(seed)
    while True:
        yield _example(rng)
