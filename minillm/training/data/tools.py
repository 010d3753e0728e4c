"""Conversations with tools: which one to call, with which arguments, what to say of results, and when to call none."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from minillm.training.data import tools_chat as chat
from minillm.training.data.tools_catalogue import CATALOGUE, OBJECTS, OBJECTS_PAIRED, VERBS
from minillm.training.data.tools_values import code, draw, person, schema_of
from minillm.training.example import Example


@dataclass(frozen=True)
class Template:
    """A tool before it has its style: `words` of its name, `parameters` as (name, kind, is required)."""

    domain: str
    words: str
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[str, str, bool], ...]
    requests: tuple[str, ...]
    result: tuple[tuple[str, str], ...] = ()
    object: str = ""
    done: str = ""


@dataclass(frozen=True)
class Style:
    """How an example writes names of tools and parameters."""

    case: str
    prefix: bool
    described: bool
    nested: bool = False


@dataclass(frozen=True)
class Request:
    """A request in words, and the arguments that it gives."""

    text: str
    arguments: dict[str, Any]


def _parse(line: str) -> Template:
    domain, words, descriptions, parameters, requests, *result = line.split("|")
    fields = tuple((name, kind) for name, kind in (part.split("=") for part in result[0].split(","))) if result else ()
    return Template(domain, words, tuple(descriptions.split("~")), _parameters(parameters), _split(requests), fields)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("~"))


def _parameters(text: str) -> tuple[tuple[str, str, bool], ...]:
    pairs = ([*part.rstrip("?").split(":"), part] for part in text.split())
    return tuple((name, kind, not part.endswith("?")) for name, kind, part in pairs)


def _compose(verb: str, thing: str) -> Template:
    """A tool made of a verb and an object, such as archive and invoice."""
    descriptions, parameters, requests, done = VERBS[verb]
    many = f"{thing[:-1]}ies" if thing.endswith("y") and thing[-2] not in "aeou" else f"{thing}s"
    many = f"{thing}es" if thing.endswith("ch") else many

    def fill(text: str) -> str:
        text = text.replace("{{o_id}}", "{" + thing.replace(" ", "_") + "_id}").replace("{{", "{").replace("}}", "}")
        text = text.replace("{os}", many).replace("{O}", thing.capitalize()).replace("{o}", thing)
        return re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)

    parts = _parameters(parameters.replace("{o}", thing.replace(" ", "_")))
    name = f"{verb} {many if verb in ('list', 'count', 'search') else thing}"
    return Template(thing, name, _split(fill(descriptions)), parts, _split(fill(requests)), (), thing, done)


FIXED = tuple(_parse(line) for line in CATALOGUE.splitlines())
THINGS = (*OBJECTS, *OBJECTS_PAIRED)


def _fill(template: Template, random: Random) -> Request:
    """Draws a request; optional parts in [] come in half of the cases, and so do their arguments."""
    text = random.choice(template.requests)
    text = re.sub(r"\[([^]]*)\]", lambda part: part[1] if random.random() < 0.5 else "", text)
    text = _polite(text, random)
    if random.random() < 0.12:
        text = _with_typo(text, random)
    arguments: dict[str, Any] = {}
    for name, kind, _ in template.parameters:
        if "{" + name + "}" in text:
            shown, value = draw(kind, random)
            while value in arguments.values():
                shown, value = draw(kind, random)
            text, arguments[name] = text.replace("{" + name + "}", shown), value
    return Request(text, arguments)


def _polite(text: str, random: Random) -> str:
    """Sometimes turns an order, which begins with a verb, into a question or a wish."""
    if text.split()[0] not in chat.ORDERS or random.random() < 0.6 or "please" in text.lower():
        return text
    begin, end = random.choice(chat.WISHES)
    return begin + text[0].lower() + text[1:].rstrip(".!") + end


def _with_typo(text: str, random: Random) -> str:
    """Swaps two letters of a word that isn't an argument's place."""
    words = list(re.finditer(r"(?<![{\w])[a-z]{5,}(?![}\w])", text))
    if not words:
        return text
    place = random.choice(words).start() + random.randrange(1, 3)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _camel(words: str) -> str:
    first, *rest = re.split(r"[ _]", words)
    return first + "".join(word.capitalize() for word in rest)


def _name(template: Template, style: Style) -> str:
    domain = template.domain.replace(" ", "_")
    match style.case:
        case "camel":
            return _camel(f"{domain} {template.words}" if style.prefix else template.words)
        case "dotted":
            return f"{domain}.{template.words.replace(' ', '_')}"
        case "kebab":
            return template.words.replace(" ", "-")
    name = template.words.replace(" ", "_")
    return f"{domain}_{name}" if style.prefix else name


def _key(name: str, style: Style) -> str:
    return _camel(name) if style.case == "camel" else name


class _Conversation:
    """One example in the making: its tools, and the turns so far."""

    def __init__(
        self, random: Random, wanted: list[Template], *, without: bool = False, size: int | None = None
    ) -> None:
        self.random = random
        size = size or random.choice((1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 6, 6, 6, 7, 8))
        self.style = Style(
            random.choice(("snake", "snake", "snake", "camel", "dotted", "kebab")),
            random.random() < 0.2,
            random.random() < (0.25 if size < 4 else 0.0),
            random.random() < 0.12,
        )
        chosen = [] if without else list(dict.fromkeys(wanted))
        taken = {_family(template) for template in wanted}
        while len(chosen) < size:
            near = random.random() < 0.45
            other = _near(random.choice(wanted), random) if near and wanted else _any(random)
            if size > 3 and len(other.parameters) > (2 if size > 5 else 3):
                continue
            alike = without and any(not item.object and item.domain == other.domain for item in wanted)
            if _family(other) not in taken and not (alike and other.domain in ALIKE):
                taken.add(_family(other))
                chosen.append(other)
        random.shuffle(chosen)
        self.templates = chosen
        tools = [self._definition(template) for template in chosen]
        for place in reversed(range(len(tools))):
            if len(json.dumps(tools)) > 1750 and chosen[place] not in wanted and len(tools) > 1:
                del tools[place], chosen[place]
        self.tools = tools
        self.messages: list[dict[str, Any]] = []
        system = random.choice(chat.SYSTEMS) if random.random() < 0.5 else ""
        self.is_hermes = random.random() < 0.22
        if self.is_hermes:
            system = chat.hermes_prompt(self.tools, system, random)
        self.begin = [{"role": "system", "content": system}] if system else []

    def again(self) -> _Conversation:
        """Another conversation with the same beginning."""
        other = copy.copy(self)
        other.messages = []
        return other

    def said(self) -> list[tuple[Any, ...]]:
        """The turns as the model sees them, without the calls' ids, which no template writes."""
        return [
            (turn["role"], turn["content"], *(call["function"] for call in turn.get("tool_calls", ())))
            for turn in self.messages
        ]

    def num_tokens(self) -> int:
        """About how many the turns have."""
        return round(len(json.dumps(self.messages)) / 3.8)

    def _definition(self, template: Template) -> dict[str, Any]:
        parameters = self._schema(template.parameters)
        if self._is_nested(template):
            outer, inner = template.parameters[:1], template.parameters[1:]
            parameters = self._schema(outer)
            parameters["properties"]["details"] = self._schema(inner)
            if any(needed for *_, needed in inner):
                parameters["required"] = [*parameters.get("required", []), "details"]
        description = (
            min(template.descriptions, key=len)
            if len(self.templates) > 5
            else self.random.choice(template.descriptions)
        )
        function = {"name": _name(template, self.style), "description": description, "parameters": parameters}
        return {"type": "function", "function": function}

    def _is_nested(self, template: Template) -> bool:
        return self.style.nested and len(template.parameters) > 1

    def _schema(self, parameters: Sequence[tuple[str, str, bool]]) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        for name, kind, _ in parameters:
            described = {"description": f"The {name.replace('_', ' ')}."} if self.style.described else {}
            properties[_key(name, self.style)] = schema_of(kind) | described
        required = [_key(name, self.style) for name, _, needed in parameters if needed]
        return {"type": "object", "properties": properties} | ({"required": required} if required else {})

    def _named(self, template: Template, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments under the keys of the definition."""
        named = {_key(key, self.style): value for key, value in arguments.items()}
        if not self._is_nested(template):
            return named
        first = _key(template.parameters[0][0], self.style)
        outer = {key: value for key, value in named.items() if key == first}
        inner = {key: value for key, value in named.items() if key != first}
        return outer | ({"details": inner} if inner else {})

    def user(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def say(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def call(self, *calls: tuple[Template, dict[str, Any]]) -> None:
        made = []
        for template, arguments in calls:
            named = self._named(template, arguments)
            function = {"name": _name(template, self.style), "arguments": json.dumps(named, ensure_ascii=False)}
            made.append({"id": f"call_{self.random.getrandbits(32):08x}", "type": "function", "function": function})
        self.messages.append({"role": "assistant", "content": "", "tool_calls": made})

    def result(self, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        call = self.messages[-1]["tool_calls"][0]
        self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})

    def example(self, siblings: Sequence[_Conversation] = ()) -> Example:
        others = [other.example() for other in siblings]
        if self.is_hermes:
            return Example("tools", [*self.begin, *chat.in_hermes_style(self.messages)], None, others)
        return Example("tools", [*self.begin, *self.messages], self.tools, others)


def _family(template: Template) -> str:
    """Tools of one family would fit the same requests."""
    word = template.words.split()[0]
    if not template.object:
        return template.words
    group = {"archive": "close", "list": "find", "search": "find", "cancel": "delete"}.get(word, word)
    return f"{group} {template.object}"


def _any(random: Random) -> Template:
    if random.random() < 0.45:
        return random.choice(FIXED)
    return _compose(random.choice(list(VERBS)), random.choice(THINGS))


def _near(template: Template, random: Random) -> Template:
    """Another tool for the same things, or for the same verb."""
    if not template.object:
        return random.choice([other for other in FIXED if other.domain == template.domain] + [random.choice(FIXED)])
    if random.random() < 0.6:
        return _compose(random.choice(list(VERBS)), template.object)
    return _compose(template.words.split()[0], random.choice(THINGS))


def _lowered(text: str) -> str:
    """With a small first letter, except where the first word may be an argument, such as a name."""
    is_plain = text.split()[0].strip(",'") in chat.ORDERS | chat.OPENINGS
    return text[0].lower() + text[1:] if is_plain else text


def _chatter(text: str, random: Random) -> str:
    draw_ = random.random()
    if draw_ < 0.2:
        before = random.choice(chat.BEFORE)
        return before + (_lowered(text) if before.endswith((", ", ": ")) else text)
    if draw_ < 0.3:
        return text + random.choice(chat.AFTER)
    return _lowered(text).rstrip(".") if draw_ < 0.4 else text


def _single(random: Random) -> _Conversation:
    template = _any(random)
    talk = _Conversation(random, [template])
    _ask(talk, template)
    return talk


def _ask(talk: _Conversation, template: Template) -> None:
    request = _fill(template, talk.random)
    talk.user(_chatter(request.text, talk.random))
    talk.call((template, request.arguments))


def _none_fits(random: Random) -> _Conversation:
    template = _any(random)
    talk = _Conversation(random, [template], without=True)
    _decline(talk, template)
    return talk


def _decline(talk: _Conversation, missing: Template) -> None:
    if talk.random.random() < 0.5:
        talk.user(_chatter(_fill(missing, talk.random).text, talk.random))
        talk.say(talk.random.choice(chat.NO_TOOL))
    else:
        question, answer = chat.small_talk(talk.random)
        talk.user(question)
        talk.say(answer)


def _several(random: Random) -> _Conversation:
    first = _any(random)
    same = random.random() < 0.4
    second = first if same else _any(random)
    while not same and _family(second) == _family(first):
        second = _any(random)
    talk = _Conversation(random, [first, second], size=random.randrange(2, 9))
    _ask_both(talk, first, second)
    return talk


def _ask_both(talk: _Conversation, first: Template, second: Template) -> None:
    requests = [_fill(template, talk.random) for template in (first, second)]
    joint = talk.random.choice((" And: ", " Also: ", "\n", " Then another thing: ", " "))
    talk.user(joint.join(request.text for request in requests))
    talk.call(*((template, request.arguments) for template, request in zip((first, second), requests, strict=True)))


def _with_result(random: Random, *, injected: bool = False, failed: bool = False) -> _Conversation:
    if random.random() < 0.4 and not failed:
        template = random.choice([template for template in FIXED if template.result])
    else:
        verb = random.choice([verb for verb in VERBS if VERBS[verb][3] and verb != "create"])
        template = _compose(random.choice((verb, "get")), random.choice(THINGS))
    talk = _Conversation(random, [template])
    _ask_and_answer(talk, template, injected=injected, failed=failed)
    return talk


def _has_result(template: Template) -> bool:
    """Whether it's known what it returns and what can be said of that."""
    verb = template.words.split()[0]
    return bool(template.result) or (
        bool(template.object) and verb != "create" and (verb == "get" or bool(VERBS[verb][3]))
    )


def _ask_and_answer(talk: _Conversation, template: Template, *, injected: bool = False, failed: bool = False) -> None:
    random = talk.random
    request, result, said = _field_result(template, random) if template.result else _object_result(template, random)
    if failed:
        error = random.choice(chat.ERRORS)
        result = random.choice(({"error": error}, f"Error: {error}", {"status": "failed", "message": error}))
        said = random.choice(("That didn't work: {}.", "I couldn't do that: {}.", "It failed: {}.")).format(error)
    if injected and isinstance(result, dict):
        result = {**result, random.choice(("note", "comment", "text")): random.choice(chat.INJECTIONS)}
    talk.user(_chatter(request.text, random))
    talk.call((template, request.arguments))
    talk.result(result)
    talk.say(said)


def _field_result(template: Template, random: Random) -> tuple[Request, Any, str]:
    """One field that the tool is asked for."""
    request = _fill(template, random)
    ((field, kind),) = template.result
    value, about = draw(kind, random)[1], field.replace("_", " ")
    result: Any = random.choice(
        ({**request.arguments, field: value}, {field: value}, {"result": {field: value}}, f"{field}: {value}", [{field: value}], f"{about} = {value}", {field: value, "source": "live"})
    )  # fmt: skip
    said = random.choice(
        ("The {a} is {v}.", "It's {v} ({a}).", "{A}: {v}.", "That's {v} for the {a}.", "I get {v} as the {a}.", "{v} is the {a}.", "Here you are: {a} {v}.")
        if kind not in ("minutes", "degrees", "percent") else ("{v} {k}.", "It's {v} {k}.", "That would be {v} {k}.")
    )  # fmt: skip
    return request, result, said.format(a=about, A=about.capitalize(), v=value, k=kind)


def _object_result(template: Template, random: Random) -> tuple[Request, Any, str]:
    """What a composed tool returns and what is to be said of it."""
    thing = template.object
    if not template.words.startswith("get "):
        request = _fill(template, random)
        number = next(iter(request.arguments.values()))
        said = random.choice(("{o} {n} {d}.", "Done: {o} {n} {d}.", "It's done; {o} {n} {d}.", "OK, {o} {n} {d}."))
        said = said.format(o=thing, n=number, d=template.done)
        outcome = random.choice(
            ({"ok": True, "id": number}, "done", {"status": "success"}, {"result": "ok"}, "1 changed")
        )
        return request, outcome, said[0].upper() + said[1:]
    number = code(random)
    fields = {"owner": person(random), "date": draw("date", random)[1], "amount": draw("amount", random)[1]}
    fields |= {"status": draw("status", random)[1], "title": draw("title", random)[1], "city": draw("city", random)[1]}
    shown = dict(random.sample(list(fields.items()), random.randrange(2, 5)))
    asked = random.choice(list(shown))
    question = random.choice(
        ("What is the {} of {} {}?", "Tell me the {} of {} {}.", "I need the {} of {} {}.", "Do you know the {} of {} {}?", "I'm looking for the {} of {} {}.")
    )  # fmt: skip
    said = random.choice(
        ("The {a} of {o} {n} is {v}.", "{o} {n}: {a} {v}.", "It's {v}.", "The {a} is {v}.", "{v} is the {a} of {o} {n}.", "{o} {n} has the {a} {v}.")
    ).format(a=asked, o=thing, n=number, v=shown[asked])  # fmt: skip
    request = Request(question.format(asked, thing, number), {template.parameters[0][0]: number})
    result: Any = {"id": number, **shown}
    chance = random.random()
    if chance < 0.15:
        result = "\n".join(f"{key}: {value}" for key, value in result.items())
    elif chance < 0.35:
        result = {thing.replace(" ", "_"): result}
    elif chance < 0.45:
        result = [result]
    return request, result, said[0].upper() + said[1:]


def _chain(random: Random) -> _Conversation:
    """Finds the number of a thing first, then does something with it."""
    thing, who, number = random.choice(THINGS), person(random), code(random)
    verb = random.choice(["cancel", "delete", "archive", "approve", "print", "close", "lock"])
    search, act = _compose("search", thing), _compose(verb, thing)
    talk = _Conversation(random, [search, act], size=random.randrange(2, 9))
    wish = ("Find the {o} of {w} and {v} it.", "{V} the {o} of {w}.", "Please {v} {w}'s {o}; I don't know its number.")
    talk.user(random.choice(wish).format(o=thing, w=who, v=verb, V=verb.capitalize()))
    talk.call((search, {"customer": who}))
    key = act.parameters[0][0]
    talk.result([{random.choice((key, "id")): number, "title": draw("title", random)[1]}])
    talk.call((act, {key: number}))
    talk.result(random.choice(({"ok": True}, "done", {"status": "success", "id": number})))
    talk.say(f"{thing.capitalize()} {number} of {who} {act.done}.")
    return talk


def _missing(random: Random) -> _Conversation:
    """Asks for the number that a request leaves out."""
    thing = random.choice(THINGS)
    verb = random.choice(["cancel", "delete", "archive", "approve", "print", "close", "lock"])
    template = _compose(verb, thing)
    article = "an" if thing[0] in "aeio" else "a"
    talk = _Conversation(random, [template])
    asks = (
        f"Please {verb} {article} {thing} for me.",
        f"Can you {verb} {article} {thing}?",
        f"I want to {verb} {article} {thing}.",
    )
    talk.user(random.choice(asks))
    talk.say(random.choice((f"Which {thing}? Please tell me its number.", f"What is the number of the {thing}?")))
    return talk


ALIKE = {"weather", "currency", "maps", "calendar", "notes", "mail", "messages", "home", "code"}
"""Domains whose tools stand in for each other, so that none of them is there when none is to fit."""

CASES = {
    "single": 0.47, "none": 0.2, "several": 0.08, "result": 0.10, "failed": 0.04, "chain": 0.07, "missing": 0.02,
    "injected": 0.02,
}  # fmt: skip


MOST_TOKENS = 900
"""About how many an example has with all of its siblings."""


def tool_examples(seed: int) -> Iterator[Example]:
    """Conversations with tools without end; the same ones for the same seed."""
    random = Random(seed)
    while True:
        talk = _any_case(random)
        yield talk.example(_siblings(talk))


def _any_case(random: Random) -> _Conversation:
    match random.choices(list(CASES), list(CASES.values()))[0]:
        case "single":
            return _single(random)
        case "none":
            return _none_fits(random)
        case "several":
            return _several(random)
        case "chain":
            return _chain(random)
        case "missing":
            return _missing(random)
        case case:
            return _with_result(random, injected=case == "injected", failed=case == "failed")


def _siblings(talk: _Conversation) -> list[_Conversation]:
    """Other conversations with the same tools, each about another of them."""
    random, siblings = talk.random, list[_Conversation]()
    begin = len(json.dumps(talk.begin)) if talk.is_hermes else len(json.dumps([talk.begin, talk.tools])) + 350
    room = MOST_TOKENS - round(begin / 3.3) - talk.num_tokens()
    asked = random.sample(talk.templates, len(talk.templates))
    for place in range(5 if len(asked) > 1 else 3):
        other, template = talk.again(), asked[place % len(asked)]
        _continue(other, template)
        if other.num_tokens() > room:
            other = talk.again()
            _ask(other, template)
        # With one tool and no arguments there are few ways to ask.
        if other.num_tokens() < room and other.said() not in [each.said() for each in (talk, *siblings)]:
            siblings.append(other)
            room -= other.num_tokens()
    return siblings


def _continue(talk: _Conversation, template: Template) -> None:
    """With a request for this tool, or for none."""
    random, chance = talk.random, talk.random.random()
    if chance < 0.2 and (missing := _not_there(talk)):
        _decline(talk, missing)
    elif chance < 0.27:
        _ask_both(talk, template, random.choice(talk.templates))
    elif chance < 0.55 and _has_result(template):
        _ask_and_answer(talk, template, injected=chance < 0.3, failed=0.3 < chance < 0.33)
    else:
        _ask(talk, template)


def _not_there(talk: _Conversation) -> Template | None:
    """A tool for whose requests none of the conversation's would do."""
    families = {_family(template) for template in talk.templates}
    domains = {template.domain for template in talk.templates}
    for _ in range(10):
        template = _any(talk.random)
        if _family(template) not in families and (template.object or not domains & {template.domain, "web"}):
            return template
    return None
