"""OpenAI's own client in strict validation, which takes no answer that differs from the API's types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.clients

MODEL = "smollm2-135m"
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
REPORT: list[Any] = [{"role": "user", "content": "It is 4 degrees in Oslo."}]
LIMITS: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 48}


class Report(BaseModel):
    """Tells how warm it is in a city."""

    city: str
    degrees: int


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="not-needed", _strict_response_validation=True) as strict:
        yield strict


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "all-minilm-l6-v2"]
    assert client.models.retrieve(MODEL).id == MODEL


def test_a_question_and_its_answer_whole_and_streamed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(messages=QUESTION, **LIMITS)
    text = answer.choices[0].message.content
    assert text is not None
    assert "Paris" in text
    options: Any = {"include_usage": True}
    *chunks, last = client.chat.completions.create(messages=QUESTION, stream=True, stream_options=options, **LIMITS)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert last.choices == []
    assert answer.usage is not None
    assert last.usage is not None
    assert last.usage.completion_tokens == answer.usage.completion_tokens


def test_many_at_once_with_the_asynchronous_client(base_url: str) -> None:
    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key="not-needed", _strict_response_validation=True
        ) as client:

            async def ask(stream: bool) -> str:
                if not stream:
                    answer = await client.chat.completions.create(messages=QUESTION, **LIMITS)
                    return answer.choices[0].message.content or ""
                chunks = await client.chat.completions.create(messages=QUESTION, stream=True, **LIMITS)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

            return await asyncio.gather(*(ask(stream=index % 2 == 0) for index in range(8)))

    texts = asyncio.run(ask_all())
    assert all("Paris" in text for text in texts)


def test_parse_gives_a_model_of_ones_own(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(messages=REPORT, response_format=Report, **LIMITS)
    assert answer.choices[0].message.parsed == Report(city="Oslo", degrees=4)


def test_parse_gives_a_tools_arguments_and_the_conversation_goes_on(client: openai.OpenAI) -> None:
    tools: list[Any] = [openai.pydantic_function_tool(Report)]
    answer = client.chat.completions.parse(messages=REPORT, tools=tools, tool_choice="required", **LIMITS)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    assert isinstance(message.tool_calls[0].function.parsed_arguments, Report)
    # What the client made of the message goes back with it: `parsed_arguments` and its kind.
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": [{"type": "text", "text": "Noted."}]}
    messages: list[Any] = [*REPORT, message, result]
    answer = client.chat.completions.parse(messages=messages, tools=tools, tool_choice="none", **LIMITS)
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls


def test_the_stream_helper_follows_a_tool_call(client: openai.OpenAI) -> None:
    tools: list[Any] = [openai.pydantic_function_tool(Report)]
    with client.chat.completions.stream(messages=REPORT, tools=tools, tool_choice="required", **LIMITS) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    (done,) = (event for event in events if event.type == "tool_calls.function.arguments.done")
    assert done.name == "Report"
    assert "".join(deltas) == done.arguments
    assert isinstance(done.parsed_arguments, Report)
    assert final.choices[0].message.tool_calls
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == done.parsed_arguments


def test_the_stream_helper_follows_structured_output(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(messages=REPORT, response_format=Report, **LIMITS) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Report(city="Oslo", degrees=4)


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(prompt="The capital of France is", stop=["."], **LIMITS)
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"


def test_responses_whole_streamed_and_going_on(client: openai.OpenAI) -> None:
    limits: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": 48}
    question = QUESTION[0]["content"]
    whole = client.responses.create(input=question, **limits)
    assert "Paris" in whole.output_text
    events = list(client.responses.create(input=question, stream=True, **limits))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert events[-1].type == "response.completed"
    parsed = client.responses.parse(input=REPORT, text_format=Report, **limits)
    assert parsed.output_parsed == Report(city="Oslo", degrees=4)
    more = client.responses.create(input="Name one of its rivers.", previous_response_id=whole.id, **limits)
    assert more.previous_response_id == whole.id
    assert more.usage is not None
    assert whole.usage is not None
    assert more.usage.input_tokens > whole.usage.total_tokens


def test_embeddings_of_related_texts_are_near_each_other(client: openai.OpenAI) -> None:
    texts = ["How warm is it?", "What is the temperature?", "He plays the violin."]
    answer = client.embeddings.create(model="all-minilm-l6-v2", input=texts, encoding_format="float")
    first, near, far = (item.embedding for item in answer.data)

    def similarity(other: list[float]) -> float:
        return sum(a * b for a, b in zip(first, other, strict=True))

    assert similarity(near) > similarity(far) + 0.3


def test_embeddings_come_as_base64_unless_told_otherwise(base_url: str) -> None:
    # Strict validation would take base64, which the client asks for and decodes itself, for an error.
    with openai.OpenAI(base_url=base_url, api_key="not-needed") as client:
        packed = client.embeddings.create(model="all-minilm-l6-v2", input="Hello")
        plain = client.embeddings.create(model="all-minilm-l6-v2", input="Hello", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-7)
    assert len(packed.data[0].embedding) == 384
