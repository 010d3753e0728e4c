"""The deterministic mode: the bits of an output depend on its own tokens only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm import SamplingParams
from minillm.engine import Engine, EngineConfig
from minillm.engine.engine import Event
from minillm.engine.request import RequestOutput
from minillm.kernels.reference import RowByRowKernels

PARAMS = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True, logprobs=5)
TEXTS = [[40 + (i * 37 + j * j) % 200 for j in range(5 + 13 * i)] for i in range(6)]
ARITHMETIC: dict[str, dict[str, Any]] = {"fast": {}, "torch": {"kernels": "torch", "attention_backend": "torch"}}


def bits(engine: Engine, texts: list[list[int]]) -> list[Any]:
    """Tokens and log-probabilities of each, as they are, to the last bit."""
    outputs: dict[int, RequestOutput] = {}

    def add(index: int) -> None:
        def on_event(event: Event) -> None:
            if isinstance(event, RequestOutput):
                outputs[index] = event

        engine.add_request(texts[index], PARAMS, on_event)

    for index in range(len(texts)):
        add(index)
    while engine.has_unfinished:
        engine.step()
    return [(outputs[i].token_ids, outputs[i].logprobs) for i in range(len(texts))]


@pytest.fixture(scope="module")
def alone() -> dict[str, list[Any]]:
    """Each text by itself, in one chunk, without a cache."""
    config = EngineConfig(device="cpu", deterministic=True, enable_prefix_caching=False)
    found = {}
    for name, parts in ARITHMETIC.items():
        engine = Engine("tiny-random", config, **parts)
        found[name] = [bits(engine, [text])[0] for text in TEXTS]
    return found


@settings(max_examples=12)
@given(
    name=st.sampled_from(sorted(ARITHMETIC)),
    order=st.permutations(range(len(TEXTS))),
    chunk=st.sampled_from([1, 7, 16, 33, 512]),
    num_blocks=st.sampled_from([9, 14, 200]),
    caching=st.booleans(),
)
def test_neighbours_chunks_hits_and_preemption_change_no_bit(
    alone: dict[str, list[Any]], name: str, order: list[int], chunk: int, num_blocks: int, caching: bool
) -> None:
    config = EngineConfig(
        device="cpu",
        deterministic=True,
        max_num_batched_tokens=chunk,
        num_blocks=num_blocks,
        enable_prefix_caching=caching,
    )
    engine = Engine("tiny-random", config, **ARITHMETIC[name])
    for _ in range(2):  # the second time, the cache is warm
        assert bits(engine, [TEXTS[i] for i in order]) == [alone[name][i] for i in order]


def test_the_mode_is_part_of_the_fingerprint() -> None:
    prints = {
        Engine("tiny-random", EngineConfig(device="cpu", deterministic=mode)).fingerprint for mode in (True, False)
    }
    assert len(prints) == 2


def test_a_row_keeps_its_bits_where_pytorch_cuts_a_batch_between_threads() -> None:
    kernels = RowByRowKernels()
    gate_up = torch.randn(225, 320, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([kernels.silu_and_mul(row) for row in gate_up.split(1)])
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(kernels.silu_and_mul(gate_up), alone)
    finally:
        torch.set_num_threads(before)
