"""Several adapters beside one model: requests with different ones run in one batch, each as if it were alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import random_adapter

from minillm import LLM, SamplingParams
from minillm.attention import DenseAttention
from minillm.engine import Engine, EngineConfig, Request, RequestOutput
from minillm.engine.engine import Event
from minillm.engine.runner import ForwardBatch
from minillm.engine.scheduler import ScheduledRequest
from minillm.errors import InvalidRequestError, MinillmError, ModelNotFoundError, UnsupportedModelError
from minillm.models.adapter_files import save_adapter
from minillm.models.lora import LoRAAdapter
from minillm.models.lora_batch import LoRABatch, prepare_adapter

GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=5)
TEXTS = [[40 + (i * 37 + j * j) % 200 for j in range(5 + 10 * i)] for i in range(5)]
NAMES = (None, "whole", "mlp", "queries")
ARITHMETIC: dict[str, dict[str, Any]] = {
    "fast": {},
    "torch": {"kernels": "torch", "attention_backend": "torch"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantization": "int8"},
    "int4": {"quantization": "int4"},
}


@pytest.fixture(scope="module")
def adapters(tiny: LLM) -> dict[str, LoRAAdapter]:
    """Of all products, of some, and of one part of a fused product; with different ranks and scales."""
    config = tiny.model.config
    return {
        "whole": random_adapter(config, seed=1, rank=4, name="whole"),
        "mlp": random_adapter(config, seed=2, rank=16, scale=0.3, only=["mlp"], name="mlp"),
        "queries": random_adapter(
            config, seed=3, rank=3, scale=1.5, only=["q_proj", "layers.1.mlp.up_proj"], name="queries"
        ),
    }


def build(adapters: dict[str, LoRAAdapter], *, deterministic: bool = False, **settings: Any) -> Engine:
    parts = {name: settings.pop(name) for name in ("kernels", "attention_backend") if name in settings}
    settings = {"num_blocks": 200, **settings}
    config = EngineConfig(device="cpu", deterministic=deterministic, **settings)
    return Engine("tiny-random", config, adapters=adapters, **parts)


def run(engine: Engine, requests: Sequence[tuple[list[int], str | None]], **params: Any) -> list[RequestOutput]:
    outputs: dict[int, RequestOutput] = {}

    def add(index: int) -> None:
        def on_event(event: Event) -> None:
            assert not isinstance(event, MinillmError), event
            if isinstance(event, RequestOutput):
                outputs[index] = event

        prompt, adapter = requests[index]
        engine.add_request(prompt, GREEDY, on_event, adapter=adapter, **params)

    for index in range(len(requests)):
        add(index)
    while engine.has_unfinished:
        engine.step()
    return [outputs[index] for index in range(len(requests))]


def logits(llm: LLM | Engine, token_ids: list[int], lora: LoRABatch | None = None) -> torch.Tensor:
    with torch.inference_mode():
        positions = torch.arange(len(token_ids))
        return llm.model.logits(llm.model(torch.tensor(token_ids), positions, DenseAttention(), lora))


# -- The same as merged ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["cpu", "torch"])
@pytest.mark.parametrize("name", ["whole", "mlp", "queries"])
def test_beside_the_model_an_adapter_computes_what_it_does_merged(
    adapters: dict[str, LoRAAdapter], name: str, kernels: str, tmp_path: Path
) -> None:
    save_adapter(tmp_path, adapters[name])
    merged = LLM(f"tiny-random+{tmp_path}", device="cpu", kernels=kernels)
    beside = LLM("tiny-random", adapters={name: tmp_path}, device="cpu", kernels=kernels)
    lora = LoRABatch([(0, 30, beside.engine.runner.adapters[name])])
    expected = logits(merged, TEXTS[3][:30])
    assert (logits(beside, TEXTS[3][:30], lora) - expected).abs().max() < 1e-4
    assert (logits(beside, TEXTS[3][:30]) - expected).abs().max() > 0.5
    ours, theirs = beside.generate(TEXTS[3], GREEDY, adapter=name), merged.generate(TEXTS[3], GREEDY)
    assert ours.token_ids == theirs.token_ids
    assert beside.generate(TEXTS[3], GREEDY).token_ids != theirs.token_ids


@pytest.mark.parametrize("settings", [{"quantization": "int8"}, {"dtype": "bfloat16"}])
def test_it_is_added_to_packed_and_quantized_weights_too(
    adapters: dict[str, LoRAAdapter], settings: dict[str, str]
) -> None:
    plain, rough = build({}), build(adapters, **settings)
    text = TEXTS[3][:30]
    rounding = (logits(rough, text) - logits(plain, text)).abs().mean()
    for name, adapter in adapters.items():
        wanted = logits(plain, text, LoRABatch([(0, 30, prepare_adapter(adapter, plain.model))]))
        ours = logits(rough, text, LoRABatch([(0, 30, rough.runner.adapters[name])]))
        error = (ours - wanted).abs().mean()
        # No worse than what rounding the weights does to the model alone.
        assert error < 2 * rounding
        assert error < (logits(plain, text) - wanted).abs().mean() / 4


# -- Mixed -------------------------------------------------------------------------------------------------------


Outcome = tuple[Any, Any]


@pytest.fixture(scope="module")
def alone(adapters: dict[str, LoRAAdapter]) -> Callable[[str, int, str | None], Outcome]:
    """What a text gets with an adapter, by itself: tokens and log-probabilities."""

    @functools.cache
    def engine(arithmetic: str) -> Engine:
        return build(adapters, deterministic=True, enable_prefix_caching=False, **ARITHMETIC[arithmetic])

    @functools.cache
    def outcome(arithmetic: str, text: int, name: str | None) -> Outcome:
        (output,) = run(engine(arithmetic), [(TEXTS[text], name)])
        return output.token_ids, output.logprobs

    return outcome


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_the_adapters_matter(alone: Callable[[str, int, str | None], Outcome], arithmetic: str) -> None:
    assert len({tuple(alone(arithmetic, 2, name)[0]) for name in NAMES}) == len(NAMES)


@settings(max_examples=12)
@given(
    arithmetic=st.sampled_from(sorted(ARITHMETIC)),
    mix=st.lists(st.tuples(st.integers(0, len(TEXTS) - 1), st.sampled_from(NAMES)), min_size=1, max_size=9),
    chunk=st.sampled_from([1, 7, 16, 33, 512]),
    num_blocks=st.sampled_from([8, 14, 200]),
    caching=st.booleans(),
)
def test_neighbours_with_other_adapters_change_no_bit(
    adapters: dict[str, LoRAAdapter],
    alone: Callable[[str, int, str | None], Outcome],
    arithmetic: str,
    mix: list[tuple[int, str | None]],
    chunk: int,
    num_blocks: int,
    caching: bool,
) -> None:
    engine = build(
        adapters,
        deterministic=True,
        max_num_batched_tokens=chunk,
        num_blocks=num_blocks,
        enable_prefix_caching=caching,
        **ARITHMETIC[arithmetic],
    )
    for _ in range(2):  # the second time, the cache is warm
        outputs = run(engine, [(TEXTS[text], name) for text, name in mix])
        found = [(output.token_ids, output.logprobs) for output in outputs]
        assert found == [alone(arithmetic, *each) for each in mix]


def test_a_mixed_batch_is_one_step(adapters: dict[str, LoRAAdapter]) -> None:
    engine = build(adapters)
    run(engine, [(TEXTS[0], name) for name in (*NAMES, *NAMES)])
    assert max(step.batch_size for step in engine.tracer.steps) == 8
    assert len(engine.tracer.steps) == GREEDY.max_tokens


def test_a_batch_is_ordered_by_adapter_and_otherwise_left_as_it_is() -> None:
    names = ["b", "", "a", "b", "", "a"]
    scheduled = [
        ScheduledRequest(Request(f"{i}", [50 + i] * (i + 1), GREEDY, 20, adapter=name), i + 1, [i + 1])
        for i, name in enumerate(names)
    ]
    batch = ForwardBatch.build(scheduled, 16)
    assert [request.request_id for request in batch.requests] == ["1", "4", "2", "5", "0", "3"]
    assert batch.sampled == batch.requests
    assert batch.adapters == ((7, 16, "a"), (16, 21, "b"))
    assert batch.token_ids.tolist() == [51] * 2 + [54] * 5 + [52] * 3 + [55] * 6 + [50] + [53] * 4
    assert batch.attention.block_tables[:, 0].tolist() == [2, 5, 3, 6, 1, 4]
    assert [item.request.request_id for item in scheduled] == list("012345"), "the scheduler's list is its own"


# -- The prefix cache --------------------------------------------------------------------------------------------


def test_blocks_are_shared_within_an_adapter_and_never_across(adapters: dict[str, LoRAAdapter]) -> None:
    same = LoRAAdapter("same", adapters["mlp"].factors)
    engine = build({**adapters, "same": same})
    prompt = TEXTS[4]
    whole_blocks = (len(prompt) - 1) // 16 * 16
    for name in NAMES:
        assert run(engine, [(prompt, name)])[0].cached_tokens == 0
    for name in (*NAMES, "same"):
        assert run(engine, [(prompt, name)])[0].cached_tokens == whole_blocks
    assert run(engine, [(prompt, "mlp")], extra_keys=("image",))[0].cached_tokens == 0
    assert run(engine, [(prompt, "mlp")], tenant="ann")[0].cached_tokens == 0


def test_all_of_n_outputs_have_the_adapter(adapters: dict[str, LoRAAdapter], tiny: LLM) -> None:
    llm = LLM("tiny-random", adapters=adapters, device="cpu", debug=True, num_blocks=64)
    forks = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, n=3)
    mixed = llm.generate([TEXTS[2], TEXTS[2]], forks, adapter=["mlp", None])
    for output, name in zip(mixed, ("mlp", None), strict=True):
        expected = llm.generate(TEXTS[2], SamplingParams(temperature=0, max_tokens=40, ignore_eos=True), adapter=name)
        assert [each.token_ids for each in (output, *output.others)] == [expected.token_ids] * 3
    # What a child computed is found by the next request with its adapter, and by no other.
    longer = TEXTS[2] + mixed[0].others[1].token_ids
    assert llm.generate(longer, GREEDY, adapter="mlp").cached_tokens > len(TEXTS[2]) + 16
    assert llm.generate(longer, GREEDY).cached_tokens < len(TEXTS[2])


# -- LLM ---------------------------------------------------------------------------------------------------------


def test_adapters_are_given_by_name_path_or_mapping(
    adapters: dict[str, LoRAAdapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, adapter in adapters.items():
        save_adapter(tmp_path / name, adapter)
    monkeypatch.chdir(tmp_path)
    given = ["./whole", tmp_path / "mlp", {"mine": "queries"}, adapters["mlp"]]
    llm = LLM("tiny-random", adapters=given, device="cpu")
    assert llm.adapters == ("./whole", str(tmp_path / "mlp"), "mine", "mlp")
    assert llm.model_name == "tiny-random"
    loaded = llm.engine.adapters
    assert loaded["mine"].fingerprint == adapters["queries"].fingerprint
    assert loaded["mine"].name == "mine"
    also = LLM("tiny-random", adapters={"a": "whole", "b": adapters["mlp"]}, device="cpu")
    assert also.adapters == ("a", "b")
    assert also.fingerprint == LLM("tiny-random", device="cpu").fingerprint
    prints = [also.engine.fingerprint_with(name) for name in (None, "a", "b")]
    assert prints[0] == also.fingerprint
    assert len(set(prints)) == 3
    assert llm.engine.fingerprint_with("./whole") == prints[1]


def test_generate_and_chat_take_an_adapter(adapters: dict[str, LoRAAdapter]) -> None:
    llm = LLM("tiny-random", adapters=adapters, device="cpu")
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    by_name = {name: llm.generate("Hello", params, adapter=name).token_ids for name in NAMES}
    assert [output.token_ids for output in llm.generate(["Hello"] * 4, params, adapter=NAMES)] == [*by_name.values()]
    assert [output.token_ids for output in llm.generate(["Hello"] * 2, params, adapter="mlp")] == [by_name["mlp"]] * 2
    chunks = llm.generate("Hello", params, stream=True, adapter="whole")
    assert [token for chunk in chunks for token in chunk.token_ids] == by_name["whole"]
    talk = [{"role": "user", "content": "Hello"}]
    ours, plain = llm.chat(talk, params, adapter="mlp"), llm.chat(talk, params)
    assert ours.token_ids != plain.token_ids
    both = llm.chat([talk, talk], params, adapter=[None, "mlp"])
    assert [output.token_ids for output in both] == [plain.token_ids, ours.token_ids]
    chunks = llm.chat(talk, params, stream=True, adapter="mlp")
    assert [token for chunk in chunks for token in chunk.token_ids] == ours.token_ids


@pytest.mark.parametrize("adapter", ["absent", "", ["mlp", "absent"], 7, ["mlp"], [None, None, None]])
def test_an_unknown_adapter_is_told_before_anything_is_begun(adapters: dict[str, LoRAAdapter], adapter: Any) -> None:
    llm = LLM("tiny-random", adapters=adapters, device="cpu")
    with pytest.raises(InvalidRequestError) as caught:
        llm.generate(["a", "b"], GREEDY, adapter=adapter)
    assert caught.value.param == "adapter"
    assert "whole, mlp, queries" in str(caught.value) or "each of the 2 prompts" in str(caught.value)
    assert not llm.engine.has_unfinished
    assert not llm.engine.tracer.steps


def test_an_engine_without_adapters_says_so(tiny: LLM) -> None:
    with pytest.raises(InvalidRequestError, match=r"No adapter 'course' was loaded; there is none\. Load it with"):
        tiny.generate("Hello", adapter="course")


def test_what_is_refused_at_the_start(adapters: dict[str, LoRAAdapter], tmp_path: Path) -> None:
    save_adapter(tmp_path, adapters["mlp"])
    with pytest.raises(InvalidRequestError, match="has an adapter merged into its weights") as caught:
        LLM(f"tiny-random+{tmp_path}", adapters=["course"], device="cpu")
    assert f"LLM('tiny-random', adapters=['{tmp_path}', …])" in str(caught.value)
    for bad, message in (
        ("course", "expected a list of names or paths"),
        (7, "expected a list of names or paths"),
        ([7], "adapters holds 7"),
        ([{"a": 7}], "adapters holds 7"),
        ([{7: adapters["mlp"]}], "adapters holds"),
        ([adapters["mlp"], adapters["mlp"]], "'mlp'.* is given twice"),
        ({"": adapters["mlp"]}, "has no name"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            LLM("tiny-random", adapters=bad, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(ModelNotFoundError, match="No adapter is called 'curse'"):
        LLM("no-such-model", adapters=["curse"], device="cpu")
    with pytest.raises(UnsupportedModelError, match="The adapter 'mlp' is for another model"):
        LLM("smollm2-135m", adapters=[adapters["mlp"]], device="cpu", num_blocks=8)
