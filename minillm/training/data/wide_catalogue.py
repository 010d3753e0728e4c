"""Reads `wide_functions`: each kind of value gets its JSON Schema and a way to draw one."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from minillm.training.data import values
from minillm.training.data.composed_catalogue import Function, Parameter, _file, _id, _sentence, _title, _town
from minillm.training.data.wide_functions import LINES, POOLS

Draw = random.Random
_STREETS = "Mill Station Garden Oak Bridge Church Park School River Hill Market North Linden Castle Meadow Elm".split()
_TEXTS: dict[str, Callable[[Draw], str]] = {
    "id": _id,
    "code": lambda draw: values.code(draw).replace(" ", "-"),
    "person": values.person,
    "first": lambda draw: draw.choice(values.FIRST_NAMES),
    "town": _town,
    "street": lambda draw: f"{draw.choice(_STREETS)} {draw.choice(['Street', 'Road', 'Lane'])} {draw.randint(1, 180)}",
    "title": _title,
    "sentence": _sentence,
    "file": _file,
    "email": values.email,
    "clock": lambda draw: f"{draw.randint(6, 22):02d}:{draw.choice(['00', '10', '15', '30', '45'])}",
    "morning": lambda draw: f"{draw.randint(5, 11):02d}:{draw.randint(0, 59):02d}",
    "evening": lambda draw: f"{draw.randint(14, 21):02d}:{draw.randint(0, 59):02d}",
    "date": values.date,
    "iso": values.iso_date,
    "weekday": lambda draw: draw.choice(values.WEEKDAYS),
    "month": lambda draw: draw.choice(values.MONTHS),
    "phone": lambda draw: f"0{draw.randint(20, 99)} {draw.randint(1000, 999999)}",
    "url": lambda draw: f"https://{values.place(draw).lower()}.example/{draw.randint(10, 9999)}",
    "digits": lambda draw: f"{draw.randint(0, 9999):04d}",
    "iban": lambda draw: f"{draw.choice(['DE', 'FR', 'NL', 'ES'])}{draw.randint(10, 99)}-{draw.randint(1000, 99999)}",
    "coupon": lambda draw: f"{draw.choice(['SAVE', 'HELLO', 'SPRING', 'VIP', 'TAKE'])}{draw.randint(5, 60)}",
    "hotel": lambda draw: f"{draw.choice(['Hotel', 'Pension', 'Villa'])} {values.place(draw)}",
    "plate": lambda draw: f"{values.place(draw)[:2].upper()} {draw.randint(10, 9999)}",
    "photo": lambda draw: f"{draw.choice(['IMG', 'DSC', 'P'])}_{draw.randint(100, 9999)}.jpg",
    "repo": lambda draw: f"{values.place(draw).lower()}/{draw.choice(['web', 'core', 'tools', 'docs', 'app'])}",
    "version": lambda draw: f"{draw.randint(0, 9)}.{draw.randint(0, 30)}.{draw.randint(0, 9)}",
    "domain": lambda draw: f"{values.place(draw).lower()}.{draw.choice(['example', 'test'])}",
    "song": lambda draw: f"{draw.choice(values.COLOURS).title()} {draw.choice(['Rain', 'Lights', 'Moon', 'River'])}",
    "team": lambda draw: f"{draw.choice(['FC', 'SV', 'AC', 'Union'])} {values.place(draw)}",
    "rolls": lambda draw: ", ".join(str(draw.randint(1, 20)) for _ in range(draw.randint(2, 4))),
    "seat": lambda draw: f"{draw.choice('ABCDEFGH')}{draw.randint(1, 40)}",
    "species": lambda draw: draw.choice(POOLS["species"].split(";")),
}


def _parameter(name: str, kind: str, details: str, mark: str) -> Parameter:
    """Reads such as ("minutes", "int", "3,40", "?")."""
    schema: dict[str, Any] = {"type": "string"}
    words: dict[str, str] = {}
    value: Callable[[Draw], Any]
    match kind:
        case "int":
            low, high = map(int, details.split(","))
            schema, value = {"type": "integer"}, lambda draw: _whole(draw, low, high)
        case "num" | "num1" | "num2" | "money2":
            low, high = map(int, (details or "3,900").split(","))
            digits = int(kind[-1]) if kind[-1].isdigit() else 0
            schema, value = {"type": "number"}, lambda draw: _decimal(draw, low, high, digits)
        case "bool":
            schema, value = {"type": "boolean"}, lambda draw: draw.random() < 0.5
        case "enum":
            pairs = [choice.partition("=") for choice in details.split("/")]
            words = {choice: said for choice, _, said in pairs if said}
            choices = [choice for choice, _, _ in pairs]
            schema, value = {"type": "string", "enum": choices}, lambda draw: draw.choice(choices)
        case "enum_int":
            numbers = [int(number) for number in details.split("/")]
            schema, value = {"type": "integer", "enum": numbers}, lambda draw: draw.choice(numbers)
        case "list":
            schema, value = {"type": "array", "items": {"type": "string"}}, lambda draw: _several(draw, _text(details))
        case "numbers":
            schema, value = {"type": "array", "items": {"type": "number"}}, _numbers
        case "order":
            item = {"type": "object", "properties": {"product": {"type": "string"}, "quantity": {"type": "integer"}}}
            schema, value = {"type": "array", "items": item}, _ordered
        case "pick":
            value = lambda draw: draw.choice(details.split(";"))  # noqa: E731
        case _:
            value = _text(kind)
            if kind == "iso":
                schema = {"type": "string", "format": "date"}
    return Parameter(name, schema, value, words=words, is_optional=bool(mark))


def _decimal(draw: Draw, low: int, high: int, digits: int) -> float:
    """Without a zero after the point, which nobody says."""
    number = round(draw.uniform(low, high), digits)
    return int(number) if number == int(number) and number != 1 else number


def _whole(draw: Draw, low: int, high: int) -> int:
    """Not 1, beside which a plural would be wrong."""
    number = draw.randint(low, high)
    return number if number != 1 or high < 2 else draw.randint(2, high)


def _text(kind: str) -> Callable[[Draw], str]:
    if kind in _TEXTS:
        return _TEXTS[kind]
    choices = POOLS[kind].split(";")
    return lambda draw: draw.choice(choices)


def _several(draw: Draw, value: Callable[[Draw], str]) -> list[str]:
    return list(dict.fromkeys(value(draw) for _ in range(draw.choice([1, 2, 2, 3]))))


def _numbers(draw: Draw) -> list[float]:
    digits = draw.choice([0, 0, 1])
    return [_decimal(draw, 2, 95, digits) for _ in range(draw.randint(2, 6))]


def _ordered(draw: Draw) -> list[dict[str, Any]]:
    products = _several(draw, _text("product"))
    return [{"product": product, "quantity": draw.randint(2, 20)} for product in products]


def _parameters(text: str) -> tuple[Parameter, ...]:
    return tuple(_parameter(*parts) for parts in re.findall(r"([\w.]+):(\w+)(?:\(([^)]*)\))?(\?)?", text))


def _read() -> tuple[Function, ...]:
    functions, domain = [], ""
    for line in LINES.splitlines():
        if line.startswith("#"):
            domain = line[2:]
            continue
        words, descriptions, parameters, asks, fields, answers = line.split("|")
        functions.append(
            Function(
                words=tuple(words.split()),
                descriptions=tuple(descriptions.split("~")),
                parameters=_parameters(parameters),
                asks=tuple(asks.split("~")),
                results=(),
                family=domain,
                fields=_parameters(fields),
                answers=tuple(answers.split("~")),
            )
        )
    return tuple(functions)


WIDE = _read()
"""More than a hundred functions of three dozen domains."""

_OUTCOMES = """
get|name:title,owner:person,status:pick(open;closed;waiting;new),created:date|{O} {id} is called “{name}” and belongs to {owner}.~“{name}”, owned by {owner}, created on {created}.~It's {status}; {owner} is the owner.~The {o} “{name}” is {status}.
list|names:list(title),total:int(3,90)|There are {total} {os}, such as {names}.~You have {total}: {names} and others.~I found {names}; {total} in all.
create|id:id,created_by:first|The {o} “{name}” was created with the number {id}.~Done. Its number is {id}.~{O} {id} was created by {created_by}.~It's there now, as {id}.
delete|deleted_at:clock,remaining:int(2,400)|{O} {id} was deleted; {remaining} are left.~It's gone since {deleted_at}.~Deleted. {remaining} {os} remain.
cancel|refund:money2,cancelled_at:clock|{O} {id} is cancelled, and you get {refund} back.~It was cancelled at {cancelled_at}.~Cancelled; the refund is {refund}.
update|new_name:title,changed_by:first|It's called “{new_name}” now.~{changed_by} has changed the name to “{new_name}”.
assign|person:person,open_items:int(2,40)|{person} takes care of {o} {id} now.~It's assigned to {person}, who has {open_items} open.
count|count:int(2,900),as_of:date|There are {count} {os}.~We have {count}, as of {as_of}.~{count}.~I count {count} {status} {os}.
search|matches:list(title),total:int(2,60)|I found {matches}.~{total} {os} match, among them {matches}.~These match: {matches}.
export|file:file,rows:int(2,9000)|The {os} are in {file}.~{rows} rows were written to {file}.~See {file} ({rows} rows).
archive|archive_box:code,archived_at:date|{O} {id} is in the archive, box {archive_box}.~Archived on {archived_at}, in {archive_box}.
approve|approved_by:person,valid_until:date|{O} {id} is approved by {approved_by}.~It's approved and valid until {valid_until}.~{approved_by} has approved it.
share|link:url,expires:date|It was shared: {link}~The link {link} works until {expires}.~Shared until {expires}.
schedule|slot:clock,location:town|{O} {id} is planned for {slot} in {location}.~It's at {slot}.~Planned, at {slot}, in {location}.
set_price|old_price:money2,amount:money2|The price went from {old_price} to {amount}.~{O} {id} costs {amount} now.~It costs {amount} instead of {old_price}.
status_of|status:pick(waiting;in progress;done;on hold;rejected),position:int(2,60),updated:date|{O} {id} is {status}.~It's {status}, at position {position}.~Since {updated} it's {status}.
subscribe|subscription:code,address:email|You'll hear of changes at {address}.~Done; the subscription is {subscription}.
enable|active:bool,changed_at:clock|{O} {id} is {active?active:not active} since {changed_at}.~It's {active?on:off} now.
""".strip()

OUTCOMES = {
    verb: (_parameters(fields), tuple(answers.split("~")))
    for verb, fields, answers in (line.split("|") for line in _OUTCOMES.splitlines())
}
"""What functions with a verb return and what can be said of it: {o} is the thing, {id} its number."""
