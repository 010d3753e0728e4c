"""Requests for a function: the words for it, and the call that does it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from minillm.training.data import values
from minillm.training.data.composed_catalogue import Parameter
from minillm.training.data.composed_offers import Offered, argument_path

Turn = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """Something to be done: the words for it, and the call that does it.

    Attributes:
        text: of the user.
        offered: the function that does it.
        arguments: of the call.
        given: the same by the names of the function's parameters.
        shown: how the text says each.
    """

    text: str
    offered: Offered
    arguments: dict[str, Any]
    given: dict[str, Any]
    shown: dict[str, str]

    def call(self) -> Turn:
        """As the API has it."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return {"id": "call_0", "type": "function", "function": {"name": self.offered.name, "arguments": arguments}}


def make_request(draw: random.Random, offered: Offered, known: Mapping[str, Any] = MappingProxyType({})) -> Request:
    """Words for something that the function does, and the arguments in them."""
    text = draw.choice(offered.function.asks)
    end = text[-1] if text[-1] in ".?!" else ""
    text = text.removesuffix(end)
    wish, wish_end = draw.choice(_WISHES) if draw.random() < 0.4 else ("", end)
    if wish and text.split()[0] in _ORDERING and not re.search(r"please|[.?!] ", text):
        text, end = wish + text[0].lower() + text[1:], wish_end
    for parameter in offered.function.parameters:
        if parameter.phrase and draw.random() < 0.45:
            text += parameter.phrase.replace("{v}", "{" + parameter.name + "}")
    text = re.sub(r"\[([^]]*)\]", lambda part: part[1] if draw.random() < 0.5 else "", text)
    given: dict[str, Any] = {}
    shown: dict[str, str] = {}
    arguments: dict[str, Any] = {}
    for parameter in offered.function.parameters:
        if re.search(r"\{" + re.escape(parameter.name) + r"[?}]", text):
            value = known.get(parameter.name, parameter.value(draw))
            while value in given.values() and "enum" in parameter.schema and len(parameter.schema["enum"]) > 2:
                value = parameter.value(draw)  # nobody converts euros into euros
            while parameter.name == "end" and str(value) <= str(given.get("start", "")):
                value = max(parameter.value(draw), str(given["start"])[:4] + "-12-29")
            given[parameter.name], shown[parameter.name] = value, _as_words(draw, parameter, value)
            *outer, inner = argument_path(parameter.name, offered.is_camel)
            place = arguments
            for key in outer:
                place = place.setdefault(key, {})
            place[inner] = value
    begins_with_value = text.startswith("{") and not CHOICE.match(text)
    text = fill(text, given, shown)
    ends = [".", "", ".", "!" if "please" in text.lower() else ", please."]
    text += "" if text[-1] in ".?!" else end or draw.choice(ends)
    return Request(text if begins_with_value else text[0].upper() + text[1:], offered, arguments, given, shown)


CHOICE = re.compile(r"\{([\w.]+)\?((?:[^{}:]|\{[^{}]*\})*):((?:[^{}:]|\{[^{}]*\})*)\}")


def fill(text: str, given: Mapping[str, Any], shown: Mapping[str, str]) -> str:
    """Puts values into a text."""
    text = CHOICE.sub(lambda part: part[2] if given[part[1]] else part[3], text)
    return re.sub(r"\{([\w.]+)\}", lambda part: shown[part[1]], text)


def _as_words(draw: random.Random, parameter: Parameter, value: Any) -> str:
    if isinstance(value, bool):
        return draw.choice(["yes", "true", "on"]) if value else draw.choice(["no", "false", "off"])
    if isinstance(value, list):
        texts = [f"{each['quantity']} x {each['product']}" if isinstance(each, dict) else str(each) for each in value]
        return draw.choice([" and ", " and ", ", "]).join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
    if parameter.schema.get("format") == "date" and draw.random() < 0.35:
        year, month, day = map(int, value.split("-"))
        name = values.MONTHS[month - 1]
        return draw.choice([f"{day} {name} {year}", f"{name} {day}, {year}"])
    if isinstance(value, int) and 1 < value <= 12 and draw.random() < 0.15:
        return _NUMBERS[value]
    return parameter.words.get(value, str(value)) if isinstance(value, str) else str(value)


_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


_WISHES = (
    ("Could you ", "?"), ("Can you ", "?"), ("Please ", "."), ("I'd like you to ", "."), ("Would you ", ", please?"), ("I need you to ", "."),
    ("It would be nice if you could ", "."), ("can u ", "?"), ("Next task: ", "."), ("It's time to ", "."),
)  # fmt: skip


_ORDERING = frozenset(
    "Add Approve Archive Arm Assign Book Bring Buy Calculate Call Cancel Change Check Commit Convert Count Create Deal Delete Deploy Download Draw Email Enter "
    "Erase Execute Export Extend Feed File Find Fit Follow Format Give Heat Help Invite Keep Label Let List Lock Look Make Message Move Note Open Order "
    "Pay Pick Plan Play Print Put Queue Rate Read Register Remind Rename Rent Reserve Roll Run Save Schedule Search Send Set Show Solve Start Stop Store "
    "Switch Take Tag Tell Text Throw Translate Turn Vacuum Wake Wash Watch Water Write".split()
)
"""First words of asks that are orders, and so can become a question."""


_BEFORE = ("Hi! ", "Hello! ", "Hey there. ", "Good morning! ", "Quick one: ", "Sorry to bother you again. ", "I'm in a hurry. ", "I've just come out of a meeting. ",
           "My sister gave me this task. ", "Thanks for before. ", "OK, next: ", "It's a long day today. ")  # fmt: skip


_AFTER = (
    " Thanks!",
    " Thank you.",
    " It's urgent.",
    " No hurry.",
    " That would help me a lot.",
    " Sorry for the rush.",
    " Cheers",
    " I have to leave in five minutes.",
)


def make_chatty(draw: random.Random, text: str) -> str:
    """Sometimes puts a greeting, thanks or the like around a request."""
    chance = draw.random()
    if chance < 0.2:
        text = draw.choice(_BEFORE) + text
    elif chance < 0.4:
        text += draw.choice(_AFTER)
    elif chance < 0.47:
        text = text.lower() if not any(char.isupper() for char in text[1:]) else text
    return text
