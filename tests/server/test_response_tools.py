"""Function calls through /v1/responses, with every answer and every event checked against the API's types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import openai
import pydantic
import pytest
import torch
from serving import MODEL, connect
from torch import Tensor

from minillm.engine import LLM
from minillm.sampling import FilteringSampler, SamplingMetadata, SamplingParams
from minillm.server import LocalServer

QUESTION = "What is the weather in Paris?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "strict": True,
}
TIME: dict[str, Any] = {
    "type": "function",
    "name": "get-time",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    "strict": None,
}
ASK: dict[str, Any] = {"model": MODEL, "input": QUESTION, "tools": [WEATHER, TIME], "temperature": 0}
LOGPROBS: Any = ["message.output_text.logprobs"]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>'


class Weather(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    city: Literal["Paris", "Rome"]
    days: int = pydantic.Field(ge=1, le=9)


class ScriptedSampler(FilteringSampler):
    """Says what it was told to, token by token: with log-probabilities, every token is a sampled one."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return torch.tensor([self.token_ids.pop(0)])


@contextmanager
def saying(script: str) -> Iterator[openai.OpenAI]:
    """A client of a model that says the same to everything."""
    sampler = ScriptedSampler()
    llm = LLM(MODEL, sampler=sampler)
    sampler.token_ids = [*llm.tokenizer.encode(script), *llm.tokenizer.eos_token_ids]
    with LocalServer(llm) as server, connect(server) as client:
        yield client


# -- calls ------------------------------------------------------------------------------------------------------


def test_a_call_that_is_required_is_one_and_valid(client: openai.OpenAI) -> None:
    for seed in range(3):
        answer = client.responses.create(**ASK | {"temperature": 1}, tool_choice="required", extra_body={"seed": seed})
        (call,) = answer.output
        assert call.type == "function_call"
        assert (answer.status, call.status, answer.output_text) == ("completed", "completed", "")
        assert (call.id or "").startswith("fc_")
        assert call.call_id.startswith("call_")
        if call.name == "get_weather":
            Weather.model_validate_json(call.arguments)
        else:
            assert (call.name, json.loads(call.arguments)) == ("get-time", {})
        assert [tool.to_dict() for tool in answer.tools] == [WEATHER, TIME]
        assert answer.tool_choice == "required"


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "get_weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]},
    ],
)
def test_only_the_chosen_function_is_called(client: openai.OpenAI, choice: Any) -> None:
    answer = client.responses.create(**ASK, tool_choice=choice)
    (call,) = answer.output
    assert call.type == "function_call"
    assert call.name == "get_weather"
    Weather.model_validate_json(call.arguments)
    assert not isinstance(answer.tool_choice, str)
    assert answer.tool_choice.to_dict() == choice


def test_none_makes_no_call(client: openai.OpenAI) -> None:
    for request in (ASK, ASK | {"temperature": 1.0}):
        answer = client.responses.create(**request, tool_choice="none", max_output_tokens=40)
        assert [item.type for item in answer.output] == ["message"]
        assert answer.tool_choice == "none"


def test_a_pydantic_function_comes_back_with_its_arguments_parsed(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Weather)["function"]
    answer = client.responses.parse(
        **ASK | {"tools": [{"type": "function", **tool}]}, tool_choice="required", max_output_tokens=200
    )
    (call,) = answer.output
    assert call.type == "function_call"
    assert isinstance(call.parsed_arguments, dict)
    Weather.model_validate(call.parsed_arguments)


def test_the_events_of_a_call(client: openai.OpenAI) -> None:
    request = ASK | {"tool_choice": {"type": "function", "name": "get_weather"}}
    events: list[Any] = list(client.responses.create(**request, stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.function_call_arguments.delta")
    assert kinds == [
        *("response.created", "response.in_progress", "response.output_item.added"),
        *["response.function_call_arguments.delta"] * deltas,
        *("response.function_call_arguments.done", "response.output_item.done", "response.completed"),
    ]
    assert deltas > 1
    assert [event.sequence_number for event in events] == list(range(len(events)))
    added, (arguments_done, item_done, final) = events[2], events[-3:]
    assert (added.item.name, added.item.arguments, added.item.status) == ("get_weather", "", "in_progress")
    arguments = "".join(event.delta for event in events[3:-3])
    assert arguments == arguments_done.arguments == item_done.item.arguments == final.response.output[0].arguments
    Weather.model_validate_json(arguments)
    assert {event.item_id for event in events[3:-2]} == {added.item.id} == {item_done.item.id}
    assert added.item.call_id == item_done.item.call_id
    with client.responses.stream(**request) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.function_call_arguments.delta"]
        (call,) = stream.get_final_response().output
    assert call.type == "function_call"
    assert snapshots[-1] == call.arguments == arguments


@pytest.mark.parametrize("stream", [True, False])
def test_text_before_and_between_calls_are_items_of_their_own(stream: bool) -> None:
    with saying(f"Let me see.\n{CALL}\n{CALL}") as client:
        request: Any = ASK | {"max_output_tokens": 400, "include": LOGPROBS}
        answer: Any = client.responses.create(**request, stream=stream)
        events = list(answer) if stream else []
        response = events[-1].response if stream else answer
    message, *calls = response.output
    assert (message.type, message.content[0].text, message.status) == ("message", "Let me see.", "completed")
    spoken = b"".join(bytes(entry.bytes) for entry in message.content[0].logprobs).decode()
    assert spoken.startswith("Let me see.")
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", {"city": "Paris", "days": 2})
    ] * 2
    assert len({call.call_id for call in calls}) == len({call.id for call in calls}) == 2
    if stream:
        done = [event for event in events if event.type == "response.output_item.done"]
        assert [event.output_index for event in done] == [0, 1, 2]
        assert [event.item for event in done] == response.output


def test_a_mark_inside_of_a_json_answer_is_text() -> None:
    script = json.dumps({"word": "<tool_call> opens a call"})
    schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    with saying(script) as client:
        form: Any = {"format": {"type": "json_schema", "name": "word", "schema": schema}}
        response = client.responses.create(**ASK, text=form, max_output_tokens=200, include=LOGPROBS)
    assert response.output_text == script
    assert [item.type for item in response.output] == ["message"]


def test_a_call_that_is_cut_off_is_incomplete() -> None:
    with saying(CALL) as client:
        num_tokens = len(LLM(MODEL).tokenizer.encode(CALL[:-20]))
        answer = client.responses.create(**ASK, max_output_tokens=num_tokens, include=LOGPROBS)
    (call,) = answer.output
    assert call.type == "function_call"
    assert (answer.status, call.status) == ("incomplete", "incomplete")
    assert '{"city": "Paris", "days": 2}'.startswith(call.arguments)


# -- round trips ------------------------------------------------------------------------------------------------


def test_only_the_outputs_have_to_be_sent(client: openai.OpenAI, tiny: LLM) -> None:
    first = client.responses.create(**ASK, tool_choice={"type": "function", "name": "get_weather"})
    (call,) = first.output
    assert call.type == "function_call"
    own = tiny.chat(
        [
            {"role": "user", "content": QUESTION},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": call.call_id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.call_id, "content": "Sunny, 25 °C"},
        ],
        SamplingParams(temperature=0, max_tokens=12),
    ).text
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 25 °C"}
    parts: Any = output | {"output": [{"type": "input_text", "text": text} for text in ("Sunny, ", "25 °C")]}
    more: Any = {"tool_choice": "none", "max_output_tokens": 12}
    question: Any = {"role": "user", "content": QUESTION}
    echoed: Any = call.to_dict()
    for given, previous in (
        ([output], first.id),
        ([parts], first.id),
        ([question, echoed, output], None),
        ([question, {"type": "reasoning", "id": "rs_1", "summary": []}, echoed, output], None),
    ):
        answer = client.responses.create(**ASK | {"input": given} | more, previous_response_id=previous)
        assert answer.output_text == own
    last = client.responses.create(**ASK | {"input": [output]} | more, previous_response_id=first.id)
    items: list[Any] = list(client.responses.input_items.list(last.id, order="asc"))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]
    assert items[-1].output == "Sunny, 25 °C"
    third = client.responses.create(
        **ASK | {"input": "And tomorrow?"} | more, previous_response_id=last.id, instructions="Be brief."
    )
    assert third.usage is not None
    assert last.usage is not None
    assert third.usage.input_tokens > last.usage.input_tokens


def test_parallel_calls_and_their_outputs_in_any_order(client: openai.OpenAI) -> None:
    def call(number: int) -> dict[str, Any]:
        return {"type": "function_call", "call_id": f"call_{number}", "name": "get-time", "arguments": "{}"}

    def output(number: int) -> dict[str, Any]:
        return {"type": "function_call_output", "call_id": f"call_{number}", "output": f"{number} o'clock"}

    def answer(*items: Any) -> tuple[str, int]:
        given: Any = [{"role": "user", "content": QUESTION}, *items]
        response = client.responses.create(**ASK | {"input": given}, tool_choice="none", max_output_tokens=12)
        assert response.usage is not None
        return response.output_text, response.usage.input_tokens

    thanks = {"role": "user", "content": "Thanks."}
    assert answer(call(1), call(2), output(1), output(2), thanks) == answer(
        call(1), call(2), output(1), thanks, output(2)
    )
    # The same id may come back when its call has its output.
    assert answer(call(1), output(1), call(1), output(1))


# -- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1].type", "web_search"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type", "custom"),
        ({"tools": [WEATHER | {"name": "no spaces"}]}, "tools[0].name", "no spaces"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].name", "None"),
        ({"tools": [WEATHER | {"parameters": {"type": "array"}}]}, "tools[0].parameters", "object"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name", "get_weather"),
        ({"tools": [WEATHER | {"x": float("nan")}], "tool_choice": "none"}, "tools", "JSON"),
        ({"tools": ["x"]}, "tools[0]", "object"),
        ({"tools": "x"}, "tools", "list"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tool_choice": "perhaps"}, "tool_choice", "perhaps"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice", "web_search_preview"),
        ({"tool_choice": {"type": "function", "name": "other"}}, "tool_choice", "other"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "other"}]}}, "tool_choice", "o"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": ["x", {}, []]}}, "tool_choice", "x"),
        ({"tool_choice": 5}, "tool_choice", "valid"),
        (
            {"input": [{"type": "function_call", "call_id": "call_1", "name": "get-time", "arguments": "{}"}]},
            "input",
            "no function_call_output for .* 'call_1'",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "call_1", "name": "get-time", "arguments": "{}"}] * 2},
            "input",
            "Two calls",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_called_is_refused(
    server: LocalServer, client: openai.OpenAI, body: Any, param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.post(
            "/responses",
            body=None,
            content=json.dumps(ASK | body).encode(),
            options={"headers": {"Content-Type": "application/json"}},
            cast_to=object,
        )
    assert caught.value.param == param


def test_an_unanswered_call_of_a_kept_answer_is_told(client: openai.OpenAI) -> None:
    first = client.responses.create(**ASK, tool_choice="required")
    with pytest.raises(openai.BadRequestError, match="no function_call_output") as caught:
        client.responses.create(**ASK, previous_response_id=first.id)
    assert caught.value.param == "input"
