"""The model runner: from what the scheduler decided to one forward pass, and to the logits that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from minillm.attention import AttentionBackend, AttentionMetadata, PagedAttention
from minillm.engine.cuda_graphs import CudaGraphRunner, padded_batch_sizes
from minillm.engine.request import Request
from minillm.engine.scheduler import ScheduledRequest, SchedulerOutput
from minillm.kv.cache import PagedKVCache
from minillm.models.decoder import Decoder
from minillm.models.lora_batch import LoRABatch, ThinProducts


@dataclass(frozen=True)
class ForwardBatch:
    """The tokens of one step, of all requests in one flat row.

    Attributes:
        token_ids: [num_tokens] int64.
        positions: [num_tokens] int64, each token's place in its own text.
        attention: which rows belong together and where their keys and values lie.
        requests: whose tokens they are, in the order of their rows.
        logits_rows: [num_sampled] int64, the rows after which a token is to be sampled.
        sampled: the requests of those rows.
        adapters: (first row, end, name) of each stretch of rows whose requests have the same adapter.
    """

    token_ids: Tensor
    positions: Tensor
    attention: AttentionMetadata
    requests: list[Request]
    logits_rows: Tensor
    sampled: list[Request]
    adapters: tuple[tuple[int, int, str], ...] = ()

    @classmethod
    def build(
        cls, scheduled: Sequence[ScheduledRequest], block_size: int, device: torch.device | str = "cpu"
    ) -> ForwardBatch:
        """Flattens the scheduled requests: each brings its next `num_new_tokens` tokens.

        Those with the same adapter come to lie side by side; otherwise they stay in their order.
        """
        scheduled = sorted(scheduled, key=lambda item: item.request.adapter)
        starts = np.zeros(len(scheduled) + 1, dtype=np.int32)
        np.cumsum([item.num_new_tokens for item in scheduled], out=starts[1:])
        num_tokens = int(starts[-1])
        token_ids, positions, slots = (np.empty(num_tokens, dtype=np.int64) for _ in range(3))
        tables = np.zeros((len(scheduled), max(len(item.block_table) for item in scheduled)), dtype=np.int32)
        seq_lens = np.empty(len(scheduled), dtype=np.int32)
        rows: list[int] = []
        sampled: list[Request] = []
        for i, item in enumerate(scheduled):
            request, first = item.request, item.request.num_computed_tokens
            last = first + item.num_new_tokens
            part = slice(starts[i], starts[i + 1])
            token_ids[part] = request.token_ids[first:last]
            where = np.arange(first, last)
            positions[part] = where
            tables[i, : len(item.block_table)] = item.block_table
            slots[part] = tables[i, where // block_size].astype(np.int64) * block_size + where % block_size
            seq_lens[i] = last
            if last == request.num_tokens:
                rows.append(int(starts[i + 1]) - 1)
                sampled.append(request)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        metadata = AttentionMetadata(
            query_start_loc=tensor(starts),
            seq_lens=tensor(seq_lens),
            block_tables=tensor(tables),
            slot_mapping=tensor(slots),
            max_query_len=max(item.num_new_tokens for item in scheduled),
            max_seq_len=int(seq_lens.max()),
            block_size=block_size,
        )
        logits_rows = tensor(np.array(rows, dtype=np.int64))
        requests = [item.request for item in scheduled]
        adapters = _adapter_rows(requests, starts)
        return cls(tensor(token_ids), tensor(positions), metadata, requests, logits_rows, sampled, adapters)


def _adapter_rows(requests: Sequence[Request], starts: np.ndarray) -> tuple[tuple[int, int, str], ...]:
    """See `ForwardBatch.adapters`. `starts` are the first rows of the requests, and the end of the last."""
    found, first = [], 0
    for adapter, members in groupby(requests, key=lambda request: request.adapter):
        end = first + len(list(members))
        if adapter:
            found.append((int(starts[first]), int(starts[end]), adapter))
        first = end
    return tuple(found)


class ModelRunner:
    """Owns the model, its adapters and the memory of the KV cache, and runs forward passes."""

    def __init__(
        self,
        model: Decoder,
        cache: PagedKVCache,
        backend: AttentionBackend,
        adapters: Mapping[str, ThinProducts] | None = None,
    ) -> None:
        self.model = model
        self.adapters = dict(adapters or {})
        self.cache = cache
        self.backend = backend
        self.graphs: CudaGraphRunner | None = None

    def capture_graphs(self, max_num_seqs: int, max_model_len: int) -> None:
        """Records decode steps as CUDA graphs, which are replayed from then on. Takes some seconds."""
        graphs = CudaGraphRunner(
            self._forward, max_model_len=max_model_len, block_size=self.cache.block_size, device=self.model.device
        )
        graphs.capture(padded_batch_sizes(max_num_seqs))
        self.graphs = graphs

    def build(self, output: SchedulerOutput) -> ForwardBatch:
        """Flattens what was scheduled into one batch on the model's device."""
        return ForwardBatch.build(output.scheduled, self.cache.block_size, self.model.device)

    @torch.inference_mode()
    def execute(
        self, batch: ForwardBatch, block_copies: Sequence[tuple[int, int]] = ()
    ) -> tuple[Tensor, list[Request]]:
        """Computes a batch, after blocks are copied for copy-on-write.

        Returns:
            For each of `batch.sampled` the logits of its next token, [num_sampled, vocab_size] float32. And the
            requests of whose tokens some came out as no numbers: their keys and values aren't to be used.
        """
        self.cache.copy_blocks(block_copies)
        # What was recorded has no adapters in it.
        may_replay = batch.attention.max_query_len == 1 and not batch.adapters
        if self.graphs is not None and may_replay and self.graphs.can_run(len(batch.token_ids)):
            hidden = self.graphs.run(batch.token_ids, batch.positions, batch.attention)
        else:
            hidden = self._forward(batch.token_ids, batch.positions, batch.attention, self._lora(batch))
        return self.model.logits(hidden[batch.logits_rows]), _broken_requests(batch, hidden)

    def _lora(self, batch: ForwardBatch) -> LoRABatch | None:
        if not batch.adapters:
            return None
        return LoRABatch([(begin, end, self.adapters[name]) for begin, end, name in batch.adapters])

    def _forward(
        self, token_ids: Tensor, positions: Tensor, metadata: AttentionMetadata, lora: LoRABatch | None = None
    ) -> Tensor:
        attention = PagedAttention(self.backend, self.cache, metadata)
        hidden: Tensor = self.model(token_ids, positions, attention, lora)
        return hidden


def _broken_requests(batch: ForwardBatch, hidden: Tensor) -> list[Request]:
    """Those with a hidden state that isn't finite: keys and values that aren't make their own token's so."""
    num_tokens = len(batch.token_ids)
    if num_tokens == len(batch.sampled):  # nothing but tokens that have logits, which tell as much
        return []
    sound = hidden[:num_tokens].sum(dim=-1, dtype=torch.float32).isfinite()
    if bool(sound.all()):
        return []
    starts = batch.attention.query_start_loc.tolist()
    return [
        request
        for request, begin, end in zip(batch.requests, starts, starts[1:], strict=False)
        if not bool(sound[begin:end].all())
    ]
