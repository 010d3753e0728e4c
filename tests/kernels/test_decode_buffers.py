"""The fixed buffers of CUDA graphs; the graphs themselves need a GPU, see tests/gpu."""

from __future__ import annotations

import pytest
import torch
from paged_batches import Batch, make_batch

from minillm.attention import TorchBackend
from minillm.engine.cuda_graphs import CudaGraphRunner, DecodeBuffers, padded_batch_sizes
from minillm.errors import MinillmError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [(1, [1]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (16, [1, 2, 4, 8, 16]), (50, [1, 2, 4, 8, 16, 32, 48, 50])],
)
def test_the_sizes_grow_up_to_the_limit_and_include_it(limit: int, sizes: list[int]) -> None:
    assert padded_batch_sizes(limit) == sizes


def test_a_padded_batch_computes_what_the_batch_alone_does() -> None:
    buffers = DecodeBuffers(4, max_model_len=40, block_size=8, device="cpu")
    # A full batch first, so that the padding of the second holds leftovers.
    for query_lens, seq_lens in [([1] * 4, [40, 1, 20, 9]), ([1, 1], [17, 3])]:
        batch = make_batch(query_lens, seq_lens)
        n, padding = len(seq_lens), 4 - len(seq_lens)
        expected = batch.wide().run(TorchBackend())
        buffers.load(torch.arange(n), torch.tensor(seq_lens) - 1, batch.metadata, 4)
        token_ids, positions, metadata = buffers.rows(4)
        assert token_ids[:n].tolist() == list(range(n)) and positions[:n].tolist() == [s - 1 for s in seq_lens]
        parts = [torch.cat((part, part.new_ones(padding, *part.shape[1:]))) for part in (batch.q, batch.k, batch.v)]
        angles = [torch.cat((part, part.new_ones(padding, 16))) for part in (batch.cos, batch.sin)]
        padded = Batch(*parts, *angles, batch.key_cache, batch.value_cache, metadata)
        out = padded.run(TorchBackend())
        torch.testing.assert_close(out[:n], expected)
        assert bool((out[n:] == 0).all())


def test_rows_are_views_so_that_a_recorded_step_sees_what_is_loaded_later() -> None:
    buffers = DecodeBuffers(2, max_model_len=16, block_size=8, device="cpu")
    token_ids, _, metadata = buffers.rows(2)
    buffers.load(torch.tensor([7]), torch.tensor([4]), make_batch([1], [5]).metadata, 2)
    assert token_ids.tolist() == [7, 0]
    assert metadata.seq_lens.tolist() == [5, 0]
    assert metadata.slot_mapping.tolist() == [12, -1]
    assert metadata.max_seq_len == 16


def test_recording_without_a_gpu_or_without_sizes_is_refused() -> None:
    runner = CudaGraphRunner(lambda *_: torch.zeros(1), max_model_len=16, block_size=8, device="cpu")
    with pytest.raises(MinillmError, match="need a GPU"):
        runner.capture([1])
    with pytest.raises(MinillmError, match="at least one size"):
        runner.capture([])
    assert not runner.can_run(1)
    batch = make_batch([1], [5])
    with pytest.raises(MinillmError, match="No CUDA graph fits 1 tokens"):
        runner.run(torch.zeros(1), torch.zeros(1), batch.metadata)
