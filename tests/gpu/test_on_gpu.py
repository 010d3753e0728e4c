"""Whole models in Triton and CUDA graphs, on a GPU. Each kernel by itself: tests/kernels/test_triton_kernels.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from random_adapters import random_adapter
from torch import Tensor

from minillm import LLM, SamplingParams
from minillm.attention import AttentionBackend, AttentionMetadata, PagedAttention, TorchBackend
from minillm.attention.triton_backend import TritonBackend
from minillm.engine.cuda_graphs import CudaGraphRunner, padded_batch_sizes
from minillm.errors import MinillmError
from minillm.kernels import Kernels, TorchKernels
from minillm.kernels.triton import TritonKernels
from minillm.kv.cache import PagedKVCache
from minillm.models.decoder import Decoder
from minillm.models.tiny import random_model, tiny_config
from minillm.text import tiny_tokenizer

BLOCK_SIZE, MAX_MODEL_LEN, MAX_SEQS = 16, 512, 20
BLOCKS_PER_SEQ = MAX_MODEL_LEN // BLOCK_SIZE
CONFIG = dataclasses.replace(tiny_config(300), num_heads=6, num_kv_heads=2, head_dim=24, qk_norm=True)

Forward = Callable[[Tensor, Tensor, AttentionMetadata], Tensor]


class Served:
    """A model with a KV cache on the GPU, each sequence with blocks of its own."""

    def __init__(self, kernels: Kernels, backend: AttentionBackend, dtype: torch.dtype = torch.float32) -> None:
        self.model: Decoder = random_model(CONFIG, dtype=dtype, device="cuda")
        self.model.kernels = kernels
        self.backend = backend
        self.cache = PagedKVCache(
            num_layers=CONFIG.num_layers, num_blocks=1 + MAX_SEQS * BLOCKS_PER_SEQ, block_size=BLOCK_SIZE,
            num_kv_heads=CONFIG.num_kv_heads, head_dim=CONFIG.head_dim, dtype=dtype, device="cuda",
        )  # fmt: skip

    @torch.inference_mode()
    def forward(self, token_ids: Tensor, positions: Tensor, metadata: AttentionMetadata) -> Tensor:
        return self.model(token_ids, positions, PagedAttention(self.backend, self.cache, metadata))

    def recorded(self, batch_sizes: list[int]) -> CudaGraphRunner:
        runner = CudaGraphRunner(self.forward, max_model_len=MAX_MODEL_LEN, block_size=BLOCK_SIZE)
        runner.capture(batch_sizes)
        return runner


def step(query_lens: list[int], seq_lens: list[int], seed: int = 0) -> tuple[Tensor, Tensor, AttentionMetadata]:
    """Random tokens for the ends of sequences 0, 1, 2, …"""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.cat([torch.arange(end - new, end) for new, end in zip(query_lens, seq_lens, strict=True)])
    tables = 1 + torch.arange(len(seq_lens) * BLOCKS_PER_SEQ).view(-1, BLOCKS_PER_SEQ)
    owners = torch.repeat_interleave(torch.arange(len(seq_lens)), torch.tensor(query_lens))
    slots = tables[owners, positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
    metadata = AttentionMetadata(
        query_start_loc=torch.tensor([0, *query_lens]).cumsum(0).int().cuda(),
        seq_lens=torch.tensor(seq_lens).int().cuda(),
        block_tables=tables.int().cuda(),
        slot_mapping=slots.cuda(),
        max_query_len=max(query_lens),
        max_seq_len=max(seq_lens),
        block_size=BLOCK_SIZE,
    )
    return torch.randint(0, 300, (len(positions),), generator=generator).cuda(), positions.cuda(), metadata


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 0.15)], ids=str
)
def test_a_model_in_triton_computes_what_it_does_in_pytorch(dtype: torch.dtype, tolerance: float) -> None:
    triton, torch_ = Served(TritonKernels(), TritonBackend(), dtype), Served(TorchKernels(), TorchBackend())
    # Prompts, then a chunk beside decoding ones, then decoding only.
    for query_lens, seq_lens in [([40, 300, 7], [40, 300, 7]), ([1, 33, 1], [41, 333, 8]), ([1] * 3, [42, 334, 9])]:
        inputs = step(query_lens, seq_lens)
        found, expected = triton.forward(*inputs), torch_.forward(*inputs)
        assert found.dtype == dtype
        # In units of the largest number: a hidden state near 0 is the difference of large ones.
        assert float((found.float() - expected).abs().max() / expected.abs().max()) < tolerance


@pytest.mark.parametrize("num_seqs", [1, 2, 3, 5, 16, 17, 20])
def test_a_replayed_graph_gives_the_bits_of_the_padded_step_run_eagerly(num_seqs: int) -> None:
    served = Served(TritonKernels(), TritonBackend())
    prompts = [5 + 23 * i for i in range(num_seqs)]
    served.forward(*step(prompts, prompts))
    runner = served.recorded(padded_batch_sizes(MAX_SEQS))
    for new in (1, 2, 3):
        inputs = step([1] * num_seqs, [length + new for length in prompts], seed=new)
        replayed = runner.run(*inputs).clone()
        eager = served.forward(*inputs)
        # cuBLAS may choose another kernel for the padded batch, so not bit by bit unless the size was recorded.
        torch.testing.assert_close(replayed, eager, rtol=1e-4, atol=1e-4)
        if num_seqs in padded_batch_sizes(MAX_SEQS):
            assert torch.equal(replayed, eager)


def test_graphs_of_all_sizes_share_buffers_and_do_not_disturb_each_other() -> None:
    served = Served(TritonKernels(), TritonBackend())
    runner = served.recorded([1, 2, 4, 8])
    for seed, num_seqs in enumerate([8, 1, 3, 8, 2, 5, 1]):
        inputs = step([1] * num_seqs, [1] * num_seqs, seed)
        torch.testing.assert_close(runner.run(*inputs), served.forward(*inputs), rtol=1e-4, atol=1e-4)


def test_padding_writes_to_no_block() -> None:
    served = Served(TritonKernels(), TritonBackend())
    runner = served.recorded([8])
    served.cache.keys.fill_(7.0)
    runner.run(*step([1] * 3, [1] * 3))
    first_slots = 1 + torch.arange(3, device="cuda") * BLOCKS_PER_SEQ
    assert bool((served.cache.keys[:, first_slots, :, 0] != 7.0).any())
    served.cache.keys[:, first_slots, :, 0] = 7.0
    assert bool((served.cache.keys == 7.0).all())


def test_a_graph_reads_inputs_from_the_cpu_too() -> None:
    served = Served(TritonKernels(), TritonBackend())
    runner = served.recorded([4])
    token_ids, positions, metadata = step([1] * 3, [1] * 3)
    on_cpu = {
        field.name: value.cpu() if isinstance(value := getattr(metadata, field.name), Tensor) else value
        for field in dataclasses.fields(metadata)
    }
    found = runner.run(token_ids.cpu(), positions.cpu(), AttentionMetadata(**on_cpu)).clone()
    assert torch.equal(found, runner.run(token_ids, positions, metadata))


def test_what_no_graph_fits_is_refused() -> None:
    runner = Served(TritonKernels(), TritonBackend()).recorded([1, 2])
    assert runner.can_run(2) and not runner.can_run(3)
    with pytest.raises(MinillmError, match="No CUDA graph fits 3 tokens of 3 sequences"):
        runner.run(*step([1] * 3, [4] * 3))
    with pytest.raises(MinillmError, match="No CUDA graph fits 2 tokens of 1 sequences"):
        runner.run(*step([2], [4]))


def test_the_deterministic_backend_can_be_recorded() -> None:
    served = Served(TritonKernels(), TritonBackend(deterministic=True))
    runner = served.recorded([4])
    served.forward(*step([60] * 3, [60] * 3))
    inputs = step([1] * 3, [61] * 3)
    torch.testing.assert_close(runner.run(*inputs), served.forward(*inputs), rtol=1e-4, atol=1e-4)


def test_a_step_with_adapters_is_not_replayed_from_a_graph() -> None:
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    adapter = random_adapter(tiny_config(tiny_tokenizer().vocab_size))
    settings = {"device": "cuda", "dtype": "float32", "num_blocks": 200}
    recorded = LLM("tiny-random", adapters={"a": adapter}, **settings)
    assert recorded.engine.runner.graphs is not None
    plain = LLM("tiny-random", adapters={"a": adapter}, enforce_eager=True, **settings)
    prompts, names = ["Hello", "Hello", "Goodbye"], [None, "a", "a"]
    requests = zip(prompts, names, strict=True)
    expected = [plain.generate(prompt, params, adapter=name).token_ids for prompt, name in requests]
    assert expected[0] != expected[1]
    assert [output.token_ids for output in recorded.generate(prompts, params, adapter=names)] == expected
    assert recorded.generate("Hello", params).token_ids == expected[0]
