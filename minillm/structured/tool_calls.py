"""Tool calls: definitions of tools, the grammar that calls have to follow, and the parser that reads them.

A call is text in the format of Hermes and Qwen, written by the model or forced on it by the grammar:

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

From its mark on, a call follows the schema of its tool's parameters, also where the model was free to make none. Only
max_tokens can cut it off: a schema without bounds (strings without maxLength, lists without maxItems) lets a model
write on for ever. What there is of such a call is reported without a `ToolCallEnd`, and its arguments aren't JSON.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from minillm.errors import InvalidRequestError
from minillm.structured.grammar import MAX_LENGTH, Grammar
from minillm.text import Tokenizer
from minillm.text.tool_messages import CALL_BEGIN, CALL_END

MAX_TOOLS = 128
MAX_CALLS = 16
"""Parallel calls in one answer; a weak model would otherwise repeat itself to its last token."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_COMBINING = {"anyOf", "oneOf", "$ref"}
_OF_OBJECTS = {"properties", "required", "additionalProperties", "patternProperties"}


@dataclass(frozen=True)
class Tool:
    """A function that the model may call.

    Attributes:
        name: letters, digits, "_", "-" and ".".
        description: what it does, for the model; "" for none.
        parameters: JSON Schema of its arguments, an object. As the client gave it.
    """

    name: str
    description: str
    parameters: dict[str, Any]

    def definition(self) -> dict[str, Any]:
        """In OpenAI's form, as chat templates show it to the model."""
        described = {"description": self.description} if self.description else {}
        return {"type": "function", "function": {"name": self.name, **described, "parameters": self.parameters}}

    def arguments_schema(self) -> dict[str, Any]:
        """What arguments have to follow: `parameters`, but closed.

        JSON Schema lets an object have keys that nobody asked for unless additionalProperties says otherwise, and
        functions fail on them. So an object whose properties are listed gets no others, unless schemas are combined
        and one of them adds properties to another.
        """
        schema = {"type": "object", **self.parameters}
        parts = [part for _, part in Grammar.json_schema(schema).subschemas()]
        if any("allOf" in part or (_COMBINING & part.keys() and _OF_OBJECTS & part.keys()) for part in parts):
            return schema
        return _closed(schema if _COMBINING & schema.keys() else {"properties": {}, **schema})


def parse_tools(tools: object) -> tuple[Tool, ...]:
    """Reads the `tools` of a request. None is the same as [].

    Raises:
        InvalidRequestError: naming the tool and the field, such as tools[0].function.name.
    """
    if tools is None:
        return ()
    if not isinstance(tools, list | tuple) or len(tools) > MAX_TOOLS:
        raise InvalidRequestError(f"tools must be a list of up to {MAX_TOOLS} tools.", "tools")
    parsed: dict[str, Tool] = {}
    for index, each in enumerate(tools):
        tool = _parse_tool(each, f"tools[{index}]")
        if tool.name in parsed:
            raise _bad(f"tools[{index}].function.name", f"is {tool.name!r}, like that of another tool; rename one")
        parsed[tool.name] = tool
    return tuple(parsed.values())


def _parse_tool(tool: object, where: str) -> Tool:
    if not isinstance(tool, Mapping):
        raise _bad(where, 'must be an object, {"type": "function", "function": {…}}')
    if tool.get("type") != "function":
        raise _bad(f"{where}.type", f"is {tool.get('type')!r:.80}; this server has 'function' only")
    function = tool.get("function")
    if not isinstance(function, Mapping):
        raise _bad(f"{where}.function", 'must be an object with "name", "description" and "parameters"')
    name, description, parameters = (function.get(key) for key in ("name", "description", "parameters"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _bad(f"{where}.function.name", f"is {name!r:.80}; expected up to 128 of the characters A-Z a-z 0-9 _ - .")
    if not isinstance(description, str | None):
        raise _bad(f"{where}.function.description", "must be a string")
    if not isinstance(function.get("strict"), bool | None):
        raise _bad(f"{where}.function.strict", "must be true or false; arguments follow the schema either way")
    return Tool(name, description or "", _check_parameters(parameters, f"{where}.function.parameters"))


def _check_parameters(parameters: object, where: str) -> dict[str, Any]:
    if not parameters and (parameters is None or isinstance(parameters, Mapping)):
        return {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise _bad(where, 'must be a JSON Schema of the type "object", or left out for a tool without arguments')
    schema = {"type": "object", **parameters}
    try:
        Grammar.json_schema(schema)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{where}: {error}", where) from None
    return schema


def _closed(schema: Any) -> Any:
    """The schema with additionalProperties=false in the objects that list their properties and leave it open."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: _closed(value) if key in ("items", "prefixItems", "anyOf", "oneOf") else value
        for key, value in schema.items()
    }
    for key in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            closed[key] = {name: _closed(each) for name, each in schema[key].items()}
    properties, required = schema.get("properties"), schema.get("required", [])
    is_listed = (
        isinstance(properties, dict) and isinstance(required, list) and all(map(properties.__contains__, required))
    )
    if is_listed and "patternProperties" not in schema:
        closed.setdefault("additionalProperties", False)
    return closed


@dataclass(frozen=True)
class ToolChoice:
    """What the model may do about tools.

    Attributes:
        mode: "none" (call none), "auto" (as it likes), "required" (call at least one) or "named" (one call of `name`).
        name: the tool to call; "" unless named.
    """

    mode: Literal["none", "auto", "required", "named"]
    name: str = ""

    @property
    def is_forced(self) -> bool:
        """Whether the whole answer is calls."""
        return self.mode in ("required", "named")


def parse_tool_choice(choice: object, tools: Sequence[Tool]) -> ToolChoice:
    """Reads the `tool_choice` of a request. None is "auto" where there are tools, else "none".

    Raises:
        InvalidRequestError: for a form that isn't known, or a tool that isn't there.
    """
    match choice:
        case None:
            return ToolChoice("auto" if tools else "none")
        case "none":
            return ToolChoice("none")
        case "auto":
            return ToolChoice("auto" if tools else "none")
        case "required":
            parsed = ToolChoice("required")
        case {"type": "function", "function": {"name": str() as name}}:
            parsed = ToolChoice("named", name)
        case {"type": "allowed_tools"}:
            raise InvalidRequestError(
                "tool_choice of the type 'allowed_tools' is not supported by this server. Send only the allowed "
                "tools, with 'auto' or 'required'.",
                "tool_choice",
            )
        case _:
            raise InvalidRequestError(
                'tool_choice has to be "none", "auto", "required" or {"type": "function", "function": {"name": …}}; '
                f"got {str(choice)[:200]}.",
                "tool_choice",
            )
    names = [tool.name for tool in tools]
    if not names:
        raise InvalidRequestError("tool_choice asks for a call, but there are no tools. Send `tools`.", "tool_choice")
    if parsed.mode == "named" and parsed.name not in names:
        raise InvalidRequestError(
            f"tool_choice names the tool {parsed.name!r:.80}; the tools are {', '.join(names)}.", "tool_choice"
        )
    return parsed


def tool_call_grammar(
    tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool | None = None, answer: Grammar | None = None
) -> Grammar | None:
    """What an output has to follow, so that every call in it is one.

    Args:
        tools: those of the request.
        choice: none: no call, and not its mark either; auto: free text, or text and then calls; required: one or
            more calls and nothing else; named: one call of that tool and nothing else.
        parallel: whether several calls may follow each other. None leaves it to a model that is free to call, but
            has a "required" call be one: a weak model that must call doesn't know when to stop.
        answer: what an output without calls has to follow, such as a JSON Schema. It then has no text before calls.

    Returns:
        None where nothing is asked for.

    Raises:
        InvalidRequestError: for schemas that are too large together, or an answer that isn't JSON.
    """
    if not tools or (choice.mode == "none" and answer is not None):
        return answer
    callable_tools = [tool for tool in tools if choice.mode == "named" and tool.name == choice.name] or list(tools)
    schemas = {} if choice.mode == "none" else {tool.name: tool.arguments_schema() for tool in callable_tools}
    if (length := len(json.dumps(schemas))) > MAX_LENGTH:
        raise InvalidRequestError(
            f"The tools' parameters have {length} characters; at most {MAX_LENGTH} are taken. Shorten them.", "tools"
        )
    parallel = choice.mode == "auto" if parallel is None else parallel
    max_calls = MAX_CALLS if parallel and choice.mode != "named" else 1
    return Grammar.tool_calls(schemas, max_calls=max_calls, text=None if choice.is_forced else answer or "free")


@dataclass(frozen=True)
class PreparedChat:
    """A conversation with tools, ready for the engine.

    Attributes:
        prompt_token_ids: the conversation in the model's template.
        grammar: what the output has to follow; None for nothing.
        may_call: whether there may be calls in the output, which then has to be read by a `ToolCallParser`.
        has_format: whether an output without calls has a format of its own, such as JSON.
    """

    prompt_token_ids: list[int]
    grammar: Grammar | None
    may_call: bool
    has_format: bool = False

    def new_parser(self) -> ToolCallParser | None:
        """Reads one output; None if there can be no calls in it."""
        return ToolCallParser(text_or_calls=self.has_format) if self.may_call else None


def prepare_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: object = None,
    tool_choice: object = None,
    parallel_tool_calls: bool | None = None,
    answer: Grammar | None = None,
    add_generation_prompt: bool = True,
) -> PreparedChat:
    """Lays out a conversation and says what may follow it.

    With the choice "none" the model isn't shown the tools, so that it has nothing to call.

    Args:
        tokenizer: of the model.
        messages: the conversation.
        tools, tool_choice, parallel_tool_calls: as in OpenAI's API.
        answer: what an output without calls has to follow.
        add_generation_prompt: end with the beginning of the assistant's answer.

    Raises:
        InvalidRequestError: naming what can't be taken.
    """
    parsed = parse_tools(tools)
    choice = parse_tool_choice(tool_choice, parsed)
    grammar = tool_call_grammar(parsed, choice, parallel=parallel_tool_calls, answer=answer)
    may_call = choice.mode != "none"
    definitions = [tool.definition() for tool in parsed] if may_call else None
    prompt = tokenizer.apply_chat_template(messages, tools=definitions, add_generation_prompt=add_generation_prompt)
    return PreparedChat(prompt, grammar, may_call, has_format=answer is not None)


def _bad(where: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{where} {what}.", where)


# -- reading calls ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextDelta:
    """More of the text around the calls."""

    text: str


@dataclass(frozen=True)
class ToolCallBegin:
    """A call begins. `index` counts the calls of one output, from 0; `id` is unique."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class ArgumentsDelta:
    """More of the arguments' JSON."""

    index: int
    text: str


@dataclass(frozen=True)
class ToolCallEnd:
    """The arguments are complete."""

    index: int


ToolEvent: TypeAlias = TextDelta | ToolCallBegin | ArgumentsDelta | ToolCallEnd


@dataclass(frozen=True)
class ToolCall:
    """A call as a whole. `arguments` is JSON, or the beginning of it if the output was cut off."""

    id: str
    name: str
    arguments: str

    def as_dict(self) -> dict[str, Any]:
        """In OpenAI's form, as it goes back into the conversation."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def new_call_id() -> str:
    """An id that no other call has."""
    return f"call_{uuid.uuid4().hex[:24]}"


class ToolCallParser:
    """Reads one output as it comes: text, and calls between it.

    The events don't depend on how the output is cut into pieces. No mark is ever part of a `TextDelta`: what may be
    the beginning of one is held back, and so is white space, which belongs to a call that follows it.

    An output that followed `tool_call_grammar` has nothing but calls between marks. Of other outputs, calls with
    their keys in another order or arguments in a string are read all the same, and what isn't a call is text.

    Attributes:
        num_calls: how many calls have begun.
    """

    def __init__(self, new_id: Callable[[], str] = new_call_id, *, text_or_calls: bool = False) -> None:
        """Starts an output.

        Args:
            new_id: makes the calls' ids.
            text_or_calls: an output that doesn't begin with a call has none, whatever it looks like (JSON, say, with
                a mark in one of its strings).
        """
        self.num_calls = 0
        self._new_id = new_id
        self._pending = ""  # what isn't decided yet
        self._read: Callable[[], Iterable[ToolEvent] | None] = self._read_start if text_or_calls else self._read_text
        self._after_call = False
        self._scanner = _ObjectScanner()

    def push(self, text: str) -> list[ToolEvent]:
        """Takes the next piece of the output; returns what is certain now."""
        self._pending += text
        return self._advance()

    def finish(self) -> list[ToolEvent]:
        """Ends the output: what was held back is text after all, except for a call's incomplete beginning."""
        events = self._advance()
        rest, self._pending = self._pending, ""
        if self._read == self._read_text:
            events += [] if self._after_call and _undecided(rest) == 0 else _text(rest)
        elif self._read == self._read_body:
            events += self._call_or_text(rest)
        return events

    def _advance(self) -> list[ToolEvent]:
        """Reads on, state by state, until the rest could still become several things."""
        events: list[ToolEvent] = []
        while (more := self._read()) is not None:
            events += more
        return events

    # Each of these reads a part of `_pending`. It returns None when it needs more of it.

    def _read_start(self) -> Iterable[ToolEvent] | None:
        begin = self._pending[: len(CALL_BEGIN)]
        if begin != CALL_BEGIN and CALL_BEGIN.startswith(begin):
            return None
        self._read = self._read_text if begin == CALL_BEGIN else self._read_plain
        return ()

    def _read_plain(self) -> Iterable[ToolEvent] | None:
        return _text(self._take(len(self._pending))) or None

    def _read_text(self) -> Iterable[ToolEvent] | None:
        if self._after_call:
            self._pending = self._pending.lstrip()
        mark = _MARK.search(self._pending)
        if mark is None:
            shown = self._take(_undecided(self._pending))
            self._after_call = self._after_call and not shown
            return _text(shown) or None
        before = self._take(mark.start())
        self._take(len(mark.group()))
        if mark.group() == CALL_BEGIN:
            self._read = self._read_header
            before = before.rstrip()
        self._after_call = self._after_call and not before
        return _text(before)

    def _read_header(self) -> Iterable[ToolEvent] | None:
        header = _read_header(self._pending)
        if header is None:
            return None
        if header is _MALFORMED:
            self._read = self._read_body
            return ()
        name, length = header
        self._take(length)
        self._read, self._scanner = self._read_arguments, _ObjectScanner()
        return self._begin(name)

    def _read_arguments(self) -> Iterable[ToolEvent] | None:
        if not self._pending:
            return None
        index, text = self.num_calls - 1, self._take(self._scanner.end(self._pending))
        if not self._scanner.is_complete:
            return [ArgumentsDelta(index, text)]
        self._read = self._read_brace
        return [ArgumentsDelta(index, text), ToolCallEnd(index)]

    def _read_brace(self) -> Iterable[ToolEvent] | None:
        self._pending = self._pending.lstrip()
        if not self._pending:
            return None
        self._take(self._pending[0] == "}")
        self._read, self._after_call = self._read_text, True  # where a closing mark without an opening one is dropped
        return ()

    def _read_body(self) -> Iterable[ToolEvent] | None:
        end = self._pending.find(CALL_END)
        if end < 0:
            return None
        body = self._take(end)
        self._take(len(CALL_END))
        self._read = self._read_text
        return self._call_or_text(body)

    def _call_or_text(self, body: str) -> list[ToolEvent]:
        """What stood between two marks and didn't begin like a call."""
        try:
            call = json.loads(body)
            arguments = call.get("arguments", call.get("parameters", {}))
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        except (ValueError, AttributeError, RecursionError):
            return _text(_MARK.sub("", body))
        if not isinstance(arguments, dict) or not isinstance(call.get("name"), str):
            return _text(_MARK.sub("", body))
        self._after_call = True
        begin = self._begin(call["name"])
        index = self.num_calls - 1
        return [*begin, ArgumentsDelta(index, json.dumps(arguments, ensure_ascii=False)), ToolCallEnd(index)]

    def _begin(self, name: str) -> list[ToolEvent]:
        self.num_calls += 1
        return [ToolCallBegin(self.num_calls - 1, self._new_id(), name)]

    def _take(self, length: int) -> str:
        taken, self._pending = self._pending[:length], self._pending[length:]
        return taken


def read_tool_calls(text: str, parser: ToolCallParser | None = None) -> tuple[str, tuple[ToolCall, ...]]:
    """The text of a whole output, and its calls; read by a new parser of the usual kind if none is given."""
    parser = parser or ToolCallParser()
    return collect_events(parser.push(text) + parser.finish())


def collect_events(events: Iterable[ToolEvent]) -> tuple[str, tuple[ToolCall, ...]]:
    """The text and the calls that a parser's events are the pieces of."""
    content, calls = "", list[ToolCall]()
    for event in events:
        match event:
            case TextDelta(text):
                content += text
            case ToolCallBegin(_, call_id, name):
                calls.append(ToolCall(call_id, name, ""))
            case ArgumentsDelta(index, text):
                calls[index] = replace(calls[index], arguments=calls[index].arguments + text)
    return content, tuple(calls)


_MARK = re.compile(f"{re.escape(CALL_BEGIN)}|{re.escape(CALL_END)}")
_MAX_HEADER = 1000
_MALFORMED = ("", -1)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _text(text: str) -> list[ToolEvent]:
    return [TextDelta(text)] if text else []


def _undecided(text: str) -> int:
    """Where the end of a text begins that could belong to a mark: its beginning, or white space before it."""
    longest = next(
        (size for size in range(len(CALL_END), 0, -1) if text.endswith((CALL_BEGIN[:size], CALL_END[:size]))), 0
    )
    return len(text[: len(text) - longest].rstrip())


def _read_header(text: str) -> tuple[str, int] | None:
    """The name in '{"name": "…", "arguments": ' and its length. None if it isn't complete yet.

    `_MALFORMED` if it never will be, or if what follows isn't an object.
    """
    if len(text) > _MAX_HEADER:
        text = text[:_MAX_HEADER]
    position, name = 0, ""
    for part in ("{", '"name"', ":", _STRING, ",", '"arguments"', ":", "{"):
        position = len(text) - len(text[position:].lstrip())
        rest = text[position:]
        if isinstance(part, str):
            if not rest.startswith(part):
                return None if part.startswith(rest) and len(text) < _MAX_HEADER else _MALFORMED
            position += len(part)
        else:
            string = part.match(rest)
            if string is None:
                return None if rest[:1] in ("", '"') and len(text) < _MAX_HEADER else _MALFORMED
            try:
                name = json.loads(string.group())
            except ValueError:
                return _MALFORMED
            position += string.end()
    return name, position - 1


class _ObjectScanner:
    """Finds the end of a JSON object that comes in pieces: the brace that closes the first one."""

    def __init__(self) -> None:
        self.is_complete = False
        self._depth = 0
        self._in_string = self._is_escaped = False

    def end(self, text: str) -> int:
        """How much of the text belongs to the object."""
        for position, char in enumerate(text):
            if self._in_string:
                if self._is_escaped:
                    self._is_escaped = False
                elif char == "\\":
                    self._is_escaped = True
                elif char == '"':
                    self._in_string = False
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    return position + 1
        return len(text)
