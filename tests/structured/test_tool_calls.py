"""Tools: what a request may define, what the grammar lets a model write, and how calls are read out of a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from schemas import SCHEMAS, closed_object
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from minillm import LLM, SamplingParams
from minillm.engine.request import OutputChunk, RequestOutput
from minillm.errors import InvalidRequestError
from minillm.structured import Grammar, GrammarCompiler, Matcher
from minillm.structured.tool_calls import (
    MAX_CALLS,
    ArgumentsDelta,
    TextDelta,
    Tool,
    ToolCallBegin,
    ToolCallEnd,
    ToolCallParser,
    ToolEvent,
    collect_events,
    parse_tool_choice,
    parse_tools,
    read_tool_calls,
    tool_call_grammar,
)
from minillm.text import Tokenizer, tiny_tokenizer
from minillm.text.checkpoint import TokenizerParts
from minillm.text.tool_messages import CALL_BEGIN, MARKERS

TOKENIZER = tiny_tokenizer()
NAMED: dict[str, Any] = {"type": "function", "function": {"name": "get-time"}}


def function(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


WEATHER = function(
    "get_weather",
    description="The weather in a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    },
)
TIME = function("get-time")
TOOLS = parse_tools([WEATHER, TIME])


def call(name: str = "get-time", arguments: str = "{}") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


PARIS = call("get_weather", '{"city": "Paris"}')


# -- definitions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f", "Plugin-func", "mcp.server.tool_1", "a" * 128])
def test_names_as_clients_send_them(name: str) -> None:
    (tool,) = parse_tools([function(name)])
    assert tool.name == name


@pytest.mark.parametrize("fields", [{}, {"parameters": None}, {"parameters": {}}, {"parameters": {"type": "object"}}])
def test_no_parameters_are_no_arguments(fields: dict[str, Any]) -> None:
    (tool,) = parse_tools([function(**fields)])
    assert tool.parameters["type"] == "object"
    assert tool.arguments_schema() == {"type": "object", "properties": {}, "additionalProperties": False}


def test_what_clients_send_beside_the_schema_is_accepted() -> None:
    parameters = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "T", "properties": {"a": {}}}
    extra = {
        "type": "function",
        "cache": 1,
        "function": {"name": "f", "strict": True, "parameters": parameters, "x": 1},
    }
    (tool,) = parse_tools([extra])
    assert tool.definition() == function("f", parameters={"type": "object", **parameters})


WRONG_TOOLS = {
    "no list": ("f", "tools"),
    "too many": ([function(f"f{index}") for index in range(129)], "tools"),
    "no object": (["f"], "tools[0]"),
    "another type": ([function(), {"type": "web_search"}], "tools[1].type"),
    "no function": ([{"type": "function", "name": "f"}], "tools[0].function"),
    "no name": ([{"type": "function", "function": {}}], "tools[0].function.name"),
    "empty name": ([function("")], "tools[0].function.name"),
    "a name with spaces": ([function("get weather")], "tools[0].function.name"),
    "a name with a quote": ([function('f"')], "tools[0].function.name"),
    "a long name": ([function("a" * 129)], "tools[0].function.name"),
    "the same name": ([function("a"), function("b"), function("a")], "tools[2].function.name"),
    "description": ([function(description=5)], "tools[0].function.description"),
    "strict": ([function(strict="yes")], "tools[0].function.strict"),
    "no schema": ([function(parameters="object")], "tools[0].function.parameters"),
    "not an object's": ([function(parameters={"type": "string"})], "tools[0].function.parameters"),
    "a list": ([function(parameters=[])], "tools[0].function.parameters"),
    "a bad keyword": (
        [function(), function("g", parameters={"properties": {"a": {"$ref": "http://x"}}})],
        "tools[1].function.parameters",
    ),
    "too deep": ([function(parameters=json.loads('{"items":' * 70 + "{}" + "}" * 70))], "tools[0].function.parameters"),
}


@pytest.mark.parametrize("name", WRONG_TOOLS)
def test_a_wrong_tool_is_refused_by_its_place(name: str) -> None:
    tools, param = WRONG_TOOLS[name]
    with pytest.raises(InvalidRequestError) as caught:
        parse_tools(tools)
    assert caught.value.param == param
    assert str(caught.value).startswith(param)


@pytest.mark.parametrize(
    ("choice", "mode"),
    [(None, "auto"), ("auto", "auto"), ("none", "none"), ("required", "required"), (NAMED, "named")],
)
def test_choices(choice: Any, mode: str) -> None:
    parsed = parse_tool_choice(choice, TOOLS)
    assert parsed.mode == mode
    assert parsed.name == ("get-time" if mode == "named" else "")


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_without_tools_there_is_nothing_to_choose(choice: Any) -> None:
    assert parse_tool_choice(choice, ()).mode == "none"


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("any", "has to be"),
        ({"type": "function"}, "has to be"),
        ({"type": "function", "name": "get-time"}, "has to be"),
        ({"type": "function", "function": {"name": "nobody"}}, "'nobody'; the tools are get_weather, get-time"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "'allowed_tools' is not supported"),
        (5, "has to be"),
    ],
)
def test_a_wrong_choice_is_refused(choice: Any, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        parse_tool_choice(choice, TOOLS)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_call_of_no_tools_cannot_be_forced(choice: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no tools"):
        parse_tool_choice(choice, ())


CLOSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"properties": {"a": {}}}, {"properties": {"a": {}}, "additionalProperties": False}),
    (
        {"properties": {"a": {"type": "array", "items": {"properties": {"b": {}}}}}, "required": ["a"]},
        {
            "properties": {
                "a": {"type": "array", "items": {"properties": {"b": {}}, "additionalProperties": False}},
            },
            "required": ["a"],
            "additionalProperties": False,
        },
    ),
]
OPEN: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
    {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {}, "patternProperties": {"^x": {}}},
    {"type": "object", "properties": {"a": {}}, "required": ["b"]},
    {"type": "object", "properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]},
    {"type": "object", "properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]},
    {"type": "object", "$ref": "#/$defs/d", "properties": {"a": {}}, "$defs": {"d": {"properties": {"b": {}}}}},
]


@pytest.mark.parametrize(("schema", "closed"), CLOSED)
def test_an_object_that_lists_its_properties_gets_no_others(schema: dict[str, Any], closed: dict[str, Any]) -> None:
    assert Tool("f", "", schema).arguments_schema() == {"type": "object", **closed}


@pytest.mark.parametrize("schema", OPEN)
def test_a_schema_that_means_to_be_open_stays_open(schema: dict[str, Any]) -> None:
    assert Tool("f", "", schema).arguments_schema() == schema


# -- the grammar ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grammars() -> GrammarCompiler:
    return GrammarCompiler(TOKENIZER, TOKENIZER.vocab_size)


def grammar_for(choice: Any, *, parallel: bool | None = True, answer: Grammar | None = None) -> Grammar:
    grammar = tool_call_grammar(TOOLS, parse_tool_choice(choice, TOOLS), parallel=parallel, answer=answer)
    assert grammar is not None
    return grammar


def takes(matcher: Matcher, text: str) -> bool:
    """Whether the text is allowed and may end there."""
    matcher = matcher.fork()
    return all(map(matcher.accept, TOKENIZER.encode(text, add_special_tokens=False))) and matcher.may_end


def allows(matcher: Matcher, text: str) -> bool:
    """Whether an output may begin like this."""
    matcher = matcher.fork()
    return all(map(matcher.accept, TOKENIZER.encode(text, add_special_tokens=False)))


CALLS = [call(), PARIS, call("get_weather", '{"city": "</tool_call>"}'), call("get_weather", '{"city": "\\"}}"}')]
NOT_CALLS = [
    "",
    "<tool_call>",
    PARIS[:-1],
    call("nobody"),
    call("get_weather"),
    call("get-time", '{"city": "Paris"}'),
    call("get_weather", '{"city": 5}'),
    call("get_weather", '{"city": "Paris", "more": 1}'),
    call("get_weather", '{"unit": "C"}'),
    call().replace("\n", ""),
]
TEXTS = ["", "Hi", "a < b", "<tool", "</tool_call>", "<tool_<tool_", '{"name": "x"}', "ä🙂\n\n", "<|im_end|>"]


@pytest.mark.parametrize("text", CALLS)
def test_a_call_is_taken_wherever_calls_may_come(grammars: GrammarCompiler, text: str) -> None:
    for choice in ("auto", "required"):
        assert takes(grammars.matcher(grammar_for(choice)), text)
    assert not allows(grammars.matcher(grammar_for("none")), text)


@pytest.mark.parametrize("text", NOT_CALLS)
def test_what_is_no_call_is_not_taken_for_one(grammars: GrammarCompiler, text: str) -> None:
    assert not takes(grammars.matcher(grammar_for("required")), text)
    if text:
        assert not takes(grammars.matcher(grammar_for("auto")), f"Let me see. {text}")


@pytest.mark.parametrize("text", TEXTS)
def test_free_text_is_free(grammars: GrammarCompiler, text: str) -> None:
    for choice in ("auto", "none"):
        assert takes(grammars.matcher(grammar_for(choice)), text)
    assert takes(grammars.matcher(grammar_for("auto")), f"{text} {PARIS}")
    assert not takes(grammars.matcher(grammar_for("required")), text)


def test_from_its_mark_on_a_call_has_to_be_completed(grammars: GrammarCompiler) -> None:
    matcher = grammars.matcher(grammar_for("auto"))
    for token in TOKENIZER.encode(f"Well, {CALL_BEGIN}", add_special_tokens=False):
        assert matcher.may_end
        assert matcher.accept(token)
    assert not matcher.may_end
    assert TOKENIZER.decode(matcher.forced_tokens()).startswith('\n{"name": "get')


def test_everything_forced_is_forced_at_once(grammars: GrammarCompiler) -> None:
    forced = TOKENIZER.decode(grammars.matcher(grammar_for(NAMED)).forced_tokens())
    assert call().startswith(forced)
    assert len(forced) > len(call()) - 12


def test_parallel_calls(grammars: GrammarCompiler) -> None:
    for choice in ("auto", "required"):
        several, one = (grammars.matcher(grammar_for(choice, parallel=parallel)) for parallel in (True, False))
        assert takes(several, f"{PARIS}\n{call()}\n{PARIS}\n")
        assert takes(one, PARIS)
        assert not allows(one, f"{PARIS}\n<")
        assert takes(several, "\n".join([call()] * MAX_CALLS))
        assert not allows(several, "\n".join([call()] * (MAX_CALLS + 1)))
        assert not allows(several, f"{call()}\nDone")
    assert not allows(grammars.matcher(grammar_for(NAMED)), f"{call()}\n")
    assert not allows(grammars.matcher(grammar_for(NAMED)), '<tool_call>\n{"name": "get_')


def test_unasked_for_parallel_calls_come_only_where_the_model_is_free(grammars: GrammarCompiler) -> None:
    assert takes(grammars.matcher(grammar_for("auto", parallel=None)), f"{call()}\n{call()}")
    assert not allows(grammars.matcher(grammar_for("required", parallel=None)), f"{call()}\n<")


def test_no_text_repeats_or_invents_a_result(grammars: GrammarCompiler) -> None:
    for choice in ("auto", "none"):
        assert not allows(grammars.matcher(grammar_for(choice)), "It is <tool_response>")


def test_an_answer_has_its_own_format(grammars: GrammarCompiler) -> None:
    answer = Grammar.json_schema(closed_object({"a": {"type": "integer"}}, 1))
    matcher = grammars.matcher(grammar_for("auto", answer=answer))
    assert [takes(matcher, text) for text in ('{"a": 5}', PARIS, f"{PARIS}\n{call()}")] == [True] * 3
    assert not any(allows(matcher, text) for text in ("Hi", '{"b"', f'{{"a": 5}} {PARIS}', f"{PARIS}\n{{"))
    whatever = grammars.matcher(grammar_for("auto", answer=Grammar.json_object()))
    assert takes(whatever, '{"b": [1]}')
    assert grammar_for("none", answer=answer) == answer
    assert grammar_for("required", answer=answer) == grammar_for("required")
    assert tool_call_grammar((), parse_tool_choice(None, ()), answer=answer) == answer
    with pytest.raises(InvalidRequestError, match="regex"):
        grammar_for("auto", answer=Grammar.regex("a*"))


def test_many_tools_with_names_that_begin_alike(grammars: GrammarCompiler) -> None:
    tools = parse_tools(
        [
            function(
                "get" + "_x" * index,
                parameters={"properties": {f"p{index}": {"const": index}}, "required": [f"p{index}"]},
            )
            for index in range(60)
        ]
    )
    grammar = tool_call_grammar(tools, parse_tool_choice("required", tools))
    assert grammar is not None
    matcher = grammars.matcher(grammar)
    for index in (0, 1, 59):
        name = "get" + "_x" * index
        assert takes(matcher, call(name, f'{{"p{index}": {index}}}'))
        assert not takes(matcher, call(name, '{"p2": 2}'))


def test_each_tool_has_definitions_of_its_own(grammars: GrammarCompiler) -> None:
    tools = parse_tools(
        [
            function(
                name, parameters={"properties": {"a": {"$ref": "#/$defs/x"}}, "required": ["a"], "$defs": {"x": x}}
            )
            for name, x in (("one", {"const": 1}), ("two", {"const": 2}))
        ]
    )
    grammar = tool_call_grammar(tools, parse_tool_choice("required", tools))
    assert grammar is not None
    matcher = grammars.matcher(grammar)
    assert [takes(matcher, call(name, f'{{"a": {a}}}')) for name, a in (("one", 1), ("two", 2), ("one", 2))] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [({"a": {"not": {"type": "null"}}}, "'not'"), ({"a": {"type": "array", "uniqueItems": True}}, "'uniqueItems'")],
)
def test_a_schema_that_cannot_be_honoured_is_blamed_on_its_tool(
    grammars: GrammarCompiler, schema: dict[str, Any], keyword: str
) -> None:
    tools = parse_tools([TIME, function("bad", parameters={"properties": schema}), WEATHER])
    grammar = tool_call_grammar(tools, parse_tool_choice("auto", tools))
    assert grammar is not None
    for _ in range(2):  # the second time it's remembered
        with pytest.raises(InvalidRequestError, match=rf"'bad'.*{keyword} at #/properties/a") as caught:
            grammars.matcher(grammar)
        assert caught.value.param == "tools"


def test_schemas_that_are_large_together_are_refused() -> None:
    tools = parse_tools(
        [function(f"f{i}", parameters={"properties": {"a": {"enum": ["x" * 1000] * 20}}}) for i in range(10)]
    )
    with pytest.raises(InvalidRequestError, match="characters") as caught:
        tool_call_grammar(tools, parse_tool_choice("auto", tools))
    assert caught.value.param == "tools"


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"tools": {}, "max_calls": "x", "text": null}', '{"tools": 5}'])
def test_a_grammar_of_calls_is_made_of_tools(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        Grammar("tool_calls", text)


# -- models that have tokens for the marks ----------------------------------------------------------------------


def with_marks(*, special: bool) -> Tokenizer:
    backend = Backend.from_str(TOKENIZER._backend.to_str())
    backend.add_tokens([AddedToken(mark, normalized=False, special=special) for mark in MARKERS])
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    return Tokenizer(TokenizerParts(backend, names, {}))


@pytest.mark.parametrize("special", [True, False])
def test_a_models_own_marks_are_forced_as_its_tokens(special: bool) -> None:
    tokenizer = with_marks(special=special)
    marks = [tokenizer.marker_ids[mark] for mark in MARKERS]
    matcher = GrammarCompiler(tokenizer, tokenizer.vocab_size).matcher(grammar_for(NAMED))
    forced = matcher.forced_tokens()
    assert forced[0] == marks[0]
    assert all(map(matcher.accept, forced))
    while not matcher.is_complete:
        (token, *_) = matcher.forced_tokens()
        assert matcher.accept(token)
        forced.append(token)
    assert [token for token in forced if token in marks] == marks[:2]
    assert tokenizer.decode(forced) == call()


@pytest.mark.parametrize("special", [True, False])
def test_a_models_own_marks_are_not_written_by_text(special: bool) -> None:
    tokenizer = with_marks(special=special)
    ids = tokenizer.encode(PARIS)
    assert tokenizer.decode(ids) == PARIS
    assert not set(tokenizer.marker_ids.values()) & set(ids)
    assert tokenizer.encode(CALL_BEGIN, parse_special=True) == [tokenizer.marker_ids[CALL_BEGIN]]


# -- the parser -------------------------------------------------------------------------------------------------


def counter() -> Callable[[], str]:
    ids = iter(range(10_000))
    return lambda: f"id{next(ids)}"


def events_of(pieces: list[str]) -> list[ToolEvent]:
    parser = ToolCallParser(counter())
    events = [event for piece in pieces for event in parser.push(piece)]
    return events + parser.finish()


def merged(events: list[ToolEvent]) -> list[ToolEvent]:
    """With pieces of the same text put together."""
    result: list[ToolEvent] = []
    for event in events:
        match (result[-1] if result else None), event:
            case TextDelta(before), TextDelta(text):
                result[-1] = TextDelta(before + text)
            case ArgumentsDelta(index, before), ArgumentsDelta(_, text):
                result[-1] = ArgumentsDelta(index, before + text)
            case _:
                result.append(event)
    return result


def events_for(index: int, name: str, arguments: str, *, complete: bool = True) -> list[ToolEvent]:
    events: list[ToolEvent] = [ToolCallBegin(index, f"id{index}", name)]
    events += [ArgumentsDelta(index, arguments)] if arguments else []
    return [*events, ToolCallEnd(index)] if complete else events


ONE = events_for(0, "get-time", "{}")
READ: dict[str, tuple[str, list[ToolEvent]]] = {
    "nothing": ("", []),
    "text": ("Hi there\n", [TextDelta("Hi there\n")]),
    "half a mark": ("a <tool_call", [TextDelta("a <tool_call")]),
    "a call": (call(), ONE),
    "white space around": (f"\n {call()}\n\n", ONE),
    "text before": (f"Let me see.\n\n{call()}", [TextDelta("Let me see."), *ONE]),
    "text after": (f"{call()}\nDone. ", [*ONE, TextDelta("Done. ")]),
    "two calls": (f"{call()}\n{PARIS}", [*ONE, *events_for(1, "get_weather", '{"city": "Paris"}')]),
    "without a line's end": (f"{call()}{call()}".replace("\n", ""), [*ONE, *events_for(1, "get-time", "{}")]),
    "marks in arguments": (
        call("f", '{"a": "</tool_call> <tool_call> \\"}"}'),
        events_for(0, "f", '{"a": "</tool_call> <tool_call> \\"}"}'),
    ),
    "nested": (call("f", '{"a": {"b": [{}, "}"]}}'), events_for(0, "f", '{"a": {"b": [{}, "}"]}}')),
    "white space inside": (
        '<tool_call>{\n  "name" : "f",\n "arguments":\n{ "a": 1 }\n}\n</tool_call>',
        events_for(0, "f", '{ "a": 1 }'),
    ),
    "another order": (
        '<tool_call>{"arguments": {"a": "é"}, "name": "f"}</tool_call>',
        events_for(0, "f", '{"a": "é"}'),
    ),
    "parameters": ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', events_for(0, "f", '{"a": 1}')),
    "a string of JSON": ('<tool_call>{"name": "f", "arguments": "{}"}</tool_call>', events_for(0, "f", "{}")),
    "no arguments": ('<tool_call>{"name": "f"}</tool_call>', events_for(0, "f", "{}")),
    "no closing mark": ('<tool_call>\n{"name": "get-time", "arguments": {}}', ONE),
    "no closing mark before the next": (f"{call()[:-13]}\n{call()}", [*ONE, *events_for(1, "get-time", "{}")]),
    "an escaped name": (call("caf\\u00e9"), events_for(0, "café", "{}")),
    "not JSON": ("<tool_call>get_weather(Paris)</tool_call>", [TextDelta("get_weather(Paris)")]),
    "not a call": ("a<tool_call>[1]</tool_call>b", [TextDelta("a[1]b")]),
    "a name that isn't one": ('<tool_call>{"name": 5}</tool_call>', [TextDelta('{"name": 5}')]),
    "arguments that aren't": (
        '<tool_call>{"name": "f", "arguments": 5}</tool_call>',
        [TextDelta('{"name": "f", "arguments": 5}')],
    ),
    "not JSON and no end": ("<tool_call>f(", [TextDelta("f(")]),
    "a closing mark alone": ("a</tool_call>b", [TextDelta("ab")]),
    "cut in the mark": ("Hi. <tool_call>", [TextDelta("Hi.")]),
    "cut in the name": ('<tool_call>\n{"name": "get', []),
    "cut before the arguments": ('<tool_call>\n{"name": "f", "arguments": ', []),
    "cut in the arguments": (
        '<tool_call>\n{"name": "f", "arguments": {"a": "b',
        events_for(0, "f", '{"a": "b', complete=False),
    ),
    "cut in the closing mark": (call()[:-4], ONE),
    "cut between calls": (f"{call()}\n<tool_ca", ONE),
}


@pytest.mark.parametrize("name", READ)
def test_reading(name: str) -> None:
    text, events = READ[name]
    assert merged(events_of([text])) == events
    assert merged(events_of(list(text))) == events, "character by character"
    content, calls = read_tool_calls(text)
    assert content == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert [each.name for each in calls] == [event.name for event in events if isinstance(event, ToolCallBegin)]


PIECES = [
    *MARKERS,
    call(),
    PARIS,
    "<tool_",
    "call>",
    "{",
    "}",
    '"',
    "\\",
    "\n",
    " ",
    '{"name": "f", ',
    '"arguments": ',
    "{}",
    "x",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.data())
@example("x" * 990 + PARIS, None)
@settings(max_examples=400)
def test_events_do_not_depend_on_how_the_text_is_cut(text: str, data: Any) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8))) if data else [1, 995]
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    events = merged(events_of(pieces))
    assert events == merged(events_of([text]))
    for event in events_of([text]):
        assert not isinstance(event, TextDelta) or not any(mark in event.text for mark in MARKERS[:2])


@given(st.text(alphabet="<tool_cal/>é \n", max_size=40))
def test_text_without_marks_comes_through_unchanged(text: str) -> None:
    if not any(mark in text for mark in MARKERS[:2]):
        assert merged(events_of([text])) == ([TextDelta(text)] if text else [])


def test_text_is_not_held_back_longer_than_needed() -> None:
    parser = ToolCallParser(counter())
    assert parser.push("Hello <") == [TextDelta("Hello")]
    assert parser.push("b") == [TextDelta(" <b")]
    assert parser.push(" <tool_call>") == []
    assert parser.push('\n{"name": "f", "arguments": {"a') == [
        ToolCallBegin(0, "id0", "f"),
        ArgumentsDelta(0, '{"a'),
    ]
    assert parser.push('": "b') == [ArgumentsDelta(0, '": "b')]


@pytest.mark.parametrize("text", [f'{{"a": "{CALL_BEGIN}"}}', f"5{call()}", "", "<tool", " " + call()])
def test_an_output_with_a_format_is_a_call_from_its_first_character_or_none(text: str) -> None:
    for pieces in ([text], list(text)):
        parser = ToolCallParser(counter(), text_or_calls=True)
        events = [event for piece in pieces for event in parser.push(piece)] + parser.finish()
        # The beginning of a mark can only be that of a call which was cut off.
        assert collect_events(events) == ("" if text == "<tool" else text, ())
    assert events_of([call()]) == ToolCallParser(counter(), text_or_calls=True).push(call())


def test_ids_are_unique() -> None:
    _, calls = read_tool_calls(f"{call()}\n{call()}")
    _, more = read_tool_calls(call())
    ids = [each.id for each in (*calls, *more)]
    assert len(set(ids)) == 3
    assert all(call_id.startswith("call_") for call_id in ids)


def test_a_name_that_never_ends_is_not_waited_for() -> None:
    parser = ToolCallParser()
    parser.push('<tool_call>{"name": "')
    for _ in range(2000):
        parser.push("a")
    assert collect_events(parser.push("</tool_call>"))[0] == '{"name": "' + "a" * 2000


# -- through the engine -----------------------------------------------------------------------------------------

HELLO = [{"role": "user", "content": "Hello"}]
LONG = 900
_parameters = st.builds(closed_object, st.dictionaries(st.sampled_from("abc"), SCHEMAS, max_size=3), st.integers(0, 3))
_toolsets = st.lists(_parameters, min_size=1, max_size=3).map(
    lambda schemas: [function(f"tool-{index}", parameters=schema) for index, schema in enumerate(schemas)]
)


def check_calls(output: RequestOutput, tools: list[dict[str, Any]], *, may_be_cut: bool = False) -> None:
    """Whether the output is calls and nothing else, each one valid; the last one may be incomplete."""
    assert output.text == ""
    assert output.finish_reason == "stop" or may_be_cut
    calls = output.tool_calls if output.finish_reason == "stop" else output.tool_calls[:-1]
    assert calls or may_be_cut
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    for each in calls:
        jsonschema.Draft202012Validator(schemas[each.name]).validate(json.loads(each.arguments))


# The same examples every time: each takes a second, and what fails would be shrunk for minutes.
@settings(max_examples=30, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(tools=_toolsets, named=st.booleans(), parallel=st.booleans(), seed=st.integers(0, 999))
def test_a_forced_call_always_validates(
    tiny: LLM, tools: list[dict[str, Any]], named: bool, parallel: bool, seed: int
) -> None:
    choice: Any = {"type": "function", "function": {"name": "tool-0"}} if named else "required"
    params = SamplingParams(temperature=1.5, seed=seed, max_tokens=LONG)
    output = tiny.chat(HELLO, params, tools=tools, tool_choice=choice, parallel_tool_calls=parallel)
    # Sixteen calls may need more room than the tiny model has.
    check_calls(output, tools, may_be_cut=parallel and not named)
    if named:
        assert [each.name for each in output.tool_calls] == ["tool-0"]


@settings(max_examples=5, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(toolsets=st.lists(_toolsets, min_size=4, max_size=8), seed=st.integers(0, 999))
def test_forced_calls_of_different_tools_share_a_batch(
    tiny: LLM, toolsets: list[list[dict[str, Any]]], seed: int
) -> None:
    prompts, params = [], []
    for index, tools in enumerate(toolsets):
        parsed = parse_tools(tools)
        grammar = tool_call_grammar(parsed, parse_tool_choice("required", parsed))
        prompts.append(tiny.tokenizer.apply_chat_template(HELLO, tools=tools))
        params.append(SamplingParams(grammar=grammar, temperature=1.5, seed=seed + index, max_tokens=LONG))
    # Where the definitions fill the tiny model's context, there may be no room for a whole call.
    outputs = list(zip(tiny.generate(prompts, params), toolsets, strict=True))
    for output, _ in outputs:
        assert output.finish_reason == "stop" or len(output.prompt_token_ids) + LONG > tiny.max_model_len
    finished = [(output, tools) for output, tools in outputs if output.finish_reason == "stop"]
    assert len(finished) > 1
    for output, tools in finished:
        _, calls = read_tool_calls(output.text)
        assert len(calls) == 1
        assert output.text == call(calls[0].name, calls[0].arguments)
        jsonschema.validate(json.loads(calls[0].arguments), tools[int(calls[0].name[5:])]["function"]["parameters"])


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_has_the_same_calls(tiny: LLM, n: int) -> None:
    params = SamplingParams(seed=5, n=n, max_tokens=LONG)
    whole = tiny.chat(HELLO, params, tools=[WEATHER, TIME], tool_choice="required")
    chunks = tiny.chat(HELLO, params, tools=[WEATHER, TIME], tool_choice="required", stream=True)
    events: dict[int, list[ToolEvent]] = {index: [] for index in range(n)}
    for chunk in chunks:
        assert isinstance(chunk, OutputChunk)
        assert not chunk.text
        events[chunk.index] += chunk.tool_events
    for output in (whole, *whole.others):
        _, calls = collect_events(events[output.index])
        assert [(each.name, each.arguments) for each in calls] == [(e.name, e.arguments) for e in output.tool_calls]


def test_several_conversations_share_the_tools(tiny: LLM) -> None:
    outputs = tiny.chat([HELLO, HELLO], SamplingParams(seed=1), tools=[TIME], tool_choice="required")
    assert [[each.name for each in output.tool_calls] for output in outputs] == [["get-time"]] * 2


def test_a_chat_that_calls_nothing_is_text(tiny: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=20)
    for choice in ("auto", "none"):
        output = tiny.chat(HELLO, params, tools=[TIME], tool_choice=choice)
        assert output.text
        assert output.tool_calls == ()
    assert output.prompt_token_ids == tiny.chat(HELLO, params).prompt_token_ids, "nothing to call, nothing shown"


def test_forced_tokens_cost_no_step_of_their_own(tiny: LLM) -> None:
    before = tiny.engine.metrics.snapshot().num_steps
    tiny.chat(HELLO, SamplingParams(), tools=[TIME], tool_choice=NAMED)
    assert tiny.engine.metrics.snapshot().num_steps - before <= 5


@pytest.mark.parametrize("stop", ["<", "get", "\n", "}", "tool_call>"])
@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_stop_string_does_not_cut_a_forced_call(tiny: LLM, choice: Any, stop: str) -> None:
    output = tiny.chat(HELLO, SamplingParams(stop=stop), tools=[TIME], tool_choice=choice)
    check_calls(output, [function("get-time", parameters={})])


def test_a_call_that_has_no_end_is_cut_off_at_max_tokens(tiny: LLM) -> None:
    tools = [function("f", parameters={"properties": {"a": {"type": "string", "minLength": 500}}, "required": ["a"]})]
    output = tiny.chat(HELLO, SamplingParams(max_tokens=60), tools=tools, tool_choice="required")
    assert output.finish_reason == "length"
    (cut,) = output.tool_calls
    assert (cut.name, cut.arguments[:7]) == ("f", '{"a": "')
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut.arguments)


@pytest.mark.parametrize("stream", [True, False])
def test_a_mark_inside_of_json_is_no_call(tiny: LLM, stream: bool) -> None:
    answer = Grammar.json_schema({"const": f"{CALL_BEGIN} {call()}"})
    end = {min(tiny.tokenizer.eos_token_ids): -100.0, TOKENIZER.encode("<")[0]: -100.0}
    params = SamplingParams(grammar=answer, logit_bias=end, max_tokens=200)
    if stream:
        chunks = tiny.chat(HELLO, params, tools=[TIME], stream=True)
        text = "".join(chunk.text for chunk in chunks if not chunk.tool_events)
    else:
        text = tiny.chat(HELLO, params, tools=[TIME]).text
    assert json.loads(text) == f"{CALL_BEGIN} {call()}"


def test_tools_cannot_be_joined_with_ignore_eos(tiny: LLM) -> None:
    with pytest.raises(InvalidRequestError, match="ignore_eos"):
        tiny.chat(HELLO, SamplingParams(ignore_eos=True), tools=[TIME])


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_the_real_model_asks_for_the_weather_in_paris(smollm2: LLM, choice: Any) -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    output = smollm2.chat(messages, SamplingParams(temperature=0), tools=[WEATHER], tool_choice=choice)
    check_calls(output, [WEATHER])
    assert json.loads(output.tool_calls[0].arguments)["city"] == "Paris"
