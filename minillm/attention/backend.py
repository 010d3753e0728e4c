"""The seams of attention: what a decoder layer calls, and what computes it over paged keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Attention(Protocol):
    """What a decoder layer calls: takes in the new tokens' keys and values, returns what their queries find."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attends for the tokens of one forward pass.

        Queries and keys come before RoPE, so that turning them and storing the keys can be one kernel.

        Args:
            layer: index of the decoder layer, from 0; each layer has keys and values of its own.
            q: [num_tokens, num_heads, head_dim].
            k, v: [num_tokens, num_kv_heads, head_dim].
            cos, sin: [num_tokens, head_dim], of the tokens' positions (see `minillm.kernels.reference.rotate`).

        Returns:
            [num_tokens, num_heads, head_dim].
        """
        ...


@dataclass(frozen=True)
class AttentionMetadata:
    """Which rows of a flattened batch belong to which sequence, and where their keys and values lie.

    Attributes:
        query_start_loc: [num_seqs + 1] int32; sequence i's new tokens are the rows between entries i and i + 1.
        seq_lens: [num_seqs] int32, tokens of each sequence, the new ones (its last) included.
        block_tables: [num_seqs, max_blocks] int32, padded with 0.
        slot_mapping: [num_tokens] int64, block * block_size + offset for each new token; -1 marks a padding row.
        max_query_len: of all sequences.
        max_seq_len: of all sequences.
        block_size: tokens per block.
    """

    query_start_loc: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    slot_mapping: Tensor
    max_query_len: int
    max_seq_len: int
    block_size: int


class AttentionBackend(Protocol):
    """Computes attention for any mix of query lengths: prefill, chunks, decode and verification are one call.

    `LLM(attention_backend=…)` takes a name, a class or an instance; `check_attention_backend` tries one.
    """

    name: str

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cos: Tensor,
        sin: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        metadata: AttentionMetadata,
    ) -> Tensor:
        """Turns q and k (RoPE), writes k and v to their slots, then lets each query see its text up to itself.

        Args:
            q: [num_tokens, num_heads, head_dim]; may be a view of a row that holds q, k and v.
            k, v: [num_tokens, num_kv_heads, head_dim].
            cos, sin: [num_tokens, head_dim].
            key_cache, value_cache: [num_blocks, num_kv_heads, block_size, head_dim], of this layer; written to.
            metadata: of the batch.

        Returns:
            [num_tokens, num_heads, head_dim] in the dtype of q.
        """
        ...
