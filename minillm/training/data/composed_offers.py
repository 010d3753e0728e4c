"""Functions as a conversation's model is offered them: which stand together, and how they are named and defined."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from minillm.training.data.composed_catalogue import BY_HAND, THINGS, VERBS, Function, composed, plural
from minillm.training.data.wide_catalogue import WIDE


@dataclass(frozen=True)
class Offered:
    """A function as this conversation's model sees it.

    Attributes:
        function: what it is.
        name: in one of the usual styles.
        definition: as the API takes it.
        is_camel: whether its parameters are named like `maxPrice`.
    """

    function: Function
    name: str
    definition: dict[str, Any]
    is_camel: bool = False


def as_json(offered: Sequence[Offered], is_bare: bool) -> list[str]:
    """The definitions as JSON, a token of which has about three characters."""
    shown = [each.definition["function"] if is_bare else each.definition for each in offered]
    return [json.dumps(each, ensure_ascii=False) for each in shown]


def choose_functions(draw: random.Random, count: int) -> list[Function]:
    """Some near to each other, some far; sometimes one that searches and one that needs what was found."""
    first = draw.choice(_HAND) if draw.random() < 0.6 else composed(draw)
    functions = [first]
    if count > 1 and draw.random() < 0.3:
        thing = draw.choice(THINGS)
        functions = [composed(draw, thing, SEARCH), composed(draw, thing, draw.choice(WITH_NUMBER))]
    while len(functions) < count:
        other = other_function(draw, draw.choice(functions))
        if not any(_similar(other, each) for each in functions):
            functions.append(other)
    return draw.sample(functions, len(functions))


def other_function(draw: random.Random, one: Function) -> Function:
    """Another function for the same things or with the same verb, or any."""
    chance = draw.random()
    near = [each for each in _HAND if each.family == one.family]
    if chance < 0.4 and one.family in THINGS:
        return composed(draw, thing=one.family)
    if chance < 0.4 and near:
        return draw.choice(near)
    if chance < 0.5 and one.verb:
        return composed(draw, verb=one.verb)
    return composed(draw) if chance < 0.65 else draw.choice(_HAND)


def _similar(one: Function, other: Function) -> bool:
    """Whether a request for one could be meant for the other."""
    if one.descriptions == other.descriptions or one.words == other.words:
        return True
    names = {"_".join(one.words), "_".join(other.words)}
    return any(names <= alike for alike in _ALIKE) or _is_about(one, other) or _is_about(other, one)


def _is_about(one: Function, other: Function) -> bool:
    """Whether a function that was written by hand is about the thing that a composed one is made of."""
    things = {other.family, plural(other.family)}
    return one.verb is None and other.verb is not None and bool(things & {*one.words, *one.family.split()})


_ALIKE = (
    {"set_temperature", "set_thermostat"}, {"create_event", "schedule_meeting"}, {"play_music", "play_playlist"},
    {"search_web", "get_news"}, {"search_web", "look_up_word"}, {"convert_units", "convert_temperature"},
    {"roll_dice", "get_random_number"}, {"switch_light", "set_light_scene"}, {"find_route", "order_taxi"},
    {"calculate", "solve_equation"}, {"calculate", "compute_average"}, {"list_events", "find_free_slot"}, {"run_query", "search_files"},
    {"transfer_money", "pay_fine"}, {"find_recipe", "substitute_ingredient"}, {"set_timer", "start_stopwatch"},
    {"set_alarm", "arm_alarm"}, {"set_alarm", "set_timer"}, {"translate_text", "detect_language"},
    {"send_message", "set_reminder"}, {"get_weather", "get_forecast"}, {"summarize_document", "read_file"},
    {"search_web", "search_catalogue"}, {"read_file", "count_words"}, {"get_weather", "get_wind"},
)  # fmt: skip


_HAND = (*BY_HAND, *WIDE)


_SAME_PURPOSE = (
    {"get", "status_of"},
    {"delete", "cancel", "archive"},
    {"list", "search", "count", "export"},
    {"update", "create"},
)
"""First words of verbs of which one may do where another is asked for."""


_GROUPS = {
    **dict.fromkeys(["calendar", "office", "assistant", "time", "messages"], "office"), **dict.fromkeys(["numbers", "bank", "science", "games"], "numbers"),
    **dict.fromkeys(["files", "data", "code", "software", "words", "language", "school", "library", "news", "search"], "texts"), **dict.fromkeys(["travel", "traffic"], "travel"), "media": "texts",
}  # fmt: skip
"""Families with functions that may do for each other's requests."""


def may_replace(one: Function, other: Function) -> bool:
    """Whether somebody might do with one what the other is for."""
    if _similar(one, other):
        return True
    if one.verb is None or other.verb is None:
        groups = [_GROUPS.get(each.family, each.family) for each in (one, other)]
        return groups[0] == groups[1] or any(each.words[0] in ("search", "calculate") for each in (one, other))
    if one.family != other.family:
        return False
    if one.verb == other.verb:
        return True
    words = {one.verb.words[0], other.verb.words[0]}
    return any(words <= purpose for purpose in _SAME_PURPOSE)


_STYLES: Mapping[str, Callable[[list[str]], str]] = MappingProxyType(
    {
        "snake": "_".join,
        "camel": lambda words: words[0] + "".join(word.capitalize() for word in words[1:]),
        "dotted": lambda words: f"{words[-1]}.{'_'.join(words[:-1]) or 'run'}",
        "kebab": "-".join,
        "pascal": lambda words: "".join(word.capitalize() for word in words),
        "noun_first": lambda words: "_".join([*words[1:], words[0]]),
    }
)
"""Ways to write a function's name."""


_SYNONYMS = {
    "get": ("fetch", "read", "show", "retrieve"), "find": ("lookup", "search_for", "locate"), "create": ("add", "make", "new"), "delete": ("remove", "erase", "drop"),
    "set": ("change", "update", "adjust"), "book": ("reserve", "make_booking"), "start": ("begin", "run", "launch"), "check": ("verify", "test", "query"), "order": ("request", "buy"),
    "log": ("record", "save", "store"), "list": ("show", "get_all"), "compute": ("calculate", "get", "estimate"), "report": ("submit", "send"), "search": ("find", "query"),
}  # fmt: skip
"""Other first words that a name may have."""


def make_offer(draw: random.Random, functions: Sequence[Function]) -> list[Offered]:
    """Names and defines functions, all in one style."""
    style = draw.choice(["snake", "snake", "snake", *_STYLES])
    prefix = draw.choice(["app", "my", "home", "api", "office", "shop"]) if draw.random() < 0.12 else ""
    is_terse = len(functions) > 5 or draw.random() < 0.2
    is_camel = style == "camel"
    offered: list[Offered] = []
    for function in functions:
        first, *rest = function.words
        if function.verb is None and rest and draw.random() < 0.4:
            first = draw.choice((first, *_SYNONYMS.get(first, ())))
        name = _STYLES[style](list(filter(None, [prefix, *first.split("_"), *rest])))
        if name in [each.name for each in offered]:
            name = _STYLES[style](list(filter(None, [prefix, *function.words])))
        offered.append(Offered(function, name, _definition(draw, function, name, is_terse, is_camel), is_camel))
    return offered


def _definition(draw: random.Random, function: Function, name: str, is_terse: bool, is_camel: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    is_described = not is_terse and draw.random() < 0.25
    for parameter in function.parameters:
        schema = {key: value for key, value in parameter.schema.items() if not (is_terse and key == "description")}
        if is_described and "." not in parameter.name and schema["type"] != "boolean":
            schema.setdefault("description", _about(draw, parameter.name.replace("_", " ")))
        *outer, inner = argument_path(parameter.name, is_camel)
        place = parameters
        for key in outer:
            place = place["properties"].setdefault(key, {"type": "object", "properties": {}})
        place["properties"][inner] = schema
        if not (parameter.phrase or parameter.is_optional):
            for level, key in zip([parameters, place], [(outer or [inner])[0], inner], strict=True):
                level["required"] = list(dict.fromkeys([*level.get("required", []), key]))
    descriptions = sorted(function.descriptions, key=len)
    described = {"description": descriptions[0] if is_terse else draw.choice(descriptions)}
    return {"type": "function", "function": {"name": name, **described, "parameters": parameters}}


def _about(draw: random.Random, words: str) -> str:
    return draw.choice(
        [f"The {words}", f"The {words}.", words.capitalize(), f"{words.capitalize()} as the user gives it"]
    )


def argument_path(name: str, is_camel: bool) -> list[str]:
    """The keys that lead to an argument."""
    keys = name.split(".")
    return [re.sub(r"_(\w)", lambda part: part[1].upper(), key) for key in keys] if is_camel else keys


def draw_count(draw: random.Random) -> int:
    """How many functions are offered; of many, some may be dropped again."""
    return draw.choices([1, 2, 3, 4, 5, 6, 7, 8], weights=[2, 5, 7, 6, 4, 3, 4, 5])[0]


SEARCH = next(verb for verb in VERBS if verb.words[0] == "search")


WITH_NUMBER = tuple(
    verb
    for verb in VERBS
    if verb.parameters[0].name == "{o}_id" and "new_name" not in [parameter.name for parameter in verb.parameters]
)
