"""Held-out cases of tools: which of three or eight fits, with which arguments, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from string import Formatter
from typing import Any

from minillm.training.example import Case, Message
from minillm.training.heldout import pools
from minillm.training.heldout.tool_loops import tool_loop_cases
from minillm.training.heldout.tool_specs import DOMAINS, QUESTIONS, ToolSpec

__all__ = ["tool_cases_eight", "tool_cases_three", "tool_loop_cases"]

_COUNT = 240
_LANGUAGES = ("Finnish", "Basque", "Korean", "Arabic", "Czech", "Welsh")
_HINTS = {
    "date": "YYYY-MM-DD",
    "clock": "HH:MM, 24 hours",
    "code": "as it is written on the label",
    "person": "full name",
}
_SYSTEMS = (
    "You work for {domain}. Call a tool when one does what is asked; otherwise answer in words.",
    "You are the digital assistant of {domain}.",
    "Assistant at {domain}. Use at most one tool. If none of the tools can do the job, say so.",
    "Help the staff of {domain} with short, correct replies.",
    "Only use a function that truly matches the request. Never invent arguments.",
)


def tool_cases_three(seed: int = 0) -> list[Case]:
    """Cases with three tools each, of which one fits, or none in every fifth case."""
    return _cases("tools-3", 3, seed)


def tool_cases_eight(seed: int = 0) -> list[Case]:
    """Cases with eight tools each, of which one fits, or none in every fifth case."""
    return _cases("tools-8", 8, seed)


def _cases(set_name: str, count: int, seed: int) -> list[Case]:
    random = Random(f"{set_name}/{seed}")
    every = [(domain, spec) for domain, specs in DOMAINS.items() for spec in specs]
    cases: list[Case] = []
    seen: set[str] = set()
    while len(cases) < _COUNT:
        domain, spec = every[len(cases) % len(every)]
        case = _case(random, set_name, count, domain, spec, fits=len(cases) % 5 != 0)
        key = str(case.messages[-1]["content"]) + (str(case.tools) if case.expected is None else "")
        if key not in seen:
            seen.add(key)
            cases.append(case)
    random.shuffle(cases)
    return cases


def _case(random: Random, set_name: str, count: int, domain: str, spec: ToolSpec, fits: bool) -> Case:
    request, arguments = draw_request(random, spec)
    near = [other for other in DOMAINS[domain] if other is not spec]
    far = [other for name, specs in DOMAINS.items() if name != domain for other in specs]
    offered = random.sample(near, min(len(near), count - 1, random.randint(2, 5)))
    if not fits:
        if random.random() < 0.4:  # a question that needs no tool
            request = random.choice(QUESTIONS)
        elif random.random() < 0.5:  # the tools of another domain altogether
            offered = list(random.choice([specs for name, specs in DOMAINS.items() if name != domain]))[:count]
        far = [other for other in far if other not in offered]
    else:
        offered.append(spec)
    offered += random.sample(far, count - len(offered)) if len(offered) < count else []
    random.shuffle(offered)
    style = random.choice(STYLES)
    tools = [definition(each, style) for each in offered]
    messages: list[Message] = []
    if random.random() < 0.7:
        messages.append({"role": "system", "content": random.choice(_SYSTEMS).format(domain=domain)})
    messages.append({"role": "user", "content": request})
    expected = None
    if fits:
        named = {argument_name(name, style): value for name, value in arguments.items()}
        expected = {"name": styled(spec.words, style), "arguments": named}
    return Case(set_name, messages, expected, tools=tools, max_tokens=96)


def draw_request(random: Random, spec: ToolSpec) -> tuple[str, dict[str, Any]]:
    """A user's request, and the arguments of the call that it asks for, in the order of the definition."""
    drawn = random.choice(spec.requests)
    template, implied = (drawn, {}) if isinstance(drawn, str) else drawn
    arguments: dict[str, Any] = dict(implied)
    shown: dict[str, str] = {}
    for _, name, _, _ in Formatter().parse(template):
        if name:
            value = _draw(random, spec.arguments[name], taken=arguments.values())
            arguments[name] = value
            shown[name] = " and ".join(value) if isinstance(value, list) else str(value)
    request = pools.frame(random, template).format(**shown)
    return request, {name: arguments[name] for name in spec.arguments if name in arguments}


def _draw(random: Random, kind: str | Sequence[str | None], taken: Any) -> Any:
    if not isinstance(kind, str):
        return random.choice([value for value in kind if value is not None])
    if kind == "languages":
        return random.sample(_LANGUAGES, 2)
    while (value := pools.KINDS[kind.rstrip("?")][1](random)) in taken:
        pass
    return value


STYLES = ("snake", "camel", "kebab", "pascal", "snake", "dotted")
"""Of the tools' names."""


def styled(words: str, style: str) -> str:
    """A tool's name in a style: order_pilot, orderPilot, order-pilot, OrderPilot, order.pilot."""
    parts = words.split()
    if style in ("camel", "pascal"):
        joined = "".join(part.capitalize() for part in parts)
        return joined if style == "pascal" else joined[0].lower() + joined[1:]
    return {"snake": "_", "kebab": "-", "dotted": "."}[style].join(parts)


def argument_name(name: str, style: str) -> str:
    """An argument's name beside a tool's name of that style."""
    return styled(name.replace("_", " "), "camel") if style == "camel" else name


def definition(spec: ToolSpec, style: str) -> dict[str, Any]:
    """A tool as the API takes it."""
    properties = {argument_name(name, style): _schema(kind) for name, kind in spec.arguments.items()}
    required = [
        argument_name(name, style)
        for name, kind in spec.arguments.items()
        if not (kind.endswith("?") if isinstance(kind, str) else None in kind)
    ]
    parameters: Mapping[str, Any] = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": styled(spec.words, style), "description": spec.description, "parameters": parameters},
    }


def _schema(kind: str | Sequence[str | None]) -> dict[str, Any]:
    if not isinstance(kind, str):
        return {"type": "string", "enum": [value for value in kind if value is not None]}
    kind = kind.rstrip("?")
    if kind == "flag":
        return {"type": "boolean"}
    if kind == "languages":
        return {"type": "array", "items": {"type": "string"}}
    schema = {"type": pools.KINDS[kind][0]}
    if kind in _HINTS:
        schema["description"] = _HINTS[kind]
    return schema
