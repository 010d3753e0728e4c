"""However the work is cut into steps and shared with others, a request gets the tokens that it would get alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from minillm import LLM, SamplingParams
from minillm.engine import Engine, EngineConfig
from minillm.engine.engine import Event
from minillm.engine.request import RequestOutput
from minillm.errors import InvalidRequestError, MinillmError, RequestAbortedError

BLOCK = 16
GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=20)


def prompt(length: int, start: int = 0) -> list[int]:
    return [40 + (start + 7 * i) % 200 for i in range(length)]


def run(engine: Engine, requests: list[tuple[list[int], SamplingParams]], **options: Any) -> list[Any]:
    """Each request's last event."""
    last: list[Any] = [None] * len(requests)

    def keep(index: int) -> Any:
        def on_event(event: Event) -> None:
            last[index] = event

        return on_event

    for index, (token_ids, params) in enumerate(requests):
        engine.add_request(token_ids, params, keep(index), **options)
    while engine.has_unfinished:
        engine.step()
    return last


def assert_close(one: RequestOutput, other: RequestOutput) -> None:
    assert one.token_ids == other.token_ids
    assert one.logprobs is not None
    assert other.logprobs is not None
    for mine, theirs in zip(one.logprobs, other.logprobs, strict=True):
        assert dict(mine.top) == pytest.approx(dict(theirs.top), abs=1e-4)


@pytest.fixture(scope="module", params=["fast", "torch"])
def arithmetic(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The machine's fast kernels, and the reference."""
    return {} if request.param == "fast" else {"kernels": "torch", "attention_backend": "torch"}


@pytest.mark.parametrize("chunk", [1, BLOCK - 1, BLOCK, BLOCK + 1, 40])
def test_the_size_of_chunks_changes_nothing(arithmetic: dict[str, Any], chunk: int) -> None:
    whole = LLM("tiny-random", device="cpu", **arithmetic).generate(prompt(70), GREEDY)
    chunked = LLM("tiny-random", device="cpu", max_num_batched_tokens=chunk, **arithmetic).generate(prompt(70), GREEDY)
    assert_close(chunked, whole)


@pytest.mark.parametrize("length", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1])
def test_prompts_around_the_size_of_a_block_cold_and_warm(arithmetic: dict[str, Any], length: int) -> None:
    """A second time, all whole blocks come from the cache, but for the one with the token that's computed anew."""
    plain = LLM("tiny-random", device="cpu", enable_prefix_caching=False, **arithmetic)
    expected = plain.generate(prompt(length), GREEDY)
    llm = LLM("tiny-random", device="cpu", **arithmetic)
    cold, warm = llm.generate(prompt(length), GREEDY), llm.generate(prompt(length), GREEDY)
    assert_close(cold, expected)
    assert_close(warm, expected)
    assert (expected.cached_tokens, cold.cached_tokens) == (0, 0)
    assert warm.cached_tokens == (length - 1) // BLOCK * BLOCK


def test_a_full_hit_computes_only_the_tail(tiny_engine: Engine) -> None:
    run(tiny_engine, [(prompt(65), GREEDY)])
    before = len(tiny_engine.tracer.steps)
    run(tiny_engine, [(prompt(65), GREEDY)])
    first = tiny_engine.tracer.steps[before]
    assert [item.num_new_tokens for item in first.scheduled] == [1]


def test_a_batch_of_all_kinds_equals_each_alone(arithmetic: dict[str, Any]) -> None:
    """Greedy and sampled, short and long, with penalties and without, arriving in one heap."""
    kinds = [
        GREEDY,
        SamplingParams(seed=3, max_tokens=20, ignore_eos=True),
        SamplingParams(seed=4, temperature=0.7, top_k=20, top_p=0.9, max_tokens=9, ignore_eos=True),
        SamplingParams(temperature=0, max_tokens=15, repetition_penalty=1.3, ignore_eos=True),
        SamplingParams(seed=8, max_tokens=11, frequency_penalty=0.7, logit_bias={70: 5.0}, ignore_eos=True),
    ]
    requests = [(prompt(5 + 11 * i, start=i), kinds[i % len(kinds)]) for i in range(15)]
    alone = LLM("tiny-random", device="cpu", **arithmetic)
    expected = [alone.generate(*request).token_ids for request in requests]
    together = Engine("tiny-random", EngineConfig(device="cpu", max_num_batched_tokens=64), **arithmetic)
    assert [output.token_ids for output in run(together, requests)] == expected
    backwards = run(together, requests[::-1])
    assert [output.token_ids for output in backwards[::-1]] == expected


@pytest.mark.parametrize("num_blocks", [8, 10, 12, 14])
def test_preempted_requests_get_the_tokens_of_an_uninterrupted_run(num_blocks: int) -> None:
    """The pool holds about two of six requests; the others are thrown out at block boundaries and come back."""
    requests = [
        (prompt(BLOCK * (1 + i % 3) + i - 2, start=i), SamplingParams(seed=i, max_tokens=40, ignore_eos=True))
        for i in range(6)
    ]
    alone = LLM("tiny-random", device="cpu", enable_prefix_caching=False)
    expected = [alone.generate(*request).token_ids for request in requests]
    for caching in (True, False):
        config = EngineConfig(device="cpu", num_blocks=num_blocks, enable_prefix_caching=caching, debug=True)
        engine = Engine("tiny-random", config)
        assert [output.token_ids for output in run(engine, requests)] == expected
        assert sum(len(step.preempted) for step in engine.tracer.steps) > 0
        assert engine.kv.usage().referenced == 0


def test_a_lone_request_that_outgrows_the_pool_ends_with_what_it_has() -> None:
    engine = Engine("tiny-random", EngineConfig(device="cpu", num_blocks=4, debug=True))
    (output,) = run(engine, [(prompt(20), SamplingParams(temperature=0, max_tokens=500, ignore_eos=True))])
    assert output.finish_reason == "length"
    assert len(output.token_ids) == 3 * BLOCK - 20 + 1  # the last token's keys and values needn't be stored
    assert engine.kv.usage().referenced == 0


def test_what_can_never_fit_is_refused_at_once_while_others_go_on() -> None:
    engine = Engine("tiny-random", EngineConfig(device="cpu", num_blocks=4))
    events: list[Event] = []
    engine.add_request(prompt(20), GREEDY, events.append)
    engine.step()
    with pytest.raises(InvalidRequestError, match="block"):
        engine.add_request(prompt(50), GREEDY, events.append)
    with pytest.raises(InvalidRequestError, match="Shorten the prompt"):
        engine.add_request(prompt(5000), GREEDY, events.append)
    while engine.has_unfinished:
        engine.step()
    assert isinstance(events[-1], RequestOutput)
    assert len(events[-1].token_ids) == 12


# -- several outputs for one prompt -----------------------------------------------------------------------------


def test_n_outputs_share_their_prompt_and_go_their_own_ways(tiny_engine: Engine) -> None:
    params = SamplingParams(seed=5, max_tokens=30, ignore_eos=True, n=4)
    events: list[Event] = []
    request_id = tiny_engine.add_request(prompt(3 * BLOCK + 5), params, events.append)
    tiny_engine.step()
    tiny_engine.step()
    # Three full blocks are shared; each has a tail of its own once it has written to it.
    assert tiny_engine.kv.usage().referenced <= 3 + 4
    tables = [tiny_engine.kv.block_table(name) for name in (request_id, *(f"{request_id}#{i}" for i in (1, 2, 3)))]
    assert len({tuple(table[:3]) for table in tables}) == 1
    assert len({table[3] for table in tables}) == 4
    while tiny_engine.has_unfinished:
        tiny_engine.step()
    outputs = {event.index: event.token_ids for event in events if isinstance(event, RequestOutput)}
    assert sorted(outputs) == [0, 1, 2, 3]
    assert len({tuple(tokens) for tokens in outputs.values()}) == 4
    single = LLM("tiny-random", device="cpu").generate(
        prompt(3 * BLOCK + 5), SamplingParams(seed=5, max_tokens=30, ignore_eos=True)
    )
    assert outputs[0] == single.token_ids
    tiny_engine.kv.check_integrity()
    assert tiny_engine.kv.usage().referenced == 0


def test_n_greedy_outputs_are_the_same_and_come_at_the_first(tiny: LLM) -> None:
    output = tiny.generate(prompt(9), SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, n=3))
    assert [other.index for other in output.others] == [1, 2]
    assert all(other.token_ids == output.token_ids for other in output.others)


@pytest.mark.parametrize("num_blocks", [6, 8])
def test_n_outputs_survive_preemption(num_blocks: int) -> None:
    params = SamplingParams(seed=9, max_tokens=40, ignore_eos=True, n=3)
    roomy = LLM("tiny-random", device="cpu").generate(prompt(21), params)
    tight = LLM("tiny-random", device="cpu", num_blocks=num_blocks, debug=True).generate(prompt(21), params)
    assert [each.token_ids for each in (tight, *tight.others)] == [each.token_ids for each in (roomy, *roomy.others)]


# -- tenants ----------------------------------------------------------------------------------------------------


def test_a_tenant_never_hits_the_blocks_of_another(tiny_engine: Engine) -> None:
    cached = []
    for tenant, keys in (("a", ()), ("a", ()), ("b", ()), ("b", ("adapter",)), ("b", ()), ("a", ("adapter",))):
        (output,) = run(tiny_engine, [(prompt(50), GREEDY)], tenant=tenant, extra_keys=keys)
        cached.append(output.cached_tokens)
    assert cached == [0, 48, 0, 0, 48, 0]


# -- errors -----------------------------------------------------------------------------------------------------


def test_logits_that_are_not_numbers_fail_their_own_request_only() -> None:
    """One token's embedding is broken; who doesn't say it doesn't notice."""
    engine = Engine("tiny-random", EngineConfig(device="cpu", enable_prefix_caching=False), kernels="torch")
    engine.model.embed_tokens.weight.data[41] = float("nan")
    del engine.model.lm_head.weight
    engine.model.lm_head.weight = engine.model.embed_tokens.weight.detach().nan_to_num()
    broken, sound = [44, 41, 46], [44, 45, 46]
    failed, output = run(engine, [(broken, GREEDY), (sound, GREEDY)])
    assert isinstance(failed, MinillmError)
    assert "not numbers" in str(failed)
    assert isinstance(output, RequestOutput)
    assert engine.kv.usage().referenced == 0


def test_a_step_that_fails_ends_its_requests_and_not_the_engine() -> None:
    class Breaks:
        """A backend that fails once."""

        name = "breaks"

        def __init__(self) -> None:
            from minillm.attention import TorchBackend

            self.calls, self.inner = 0, TorchBackend()

        def forward(self, *arguments: Any) -> Any:
            self.calls += 1
            if self.calls == 6:
                raise RuntimeError("out of memory")
            return self.inner.forward(*arguments)

    engine = Engine("tiny-random", EngineConfig(device="cpu", debug=True), attention_backend=Breaks, kernels="torch")
    first = run(engine, [(prompt(9), GREEDY), (prompt(12), GREEDY)])
    assert all("out of memory" in str(event) for event in first)
    (later,) = run(engine, [(prompt(9), GREEDY)])
    assert later.token_ids == LLM("tiny-random", device="cpu").generate(prompt(9), GREEDY).token_ids


def test_a_scheduler_that_schedules_nothing_is_named() -> None:
    from minillm.engine.scheduler import FairScheduler, SchedulerOutput

    class Lazy(FairScheduler):
        def schedule(self) -> SchedulerOutput:
            return SchedulerOutput([], [], [], [])

    with pytest.raises(MinillmError, match="Lazy has work and schedules none of it"):
        LLM("tiny-random", device="cpu", scheduler=Lazy).generate(prompt(5), GREEDY)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("scheduler", "nonsense", "known are default"),
        ("sampler", object(), "methods sample"),
        ("block_allocator", dict, "can't be called to make one"),
        ("prefix_cache", dict, "methods get, put"),
        ("drafter", "ngram", "unknown setting"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(part: str, value: object, message: str) -> None:
    with pytest.raises(MinillmError, match=message):
        LLM("tiny-random", device="cpu", **{part: value})


def test_an_abort_amid_a_prefill_publishes_nothing_that_was_not_computed() -> None:
    config = EngineConfig(device="cpu", max_num_batched_tokens=24, debug=True)
    engine = Engine("tiny-random", config)
    events: list[Event] = []
    request_id = engine.add_request(prompt(100), GREEDY, events.append)
    engine.step()
    engine.step()  # 48 of 100 tokens
    assert engine.abort(request_id)
    assert not engine.abort(request_id)
    assert engine.kv.usage().referenced == 0
    (output,) = run(engine, [(prompt(100), GREEDY)])
    assert output.cached_tokens == 48
    assert_close(output, LLM("tiny-random", device="cpu").generate(prompt(100), GREEDY))
    assert [type(event) for event in events] == [RequestAbortedError]


def test_aborts_from_another_thread_come_between_steps() -> None:
    engine = Engine("tiny-random", EngineConfig(device="cpu", debug=True))
    long = SamplingParams(temperature=0, max_tokens=1000, ignore_eos=True)
    names = [engine.add_request(prompt(20, start=i), long, lambda event: None) for i in range(8)]
    thread = threading.Thread(target=lambda: [engine.abort(name) for name in names])
    for _ in range(3):
        engine.step()
    thread.start()
    while engine.has_unfinished:
        engine.step()
    thread.join()
    assert engine.kv.usage().referenced == 0
