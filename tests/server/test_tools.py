"""Tool calls as OpenAI's own client sees them, with every answer checked against the API's types."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessage
from serving import MODEL

from minillm.engine import LLM
from minillm.sampling import SamplingParams
from minillm.server import LocalServer
from minillm.structured.tool_calls import MAX_CALLS

HELLO: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]


def function(name: str, parameters: dict[str, Any] | None = None, **fields: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = function("get_weather", CITY, description="The weather in a city", strict=True)
TIME = function("Clock-get.time")
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
REQUEST: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 200, "seed": 3, "temperature": 1.5}


class Streamed:
    """A choice put together from its chunks, each looked at on the way."""

    def __init__(self, chunks: list[ChatCompletionChunk], index: int = 0) -> None:
        choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        self.content, self.calls = "", list[dict[str, Any]]()
        assert choices[0].delta.role == "assistant"
        for choice in choices:
            self.content += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                if call.index == len(self.calls):
                    assert call.type == "function"
                    self.calls.append({"id": call.id, "name": call.function.name, "arguments": ""})
                    assert call.id and call.function.name
                else:
                    assert call.index == len(self.calls) - 1
                    assert call.id is call.type is call.function.name is None
                self.calls[-1]["arguments"] += call.function.arguments or ""
        self.num_fragments = sum(len(choice.delta.tool_calls or []) for choice in choices)
        *reasons, self.finish_reason = [choice.finish_reason for choice in choices]
        assert set(reasons) == {None}


def check(message: ChatCompletionMessage, *tools: Any) -> None:
    """Whether a message is calls and nothing else, each one valid."""
    assert (message.role, message.content) == ("assistant", None)
    assert message.tool_calls
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] or {"maxProperties": 0} for tool in tools}
    for call in message.tool_calls:
        assert call.type == "function"
        assert call.id.startswith("call_")
        jsonschema.validate(json.loads(call.function.arguments), schemas[call.function.name])
    assert len({call.id for call in message.tool_calls}) == len(message.tool_calls)


# -- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_forced_call(client: openai.OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(tools=[WEATHER, TIME], tool_choice=choice, **REQUEST)
    check(answer.choices[0].message, WEATHER, TIME)
    assert answer.choices[0].finish_reason == "tool_calls"
    if choice == NAMED:
        assert [call.function.name for call in answer.choices[0].message.tool_calls or []] == ["get_weather"]  # type: ignore[union-attr]
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_streamed_call_says_the_same_piece_by_piece(client: openai.OpenAI) -> None:
    request: Any = {**REQUEST, "tools": [WEATHER, TIME], "tool_choice": NAMED}
    whole = client.chat.completions.create(**request).choices[0].message.tool_calls
    streamed = Streamed(list(client.chat.completions.create(**request, stream=True)))
    assert whole is not None
    assert whole[0].type == "function"
    assert [(call["name"], call["arguments"]) for call in streamed.calls] == [
        ("get_weather", whole[0].function.arguments)
    ]
    assert (streamed.finish_reason, streamed.content) == ("tool_calls", "")
    assert streamed.num_fragments > 3, "arguments come as they are made"


@pytest.mark.parametrize("stream", [True, False])
def test_parallel_calls(client: openai.OpenAI, tiny: LLM, stream: bool) -> None:
    """A model that may not end its turn makes as many calls as there may be."""
    forbid_end = {str(token): -100 for token in tiny.tokenizer.eos_token_ids}
    request: Any = {**REQUEST, "max_tokens": 2000, "logit_bias": forbid_end, "tools": [TIME]}
    for parallel, number in ((True, MAX_CALLS), (False, 1), (None, 1)):
        answer: Any = client.chat.completions.create(
            **request, tool_choice="required", parallel_tool_calls=parallel, stream=stream
        )
        if stream:
            streamed = Streamed(list(answer))
            calls = [(call["id"], call["name"], call["arguments"]) for call in streamed.calls]
        else:
            check(answer.choices[0].message, TIME)
            made = answer.choices[0].message.tool_calls
            calls = [(call.id, call.function.name, call.function.arguments) for call in made]
        assert [call[1:] for call in calls] == [("Clock-get.time", "{}")] * number
        assert len({call_id for call_id, _, _ in calls}) == number


def test_the_clients_stream_helper_accumulates_calls(client: openai.OpenAI) -> None:
    arguments, done = "", []
    with client.chat.completions.stream(**REQUEST, tools=[WEATHER], tool_choice="required") as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                arguments += event.arguments_delta
                assert event.index == 0
            if event.type == "tool_calls.function.arguments.done":
                done.append((event.name, event.arguments))
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert done == [("get_weather", arguments)] == [(call.function.name, call.function.arguments)]
    assert call.function.parsed_arguments == json.loads(arguments)


class GetBook(pydantic.BaseModel):
    """Finds a book."""

    title: str = pydantic.Field(max_length=9)
    genre: Literal["novel", "poems"]


def test_a_pydantic_tool_comes_back_filled(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        **REQUEST, tools=[openai.pydantic_function_tool(GetBook)], tool_choice="required"
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, GetBook)


def test_text_is_text_though_there_are_tools(client: openai.OpenAI, tiny: LLM) -> None:
    request: Any = {**REQUEST, "temperature": 0, "max_tokens": 12, "tools": [WEATHER]}
    own = tiny.chat(HELLO, SamplingParams(temperature=0, max_tokens=12), tools=[WEATHER])
    whole = client.chat.completions.create(**request).choices[0]
    streamed = Streamed(list(client.chat.completions.create(**request, stream=True)))
    assert whole.message.content == streamed.content == own.text != ""
    assert whole.message.tool_calls is None
    assert whole.finish_reason == streamed.finish_reason == own.finish_reason


def test_none_calls_nothing_and_shows_no_tools(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(**{**REQUEST, "max_tokens": 1})
    none = client.chat.completions.create(**{**REQUEST, "max_tokens": 1}, tools=[WEATHER], tool_choice="none")
    auto = client.chat.completions.create(**{**REQUEST, "max_tokens": 1}, tools=[WEATHER])
    assert plain.usage and none.usage and auto.usage
    assert none.usage.prompt_tokens == plain.usage.prompt_tokens < auto.usage.prompt_tokens
    assert none.choices[0].message.tool_calls is None


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_that_is_cut_off_says_so(client: openai.OpenAI, stream: bool) -> None:
    endless = function(
        "f", {"type": "object", "properties": {"a": {"type": "string", "minLength": 900}}, "required": ["a"]}
    )
    request: Any = {**REQUEST, "max_tokens": 60, "tools": [endless], "tool_choice": "required", "stream": stream}
    answer: Any = client.chat.completions.create(**request)
    if stream:
        streamed = Streamed(list(answer))
        reason, arguments = streamed.finish_reason, streamed.calls[0]["arguments"]
    else:
        reason, arguments = answer.choices[0].finish_reason, answer.choices[0].message.tool_calls[0].function.arguments
    assert reason == "length"
    assert arguments.startswith('{"a": "')


def test_async_and_many_different_tools_at_once(server: LocalServer) -> None:
    tools = [
        function(f"tool{i}", {"type": "object", "properties": {f"p{i}": {"enum": [i, f"{i}"]}}, "required": [f"p{i}"]})
        for i in range(12)
    ]

    async def ask(client: openai.AsyncOpenAI, i: int) -> None:
        request: Any = {**REQUEST, "seed": i, "tools": [tools[i], tools[(i + 1) % 12]], "tool_choice": "required"}
        if i % 2:
            answer = await client.chat.completions.create(**request)
            check(answer.choices[0].message, *request["tools"])
        else:
            streamed = Streamed([chunk async for chunk in await client.chat.completions.create(**request, stream=True)])
            (call,) = streamed.calls
            number = int(call["name"].removeprefix("tool"))
            assert number in (i, (i + 1) % 12)
            jsonschema.validate(json.loads(call["arguments"]), tools[number]["function"]["parameters"])

    async def ask_all() -> None:
        async with openai.AsyncOpenAI(
            base_url=server.base_url, api_key="x", max_retries=0, _strict_response_validation=True
        ) as client:
            await asyncio.gather(*(ask(client, i) for i in range(12)))

    asyncio.run(ask_all())


# -- together with other fields ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_several_choices_with_logprobs_a_seed_and_usage(client: openai.OpenAI, stream: bool) -> None:
    request: Any = {
        **REQUEST,
        "n": 3,
        "logprobs": True,
        "top_logprobs": 1,
        "tools": [WEATHER],
        "tool_choice": "required",
    }
    whole = client.chat.completions.create(**request)
    for choice in whole.choices:
        check(choice.message, WEATHER)
        assert choice.logprobs is not None
        text = b"".join(bytes(entry.bytes or []) for entry in choice.logprobs.content or []).decode()
        assert text.startswith('<tool_call>\n{"name": "get_weather", "arguments": {"city": "')
    made = [call.function.arguments for c in whole.choices for call in c.message.tool_calls or []]  # type: ignore[union-attr]
    assert len(set(made)) == 3
    assert whole.usage is not None
    assert whole.usage.completion_tokens == sum(len(c.logprobs.content or []) for c in whole.choices if c.logprobs)
    if stream:
        options = {"include_usage": True}
        *chunks, last = client.chat.completions.create(**request, stream=True, stream_options=options)
        assert [Streamed(chunks, index).calls[0]["arguments"] for index in range(3)] == made
        entries = [e for c in chunks if c.choices[0].logprobs for e in c.choices[0].logprobs.content or []]
        assert len(entries) == whole.usage.completion_tokens
        assert last.usage is not None
        assert last.usage.completion_tokens == whole.usage.completion_tokens


def test_stop_strings_end_text_and_not_calls(client: openai.OpenAI) -> None:
    stops = ["Observation:", "Calling tools:", "city", "<"]
    answer = client.chat.completions.create(**REQUEST, stop=stops, tools=[WEATHER], tool_choice="required")
    check(answer.choices[0].message, WEATHER)
    text = client.chat.completions.create(**{**REQUEST, "temperature": 0, "max_tokens": 12}, tools=[WEATHER])
    content = text.choices[0].message.content or ""
    stopped = client.chat.completions.create(**{**REQUEST, "temperature": 0}, tools=[WEATHER], stop=content[3:6])
    assert stopped.choices[0].message.content == content[: content.index(content[3:6])]
    assert stopped.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_with_a_response_format_text_follows_it_or_is_a_call(client: openai.OpenAI, kind: str) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    response_format: Any = {"type": kind} | (
        {"json_schema": {"name": "a", "schema": schema}} if kind == "json_schema" else {}
    )
    kinds = set()
    for seed in range(8):
        request: Any = {**REQUEST, "seed": seed, "tools": [WEATHER], "response_format": response_format}
        message = client.chat.completions.create(**request).choices[0].message
        kinds.add("call" if message.tool_calls else "text")
        if message.tool_calls:
            check(message, WEATHER)
        elif kind == "json_schema":
            jsonschema.validate(json.loads(message.content or ""), schema)
        else:
            assert (message.content or "").startswith("{")
        forced = client.chat.completions.create(**request, tool_choice="required").choices[0].message
        check(forced, WEATHER)
        if kind == "json_schema":
            none = client.chat.completions.create(**request, tool_choice="none").choices[0].message
            jsonschema.validate(json.loads(none.content or ""), schema)
    assert kinds == {"call", "text"}


# -- conversations ----------------------------------------------------------------------------------------------


def call(call_id: str = "call_1", name: str = "get_weather", arguments: Any = '{"city": "Paris"}', **more: Any) -> Any:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments, **more}}


def result(call_id: str = "call_1", content: Any = "sunny", **more: Any) -> Any:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **more}


def calling(*calls: Any, **more: Any) -> Any:
    return {"role": "assistant", "tool_calls": list(calls) or [call()], **more}


def prompt_tokens(client: openai.OpenAI, messages: Any, **more: Any) -> int:
    request: Any = {"model": MODEL, "max_tokens": 1, "tools": [WEATHER], **more}
    usage = client.chat.completions.create(messages=messages, **request).usage
    assert usage is not None
    return usage.prompt_tokens


ROUNDS = [*HELLO, calling(), result(), calling(call("call_2"), call("call_3")), result("call_2"), result("call_3")]
SAME = {
    "null content": [*HELLO, calling(content=None), result()],
    "empty content": [*HELLO, calling(content=""), result()],
    "parts": [
        {"role": "user", "content": [{"type": "text", "text": HELLO[0]["content"]}]},
        calling(content=[]),
        result(content=[{"type": "text", "text": "sun"}, {"type": "text", "text": "ny"}]),
    ],
    "names": [{**HELLO[0], "name": "ann"}, calling(name="bot"), result(name="get_weather")],
    "an object": [*HELLO, calling(call(arguments={"city": "Paris"})), result()],
    "echoed keys": [
        *HELLO,
        calling(
            {**call(parsed_arguments={"city": "Paris"}), "index": 0},
            **{"annotations": [], "refusal": None, "audio": None, "function_call": None, "parsed": None},
        ),
        result(),
    ],
}


@pytest.mark.parametrize("name", SAME)
def test_a_turn_may_be_written_in_many_ways(client: openai.OpenAI, name: str) -> None:
    assert prompt_tokens(client, SAME[name]) == prompt_tokens(client, [*HELLO, calling(), result()])


def test_any_number_of_rounds(client: openai.OpenAI, tiny: LLM) -> None:
    shown = function("get_weather", CITY, description="The weather in a city")
    del shown["function"]["parameters"]  # in the order in which the server writes it
    shown["function"]["parameters"] = CITY
    own = tiny.tokenizer.apply_chat_template(ROUNDS, tools=[shown])
    assert prompt_tokens(client, ROUNDS) == len(own)
    assert tiny.tokenizer.decode(own).count("\n<tool_response>\nsunny") == 3


def test_an_answer_goes_back_as_it_came(client: openai.OpenAI) -> None:
    messages = list(HELLO)
    for _ in range(3):
        answer = client.chat.completions.create(**{**REQUEST, "messages": messages}, tools=[WEATHER], tool_choice=NAMED)
        made = answer.choices[0].message.tool_calls
        assert made is not None
        messages += [answer.choices[0].message, result(made[0].id)]
    assert client.chat.completions.create(**{**REQUEST, "messages": messages}, tools=[WEATHER]).choices


def test_a_call_that_was_cut_off_may_go_back_too(client: openai.OpenAI) -> None:
    assert prompt_tokens(client, [*HELLO, calling(call(arguments='{"city": "Par')), result(content="cut off")])


def test_a_refusal_of_another_model_is_text(client: openai.OpenAI) -> None:
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    text = {"role": "assistant", "content": "No."}
    assert prompt_tokens(client, [*HELLO, refusal, *HELLO]) == prompt_tokens(client, [*HELLO, text, *HELLO])


def test_tokenize_shows_what_a_model_sees_of_tools(client: openai.OpenAI, server: LocalServer) -> None:
    url = server.base_url.removesuffix("/v1") + "/tokenize"
    body = {"messages": ROUNDS, "tools": [WEATHER]}
    assert httpx.post(url, json=body, timeout=60).json()["count"] == prompt_tokens(client, ROUNDS)


# -- refusals ---------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another kind of tool": ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    "a name twice": ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
    "a bad name": ({"tools": [function("a b")]}, "tools[0].function.name"),
    "no schema": ({"tools": [function("f", {"type": "array"})]}, "tools[0].function.parameters"),
    "a keyword": ({"tools": [function("f", {"properties": {"a": {"not": {}}}})]}, "tools"),
    "a large schema": (
        {"tools": [function("f", {"properties": {"a": {"const": "x" * 200_000}}})]},
        "tools[0].function.parameters",
    ),
    "too many": ({"tools": [function(f"f{i}") for i in range(200)]}, "tools"),
    "a choice": ({"tool_choice": "any"}, "tool_choice"),
    "allowed tools": (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}},
        "tool_choice",
    ),
    "an unknown tool": ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    "no tools": ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    "parallel": ({"parallel_tool_calls": "yes please"}, "parallel_tool_calls"),
    "functions": ({"functions": [{"name": "f"}]}, "functions"),
    "function_call": ({"function_call": {"name": "f"}}, "function_call"),
    "ignore_eos": ({"ignore_eos": True}, "ignore_eos"),
    "a result without a call": ({"messages": [*HELLO, result()]}, "messages[1].tool_call_id"),
    "a result of another call": ({"messages": [*HELLO, calling(), result("call_2")]}, "messages[2].tool_call_id"),
    "a result without an id": (
        {"messages": [*HELLO, calling(), {"role": "tool", "content": "x"}]},
        "messages[2].tool_call_id",
    ),
    "a call without a result": ({"messages": [*HELLO, calling(), *HELLO]}, "messages[1].tool_calls"),
    "one of two results": ({"messages": [*HELLO, calling(call(), call("call_2")), result()]}, "messages[1].tool_calls"),
    "a call of no shape": ({"messages": [*HELLO, calling({"id": "x"}), result("x")]}, "messages[1].tool_calls[0]"),
    "calls that are no list": (
        {"messages": [*HELLO, {"role": "assistant", "tool_calls": "f"}]},
        "messages[1].tool_calls",
    ),
    "the older way": (
        {"messages": [*HELLO, {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}]},
        "messages[1].function_call",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_by_its_place(client: openai.OpenAI, name: str) -> None:
    wrong, param = REFUSED[name]
    request = {"messages": HELLO, "tools": [WEATHER], "max_tokens": 1, **wrong}
    messages = request.pop("messages")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=messages, extra_body=request)
    assert caught.value.param == param
    body: Any = caught.value.body
    assert body["type"] == "invalid_request_error"
