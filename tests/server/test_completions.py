"""Completions, tokens and metrics, as clients see them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from serving import MODEL

from minillm.engine import LLM
from minillm.sampling import SamplingParams
from minillm.server import LocalServer

PROMPT = "Once upon a time"


def root(server: LocalServer) -> str:
    return server.base_url.removesuffix("/v1")


def streamed(server: LocalServer, **body: Any) -> list[dict[str, Any]]:
    """The chunks. (The strict client takes a null finish_reason in these streams for an error.)"""
    request = {"model": MODEL, "stream": True, **body}
    lines = httpx.post(f"{server.base_url}/completions", json=request, timeout=60).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_text_is_continued_as_the_engine_does_it(client: openai.OpenAI, tiny: LLM) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, temperature=0)
    own = tiny.generate(PROMPT, SamplingParams(temperature=0, max_tokens=16))
    (choice,) = answer.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, own.text, own.finish_reason)
    assert (answer.object, answer.model, answer.system_fingerprint) == ("text_completion", MODEL, tiny.fingerprint)
    assert answer.id.startswith("cmpl-")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(own.prompt_token_ids), 16)


def test_all_forms_of_a_prompt(client: openai.OpenAI, tiny: LLM) -> None:
    texts = [PROMPT, "The end"]
    ids = [tiny.tokenizer.encode(text) for text in texts]
    own = [tiny.generate(text, SamplingParams(temperature=0, max_tokens=5)).text for text in texts]

    def ask(prompt: Any) -> list[str]:
        answer = client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=5)
        assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
        return [choice.text for choice in answer.choices]

    assert ask(texts) == ask(ids) == own
    assert ask(texts[:1]) == ask(ids[0]) == ask(ids[:1]) == own[:1]


def test_several_prompts_with_several_outputs_are_numbered_through(client: openai.OpenAI, tiny: LLM) -> None:
    texts = [PROMPT, "The end"]
    answer = client.completions.create(model=MODEL, prompt=texts, n=2, seed=3, max_tokens=6)
    own = [tiny.generate(text, SamplingParams(n=2, seed=3, max_tokens=6)) for text in texts]
    expected = [text for output in own for text in (output.text, output.others[0].text)]
    assert [choice.text for choice in answer.choices] == expected
    assert len(set(expected)) == 4


@pytest.mark.parametrize("as_ids", [True, False])
def test_echo_puts_the_prompt_before_every_output(
    client: openai.OpenAI, server: LocalServer, tiny: LLM, as_ids: bool
) -> None:
    prompt: Any = tiny.tokenizer.encode(PROMPT) if as_ids else PROMPT
    body: Any = {"prompt": prompt, "n": 2, "seed": 1, "max_tokens": 4, "echo": True}
    own = tiny.generate(PROMPT, SamplingParams(n=2, seed=1, max_tokens=4))
    expected = [PROMPT + own.text, PROMPT + own.others[0].text]
    assert [choice.text for choice in client.completions.create(model=MODEL, **body).choices] == expected
    texts = ["", ""]
    for chunk in streamed(server, **body):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == expected


def test_a_stream_says_the_same_and_ends_with_the_usage(server: LocalServer, tiny: LLM) -> None:
    *chunks, last = streamed(
        server, prompt=[PROMPT, "The end"], temperature=0, max_tokens=5, stream_options={"include_usage": True}
    )
    own = [tiny.generate(text, SamplingParams(temperature=0, max_tokens=5)) for text in (PROMPT, "The end")]
    for index, output in enumerate(own):
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in choices) == output.text
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 10
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1


def test_logprobs_and_where_each_token_begins(client: openai.OpenAI, server: LocalServer, tiny: LLM) -> None:
    body: Any = {"prompt": PROMPT, "temperature": 0, "max_tokens": 12, "logprobs": 2}
    (choice,) = client.completions.create(model=MODEL, **body).choices
    own = tiny.generate(PROMPT, SamplingParams(temperature=0, max_tokens=12, logprobs=2))
    entries: Any = choice.logprobs
    assert own.logprobs is not None
    assert entries.token_logprobs == pytest.approx([entry.logprob for entry in own.logprobs])
    assert [len(top) for top in entries.top_logprobs] == [2] * 12
    for token, top, offset in zip(entries.tokens, entries.top_logprobs, entries.text_offset, strict=True):
        assert token in top  # greedy
        if not token.startswith("bytes:"):
            assert choice.text[offset : offset + len(token)] == token
    chunks = [chunk["choices"][0]["logprobs"] for chunk in streamed(server, **body)]
    for field in ("tokens", "token_logprobs", "text_offset"):
        assert [item for chunk in chunks if chunk for item in chunk[field]] == getattr(entries, field)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({}, "prompt"),
        ({"prompt": ["x"] * 65, "n": 2}, "prompt"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": "x", "logprobs": 21}, "logprobs"),
        ({"prompt": "x", "n": 129}, "n"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "response_format": {"type": "json_object"}}, "response_format"),
        ({"prompt": "x", "stop": ["a"] * 10_000}, "stop"),
        ({"prompt": "x", "stop": "a" * 10_000}, "stop"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_cannot_be_served_is_a_400_that_names_the_field(
    server: LocalServer, body: dict[str, Any], param: str, stream: bool
) -> None:
    response = httpx.post(f"{server.base_url}/completions", json={"model": MODEL, "stream": stream, **body}, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_an_unknown_model_is_a_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-9", prompt="x")


# -- tokens, readiness, metrics, the document -------------------------------------------------------------------


def test_a_text_to_tokens_and_back(server: LocalServer, tiny: LLM) -> None:
    text = "Grüße, <|im_end|> 你好 🎉"
    answer = httpx.post(f"{root(server)}/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert answer["tokens"] == tiny.tokenizer.encode(text)
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), tiny.max_model_len)
    assert len(answer["token_strs"]) == answer["count"]
    back = httpx.post(f"{root(server)}/detokenize", json={"model": MODEL, "tokens": answer["tokens"]}).json()
    assert back == {"prompt": text}


def test_the_tokens_of_a_conversation_are_those_that_a_chat_is_charged_for(
    server: LocalServer, client: openai.OpenAI
) -> None:
    messages: Any = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    answer = httpx.post(f"{root(server)}/tokenize", json={"messages": messages}).json()
    usage = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1).usage
    assert usage is not None
    assert answer["count"] == usage.prompt_tokens


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, "prompt"),
        ("tokenize", {"prompt": 5}, "prompt"),
        ("tokenize", {"messages": [{"role": "wizard"}]}, "messages"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": [-1]}, "tokens"),
        ("detokenize", {"tokens": [10**30]}, "tokens"),
        ("detokenize", {"tokens": ["x"]}, "tokens"),
    ],
)
def test_wrong_tokens_are_a_400(server: LocalServer, path: str, body: dict[str, Any], param: str) -> None:
    response = httpx.post(f"{root(server)}/{path}", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_ready_and_metrics(server: LocalServer, client: openai.OpenAI) -> None:
    assert httpx.get(f"{root(server)}/ready").json() == {"status": "ready"}
    client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=3)
    response = httpx.get(f"{root(server)}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "minillm_generation_tokens_total" in response.text


def test_the_openapi_document_has_our_errors_and_no_others(server: LocalServer) -> None:
    document = httpx.get(f"{root(server)}/openapi.json").json()
    responses = document["paths"]["/v1/completions"]["post"]["responses"]
    assert {"200", "400", "401", "404", "413", "429", "500", "503"} <= set(responses)
    assert all(
        "422" not in operation["responses"] for path in document["paths"].values() for operation in path.values()
    )
