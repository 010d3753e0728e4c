"""Embeddings: texts to vectors whose angles tell how near their meanings are.

A text needs one forward pass and keeps nothing, so there is nothing to schedule: texts of like length go through the
encoder together, which leaves little padding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from minillm.engine.loading import resolve_device, resolve_dtype
from minillm.engine.progress import track
from minillm.errors import InvalidRequestError, UnsupportedModelError, WeightsError
from minillm.models.encoder import Pooling, load_encoder, pool
from minillm.models.loader import read_json
from minillm.text import Tokenizer
from minillm.weights import resolve

Vectors: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]


class EmbeddingModel:
    """An encoder with its tokenizer. Threads may share it.

    >>> vectors = EmbeddingModel().embed(["A cat sleeps.", "A kitten naps.", "Interest rates rose."])
    >>> vectors @ vectors[0]  # the cosines of the angles between the first text and each
    array([1.        , 0.71354854, 0.03030676], dtype=float32)

    Attributes:
        model_name: what the model was asked for as.
        tokenizer: its tokenizer, which puts [CLS] and [SEP] around a text.
        encoder: the model, to look into or to call.
        dimensions: how many numbers a vector has.
        max_length: the most tokens of a text, [CLS] and [SEP] included. Longer ones are refused or cut, as asked.
    """

    def __init__(
        self,
        model: str | Path = "all-minilm-l6-v2",
        *,
        device: str = "auto",
        dtype: str = "float32",
        max_batch_tokens: int = 2048,
    ) -> None:
        """Loads the model; fetches it first if need be.

        Args:
            model: a name that minillm knows, the path of a folder, or a Hugging Face name ("org/name"): a BERT in
                the layout of sentence-transformers.
            device: cpu, cuda or auto.
            dtype: of the weights; float32 even on a GPU, so that vectors from different machines can be compared.
            max_batch_tokens: the most tokens of a batch, padding included.

        Raises:
            MinillmError: if the model can't be found, fetched, read or run; the message says what to do.
        """
        if max_batch_tokens < 1:
            raise InvalidRequestError(f"max_batch_tokens must be 1 or more, got {max_batch_tokens}.")
        self.device = resolve_device(device)
        self.model_name = str(model)
        folder = resolve(model)
        if not folder.is_dir():
            raise UnsupportedModelError(f"{folder.name} can't make embeddings: EmbeddingModel takes a BERT's folder.")
        self.encoder = load_encoder(folder, resolve_dtype(dtype, self.device), self.device)
        self.tokenizer = Tokenizer.load(folder)
        self.pooling = _read_pooling(folder)
        self.dimensions = self.encoder.config.hidden_size
        self.max_length = _read_max_length(folder, self.encoder.config.max_length)
        self._max_batch_tokens = max_batch_tokens

    def embed(
        self, texts: str | Sequence[str | Sequence[int]], dimensions: int | None = None, *, truncate: bool = False
    ) -> Vectors:
        """Makes a vector of each text.

        A vector depends on its text alone; its neighbours in a batch change the rounding, by about 1e-7.

        Args:
            texts: texts or lists of token ids, as `encode` makes them; one text is the same as a list of one.
            dimensions: keep only that many numbers of each vector and scale it back to length 1. Models trained for
                it (arXiv:2205.13147) lose little; all-MiniLM-L6-v2 is not one of them.
            truncate: cut texts that are too long, which then count by their beginnings only. If False, refuse them.

        Returns:
            [number of texts, dimensions] float32, in the order of the texts, each of length 1.

        Raises:
            InvalidRequestError: for anything malformed or too long; all texts are checked before the first is begun.
        """
        self.check_dimensions(dimensions)
        token_ids = self.encode(texts, truncate=truncate)
        vectors = np.empty((len(token_ids), self.dimensions), dtype=np.float32)
        for batch in track(self.batches(token_ids), "Embedding"):
            vectors[batch] = self.embed_batch([token_ids[i] for i in batch])
        return shorten(vectors, dimensions)

    def encode(self, texts: str | Sequence[str | Sequence[int]], *, truncate: bool = False) -> list[list[int]]:
        """Token ids of each text; those given as ids are checked and taken as they are.

        Raises:
            InvalidRequestError: as in `embed`.
        """
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, Sequence) or isinstance(texts, bytes | bytearray):
            raise InvalidRequestError(f"Expected texts or lists of token ids, got {type(texts).__name__}.", "input")
        return [self._encode_one(i, text, truncate) for i, text in enumerate(texts)]

    def _encode_one(self, i: int, text: str | Sequence[int], truncate: bool) -> list[int]:
        ids = self.tokenizer.encode(text) if isinstance(text, str) else self._checked_ids(i, text)
        if len(ids) <= self.max_length:
            return ids
        if not truncate:
            raise InvalidRequestError(
                f"Text {i} has {len(ids)} tokens; {self.model_name} reads at most {self.max_length}. "
                "Split it, or set truncate to embed its beginning only.",
                "input",
            )
        return [*ids[: self.max_length - 1], ids[-1]]  # [SEP] stays at the end

    def _checked_ids(self, i: int, ids: Any) -> list[int]:
        if not isinstance(ids, Sequence) or isinstance(ids, bytes | bytearray) or not ids:
            problem = f"must be a text or a list of token ids, got {str(ids)[:80]!r}"
            raise InvalidRequestError(f"Text {i} {problem}.", "input")
        limit = self.encoder.config.vocab_size
        for token in ids:
            if not isinstance(token, int | np.integer) or isinstance(token, bool) or not 0 <= token < limit:
                found = f"{str(token)[:80]!r}"
                raise InvalidRequestError(
                    f"Text {i}: token ids are integers from 0 to {limit - 1}, got {found}.", "input"
                )
        return list(map(int, ids))

    def check_dimensions(self, dimensions: int | None) -> None:
        """Raises InvalidRequestError if vectors can't be cut to that many numbers."""
        if dimensions is not None and (isinstance(dimensions, bool) or not 1 <= dimensions <= self.dimensions):
            raise InvalidRequestError(
                f"dimensions must be between 1 and {self.dimensions} for {self.model_name}, got {dimensions}.",
                "dimensions",
            )

    def batches(self, token_ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """Which texts to compute together: indices, longest texts first, each batch within `max_batch_tokens`."""
        result: list[list[int]] = []
        for i in sorted(range(len(token_ids)), key=lambda i: -len(token_ids[i])):
            # A batch is as wide as its first text.
            if result and (len(result[-1]) + 1) * len(token_ids[result[-1][0]]) <= self._max_batch_tokens:
                result[-1].append(i)
            else:
                result.append([i])
        return result

    @torch.inference_mode()
    def embed_batch(self, token_ids: Sequence[Sequence[int]]) -> Vectors:
        """The vectors of texts that fit into one forward pass: [number of texts, self.dimensions] float32."""
        length = max(map(len, token_ids))
        padded = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in token_ids], device=self.device)
        lengths = torch.tensor([len(ids) for ids in token_ids], device=self.device)
        mask = torch.arange(length, device=self.device) < lengths[:, None]
        return pool(self.encoder(padded, mask), mask, self.pooling).cpu().numpy()


def shorten(vectors: Vectors, dimensions: int | None) -> Vectors:
    """Keeps the first numbers of each vector, scaled back to length 1. [n, size] → [n, dimensions]."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    kept = vectors[:, :dimensions]
    return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), np.float32(1e-12))


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    """The steps that sentence-transformers would take, as (kind, subfolder)."""
    try:  # (the file holds a list, which read_json doesn't take)
        for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
            yield str(module["type"]).rpartition(".")[2], str(module["path"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(f"{folder / 'modules.json'} can't be read: {error!r}.") from error


def _read_pooling(folder: Path) -> Pooling:
    """How the model makes one vector of many; the mean where its folder doesn't say."""
    pooling: Pooling = "mean"
    for kind, path in _modules(folder):
        if kind == "Pooling":
            config = read_json(folder / path / "config.json")
            modes = {name for name, value in config.items() if name.startswith("pooling_mode_") and value}
            if modes not in ({"pooling_mode_mean_tokens"}, {"pooling_mode_cls_token"}):
                raise UnsupportedModelError(f"The pooling {sorted(modes)} is not supported; minillm has mean and cls.")
            pooling = "cls" if "pooling_mode_cls_token" in modes else "mean"
        elif kind not in ("Transformer", "Normalize"):
            raise UnsupportedModelError(f"The model has a step {kind!r} after its encoder, which minillm hasn't.")
    return pooling


def _read_max_length(folder: Path, positions: int) -> int:
    """The most tokens that the model was trained on, or else that it has positions for."""
    file = folder / "sentence_bert_config.json"
    trained = read_json(file).get("max_seq_length") if file.exists() else None
    return min(trained, positions) if isinstance(trained, int) and trained > 1 else positions
