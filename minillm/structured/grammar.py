"""What a text has to look like: a JSON Schema, any JSON object, a regular expression or a Lark grammar.

A `Grammar` is only the description, checked as far as that goes without a tokenizer. What llguidance would get wrong
without a word, or would need too long for, is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args
from urllib.parse import unquote

from minillm.errors import InvalidRequestError
from minillm.text.tool_messages import CALL_BEGIN

Kind = Literal["json_schema", "json_object", "regex", "lark", "tool_calls"]

MAX_LENGTH = 128 * 1024
"""Characters of a grammar's text."""
MAX_DEPTH = 64
"""How deep objects and lists may be nested in a schema."""
MAX_LARK_LINES = 500
"""llguidance follows rules recursively, and some thousands of them overflow its stack."""

_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_NOT_SCHEMAS = ("enum", "const", "default", "examples", "required")


@dataclass(frozen=True)
class Grammar:
    """What an output must match from its first character to its last.

    JSON is written on one line, with ", " and ": " between its parts and keys in the order of the schema, so that a
    model can neither fill the output with blanks nor be asked for what's certain anyway.

    Attributes:
        kind: how to read the text.
        text: a JSON Schema as JSON, a regular expression (of Rust's `regex`: no look-around, no back-references) or
            a grammar in llguidance's dialect of Lark; "" for json_object; of tool_calls what `Grammar.tool_calls`
            writes.
    """

    kind: Kind
    text: str = ""

    def __post_init__(self) -> None:
        """Raises:
        InvalidRequestError: for a text that isn't of this kind, or that is too large, naming the keyword.
        """
        if self.kind not in get_args(Kind):
            raise _refused(f"A grammar's kind is {self.kind!r}; expected one of {', '.join(get_args(Kind))}.")
        if not isinstance(self.text, str) or bool(self.text) == (self.kind == "json_object"):
            raise _refused(f"A grammar of kind {self.kind!r} can't be the text {self.text!r:.80}.")
        if len(self.text) > MAX_LENGTH:
            raise _refused(f"The grammar has {len(self.text)} characters; at most {MAX_LENGTH} are taken. Shorten it.")
        if self.kind == "lark" and (self.text.count("\n") >= MAX_LARK_LINES or "%json" in self.text):
            raise _refused(f"A Lark grammar may have {MAX_LARK_LINES} lines and no %json; use a JSON Schema for that.")
        if self.kind == "json_schema":
            object.__setattr__(self, "text", json.dumps(_checked_schema(self.text)))
        if self.kind == "tool_calls":
            self._check_tool_calls()

    def _check_tool_calls(self) -> None:
        try:
            parts = json.loads(self.text)
            schemas = [*parts["tools"].values(), *([parts["text"]] if isinstance(parts["text"], dict) else [])]
            if parts.keys() != {"tools", "max_calls", "text"} or not isinstance(parts["max_calls"], int):
                raise ValueError
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise _refused("A grammar of kind 'tool_calls' is made by Grammar.tool_calls().") from None
        for schema in schemas:
            _checked_schema(json.dumps(schema))

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool) -> Grammar:
        """JSON that a JSON Schema (draft 2020-12) takes as valid.

        Raises:
            InvalidRequestError: for a schema that can't be honoured, naming the keyword.
        """
        try:
            return cls("json_schema", json.dumps(schema, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            if isinstance(error, InvalidRequestError):
                raise
            raise _refused(f"The schema isn't JSON ({error}).") from error

    @classmethod
    def json_object(cls) -> Grammar:
        """Any JSON object."""
        return cls("json_object")

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """A text that a regular expression matches as a whole."""
        return cls("regex", pattern)

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """A text of the language that a context-free grammar describes, from its rule `start`."""
        return cls("lark", text)

    @classmethod
    def tool_calls(
        cls,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        max_calls: int = 1,
        text: Grammar | Literal["free"] | None = None,
    ) -> Grammar:
        """Calls of tools in the format of `minillm.structured.tool_calls`, at most `max_calls` of them.

        Args:
            tools: JSON Schemas of the arguments, by the tools' names.
            max_calls: one after the other.
            text: what may be there beside them. "free": any text before the first call or without one, but in it no
                mark of a call. A grammar: either text that follows it, or calls. None: nothing, and at least one call.

        Raises:
            InvalidRequestError: for schemas that can't be honoured, or a `text` that isn't JSON.
        """
        if isinstance(text, Grammar):
            if text.kind not in ("json_schema", "json_object"):
                raise _refused(f"A grammar of kind {text.kind!r} can't be joined with tools; only JSON can.")
            joined: Any = text._json_schema()
        else:
            joined = text
        return cls("tool_calls", json.dumps({"tools": dict(tools), "max_calls": max_calls, "text": joined}))

    @property
    def unstoppable_from(self) -> str | None:
        """The text from which on stop strings no longer count, "" for the beginning; None if they always count.

        A stop string ends text. A call that it cut off would be none.
        """
        if self.kind != "tool_calls" or not json.loads(self.text)["tools"]:
            return None
        return "" if json.loads(self.text)["text"] is None else CALL_BEGIN

    def subschemas(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every schema inside a JSON Schema with its path, itself first; those of all parts of tool calls; nothing
        for the other kinds."""
        if self.kind == "tool_calls":
            return chain.from_iterable(part.subschemas() for _, part in self.parts())
        return _walk(json.loads(self.text)) if self.kind == "json_schema" else iter(())

    def parts(self) -> Iterator[tuple[str | None, Grammar]]:
        """The grammars that tool calls are made of: each tool's arguments with its name, and, with None, the text's."""
        parts = json.loads(self.text)
        for name, schema in parts["tools"].items():
            yield name, Grammar.json_schema(schema)
        if isinstance(parts["text"], dict):
            yield None, Grammar.json_schema(parts["text"])

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "object"} if self.kind == "json_object" else json.loads(self.text)


def _checked_schema(text: str) -> dict[str, Any]:
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _refused(f"The schema isn't JSON ({error}).") from error
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise _refused(f"A JSON Schema is an object, such as {{'type': 'object'}}; got {text:.80}.")
    if _depth(schema) > MAX_DEPTH:
        raise _refused(f"The schema is nested more than {MAX_DEPTH} levels deep. Put parts of it into $defs.")
    for path, part in _walk(schema):
        _check_subschema(path, part)
    _check_references(schema)
    return schema


def _check_subschema(path: str, schema: dict[str, Any]) -> None:
    """Refuses what llguidance takes, but doesn't do in the way that the standard says."""

    def refuse(keyword: str, why: str) -> None:
        raise _refused(f"The keyword {keyword!r} at {path} can't be honoured: {why}.")

    if schema.get("uniqueItems") is False:  # asks for nothing
        del schema["uniqueItems"]
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
        refuse("$ref", f"{reference!r:.80} is no path in the schema, such as '#/$defs/name'")
    for keyword in ("$id", "$anchor", "x-guidance"):
        if keyword in schema:
            refuse(keyword, "references are paths, such as '#/$defs/name', and nothing else can be set in a schema")
    for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(schema.get(keyword), bool):
            refuse(keyword, "it's a number of its own since draft 6")
    if isinstance(schema.get("items"), list):
        refuse("items", "a list of schemas is called prefixItems since draft 2020-12")
    at_least, required = schema.get("minProperties", 0), schema.get("required", ())
    # A model may write a key twice, which counts as one.
    if not isinstance(at_least, int) or at_least > (len(set(map(str, required))) if isinstance(required, list) else 0):
        refuse("minProperties", "it asks for more properties than `required` names")


def _check_references(schema: dict[str, Any]) -> None:
    """Refuses references that lead to nothing but each other: no text would ever match."""
    ends: set[str] = set()  # references that lead to something
    for path, part in _walk(schema):
        followed: list[str] = []
        while isinstance(part, dict) and isinstance(reference := part.get("$ref"), str) and reference not in ends:
            if reference in followed:
                raise _refused(f"The keyword '$ref' at {path} can't be honoured: it leads back to itself.")
            followed.append(reference)
            part = _resolve(schema, reference)
        ends.update(followed)


def _resolve(schema: Any, reference: str) -> Any:
    """What a path such as '#/$defs/name' leads to; None if that is nothing."""
    for name in unquote(reference).split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list):
            schema = schema[int(name)] if name.isdecimal() and int(name) < len(schema) else None
        else:
            schema = schema.get(name) if isinstance(schema, dict) else None
    return schema


def _walk(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    left: list[tuple[str, Any]] = [("#", schema)]
    while left:
        path, part = left.pop()
        if isinstance(part, list):
            left += [(f"{path}/{index}", each) for index, each in enumerate(part)]
        elif isinstance(part, dict):
            yield path, part
            for key, value in part.items():
                if key in _MAPS_OF_SCHEMAS and isinstance(value, dict):
                    left += [(f"{path}/{key}/{name}", each) for name, each in value.items()]
                elif key not in _NOT_SCHEMAS:
                    left.append((f"{path}/{key}", value))


def _depth(value: Any) -> int:
    deepest, left = 0, [(value, 1)]
    while left:
        part, depth = left.pop()
        if isinstance(part, dict | list):
            deepest = max(deepest, depth)
            left += [(each, depth + 1) for each in (part.values() if isinstance(part, dict) else part)]
    return deepest


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, "grammar")
