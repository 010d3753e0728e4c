"""What a grammar takes and refuses: each feature of JSON Schema, and the errors for what can't be honoured."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from minillm.errors import InvalidRequestError
from minillm.structured import Grammar, GrammarCompiler, Matcher, compiler
from minillm.text.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
NODE = {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}}, "required": ["v"]}

# name: (schema, values that it takes, values that it doesn't)
FEATURES: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "nothing": ({}, [None, 1, "a", [], {"a": [1]}], []),
    "type": ({"type": "boolean"}, [True, False], [0, "true", None]),
    "several types": ({"type": ["string", "null"]}, ["", None], [1, []]),
    "integer": ({"type": "integer"}, [0, -5, 10**20], [0.5, "1"]),
    "number": ({"type": "number"}, [0, -1.5, 2e10], ["1", None]),
    "minimum and maximum": ({"type": "integer", "minimum": -3, "maximum": 12}, [-3, 0, 12], [-4, 13]),
    "exclusive bounds": ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5], [0, 1, -1]),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, [0, 14, 77], [1, 8]),
    "string lengths": ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "äöü", '"\n'], ["", "a", "abcd"]),
    "pattern": ({"type": "string", "pattern": "^[A-Z]{2}[0-9]$"}, ["AB1"], ["ab1", "AB12"]),
    "pattern anywhere": ({"type": "string", "pattern": "cat"}, ["cat", "a cat!"], ["dog"]),
    "format date": ({"type": "string", "format": "date"}, ["2024-02-28"], ["2024-13-01", "today"]),
    "format uuid": ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123"]),
    "format email": ({"type": "string", "format": "email"}, ["a@b.org"], ["a"]),
    "enum": ({"enum": ["red", 5, None]}, ["red", 5, None], ["green", 6]),
    "const": ({"const": {"a": [1, 2]}}, [{"a": [1, 2]}], [{"a": [2, 1]}]),
    "array of items": ({"type": "array", "items": {"type": "integer"}}, [[], [1, 2, 3]], [["a"], [1, "a"]]),
    "array lengths": ({"type": "array", "items": {}, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
    "prefixItems": ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, [["a"]], [[1], ["a", 1]]),
    "uniqueItems false": ({"type": "array", "uniqueItems": False}, [[1, 1]], []),
    "required": ({"type": "object", "required": ["a"]}, [{"a": 1}], [{}, {"b": 1}]),
    "optional": ({"type": "object", "properties": {"a": {"type": "null"}}}, [{}, {"a": None}], [{"a": 1}]),
    "closed": ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}], [{"b": 1}]),
    "additional": ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"x": 1}], [{"x": "a"}]),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False},
        [{"n_a": 1}],
        [{"n_a": "b"}, {"b": 1}],
    ),
    "maxProperties": ({"type": "object", "maxProperties": 1}, [{}, {"a": 1}], [{"a": 1, "b": 2}]),
    "minProperties": ({"type": "object", "minProperties": 1, "required": ["a"]}, [{"a": 1}], [{}]),
    "anyOf": ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]}, [5, "a"], ["ab", None]),
    "oneOf": ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [5, "a"], [None]),
    "oneOf with tags": (
        {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": kind}, kind: {}}, "required": ["kind", kind]}
                for kind in ("cat", "dog")
            ]
        },
        [{"kind": "cat", "cat": 1}, {"kind": "dog", "dog": 2}],
        [{"kind": "cow", "cow": 1}, {"kind": "cat", "dog": 1}],
    ),
    "allOf": ({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]}, [3, 5], [2, 6]),
    "$ref": ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}, [1], ["a"]),
    "$ref with more": (
        {"$ref": "#/$defs/a", "maxLength": 2, "$defs": {"a": {"type": "string", "minLength": 1}}},
        ["ab"],
        ["", "abc"],
    ),
    "recursion": (NODE, [{"v": 1}, {"v": 1, "next": {"v": 2}}], [{"next": {"v": 1}}, {"v": 1, "next": {}}]),
    "annotations": ({"type": "null", "title": "T", "description": "D", "default": 1, "deprecated": True}, [None], [1]),
    "a property called not": ({"type": "object", "properties": {"not": {"type": "null"}}}, [{"not": None}], []),
    "$schema": ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "integer"}, [1], ["a"]),
    "number bounds": ({"type": "number", "minimum": 0.5, "maximum": 1.5}, [0.5, 1, 1.5], [0.4, 2]),
    "exclusive integers": ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3}, [1, 2], [0, 3]),
    "multipleOf a fraction": ({"type": "number", "multipleOf": 0.5}, [0.5, 1], [0.3]),
    "large numbers": ({"type": "integer", "maximum": 10**18}, [10**18], [10**18 + 1]),
    "pattern with a length": ({"type": "string", "pattern": "^a+$", "minLength": 2}, ["aa"], ["a", "ab"]),
    "pattern with classes": ({"type": "string", "pattern": "^\\w+ \\d{3}$"}, ["ab 123"], ["ab 12", "a b 123"]),
    "pattern of Unicode": ({"type": "string", "pattern": "^[äö]+$"}, ["äö"], ["a"]),
    "format ipv4": ({"type": "string", "format": "ipv4"}, ["1.2.3.4"], ["1.2.3"]),
    "format ipv6": ({"type": "string", "format": "ipv6"}, ["::1"], ["x"]),
    "format of a number": ({"type": "integer", "format": "int32"}, [1], ["a"]),
    "enum of a type": ({"type": "string", "enum": ["a", 1]}, ["a"], [1]),
    "const null": ({"const": None}, [None], [0, ""]),
    "no items": ({"type": "array", "items": False}, [[]], [[1]]),
    "no more than none": ({"type": "array", "maxItems": 0}, [[]], [[1]]),
    "items after prefixItems": (
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
        [[], [1], [1, "a", "b"]],
        [["a"], [1, 2]],
    ),
    "prefixItems that must be there": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {}], "minItems": 2, "items": False},
        [[1, "a"]],
        [[1], [1, 2, 3]],
    ),
    "empty and closed": ({"type": "object", "properties": {}, "additionalProperties": False}, [{}], [{"a": 1}]),
    "required beside properties": (
        {"type": "object", "properties": {"a": {}}, "required": ["b"]},
        [{"b": 1}],
        [{"a": 1}],
    ),
    "property true": ({"type": "object", "properties": {"a": True}, "required": ["a"]}, [{"a": 1}], [{}]),
    "property false": ({"type": "object", "properties": {"a": False}}, [{}], [{"a": 1}]),
    "keys with escapes": (
        {"type": "object", "properties": {'a"b\n': {"type": "null"}}, "additionalProperties": False},
        [{'a"b\n': None}],
        [{"ab": None}],
    ),
    "patternProperties beside properties": (
        {
            "type": "object",
            "properties": {"a": {"type": "null"}},
            "patternProperties": {"^b": {"type": "integer"}},
            "additionalProperties": False,
        },
        [{"a": None, "b1": 2}],
        [{"c": 1}, {"b": "x"}],
    ),
    "anyOf beside properties": (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "anyOf": [{"required": ["a"]}, {"properties": {"b": {"type": "null"}}, "required": ["b"]}],
        },
        [{"a": 1}, {"b": None}],
        [{}, {"a": "x"}],
    ),
    "anyOf in anyOf": ({"anyOf": [{"anyOf": [{"type": "null"}]}, {"type": "boolean"}]}, [None, True], [1]),
    "oneOf constants": ({"oneOf": [{"const": "a"}, {"const": "b"}]}, ["a", "b"], ["c"]),
    "allOf objects": (
        {
            "allOf": [
                {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]} for name in ("a", "b")
            ]
        },
        [{"a": 1, "b": 2}],
        [{"a": 1}, {"a": 1, "b": "x"}],
    ),
    "definitions": ({"$ref": "#/definitions/a", "definitions": {"a": {"type": "integer"}}}, [1], ["a"]),
    "$ref to $ref": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "null"}}},
        [None],
        [1],
    ),
    "$ref with escapes": (
        {
            "type": "array",
            "prefixItems": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/c%20d"}],
            "$defs": {"a/b": {"type": "null"}, "c d": {"type": "integer"}},
        },
        [[None, 1]],
        [[1, 1], [None, None]],
    ),
    "$ref to a property": (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}},
            "required": ["a", "b"],
        },
        [{"a": 1, "b": 2}],
        [{"a": 1, "b": "x"}],
    ),
    "two that contain each other": (
        {
            "$ref": "#/$defs/a",
            "$defs": {
                "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}, "additionalProperties": False},
                "b": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "additionalProperties": False},
            },
        },
        [{}, {"b": {"a": {"b": {}}}}],
        [{"b": {"b": {}}}],
    ),
    "content": ({"type": "string", "contentEncoding": "base64", "contentMediaType": "text/plain"}, ["YQ=="], [1]),
    "keywords of others": (
        {"type": "integer", "x-order": 1, "nullable": True, "$comment": "c", "readOnly": True, "examples": ["a"]},
        [1],
        [None],
    ),
    "Unicode": ({"enum": ["größer", "日本", "🙂"]}, ["größer", "日本", "🙂"], ["a"]),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "not": ({"not": {"type": "string"}}, "'not'"),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
    "deep inside": ({"properties": {"a": {"items": {"contains": {}}}}}, "'contains' at #/properties/a/items"),
    "if": ({"if": {"type": "string"}, "then": {"minLength": 3}}, "'if'"),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, "'dependentRequired'"),
    "propertyNames": ({"propertyNames": {"maxLength": 3}}, "'propertyNames'"),
    "minProperties": ({"type": "object", "minProperties": 2}, "'minProperties'"),
    "unevaluatedProperties": ({"unevaluatedProperties": False}, "'unevaluatedProperties'"),
    "overlapping oneOf": ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "'oneOf'"),
    "unknown format": ({"type": "string", "format": "colour"}, "'format'"),
    "contains": ({"type": "array", "contains": {"const": 1}}, "'contains'"),
    "minContains": ({"type": "array", "minContains": 1}, "'minContains'"),
    "dependentSchemas": ({"dependentSchemas": {"a": {}}}, "'dependentSchemas'"),
    "dependencies": ({"dependencies": {"a": ["b"]}}, "'dependencies'"),
    "unevaluatedItems": ({"type": "array", "unevaluatedItems": False}, "'unevaluatedItems'"),
    "$dynamicRef": ({"$dynamicRef": "#a"}, "'$dynamicRef'"),
    "$id": ({"$id": "http://a.org/b", "type": "null"}, "'$id'"),
    "$ref to itself": ({"$ref": "#"}, "'$ref'"),
    "$ref in a circle": (
        {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "'$ref'",
    ),
    "exclusiveMinimum of draft 4": ({"type": "integer", "minimum": 0, "exclusiveMinimum": True}, "'exclusiveMinimum'"),
    "required and closed": ({"type": "object", "required": ["a"], "additionalProperties": False}, "required property"),
    "lengths": ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength"),
    "word boundary": ({"type": "string", "pattern": "\\bcat"}, "'pattern'"),
    "look-ahead": ({"type": "string", "pattern": "(?=a)b"}, "'pattern'"),
    "remote $ref": ({"$ref": "http://127.0.0.1:9/schema"}, "'$ref'"),
    "file $ref": ({"$ref": "file:///etc/passwd"}, "'$ref'"),
    "missing $ref": ({"$ref": "#/$defs/nowhere"}, "'$ref'"),
    "$anchor": ({"$defs": {"a": {"$anchor": "b"}}}, "'$anchor'"),
    "wrong type": ({"type": "text"}, "'type'"),
    "list of items": ({"type": "array", "items": [{"type": "string"}]}, "'items'"),
    "contradiction": ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
    "no enum": ({"enum": []}, "Unsatisfiable"),
    "x-guidance": ({"type": "array", "x-guidance": {"whitespace_pattern": "a*"}}, "'x-guidance'"),
    "false": (False, "an object"),
    "a list": ([1], "an object"),
    "not JSON": ({"const": float("nan")}, "isn't JSON"),
}


@pytest.fixture(scope="module")
def grammars() -> GrammarCompiler:
    return GrammarCompiler(TOKENIZER, TOKENIZER.vocab_size)


def takes(matcher: Matcher, text: str) -> bool:
    return all(map(matcher.accept, TOKENIZER.encode(text, add_special_tokens=False))) and matcher.may_end


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_of_json_schema_is_honoured(grammars: GrammarCompiler, name: str) -> None:
    schema, right, wrong = FEATURES[name]
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    matcher = grammars.matcher(Grammar.json_schema(schema))
    for value, is_right in [(value, True) for value in right] + [(value, False) for value in wrong]:
        text = json.dumps(value, ensure_ascii=False)
        assert takes(matcher.fork(), text) is is_right, text
        assert validator.is_valid(value) is is_right, text


@pytest.mark.parametrize("name", REFUSED)
def test_a_schema_that_cannot_be_honoured_is_refused_by_keyword(grammars: GrammarCompiler, name: str) -> None:
    schema, hint = REFUSED[name]
    for _ in range(2):  # the second time it's remembered
        with pytest.raises(InvalidRequestError) as caught:
            grammars.matcher(Grammar.json_schema(schema))
        assert hint in str(caught.value)
        assert caught.value.param == "grammar"


def test_a_regular_expression_matches_from_end_to_end(grammars: GrammarCompiler) -> None:
    matcher = grammars.matcher(Grammar.regex("(cat|dog)s?"))
    assert [takes(matcher.fork(), text) for text in ("cat", "dogs", "cow", "cat!", "a cat")] == [True, True] + 3 * [
        False
    ]


def test_a_lark_grammar_can_count_brackets(grammars: GrammarCompiler) -> None:
    matcher = grammars.matcher(Grammar.lark('start: "(" start ")" | "x"'))
    assert [takes(matcher.fork(), text) for text in ("x", "((x))", "((x)", ")x(")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("kind", "text"), [("regex", "("), ("regex", "(a)\\1"), ("lark", "start: nobody"), ("lark", "hello")]
)
def test_a_broken_grammar_is_refused(grammars: GrammarCompiler, kind: Any, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=kind):
        grammars.matcher(Grammar(kind, text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("yaml", "a"),
        ("regex", ""),
        ("json_object", "{}"),
        ("json_schema", "{"),
        ("json_schema", "[" * 100_000),
        ("json_schema", '{"a":' * 70 + "1" + "}" * 70),
        ("json_schema", json.dumps({"enum": ["x" * 200_000]})),
        ("lark", "start: a\n" * 1000),
        ("lark", "start: %json {}"),
        ("regex", 5),
    ],
)
def test_what_is_no_grammar_at_all_is_refused_at_once(kind: Any, text: Any) -> None:
    with pytest.raises(InvalidRequestError):
        Grammar(kind, text)


def test_a_chain_of_references_that_would_overflow_the_stack_is_refused(grammars: GrammarCompiler) -> None:
    chain = {f"n{i}": {"type": "object", "properties": {"c": {"$ref": f"#/$defs/n{i + 1}"}}} for i in range(1600)}
    schema = {"$ref": "#/$defs/n0", "$defs": chain | {"n1600": {}}}
    with pytest.raises(InvalidRequestError, match="too complex"):
        grammars.matcher(Grammar.json_schema(schema))


def test_a_schema_that_would_take_for_ever_is_refused(
    grammars: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "PROBE_SECONDS", 1)
    bomb = {"allOf": [{"type": "string", "pattern": f".*a{i}.*"} for i in range(24)]}
    with pytest.raises(InvalidRequestError, match="'pattern' together with 'allOf'"):
        grammars.matcher(Grammar.json_schema(bomb))


def test_a_busy_machine_makes_no_schema_too_complex(grammars: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "PROBE_SECONDS", 1)
    monkeypatch.setattr(compiler, "_PROBE", "import time\ntime.sleep(1.5)\n" + compiler._PROBE)
    grammars.matcher(Grammar.json_schema({"type": "string", "pattern": "^busy$"}))


def test_the_cache_forgets_the_least_recently_used_grammar(
    grammars: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "CACHED_GRAMMARS", 2)
    one, two, three = (Grammar.json_schema({"const": name}) for name in ("one", "two", "three"))
    for grammar in (one, two, one, three):
        grammars.matcher(grammar)
    assert list(grammars._compiled) == [one, three]
