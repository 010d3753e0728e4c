"""What comes out of `LLM.generate`: the right tokens, as many as asked for, and the same ones next time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minillm import LLM, SamplingParams
from minillm.errors import MinillmError
from minillm.sampling import FilteringSampler, SamplingMetadata

Logits = Callable[[list[int]], Tensor]
PROMPT = "The capital of France is"
PREFILL_CHUNK = 512  # max_num_batched_tokens on a CPU


def greedy(**options: object) -> SamplingParams:
    return SamplingParams(**({"temperature": 0, "max_tokens": 24, "ignore_eos": True} | options))  # type: ignore[arg-type]


def sampled(**options: object) -> SamplingParams:
    return SamplingParams(**({"max_tokens": 24, "ignore_eos": True} | options))  # type: ignore[arg-type]


# Greedy


@pytest.mark.parametrize("prompt", [PROMPT, "a", "日本 🙂", "word " * 200])
def test_greedy_takes_the_oracles_most_likely_token_each_time(prompt: str, tiny: LLM, oracle_logits: Logits) -> None:
    output = tiny.generate(prompt, greedy())
    assert output.prompt_token_ids == tiny.tokenizer.encode(prompt)
    rows = oracle_logits(output.prompt_token_ids + output.token_ids)[len(output.prompt_token_ids) - 1 : -1]
    assert output.token_ids == rows.argmax(-1).tolist()
    assert output.text == tiny.tokenizer.decode(output.token_ids)
    assert output.finish_reason == "length"


def test_greedy_is_the_same_every_time(tiny: LLM) -> None:
    first = tiny.generate(PROMPT, greedy())
    tiny.generate("something else", sampled())
    assert tiny.generate(PROMPT, greedy()).token_ids == first.token_ids
    assert tiny.generate(PROMPT, greedy(seed=7)).token_ids == first.token_ids


def test_text_and_token_ids_are_the_same_prompt(tiny: LLM) -> None:
    token_ids = tiny.tokenizer.encode(PROMPT)
    from_text, from_ids = tiny.generate(PROMPT, greedy()), tiny.generate(token_ids, greedy())
    assert from_text.token_ids == from_ids.token_ids
    assert from_ids.prompt_token_ids == token_ids
    assert tiny.generate(tuple(token_ids), greedy()).token_ids == from_text.token_ids


@pytest.mark.parametrize(
    "length", [1, PREFILL_CHUNK - 1, PREFILL_CHUNK, PREFILL_CHUNK + 1, 2 * PREFILL_CHUNK, 2 * PREFILL_CHUNK + 300]
)
def test_a_long_prompt_in_pieces_is_as_good_as_whole(length: int, tiny: LLM, oracle_logits: Logits) -> None:
    prompt = torch.randint(0, 512, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    output = tiny.generate(prompt, greedy(max_tokens=3, logprobs=20))
    rows = oracle_logits(prompt + output.token_ids)[length - 1 : -1].log_softmax(-1)
    assert output.token_ids == rows.argmax(-1).tolist()
    for position, row in zip(output.logprobs or [], rows, strict=True):
        ids, values = zip(*position.top, strict=True)
        torch.testing.assert_close(torch.tensor(values), row[list(ids)], rtol=0, atol=1e-4)


def test_half_precision_generates(tiny: LLM) -> None:
    for dtype in ("bfloat16", "float16"):
        llm = LLM("tiny-random", dtype=dtype, device="cpu")
        assert llm.model.dtype == getattr(torch, dtype)
        assert len(llm.generate(PROMPT, greedy()).token_ids) == 24


# Several prompts


def test_a_list_gives_a_list_in_its_order(tiny: LLM) -> None:
    prompts = ["one", "two and three", PROMPT, "one"]
    outputs = tiny.generate(prompts, greedy())
    assert [output.token_ids for output in outputs] == [tiny.generate(p, greedy()).token_ids for p in prompts]
    assert [output.prompt_token_ids for output in outputs] == [tiny.tokenizer.encode(p) for p in prompts]
    assert outputs[0].token_ids == outputs[3].token_ids != outputs[1].token_ids


def test_a_list_of_one_is_a_list(tiny: LLM) -> None:
    (output,) = tiny.generate([PROMPT], greedy())
    assert output.token_ids == tiny.generate(PROMPT, greedy()).token_ids
    (output,) = tiny.generate([tiny.tokenizer.encode(PROMPT)], greedy())
    assert output.token_ids == tiny.generate(PROMPT, greedy()).token_ids
    nothing: list[str] = []
    assert tiny.generate(nothing, greedy()) == []


def test_each_prompt_can_have_its_own_parameters(tiny: LLM) -> None:
    params = [greedy(max_tokens=3), sampled(seed=5, max_tokens=7), greedy(stop_token_ids=range(512))]
    outputs = tiny.generate([PROMPT] * 3, params)
    assert [len(output.token_ids) for output in outputs] == [3, 7, 1]
    assert [output.finish_reason for output in outputs] == ["length", "length", "stop"]
    assert outputs[1].token_ids == tiny.generate(PROMPT, params[1]).token_ids


def test_texts_and_token_ids_may_be_mixed(tiny: LLM) -> None:
    prompts: list[Any] = [PROMPT, tiny.tokenizer.encode(PROMPT)]
    first, second = tiny.generate(prompts, greedy())
    assert first.token_ids == second.token_ids


# Seeds


def test_a_seed_repeats_whatever_else_runs(tiny: LLM) -> None:
    params = sampled(seed=42)
    alone = tiny.generate(PROMPT, params).token_ids
    assert tiny.generate(PROMPT, params).token_ids == alone
    among = tiny.generate(["other", PROMPT, "more"], [sampled(), params, sampled(seed=1)])
    assert among[1].token_ids == alone
    assert LLM("tiny-random", device="cpu").generate(PROMPT, params).token_ids == alone


def test_the_global_generator_is_neither_used_nor_touched(tiny: LLM) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    outputs = {tuple(tiny.generate(PROMPT, sampled()).token_ids) for _ in range(3)}
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(0)
    outputs.add(tuple(tiny.generate(PROMPT, sampled()).token_ids))
    assert len(outputs) == 4, "requests without a seed should differ"


def test_different_seeds_differ(tiny: LLM) -> None:
    assert len({tuple(tiny.generate(PROMPT, sampled(seed=seed)).token_ids) for seed in range(5)}) == 5


def test_a_shorter_request_is_the_beginning_of_a_longer_one(tiny: LLM) -> None:
    long = tiny.generate(PROMPT, sampled(seed=3, max_tokens=20)).token_ids
    assert tiny.generate(PROMPT, sampled(seed=3, max_tokens=8)).token_ids == long[:8]


def test_every_position_has_a_random_number_of_its_own() -> None:
    class Recording(FilteringSampler):
        def __init__(self) -> None:
            self.uniforms: list[list[float]] = []

        def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
            self.uniforms.append(metadata.uniform.tolist())
            return super().sample(logits, metadata)

    sampler = Recording()
    llm = LLM("tiny-random", device="cpu", sampler=sampler)
    llm.generate([PROMPT, "another prompt"], [sampled(seed=1), sampled(seed=1)])
    first, second = zip(*sampler.uniforms, strict=True)
    assert len(set(first)) == 24
    assert first == second, "they hang on the seed and the position alone"


# Temperature and filters


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-3}], ids=str)
def test_the_narrowest_filter_is_greedy(narrow: dict[str, float], tiny: LLM) -> None:
    params = sampled(**({"temperature": 2.0, "seed": 1} | narrow))
    assert tiny.generate(PROMPT, params).token_ids == tiny.generate(PROMPT, greedy()).token_ids


def test_temperature_spreads(tiny: LLM) -> None:
    def distinct(temperature: float) -> int:
        params = [sampled(temperature=temperature, seed=seed, max_tokens=1) for seed in range(60)]
        return len({output.token_ids[0] for output in tiny.generate([PROMPT] * 60, params)})

    assert 1 <= distinct(0.05) < distinct(0.7) < distinct(5.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_models_distribution(temperature: float, tiny: LLM, oracle_logits: Logits) -> None:
    prompt = tiny.tokenizer.encode(PROMPT)
    expected = (oracle_logits(prompt)[-1] / temperature).softmax(-1)
    params = [sampled(temperature=temperature, seed=seed, max_tokens=1) for seed in range(500)]
    drawn = torch.tensor([output.token_ids[0] for output in tiny.generate([prompt] * 500, params)])
    counts = torch.bincount(drawn, minlength=512)
    likely = expected.topk(8).indices
    # Six standard deviations: one run in half a billion would fail by chance, and the seeds are fixed.
    bound = 6 * (500 * expected * (1 - expected)).sqrt() + 1
    assert ((counts - 500 * expected).abs() <= bound)[likely].all()


def test_top_k_draws_among_the_k_most_likely(tiny: LLM) -> None:
    ranks = set()
    for seed in range(20):
        output = tiny.generate(PROMPT, sampled(temperature=3.0, top_k=4, seed=seed, logprobs=4))
        for position in output.logprobs or []:
            ranks.add([token for token, _ in position.top].index(position.token_id))
    assert ranks == {0, 1, 2, 3}


def test_top_p_draws_from_the_nucleus(tiny: LLM, oracle_logits: Logits) -> None:
    seen = 0
    for seed in range(8):
        output = tiny.generate(PROMPT, sampled(top_p=0.3, seed=seed))
        rows = oracle_logits(output.prompt_token_ids + output.token_ids)[len(output.prompt_token_ids) - 1 : -1]
        for token, row in zip(output.token_ids, rows.softmax(-1), strict=True):
            more_likely = row[row > row[token] + 1e-6].sum()
            assert more_likely < 0.3 + 1e-4
            seen += bool(more_likely > 0)
    assert seen > 20, "some tokens should be other than the most likely one"


# Penalties and bias


def test_penalties_see_prompt_and_output(tiny: LLM, oracle_logits: Logits) -> None:
    prompt = tiny.tokenizer.encode(PROMPT)
    for options in ({"frequency_penalty": 2.0}, {"presence_penalty": 2.0}, {"repetition_penalty": 1.8}):
        expected: list[int] = []
        for _ in range(24):
            logits = oracle_logits(prompt + expected)[-1].clone()
            counts = torch.bincount(torch.tensor(expected, dtype=torch.int64), minlength=512)
            logits -= options.get("frequency_penalty", 0) * counts
            logits -= options.get("presence_penalty", 0) * (counts > 0)
            if factor := options.get("repetition_penalty"):
                for token in {*prompt, *expected}:
                    logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
            expected.append(int(logits.argmax()))
        assert tiny.generate(prompt, greedy(**options)).token_ids == expected


def test_logit_bias_forces_and_forbids(tiny: LLM) -> None:
    assert tiny.generate(PROMPT, greedy(logit_bias={77: 100}, max_tokens=4)).token_ids == [77] * 4
    usual = tiny.generate(PROMPT, greedy()).token_ids
    others = tiny.generate(PROMPT, greedy(logit_bias=dict.fromkeys(usual, -100))).token_ids
    assert set(usual).isdisjoint(others)


# The end


def test_max_tokens_one(tiny: LLM) -> None:
    output = tiny.generate(PROMPT, greedy(max_tokens=1))
    assert output.token_ids == tiny.generate(PROMPT, greedy()).token_ids[:1]
    assert output.finish_reason == "length"
    assert output.metrics.num_output_tokens == 1
    assert output.metrics.time_per_output_token == 0


def test_the_end_of_text_token_ends_the_text_even_as_the_first(tiny: LLM) -> None:
    (eos,) = tiny.tokenizer.eos_token_ids
    output = tiny.generate(PROMPT, SamplingParams(temperature=0, logit_bias={eos: 100}))
    assert output.token_ids == [eos]
    assert output.text == ""
    assert output.finish_reason == "stop"
    on = tiny.generate(PROMPT, SamplingParams(temperature=0, logit_bias={eos: 100}, ignore_eos=True, max_tokens=5))
    assert on.token_ids == [eos] * 5
    assert on.finish_reason == "length"


def test_the_end_of_text_token_at_the_last_place_is_a_stop(saying: Callable[[list[int]], LLM], tiny: LLM) -> None:
    (eos,) = tiny.tokenizer.eos_token_ids
    assert saying([300, eos]).generate(PROMPT, SamplingParams(max_tokens=2)).finish_reason == "stop"


def test_stop_token_ids(saying: Callable[[list[int]], LLM], tiny: LLM) -> None:
    text = tiny.tokenizer.encode("one two three")
    output = saying([*text, 9]).generate(PROMPT, SamplingParams(stop_token_ids=[text[1], 500]))
    assert output.token_ids == text[:2]
    assert output.text == tiny.tokenizer.decode(text[:2])
    assert output.finish_reason == "stop"


def test_ignore_eos_does_not_ignore_stop_token_ids(saying: Callable[[list[int]], LLM]) -> None:
    output = saying([2, 300, 2]).generate(PROMPT, SamplingParams(stop_token_ids=[300], ignore_eos=True))
    assert output.token_ids == [2, 300]


def test_the_context_is_filled_to_the_last_token() -> None:
    llm = LLM("tiny-random", device="cpu", max_model_len=16)
    assert llm.max_model_len == 16
    for length in (1, 10, 15):
        output = llm.generate([300] * length, greedy(max_tokens=1000))
        assert len(output.token_ids) == 16 - length
        assert output.finish_reason == "length"
    with pytest.raises(MinillmError, match="16"):
        llm.generate([300] * 16, greedy())


def test_a_context_filled_to_its_own_limit(tiny: LLM) -> None:
    output = tiny.generate([300] * 2040, greedy(max_tokens=1000))
    assert len(output.token_ids) == 8
    assert output.finish_reason == "length"


# Log-probabilities


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), temperature=st.floats(0, 3), top_k=st.integers(0, 10), count=st.integers(0, 20))
def test_logprobs_are_the_models_own(
    tiny: LLM, oracle_logits: Logits, seed: int, temperature: float, top_k: int, count: int
) -> None:
    """Before temperature, penalties and filters, whatever was drawn."""
    params = sampled(
        seed=seed, temperature=temperature, top_k=top_k, logprobs=count, frequency_penalty=1.0, max_tokens=8
    )
    output = tiny.generate(PROMPT, params)
    rows = oracle_logits(output.prompt_token_ids + output.token_ids)[len(output.prompt_token_ids) - 1 : -1]
    assert output.logprobs is not None
    for position, token, row in zip(output.logprobs, output.token_ids, rows.log_softmax(-1), strict=True):
        assert position.token_id == token
        assert position.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert len(position.top) == count
        values = [value for _, value in position.top]
        assert values == sorted(values, reverse=True)
        torch.testing.assert_close(torch.tensor(values), row.topk(count).values, rtol=0, atol=1e-4)


def test_logprobs_are_absent_unless_asked_for(tiny: LLM) -> None:
    assert tiny.generate(PROMPT, greedy()).logprobs is None
    assert all(chunk.logprobs is None for chunk in tiny.generate(PROMPT, greedy(), stream=True))


# Measurements


def test_metrics(tiny: LLM) -> None:
    metrics = tiny.generate(PROMPT, greedy()).metrics
    assert 0 < metrics.time_to_first_token < metrics.total_time
    assert metrics.num_output_tokens == 24
    assert metrics.time_per_output_token == pytest.approx((metrics.total_time - metrics.time_to_first_token) / 23)


def test_nothing_is_printed_where_nobody_watches(tiny: LLM, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.generate([PROMPT] * 3, greedy())
    assert capfd.readouterr() == ("", "")


# The real model


def test_the_real_model_knows_paris(smollm2: LLM) -> None:
    output = smollm2.generate(PROMPT, SamplingParams(temperature=0, max_tokens=8))
    assert "Paris" in output.text


def test_the_real_model_answers_in_a_chat_and_stops(smollm2: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=60)
    output = smollm2.chat([{"role": "user", "content": "Say hello in one word."}], params)
    assert output.finish_reason == "stop"
    assert output.token_ids[-1] in smollm2.tokenizer.eos_token_ids
    assert "<|" not in output.text
    assert output.text.strip()
