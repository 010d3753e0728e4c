"""CUDA graphs: a decode step launches hundreds of small kernels, and launching takes longer than computing.

A graph records the launches once and replays them as one. It replays them with the very same addresses and grids, so
inputs are copied to fixed buffers, and a batch is padded to the next size that was recorded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from minillm.attention.backend import AttentionMetadata
from minillm.errors import MinillmError

Forward = Callable[[Tensor, Tensor, AttentionMetadata], Tensor]
"""(token_ids [num_tokens], positions [num_tokens], metadata) → hidden states [num_tokens, hidden_size]."""


def padded_batch_sizes(max_num_seqs: int) -> list[int]:
    """The sizes worth recording: 1, 2, 4, 8, then multiples of 16, and `max_num_seqs` itself."""
    return [size for size in (1, 2, 4, 8, *range(16, max_num_seqs, 16)) if size < max_num_seqs] + [max_num_seqs]


class DecodeBuffers:
    """The inputs of a decode step in memory that stays where it is: one row per sequence, one token each.

    Attributes:
        token_ids, positions, slot_mapping: [max_batch_size] int64.
        seq_lens: [max_batch_size] int32.
        query_start_loc: [max_batch_size + 1] int32: 0, 1, 2, …; never changes.
        block_tables: [max_batch_size, max_model_len / block_size] int32.
    """

    def __init__(self, max_batch_size: int, max_model_len: int, block_size: int, device: torch.device | str) -> None:
        self.max_model_len = max_model_len
        self.block_size = block_size
        self.token_ids = torch.zeros(max_batch_size, dtype=torch.int64, device=device)
        self.positions = torch.zeros(max_batch_size, dtype=torch.int64, device=device)
        self.slot_mapping = torch.full((max_batch_size,), -1, dtype=torch.int64, device=device)
        self.seq_lens = torch.zeros(max_batch_size, dtype=torch.int32, device=device)
        self.query_start_loc = torch.arange(max_batch_size + 1, dtype=torch.int32, device=device)
        max_blocks = -(-max_model_len // block_size)
        self.block_tables = torch.zeros(max_batch_size, max_blocks, dtype=torch.int32, device=device)

    def load(self, token_ids: Tensor, positions: Tensor, metadata: AttentionMetadata, size: int) -> None:
        """Copies a batch in and turns the rows from its end to `size` into padding.

        A padding row has length 0 and slot -1: it reads no block and writes none. Its other inputs are leftovers.
        """
        n = len(token_ids)
        width = min(metadata.block_tables.shape[1], self.block_tables.shape[1])
        self.token_ids[:n].copy_(token_ids, non_blocking=True)
        self.positions[:n].copy_(positions, non_blocking=True)
        self.slot_mapping[:n].copy_(metadata.slot_mapping, non_blocking=True)
        self.seq_lens[:n].copy_(metadata.seq_lens, non_blocking=True)
        self.block_tables[:n, :width].copy_(metadata.block_tables[:, :width], non_blocking=True)
        self.slot_mapping[n:size].fill_(-1)
        self.seq_lens[n:size].zero_()

    def rows(self, size: int) -> tuple[Tensor, Tensor, AttentionMetadata]:
        """Views of the first `size` rows: token ids, positions and metadata, as a forward pass takes them."""
        metadata = AttentionMetadata(
            query_start_loc=self.query_start_loc[: size + 1],
            seq_lens=self.seq_lens[:size],
            block_tables=self.block_tables[:size],
            slot_mapping=self.slot_mapping[:size],
            max_query_len=1,
            # Grids are recorded too, so they must do for the longest sequence that may come.
            max_seq_len=self.max_model_len,
            block_size=self.block_size,
        )
        return self.token_ids[:size], self.positions[:size], metadata


class CudaGraphRunner:
    """Replays a model's decode step. It computes what `forward` would, less the time for the launches.

    `forward` must not look at a tensor's numbers from Python (no `.item()`, no `.tolist()`): when recording, there are
    none. So it needs `TritonBackend`; `TorchBackend` can't be recorded.
    """

    def __init__(
        self, forward: Forward, *, max_model_len: int, block_size: int, device: torch.device | str = "cuda"
    ) -> None:
        """
        Args:
            forward: the model with its KV cache, see `Forward`; the cache must stay where it is.
            max_model_len: no sequence is longer.
            block_size: tokens per block of the KV cache.
            device: a GPU.
        """
        self._forward = forward
        self._max_model_len = max_model_len
        self._block_size = block_size
        self._device = torch.device(device)
        self._sizes: list[int] = []
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    @torch.inference_mode()
    def capture(self, batch_sizes: Iterable[int]) -> None:
        """Records the step for each batch size (see `padded_batch_sizes`); to be called once, before any `run`.

        Raises:
            MinillmError: if the device is no GPU, or for no sizes or one below 1.
        """
        sizes = sorted(set(batch_sizes))
        if not sizes or sizes[0] < 1:
            raise MinillmError(f"batch_sizes is {sizes}; expected at least one size, and each from 1.")
        if self._device.type != "cuda":
            raise MinillmError(f"CUDA graphs need a GPU, but the device is {self._device.type!r}: run without them.")
        self._buffers = DecodeBuffers(sizes[-1], self._max_model_len, self._block_size, self._device)
        pool = torch.cuda.graph_pool_handle()
        # The largest first: the others then find room in its memory, since only one of them runs at a time.
        for size in reversed(sizes):
            inputs = self._buffers.rows(size)
            self._warm_up(inputs)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                hidden = self._forward(*inputs)
            self._graphs[size] = graph, hidden
        self._sizes = sizes

    def _warm_up(self, inputs: tuple[Tensor, Tensor, AttentionMetadata]) -> None:
        """Runs once unrecorded: Triton compiles and cuBLAS reserves memory, and neither may happen while recording."""
        stream, current = torch.cuda.Stream(self._device), torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            self._forward(*inputs)
        current.wait_stream(stream)

    def can_run(self, num_tokens: int) -> bool:
        """Whether a decode step of so many sequences, one token each, fits a recorded size."""
        return bool(self._sizes) and 0 < num_tokens <= self._sizes[-1]

    @torch.inference_mode()
    def run(self, token_ids: Tensor, positions: Tensor, metadata: AttentionMetadata) -> Tensor:
        """Computes a decode step.

        Args:
            token_ids, positions: [num_seqs] int64; on the GPU, or in pinned memory, or anywhere if it may take longer.
            metadata: of the batch, where each sequence has one new token; its tensors likewise.

        Returns:
            [num_seqs, hidden_size], in memory that the next `run` overwrites.

        Raises:
            MinillmError: if the batch isn't a decode step, or larger than what was recorded; `can_run` tells.
        """
        num_tokens = len(token_ids)
        if metadata.max_query_len != 1 or num_tokens != len(metadata.seq_lens) or not self.can_run(num_tokens):
            raise MinillmError(
                f"No CUDA graph fits {num_tokens} tokens of {len(metadata.seq_lens)} sequences; recorded are batches "
                f"of {self._sizes} sequences with one token each. Run this step without a graph."
            )
        size = self._sizes[bisect_left(self._sizes, num_tokens)]
        self._buffers.load(token_ids, positions, metadata, size)
        graph, hidden = self._graphs[size]
        graph.replay()
        return hidden[:num_tokens]
