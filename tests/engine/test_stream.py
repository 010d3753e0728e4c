"""Streams: the same text in pieces, never half a character, never a piece of a stop string."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedSampler

from minillm import LLM, OutputChunk, RequestOutput, SamplingParams
from minillm.errors import InvalidRequestError, MinillmError

PROMPT = "The capital of France is"


def check_stream(chunks: list[OutputChunk], whole: RequestOutput) -> None:
    """The stream and the whole output tell the same."""
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [token for chunk in chunks for token in chunk.token_ids] == whole.token_ids
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + [whole.finish_reason]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**64 - 1),
    temperature=st.floats(0.5, 20),
    max_tokens=st.integers(1, 40),
    ignore_eos=st.booleans(),
    logprobs=st.none() | st.integers(0, 3),
)
def test_the_stream_adds_up_to_the_text(
    tiny: LLM, seed: int, temperature: float, max_tokens: int, ignore_eos: bool, logprobs: int | None
) -> None:
    """A tiny model at a high temperature says bytes of every kind: broken characters, control tokens, anything."""
    params = SamplingParams(
        temperature=temperature, seed=seed, max_tokens=max_tokens, ignore_eos=ignore_eos, logprobs=logprobs
    )
    whole = tiny.generate(PROMPT, params)
    chunks = list(tiny.generate(PROMPT, params, stream=True))
    check_stream(chunks, whole)
    assert whole.text == tiny.tokenizer.decode(whole.token_ids)
    if logprobs is not None:
        assert [entry for chunk in chunks for entry in chunk.logprobs or []] == whole.logprobs


def test_the_stream_comes_token_by_token(tiny: LLM) -> None:
    stream = tiny.generate(PROMPT, SamplingParams(max_tokens=5, ignore_eos=True), stream=True)
    assert isinstance(stream, Iterator)
    for _ in range(5):
        assert len(next(stream).token_ids) == 1
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("text", ["🙂🙃 emoji 👨‍👩‍👧‍👦", "日本語と中文", "Ünïcödé", "नमस्ते", "a🙂b🙂c"])
def test_no_character_is_ever_broken(text: str, tiny: LLM, saying: Callable[[list[int]], LLM]) -> None:
    script = tiny.tokenizer.encode(text)
    assert len(script) > len(text) / 2
    params = SamplingParams(max_tokens=len(script))
    chunks = list(saying(script).generate(PROMPT, params, stream=True))
    assert "".join(chunk.text for chunk in chunks) == text
    assert not any("\ufffd" in chunk.text for chunk in chunks)
    # Nothing is held back longer than its character needs.
    seen = 0
    for count, chunk in enumerate(chunks, 1):
        seen += len(chunk.text)
        so_far = b"".join(map(tiny.tokenizer.token_bytes, script[:count]))
        assert seen == len(so_far.decode("utf-8", errors="ignore"))


def test_half_a_character_at_the_end_is_shown_as_such(tiny: LLM, saying: Callable[[list[int]], LLM]) -> None:
    script = tiny.tokenizer.encode("ok 🙂")[:-1]
    params = SamplingParams(max_tokens=len(script))
    chunks = list(saying(script).generate(PROMPT, params, stream=True))
    assert "".join(chunk.text for chunk in chunks) == "ok \ufffd"
    assert chunks[-1].text.endswith("\ufffd")


# Stop strings


@pytest.fixture(scope="module")
def listener() -> LLM:
    """A model of its own, to be given one scripted sampler after another."""
    return LLM("tiny-random", device="cpu")


def expected_text(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is complete first; of several that end together, the longest."""
    for end in range(1, len(text) + 1):
        if ending := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, ending))], True
    return text, False


@settings(max_examples=150)
@given(data=st.data())
def test_stop_strings_end_the_text_and_never_leak(tiny: LLM, listener: LLM, data: st.DataObject) -> None:
    text = data.draw(st.text(st.sampled_from("ab \n🙂é日"), min_size=1, max_size=30))
    inside = st.builds(
        lambda begin, length: text[begin : begin + length], st.integers(0, len(text) - 1), st.integers(1, 5)
    )
    stops = data.draw(st.lists(inside | st.text(st.sampled_from("ab🙂"), min_size=1, max_size=4), max_size=3))
    script = tiny.tokenizer.encode(text)
    params = SamplingParams(max_tokens=len(script), stop=stops)
    listener.sampler = ScriptedSampler(script)
    whole = listener.generate(PROMPT, params)
    listener.sampler = ScriptedSampler(script)
    chunks = list(listener.generate(PROMPT, params, stream=True))
    check_stream(chunks, whole)
    expected, stopped = expected_text(text, stops)
    assert whole.text == expected
    assert whole.finish_reason == ("stop" if stopped else "length")
    assert whole.token_ids == script[: len(whole.token_ids)]


def test_generation_ends_with_the_token_that_completes_the_stop_string(
    tiny: LLM, saying: Callable[[list[int]], LLM]
) -> None:
    script = tiny.tokenizer.encode("one two three four")
    output = saying(script).generate(PROMPT, SamplingParams(stop="two"))
    assert output.text == "one "
    assert "two" in tiny.tokenizer.decode(output.token_ids)
    assert "two" not in tiny.tokenizer.decode(output.token_ids[:-1])


def test_what_might_have_become_a_stop_string_is_shown_at_the_end(
    tiny: LLM, saying: Callable[[list[int]], LLM]
) -> None:
    (eos,) = tiny.tokenizer.eos_token_ids
    for script, reason in (
        ([*tiny.tokenizer.encode("text###"), eos], "stop"),
        (tiny.tokenizer.encode("text###"), "length"),
    ):
        output = saying(script).generate(PROMPT, SamplingParams(stop="####", max_tokens=len(script)))
        assert output.text == "text###"
        assert output.finish_reason == reason


def test_a_stop_string_may_be_the_sign_for_a_broken_character(tiny: LLM, saying: Callable[[list[int]], LLM]) -> None:
    script = tiny.tokenizer.encode("ok 🙂")[:-1]
    output = saying(script).generate(PROMPT, SamplingParams(stop="\ufffd", max_tokens=len(script)))
    assert (output.text, output.finish_reason) == ("ok ", "stop")


def test_control_tokens_are_not_in_the_text_and_cannot_complete_a_stop_string(
    tiny: LLM, saying: Callable[[list[int]], LLM]
) -> None:
    script = [*tiny.tokenizer.encode("a"), 1, 0, *tiny.tokenizer.encode("b")]
    params = SamplingParams(stop=["<|im_start|>", "<|"], max_tokens=len(script), ignore_eos=True)
    output = saying(script).generate(PROMPT, params)
    assert (output.text, output.finish_reason) == ("ab", "length")


# Several at once


def test_a_closed_stream_leaves_nothing_behind(tiny: LLM) -> None:
    params = SamplingParams(seed=4, max_tokens=30, ignore_eos=True)
    expected = tiny.generate(PROMPT, params).token_ids
    for steps in (0, 1, 5):
        stream = tiny.generate("another prompt", SamplingParams(max_tokens=50, ignore_eos=True), stream=True)
        for _ in range(steps):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert tiny.generate(PROMPT, params).token_ids == expected


def test_a_sampler_that_fails_leaves_nothing_behind(tiny: LLM, saying: Callable[[list[int]], LLM]) -> None:
    llm = saying([300, 301])
    with pytest.raises(MinillmError, match="StopIteration"):
        llm.generate(PROMPT, SamplingParams(max_tokens=5))
    llm.sampler = tiny.sampler
    params = SamplingParams(temperature=0, max_tokens=5)
    assert llm.generate(PROMPT, params).token_ids == tiny.generate(PROMPT, params).token_ids


def test_streams_may_take_turns(tiny: LLM) -> None:
    prompts = ["one", "two words", PROMPT]
    params = [SamplingParams(seed=seed, max_tokens=20, ignore_eos=True) for seed in range(3)]
    expected = [output.text for output in tiny.generate(prompts, params)]
    streams = [tiny.generate(prompt, each, stream=True) for prompt, each in zip(prompts, params, strict=True)]
    texts = [""] * 3
    for _ in range(20):
        for i, stream in enumerate(streams):
            texts[i] += next(stream).text
    assert texts == expected


def test_threads_may_share_a_model() -> None:
    llm = LLM("tiny-random", device="cpu")  # its own, so that nothing is warmed up yet
    jobs = [
        (prompt, SamplingParams(seed=seed, max_tokens=40, ignore_eos=True, temperature=2.0))
        for seed, prompt in enumerate(["one", "two words", PROMPT, "日本", "one", "x" * 600])
    ]
    barrier = threading.Barrier(len(jobs))
    texts: dict[int, str] = {}

    def work(index: int) -> None:
        prompt, params = jobs[index]
        barrier.wait()
        texts[index] = "".join(chunk.text for chunk in llm.generate(prompt, params, stream=True))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = LLM("tiny-random", device="cpu")
    assert [texts[i] for i in range(len(jobs))] == [alone.generate(*job).text for job in jobs]


def test_a_stream_may_be_read_in_another_thread_and_under_grad_mode(tiny: LLM) -> None:
    params = SamplingParams(seed=1, max_tokens=10, ignore_eos=True)
    stream = tiny.generate(PROMPT, params, stream=True)
    texts = [next(stream).text]
    reader = threading.Thread(target=lambda: texts.extend(chunk.text for chunk in stream))
    reader.start()
    reader.join()
    with torch.enable_grad():
        assert "".join(texts) == tiny.generate(PROMPT, params).text
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_only_one_prompt_can_be_streamed(tiny: LLM) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        tiny.generate([PROMPT, PROMPT], stream=True)  # type: ignore[call-overload]
    assert caught.value.param == "stream"


def test_a_bad_request_fails_when_it_is_made_not_when_it_is_read(tiny: LLM) -> None:
    with pytest.raises(InvalidRequestError):
        tiny.generate("", stream=True)
    with pytest.raises(InvalidRequestError):
        tiny.generate(PROMPT, SamplingParams(logit_bias={512: 1.0}), stream=True)
