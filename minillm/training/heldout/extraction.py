"""Held-out cases of extraction: two to six fields of a text, as an object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from minillm.training.example import Case, Message
from minillm.training.heldout import pools
from minillm.training.heldout.records import RECORDS, UNRELATED, Record

_COUNT = 240
_SYSTEMS = (
    "You turn notes into data. Reply with JSON only.",
    "Copy values from the text exactly as they are written there.",
    "Extract what is asked. A field that the text doesn't tell is null.",
)


def extraction_cases(seed: int = 0) -> list[Case]:
    """Cases that expect the object; a field that the text doesn't tell is expected to be null, as its schema allows."""
    random = Random(f"extraction/{seed}")
    return [_case(random, RECORDS[index % len(RECORDS)]) for index in range(_COUNT)]


def _case(random: Random, record: Record) -> Case:
    values, text = _text(random, record)
    meanings = {name: meaning for name, (_, meaning) in record.fields.items()}
    meanings |= {name: flag[0] for name, flag in record.flags.items()}
    names = random.sample(list(meanings), random.randint(2, min(6, len(meanings))))
    schema = {
        "type": "object",
        "properties": {name: _field_schema(record, name) for name in names},
        "required": names,
        "additionalProperties": False,
    }
    prompt = _prompt(random, record, text, {name: meanings[name] for name in names}, schema)
    messages: list[Message] = []
    if random.random() < 0.4:
        messages.append({"role": "system", "content": random.choice(_SYSTEMS)})
    messages.append({"role": "user", "content": prompt})
    return Case("extraction", messages, {name: values[name] for name in names}, schema=schema, max_tokens=128)


def _text(random: Random, record: Record) -> tuple[dict[str, Any], str]:
    """The value of each field, and a text that tells it."""
    values: dict[str, Any] = {}
    for name, (kind, _) in record.fields.items():
        while (value := _draw(random, kind)) in values.values():
            pass
        values[name] = value
    shown = {name: _joined(value) if isinstance(value, list) else str(value) for name, value in values.items()}
    parts = [random.choice(record.texts).format(**shown)]
    for name, sentences in record.extras.items():
        if random.random() < 0.6:
            parts.append(random.choice(sentences).format(**shown))
        else:
            values[name] = None
    for name, (_, yes, no) in record.flags.items():
        values[name] = random.random() < 0.5
        parts.append(yes if values[name] else no)
    if random.random() < 0.5:
        parts.insert(random.randint(0, len(parts)), random.choice(UNRELATED))
    return values, random.choice((" ", " ", "\n")).join(parts)


def _draw(random: Random, kind: str) -> Any:
    if kind == "people":
        return list(dict.fromkeys(pools.person(random) for _ in range(random.randint(2, 3))))
    return pools.KINDS[kind][1](random)


def _joined(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _field_schema(record: Record, name: str) -> dict[str, Any]:
    if name in record.flags:
        return {"type": "boolean"}
    kind = record.fields[name][0]
    if kind == "people":
        return {"type": "array", "items": {"type": "string"}}
    kind_of_json = pools.KINDS[kind][0]
    return {"type": [kind_of_json, "null"] if name in record.extras else kind_of_json}


def _prompt(random: Random, record: Record, text: str, meanings: Mapping[str, str], schema: Mapping[str, Any]) -> str:
    names = list(meanings)
    skeleton = "{" + ", ".join(f'"{name}": …' for name in names) + "}"
    listed = "\n".join(f"- {name}: {meaning}" for name, meaning in meanings.items())
    in_words = "; ".join(f"{meaning} as {name}" for name, meaning in meanings.items())
    quoted = ", ".join(f"`{name}`" for name in names)
    fence = random.choice(('"""', "```", "-----"))
    nullable = any("null" in each["type"] for each in schema["properties"].values())
    missing = random.choice(("Use null for what isn't there.", "Missing: null.")) if nullable else ""
    return random.choice(
        (
            f"{text}\n\nFrom this {record.title}, return {skeleton} as JSON. {missing}",
            f"Read the {record.title} below and give me these as a JSON object:\n{listed}\n{missing}\n\n"
            f"{fence}\n{text}\n{fence}",
            f"Text: {text}\nKeys: {', '.join(names)}\n{missing}\nJSON:",
            f"JSON Schema:\n{json.dumps(schema)}\n\nFill it in from the following {record.title}.\n\n{text}",
            f"I need {in_words}, all in one JSON object. {missing}\n\n<text>\n{text}\n</text>",
            f"What does it say about {quoted}? Answer in JSON with exactly these keys. {missing}\n\n> {text}",
            f"{record.title.capitalize()}:\n{text}\n\nConvert to JSON.\nfields = {names}\n{missing}",
        )
    ).strip()  # fmt: skip
