"""/v1/responses as OpenAI's own client sees it, with every answer and every event checked against the API's types."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest
from openai.types.responses import Response
from serving import MODEL, WatchedSampler, connect, wait_until

from minillm.engine import LLM
from minillm.sampling import SamplingParams
from minillm.server import LocalServer
from minillm.server.errors import UnknownResponseError
from minillm.server.responses.store import ResponseStore, Turn
from minillm.server.tenants import Tenant, Tenants

TEXT = "Hello, who are you?"
HELLO: dict[str, Any] = {"model": MODEL, "input": TEXT, "temperature": 0, "max_output_tokens": 12}
LOGPROBS: Any = ["message.output_text.logprobs"]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def own_text(tiny: LLM, messages: list[Any], max_tokens: int = 12) -> str:
    return tiny.chat(messages, SamplingParams(temperature=0, max_tokens=max_tokens)).text


def prompt_tokens(tiny: LLM, messages: list[Any]) -> int:
    return len(tiny.tokenizer.apply_chat_template(messages))


def text_item(response: Response) -> Any:
    (item,) = response.output
    return item


# -- whole ------------------------------------------------------------------------------------------------------


def test_a_whole_answer_is_the_engines(client: openai.OpenAI, tiny: LLM) -> None:
    answer = client.responses.create(**HELLO)
    assert answer.output_text == own_text(tiny, [user(TEXT)])
    assert (answer.object, answer.model, answer.error) == ("response", MODEL, None)
    assert answer.id.startswith("resp_")
    item = text_item(answer)
    assert (item.type, item.role, item.status) == ("message", "assistant", "incomplete")
    assert item.id.startswith("msg_")
    (part,) = item.content
    assert (part.type, part.annotations, part.logprobs) == ("output_text", [], [])
    assert answer.usage is not None
    num_tokens = prompt_tokens(tiny, [user(TEXT)])
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (num_tokens, 12)
    assert answer.usage.total_tokens == num_tokens + 12
    assert answer.usage.output_tokens_details.reasoning_tokens == 0


def test_an_answer_that_is_cut_off_is_incomplete_and_one_that_ends_is_complete(client: openai.OpenAI) -> None:
    cut = client.responses.create(**HELLO)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert cut.completed_at is None
    whole = client.responses.create(**HELLO, extra_body={"stop": cut.output_text[5:8]})
    assert (whole.status, whole.incomplete_details) == ("completed", None)
    assert whole.completed_at is not None
    assert whole.completed_at >= whole.created_at
    assert text_item(whole).status == "completed"
    assert whole.output_text == cut.output_text[: cut.output_text.index(cut.output_text[5:8])]


def test_an_answer_without_a_word_is_an_empty_message(client: openai.OpenAI, tiny: LLM) -> None:
    first = own_text(tiny, [user(TEXT)])[0]
    request = HELLO | {"extra_body": {"stop": first}}
    assert text_item(client.responses.create(**request)).content[0].text == ""
    with client.responses.stream(**request) as stream:
        assert text_item(stream.get_final_response()).content[0].text == ""


def test_settings_are_told_again(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.75,
        "max_output_tokens": 3,
        "metadata": {"run": "1"},
        "user": "ann",
        "parallel_tool_calls": False,
        "prompt_cache_key": "key",
        "safety_identifier": "me",
        "max_tool_calls": 4,
        "truncation": "disabled",
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 2,
    }
    answer = client.responses.create(model=MODEL, input=TEXT, include=LOGPROBS, **settings)
    assert answer.model_dump(include=set(settings)) == settings
    bare = client.responses.create(model=MODEL, input=TEXT, max_output_tokens=1)
    assert (bare.temperature, bare.top_p, bare.truncation, bare.tool_choice) == (1.0, 1.0, "disabled", "auto")
    assert (bare.tools, bare.metadata, bare.parallel_tool_calls, bare.background) == ([], {}, True, False)
    assert bare.text is not None
    assert bare.text.format is not None
    assert bare.text.format.type == "text"


def test_usage_tells_what_came_from_the_prefix_cache_and_what_went_there() -> None:
    with LocalServer(LLM(MODEL)) as server, connect(server) as client:
        first, second = (client.responses.create(**HELLO | {"input": TEXT * 5}).usage for _ in range(2))
    assert first is not None and second is not None
    details = first.input_tokens_details
    assert details.cached_tokens == 0
    assert first.input_tokens - 16 < details.cache_write_tokens <= first.input_tokens
    assert second.input_tokens_details.cached_tokens > 0
    assert second.input_tokens_details.cached_tokens + second.input_tokens_details.cache_write_tokens <= (
        details.cache_write_tokens
    )


def test_log_probabilities(client: openai.OpenAI, tiny: LLM) -> None:
    answer = client.responses.create(**HELLO, include=LOGPROBS, top_logprobs=3)
    own = tiny.chat([user(TEXT)], SamplingParams(temperature=0, max_tokens=12, logprobs=3))
    entries = text_item(answer).content[0].logprobs
    assert [entry.bytes for entry in entries] == [list(tiny.tokenizer.token_bytes(token)) for token in own.token_ids]
    assert own.logprobs is not None
    assert [entry.logprob for entry in entries] == pytest.approx([each.logprob for each in own.logprobs])
    assert all(len(entry.top_logprobs) == 3 for entry in entries)
    assert entries[0].top_logprobs[0].token == entries[0].token  # greedy
    bare = client.responses.create(**HELLO, include=LOGPROBS)
    assert all(entry.top_logprobs == [] for entry in text_item(bare).content[0].logprobs)


def test_async(server: LocalServer, tiny: LLM) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(
            base_url=server.base_url, api_key="x", max_retries=0, _strict_response_validation=True
        ) as client:
            whole = await client.responses.create(**HELLO)
            stream: Any = await client.responses.create(**HELLO, stream=True)
            return whole.output_text, "".join(
                [event.delta async for event in stream if event.type == "response.output_text.delta"]
            )

    assert asyncio.run(ask()) == (own_text(tiny, [user(TEXT)]),) * 2


# -- streams ----------------------------------------------------------------------------------------------------


def test_the_events_of_a_stream_come_in_order_and_build_the_answer(client: openai.OpenAI) -> None:
    whole = client.responses.create(**HELLO)
    events: list[Any] = list(client.responses.create(**HELLO, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 4
    assert kinds == [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *["response.output_text.delta"] * deltas,
        *("response.output_text.done", "response.content_part.done", "response.output_item.done"),
        "response.incomplete",
    ]
    created, in_progress, added, part_added = events[:4]
    text_done, part_done, item_done, final = events[-4:]
    for event in (created, in_progress):
        assert (event.response.status, event.response.output, event.response.usage) == ("in_progress", [], None)
    assert (added.item.status, added.item.content, part_added.part.text) == ("in_progress", [], "")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == text_done.text == part_done.part.text == final.response.output_text == whole.output_text
    assert [item_done.item] == final.response.output
    assert {event.item_id for event in events[3:-2]} == {added.item.id} == {item_done.item.id}
    assert all((event.output_index, event.content_index) == (0, 0) for event in events[3:-2])
    assert {event.response.id for event in (created, in_progress, final)} == {created.response.id}
    shape: Any = {"exclude": {"id", "created_at", "output", "usage"}}
    assert final.response.model_dump(**shape) == whole.model_dump(**shape)
    assert final.response.usage.output_tokens == 12


def test_the_clients_stream_helper_puts_it_together(client: openai.OpenAI, tiny: LLM) -> None:
    text = own_text(tiny, [user(TEXT)])
    with client.responses.stream(**HELLO, extra_body={"stop": text[6:9]}) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.output_text == snapshots[-1] == text[: text.index(text[6:9])]
    assert final.status == "completed"


def test_log_probabilities_in_a_stream_come_with_every_token(client: openai.OpenAI) -> None:
    events: list[Any] = list(client.responses.create(**HELLO, include=LOGPROBS, top_logprobs=1, stream=True))
    entries = [entry for event in events if event.type == "response.output_text.delta" for entry in event.logprobs]
    (done,) = (event for event in events if event.type == "response.output_text.done")
    assert len(entries) == 12
    assert [entry.to_dict() for entry in entries] == [entry.to_dict() for entry in done.logprobs]
    final = text_item(events[-1].response).content[0].logprobs
    assert [entry.token for entry in final] == [entry.token for entry in entries]


def test_the_bytes_of_a_stream(server: LocalServer) -> None:
    """Each event has its type as its name, all is ASCII, and after the last event there's nothing."""
    body = HELLO | {"stream": True, "stream_options": {"include_obfuscation": False}}
    with httpx.stream("POST", f"{server.base_url}/responses", json=body, timeout=60) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        raw = response.read().decode("ascii")
    *events, end = raw.split("\n\n")
    assert end == ""
    for event in events:
        name, data = event.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
    assert events[-1].startswith("event: response.incomplete\n")


# -- input ------------------------------------------------------------------------------------------------------


def answer_to(client: openai.OpenAI, given: Any, **more: Any) -> str:
    return client.responses.create(**HELLO | {"input": given} | more).output_text


def test_instructions_are_the_system(client: openai.OpenAI, tiny: LLM) -> None:
    own = own_text(tiny, [{"role": "system", "content": "Be brief."}, user(TEXT)])
    assert answer_to(client, TEXT, instructions="Be brief.") == own
    for role in ("system", "developer"):
        assert answer_to(client, [{"role": role, "content": "Be brief."}, user(TEXT)]) == own
    assert own != own_text(tiny, [user(TEXT)])


def test_items_are_the_messages_of_a_chat(client: openai.OpenAI, tiny: LLM) -> None:
    messages = [user("Hi"), {"role": "assistant", "content": "Hello. How are you?"}, user(TEXT)]
    output = {"type": "output_text", "text": "How are you?", "annotations": [], "logprobs": []}
    items: list[Any] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello. "}, output],
        },
        user(TEXT),
    ]
    assert answer_to(client, items) == answer_to(client, messages) == own_text(tiny, messages)


def test_an_answer_can_be_sent_back_as_input(client: openai.OpenAI, tiny: LLM) -> None:
    """Clients that keep the conversation themselves echo the output items."""
    first = client.responses.create(**HELLO, include=LOGPROBS)
    history: list[Any] = [user(TEXT), *(item.to_dict() for item in first.output), user("Go on.")]
    messages = [user(TEXT), {"role": "assistant", "content": first.output_text}, user("Go on.")]
    assert answer_to(client, history, store=False) == own_text(tiny, messages)


def test_truncation_leaves_out_the_oldest_turns(client: openai.OpenAI, tiny: LLM) -> None:
    """Before each turn there are some that don't fit with it; system messages stay, calls go with their outputs."""
    long = "cat " * (tiny.max_model_len // 3)
    system = {"role": "developer", "content": "Be brief."}
    call: Any = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    late: Any = {"type": "function_call_output", "call_id": "call_1", "output": "5"}
    reply = {"role": "assistant", "content": "Meow."}
    items = [user(long), call, system, user(long), late, reply, user(long), reply, user(long), reply, user(TEXT)]
    with pytest.raises(openai.BadRequestError, match="takes"):
        client.responses.create(**HELLO | {"input": items})
    answer = client.responses.create(**HELLO | {"input": items}, truncation="auto")
    kept = [user(long), reply] * 2 + [user(TEXT)]
    assert prompt_tokens(tiny, [user(long), *kept]) > tiny.max_model_len - 12
    assert answer.output_text == own_text(tiny, [{"role": "system", "content": "Be brief."}, *kept])
    assert answer.truncation == "auto"
    # What fits stays whole, and nothing helps a turn that is too long alone.
    assert answer_to(client, [user("Hi"), reply, user(TEXT)], truncation="auto") == own_text(
        tiny, [user("Hi"), reply, user(TEXT)]
    )
    for given in ("cat " * tiny.max_model_len, [user("Hi"), reply, user(long * 6)]):
        with pytest.raises(openai.BadRequestError, match="takes"):
            client.responses.create(**HELLO | {"input": given}, truncation="auto")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"type": "item_reference", "id": "msg_1"}], "item_reference"),
        ([{"type": "computer_call_output", "call_id": "1"}], "computer_call_output"),
        ([{"role": "wizard", "content": "x"}], "wizard"),
        ([{"role": "user"}], r"input\[0\].content must be"),
        ([user("x"), {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input_image"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], r"input\[0\].content\[0\] must be"),
        ([{"role": "user", "content": ["x"]}], r"input\[0\].content\[0\] must be"),
        ([{"type": "function_call", "name": "f", "arguments": "{}"}], "call_id"),
        ([{"type": "function_call_output", "call_id": "1", "output": None}], "output must be"),
        ([user("x"), {"type": "function_call_output", "call_id": "call_9", "output": "5"}], "No function_call"),
        ([], "nothing to answer"),
        ([{"type": "reasoning", "id": "rs_1", "summary": []}], "nothing to answer"),
        ([5], r"input\[0\] must be an object"),
        (5, "a text or a list"),
        (None, "a text or a list"),
        ({"role": "user", "content": "x"}, "a text or a list"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_input_that_cannot_be_read_is_refused(client: openai.OpenAI, given: Any, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.responses.create(model=MODEL, input="x", extra_body={"input": given})
    assert caught.value.param == "input"


# -- fields -----------------------------------------------------------------------------------------------------


def test_unknown_and_advisory_fields_are_accepted(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model=MODEL,
        input=TEXT,
        max_output_tokens=1,
        background=False,
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "none", "summary": "auto"},
        service_tier="auto",
        stream_options={"include_obfuscation": True},
        text={"format": {"type": "text"}, "verbosity": "medium"},
        tool_choice="none",
        extra_body={"something_new": {"deep": [1]}, "prompt_cache_retention": "24h"},
    )
    assert answer.output


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("background", True, "background"),
        ("context_management", [{"type": "compaction"}], "context_management"),
        ("conversation", "conv_1", "conversation"),
        ("moderation", {"model": "x"}, "moderation"),
        ("prompt", {"id": "pmpt_1"}, "prompt"),
        ("reasoning", {"effort": "high"}, "reasoning.effort"),
        ("text", {"verbosity": "low"}, "text.verbosity"),
        ("max_tokens", 5, "max_tokens"),
        ("n", 2, "n"),
        ("messages", [user("x")], "messages"),
        ("response_format", {"type": "json_object"}, "response_format"),
    ],
)
def test_what_would_change_the_answer_and_is_not_supported_is_refused_by_name(
    client: openai.OpenAI, field: str, value: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="not supported") as caught:
        client.responses.create(**HELLO, extra_body={field: value})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("max_output_tokens", 0, "max_output_tokens"),
        ("temperature", "hot", "temperature"),
        ("top_p", 2, "top_p"),
        ("top_logprobs", 21, "top_logprobs"),
        ("top_logprobs", 3, "top_logprobs"),  # without the include that shows them
        ("instructions", ["x"], "instructions"),
        ("metadata", {"a": "x" * 513}, "metadata"),
        ("metadata", {"a": 5}, "metadata"),
        ("metadata", {str(i): "" for i in range(17)}, "metadata"),
        ("previous_response_id", 5, "previous_response_id"),
        ("include", "all", "include"),
        ("truncation", "some", "truncation"),
        ("user", "\ud83d", "user"),
        ("metadata", {"\ud83d": "x"}, "metadata"),
        ("input", "\ud83d", "input"),
        ("input", [user("x") | {"id": "\ud83d"}], "input"),
        ("instructions", "\ud83d", "instructions"),
        ("text", {"format": {"type": "xml"}}, "text.format"),
        ("text", {"format": {"type": "json_schema", "schema": {}}}, "text.format"),
        ("text", {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}, "text.format"),
        ("text", {"format": {"type": "json_schema", "name": "x", "schema": {"$id": "x"}}}, "text.format"),
        ("text", "json", "text"),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_a_wrong_value_is_a_400_that_names_the_field(server: LocalServer, field: str, value: Any, param: str) -> None:
    body = json.dumps(HELLO | {field: value})
    response = httpx.post(
        f"{server.base_url}/responses", content=body, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_model_and_a_prompt_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-9", input="x")
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="takes"):
            client.responses.create(**HELLO | {"input": "cat " * 3000}, stream=stream)


# -- structured output ------------------------------------------------------------------------------------------


class Book(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    title: str = pydantic.Field(max_length=12)
    pages: int = pydantic.Field(ge=1, le=999)
    genre: Literal["novel", "poems"]


STRUCTURED: dict[str, Any] = {"model": MODEL, "input": TEXT, "max_output_tokens": 300}


def test_a_pydantic_model_comes_back_filled(client: openai.OpenAI) -> None:
    answer = client.responses.parse(**STRUCTURED, text_format=Book)
    assert answer.status == "completed"
    assert isinstance(answer.output_parsed, Book)
    with client.responses.stream(**STRUCTURED, text_format=Book) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Book)


def test_formats_are_followed_and_told_again(client: openai.OpenAI) -> None:
    schema: Any = {"type": "json_schema", "name": "book", "schema": Book.model_json_schema()}
    for strict in ({"strict": True}, {"strict": False}, {}):
        answer = client.responses.create(**STRUCTURED, text={"format": schema | strict})
        Book.model_validate_json(answer.output_text)
        assert answer.text is not None
        assert answer.text.to_dict()["format"] == schema | strict
    anything = client.responses.create(**STRUCTURED, text={"format": {"type": "json_object"}})
    assert anything.output_text.startswith("{")


# -- state ------------------------------------------------------------------------------------------------------


def test_a_chain_of_three_is_one_conversation(client: openai.OpenAI, tiny: LLM) -> None:
    """Instructions are of one request only; inputs and answers stay."""
    messages: list[Any] = []
    previous: str | None = None
    for text in ("Hello", "Go on.", "And then?"):
        messages.append(user(text))
        own = own_text(tiny, [{"role": "system", "content": f"About {text}"}, *messages])
        answer = client.responses.create(
            **HELLO | {"input": text}, instructions=f"About {text}", previous_response_id=previous
        )
        assert (answer.output_text, answer.previous_response_id) == (own, previous)
        messages.append({"role": "assistant", "content": own})
        previous = answer.id
    # An answer can be gone on from twice.
    assert previous is not None
    branches = [client.responses.create(**HELLO, previous_response_id=previous).output_text for _ in range(2)]
    assert branches == [own_text(tiny, [*messages, user(TEXT)])] * 2


def test_a_streamed_answer_is_kept_before_its_last_event(client: openai.OpenAI, tiny: LLM) -> None:
    for event in client.responses.create(**HELLO, stream=True):
        if event.type == "response.incomplete":
            assert client.responses.retrieve(event.response.id) == event.response
            follow_up = client.responses.create(**HELLO | {"input": "Go on."}, previous_response_id=event.response.id)
            turn = {"role": "assistant", "content": event.response.output_text}
            assert follow_up.output_text == own_text(tiny, [user(TEXT), turn, user("Go on.")])
            return
    raise AssertionError("the stream had no last event")


def test_input_items_are_all_that_an_answer_was_given(client: openai.OpenAI) -> None:
    first = client.responses.create(**HELLO)
    second = client.responses.create(
        **HELLO | {"input": [{"role": "developer", "content": "Be brief."}, user("Go on.")]},
        previous_response_id=first.id,
    )
    ascending: list[Any] = list(client.responses.input_items.list(second.id, order="asc", limit=3))
    assert [item.role for item in ascending] == ["user", "assistant", "developer", "user"]
    assert [item.content[0].text for item in ascending] == [TEXT, first.output_text, "Be brief.", "Go on."]
    assert [item.id for item in client.responses.input_items.list(second.id)] == [
        item.id for item in reversed(ascending)
    ]
    page = client.responses.input_items.list(second.id, limit=2)
    assert (page.has_more, [item.id for item in page.data]) == (True, [item.id for item in ascending[:1:-1]])
    for query, param in (({"after": "msg_0"}, "after"), ({"limit": 0}, "limit"), ({"order": "random"}, "order")):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.input_items.list(second.id, extra_query=query)
        assert caught.value.param == param


def not_found(caught: Any) -> tuple[str, str]:
    return caught.value.body["param"], caught.value.body["code"]


def assert_unknown(client: openai.OpenAI, response_id: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(**HELLO, previous_response_id=response_id)
    assert not_found(caught) == ("previous_response_id", "previous_response_not_found")
    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError) as caught:
            call(response_id)
        assert not_found(caught) == ("response_id", "response_not_found")


def test_what_was_deleted_or_never_kept_is_not_there(client: openai.OpenAI) -> None:
    first = client.responses.create(**HELLO)
    second = client.responses.create(**HELLO, previous_response_id=first.id)
    client.responses.delete(first.id)
    assert_unknown(client, first.id)
    assert client.responses.retrieve(second.id).id == second.id
    with pytest.raises(openai.NotFoundError, match=f"{first.id}.*{second.id}"):  # its conversation has a hole
        client.responses.create(**HELLO, previous_response_id=second.id)
    secret = client.responses.create(**HELLO, store=False)
    assert_unknown(client, secret.id)
    assert_unknown(client, "resp_0")
    with pytest.raises(openai.BadRequestError, match="stream"):
        client.responses.retrieve(second.id, stream=True)


def test_one_tenant_never_sees_another_ones_answers() -> None:
    tenants = Tenants({"sk-ann": Tenant("ann"), "sk-bob": Tenant("bob")})
    with (
        LocalServer(LLM(MODEL), tenants=tenants) as server,
        connect(server, api_key="sk-ann") as ann,
        connect(server, api_key="sk-bob") as bob,
    ):
        answer = ann.responses.create(**HELLO)
        assert_unknown(bob, answer.id)
        with pytest.raises(openai.NotFoundError) as theirs:
            bob.responses.retrieve(answer.id)
        with pytest.raises(openai.NotFoundError) as nobodys:
            bob.responses.retrieve("resp_0")
        assert str(theirs.value) == str(nobodys.value).replace("resp_0", answer.id)
        assert ann.responses.retrieve(answer.id).id == answer.id


def test_the_least_recently_used_answers_make_room() -> None:
    store = ResponseStore(max_responses=3)
    with LocalServer(LLM(MODEL), response_store=store) as server, connect(server) as client:

        def ask(previous: str | None = None) -> str:
            return client.responses.create(**HELLO, previous_response_id=previous).id

        a = ask()
        b = ask(a)
        other = ask()
        c = ask(b)  # uses a and b, so it's the other one that goes
        assert_unknown(client, other)
        assert client.responses.create(**HELLO, previous_response_id=c, store=False).output
        ask()  # the end of the chain goes before its beginning
        assert_unknown(client, c)
        assert client.responses.create(**HELLO, previous_response_id=b, store=False).output


def test_large_answers_make_room_for_each_other_and_only_their_tenants() -> None:
    def turn(name: str, size: int = 0) -> Turn:
        return Turn({"id": name, "previous_response_id": None, "output": [], "user": "x" * size}, [])

    store = ResponseStore(max_bytes=1000)
    store.add("bob", turn("b"))
    for name in ("one", "two"):
        store.add("ann", turn(name, 400))
    store.add("ann", turn("huge", 1000))  # not kept, and nothing is dropped for it
    assert [store.get("ann", name).response["id"] for name in ("one", "two")] == ["one", "two"]
    store.add("ann", turn("three", 400))
    for name in ("one", "huge"):
        with pytest.raises(UnknownResponseError):
            store.get("ann", name)
    store.delete("ann", "two")
    store.add("ann", turn("four", 400))
    assert [store.get("ann", name).response["id"] for name in ("three", "four")] == ["three", "four"]
    assert store.get("bob", "b").response["id"] == "b"


# -- limits, failures, clients that go away ---------------------------------------------------------------------


def test_limits_count() -> None:
    ann = Tenant("ann", tokens_per_minute=30)
    with (
        LocalServer(LLM(MODEL), tenants=Tenants({"sk-ann": ann})) as server,
        connect(server, api_key="sk-ann") as client,
    ):
        kept = client.responses.create(**HELLO)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError):
                client.responses.create(**HELLO, stream=stream)
        assert client.responses.retrieve(kept.id).output_text == kept.output_text


def test_a_failure_before_the_first_token_is_a_status() -> None:
    for stream in (False, True):
        with LocalServer(LLM(MODEL, sampler=WatchedSampler(fails_at=1))) as server, connect(server) as client:
            with pytest.raises(openai.InternalServerError, match="The engine failed"):
                client.responses.create(**HELLO, stream=stream)
            assert client.responses.create(**HELLO).output


def test_a_failure_mid_stream_is_told_in_the_stream() -> None:
    request = HELLO | {"include": LOGPROBS}  # so that every token sends something
    with LocalServer(LLM(MODEL, sampler=WatchedSampler(fails_at=3))) as server, connect(server) as client:
        got: list[Any] = []
        with pytest.raises(openai.APIError, match="The engine failed"):
            got.extend(client.responses.create(**request, stream=True))
        assert [event.type for event in got[-2:]] == ["response.output_text.delta"] * 2
        assert_unknown(client, got[0].response.id)
        assert client.responses.create(**HELLO).output
    with LocalServer(LLM(MODEL, sampler=WatchedSampler(fails_at=3))) as server:
        raw = httpx.post(f"{server.base_url}/responses", json=request | {"stream": True}, timeout=60).text
    events = [json.loads(event.partition("\ndata: ")[2]) for event in raw.split("\n\n") if event]
    error, failed = events[-2:]
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert error["message"] == error["error"]["message"] == failed["response"]["error"]["message"]
    assert "sampler broke" not in raw
    response = Response.model_validate(failed["response"])
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "server_error"


def test_a_client_that_goes_away_stops_the_computing_and_leaves_nothing() -> None:
    ann, sampler = Tenant("ann", max_requests=1), WatchedSampler(delay=0.002)
    llm = LLM(MODEL, sampler=sampler)
    request = HELLO | {"max_output_tokens": 1900, "include": LOGPROBS, "extra_body": {"ignore_eos": True}}
    with LocalServer(llm, tenants=Tenants({"sk-ann": ann})) as server, connect(server, api_key="sk-ann") as client:
        stream = client.responses.create(**request, stream=True)
        created: Any = next(iter(stream))
        with pytest.raises(openai.RateLimitError):
            client.responses.create(**HELLO)
        stream.close()
        assert wait_until(lambda: ann.num_requests == 0 and not llm.engine.has_unfinished)
        assert sampler.num_calls < 1900
        assert_unknown(client, created.response.id)
        with connect(server, timeout=0.3, api_key="sk-ann") as hasty, pytest.raises(openai.APITimeoutError):
            hasty.responses.create(**request)
        assert wait_until(lambda: ann.num_requests == 0 and not llm.engine.has_unfinished)
        assert sampler.num_calls < 2 * 1900
        assert client.responses.create(**HELLO).output
