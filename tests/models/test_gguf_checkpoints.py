"""Models from GGUF files: every kind of block, llama.cpp's permutation, RoPE's settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter
from gguf.quants import dequantize
from gguf_files import FAMILIES, KINDS, SCALE_OFFSETS, finish, random_blocks, write_gguf
from oracle import assert_same_logits, cached_logits, dense_logits, oracle_logits, random_token_ids, randomize
from transformers import AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from minillm.errors import MinillmError, UnsupportedModelError, WeightsError
from minillm.models import load_model
from minillm.models.gguf import GGUFFile


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_the_oracles_for_every_family_and_kind(family: str, kind: Kind, tmp_path: Path) -> None:
    oracle = write_gguf(tmp_path / "model.gguf", family, kind)
    token_ids = random_token_ids(30)
    theirs = oracle_logits(oracle, token_ids)
    model = load_model(tmp_path / "model.gguf", torch.float32)
    assert_same_logits(dense_logits(model, token_ids), theirs, tolerance=3e-4)
    assert_same_logits(cached_logits(model, token_ids, 7), theirs, tolerance=3e-4)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.Q4_K], ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_equal_those_that_transformers_reads_from_the_file(family: str, kind: Kind, tmp_path: Path) -> None:
    oracle = write_gguf(tmp_path / "model.gguf", family, kind)
    randomize(oracle, seed=1)
    theirs = load_gguf_checkpoint(str(tmp_path / "model.gguf"), return_tensors=True, model_to_load=oracle)["tensors"]
    ours = load_model(tmp_path / "model.gguf", torch.float32).state_dict()
    assert {name.removeprefix("model.") for name in theirs} == set(ours)
    assert all(torch.equal(ours[name.removeprefix("model.")], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_embeddings_are_seen_from_the_missing_output_matrix(family: str, tmp_path: Path) -> None:
    oracle = write_gguf(tmp_path / "model.gguf", family, Kind.Q8_0, tie_word_embeddings=True)
    oracle.tie_weights()
    model = load_model(tmp_path / "model.gguf", torch.float32)
    assert model.config.tie_word_embeddings
    token_ids = random_token_ids(20)
    assert_same_logits(dense_logits(model, token_ids), oracle_logits(oracle, token_ids))


def test_a_folder_with_one_gguf_file_is_a_model(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen2")
    assert load_model(tmp_path, torch.float32).config.architecture == "qwen2"


# Blocks taken apart in the words of ggml's quantization (ggml-quants.c), value by value.


def half(block: bytes, offset: int) -> float:
    return float(np.frombuffer(block, np.float16, 1, offset)[0])


def nibbles(packed: bytes) -> list[int]:
    return [byte & 15 for byte in packed] + [byte >> 4 for byte in packed]


def five_bits(high: bytes, packed: bytes) -> list[int]:
    bits = int.from_bytes(high, "little")
    return [low | (bits >> i & 1) << 4 for i, low in enumerate(nibbles(packed))]


def q4_k(block: bytes) -> list[float]:
    d, dmin, scales = half(block, 0), half(block, 2), block[4:16]
    values = []
    for part in range(8):
        if part < 4:
            scale, minimum = scales[part] & 63, scales[part + 4] & 63
        else:
            scale = scales[part + 4] & 15 | (scales[part - 4] >> 6) << 4
            minimum = scales[part + 4] >> 4 | (scales[part] >> 6) << 4
        packed = block[16 + part // 2 * 32 : 48 + part // 2 * 32]
        values += [d * scale * (byte >> 4 if part % 2 else byte & 15) - dmin * minimum for byte in packed]
    return values


def q6_k(block: bytes) -> list[float]:
    d = half(block, 208)
    scales = np.frombuffer(block, np.int8, 16, 192)
    values = []
    for i in range(256):
        n, rest = divmod(i, 128)
        quarter, column = divmod(rest, 32)
        low = block[n * 64 + quarter % 2 * 32 + column] >> (4 * (quarter // 2)) & 15
        high = block[128 + n * 32 + column] >> (2 * quarter) & 3
        values.append(d * int(scales[i // 16]) * ((low | high << 4) - 32))
    return values


REFERENCE = {
    Kind.Q4_0: lambda block: [half(block, 0) * (q - 8) for q in nibbles(block[2:])],
    Kind.Q4_1: lambda block: [half(block, 0) * q + half(block, 2) for q in nibbles(block[4:])],
    Kind.Q5_0: lambda block: [half(block, 0) * (q - 16) for q in five_bits(block[2:6], block[6:])],
    Kind.Q5_1: lambda block: [half(block, 0) * q + half(block, 2) for q in five_bits(block[4:8], block[8:])],
    Kind.Q8_0: lambda block: [half(block, 0) * q for q in memoryview(block[2:]).cast("b")],
    Kind.Q4_K: q4_k,
    Kind.Q6_K: q6_k,
}


@pytest.mark.parametrize("kind", SCALE_OFFSETS, ids=lambda kind: kind.name)
def test_blocks_are_dequantized_as_ggml_defines_them(kind: Kind, tmp_path: Path) -> None:
    blocks = random_blocks(kind, 48, seed=3, scale=0.01)
    block_file(tmp_path / "blocks.gguf", blocks.reshape(16, -1), kind)
    expected = torch.tensor([REFERENCE[kind](block.tobytes()) for block in blocks], dtype=torch.float32)
    tensor = GGUFFile(tmp_path / "blocks.gguf").tensor("blocks")
    assert tensor.shape[0] == 16
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor.flatten(), expected.flatten(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 256), (3, 256), (131, 256), (7, 11, 256), (2048, 256)], ids=str)
@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q6_K], ids=lambda kind: kind.name)
def test_shapes_of_every_size_are_dequantized_whole(shape: tuple[int, ...], kind: Kind, tmp_path: Path) -> None:
    """The dequantizer works on many rows at once, so numbers that don't divide nicely are worth a look."""
    size = math.prod(shape) // (32 if kind == Kind.Q4_1 else 256)
    blocks = random_blocks(kind, size).reshape(*shape[:-1], -1)
    block_file(tmp_path / "blocks.gguf", blocks, kind)
    tensor = GGUFFile(tmp_path / "blocks.gguf").tensor("blocks")
    assert torch.equal(tensor, torch.from_numpy(dequantize(blocks, kind)))


def block_file(path: Path, data: np.ndarray, kind: Kind) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("blocks", data, raw_dtype=kind)
    finish(writer)


# RoPE

SMALL: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}


def llama3_divisors(theta: float, head_dim: int, scaling: dict[str, float]) -> np.ndarray:
    """The tensor that llama.cpp's converter computes from the scaling of a Llama 3.1 (arXiv:2407.21783)."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    divisors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * theta ** (i / head_dim)
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, dtype=np.float32)


def check_rope(path: Path, oracle: Any, rope_parameters: dict[str, Any], *, changes: bool = True) -> None:
    """The file's logits over 200 tokens are those of transformers with these RoPE parameters."""
    token_ids = random_token_ids(200)
    plain = oracle_logits(oracle, token_ids)
    oracle.config.rope_parameters = {"rope_theta": 10000.0, **rope_parameters}
    scaled = AutoModelForCausalLM.from_config(oracle.config).eval()
    scaled.load_state_dict(oracle.state_dict())
    theirs = oracle_logits(scaled, token_ids)
    assert ((plain - theirs).abs().max() > 0.1) == changes
    assert_same_logits(dense_logits(load_model(path, torch.float32), token_ids), theirs, tolerance=5e-4)


def test_rope_freqs_are_honored(tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    divisors = llama3_divisors(10000.0, 16, scaling)
    oracle = write_gguf(tmp_path / "model.gguf", "llama", tensors={"rope_freqs.weight": divisors}, **SMALL)
    check_rope(tmp_path / "model.gguf", oracle, {"rope_type": "llama3", **scaling})


@pytest.mark.parametrize(
    ("metadata", "rope_parameters"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"rope.scale_linear": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0, "rope.scaling.original_context_length": 64},
            {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64},
        ),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 8.0,
                "rope.scaling.original_context_length": 64,
                "rope.scaling.yarn_beta_fast": 16.0,
                "rope.scaling.yarn_beta_slow": 2.0,
            },
            {
                "rope_type": "yarn",
                "factor": 8.0,
                "original_max_position_embeddings": 64,
                "beta_fast": 16,
                "beta_slow": 2,
            },
        ),
    ],
    ids=["linear", "a factor without a type", "the factor's old name", "yarn", "yarn with betas"],
)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_rope_scaling_in_the_metadata(
    family: str, metadata: dict[str, Any], rope_parameters: dict[str, Any], tmp_path: Path
) -> None:
    full_names = {f"{family}.{key}": value for key, value in metadata.items()}
    oracle = write_gguf(tmp_path / "model.gguf", family, metadata=full_names, **SMALL)
    check_rope(tmp_path / "model.gguf", oracle, rope_parameters)


def test_rope_scaling_none_ignores_the_factor(tmp_path: Path) -> None:
    metadata = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}
    oracle = write_gguf(tmp_path / "model.gguf", "llama", metadata=metadata, **SMALL)
    check_rope(tmp_path / "model.gguf", oracle, {"rope_type": "default"}, changes=False)


# What can't be run


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"general.architecture": "gemma3"}, "gemma3"),
        ({"general.architecture": "qwen3moe"}, "qwen3moe"),
        ({"llama.expert_count": 8}, "mixture of experts"),
        ({"llama.rope.scaling.type": "longrope"}, "longrope"),
        ({"llama.rope.scaling.attn_factor": 1.3}, "attn_factor"),
        ({"llama.rope.scaling.yarn_attn_factor": 1.3}, "yarn_attn_factor"),
        ({"llama.rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor"),
        ({"llama.rope.scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier"),
        ({"llama.rope.dimension_count": 32}, "dimension_count"),
        ({"llama.attention.sliding_window": 4096}, "sliding-window"),
        ({"llama.attention.head_count_kv": [2, 4]}, "head_count_kv"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_implemented_is_refused_by_name(metadata: dict[str, Any], named: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", metadata=metadata)
    with pytest.raises(UnsupportedModelError, match=named):
        load_model(tmp_path / "model.gguf", torch.float32)


def test_layers_that_are_alike_may_be_listed_one_by_one(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", metadata={"llama.attention.head_count_kv": [2, 2]})
    assert load_model(tmp_path / "model.gguf", torch.float32).config.num_kv_heads == 2


def test_an_unknown_tensor_is_refused_by_name(tmp_path: Path) -> None:
    extra = {"blk.0.attn_sinks.weight": np.zeros(4, np.float32)}
    write_gguf(tmp_path / "model.gguf", "llama", tensors=extra)
    with pytest.raises(UnsupportedModelError, match=r"blk\.0\.attn_sinks\.weight"):
        load_model(tmp_path / "model.gguf", torch.float32)


@pytest.mark.parametrize("kind", [Kind.Q8_1, Kind.Q8_K, Kind.I8], ids=lambda kind: kind.name)
def test_a_kind_of_block_that_cannot_be_undone_is_refused_by_name(kind: Kind, tmp_path: Path) -> None:
    block_size, block_bytes = {Kind.Q8_1: (32, 40), Kind.Q8_K: (256, 292), Kind.I8: (1, 1)}[kind]
    data = np.zeros((2, 256 // block_size * block_bytes), np.uint8)
    block_file(tmp_path / "blocks.gguf", data, kind)
    with pytest.raises(UnsupportedModelError, match=kind.name):
        GGUFFile(tmp_path / "blocks.gguf").tensor("blocks")


def test_an_unknown_kind_of_block_is_refused_by_number(tmp_path: Path) -> None:
    block_file(tmp_path / "blocks.gguf", np.zeros((2, 32), np.float32), Kind.F32)
    content = (tmp_path / "blocks.gguf").read_bytes()
    at = content.index(b"blocks") + len(b"blocks") + 4 + 2 * 8
    (tmp_path / "blocks.gguf").write_bytes(content[:at] + (77).to_bytes(4, "little") + content[at + 4 :])
    with pytest.raises(UnsupportedModelError, match="77"):
        GGUFFile(tmp_path / "blocks.gguf").tensor("blocks")


@pytest.mark.parametrize(
    "divisors",
    [np.ones(31, np.float32), np.zeros(32, np.float32), np.full(32, np.nan, np.float32)],
    ids=["too few", "zeros", "not numbers"],
)
def test_rope_freqs_that_make_no_sense(divisors: np.ndarray, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", tensors={"rope_freqs.weight": divisors})
    with pytest.raises(WeightsError, match="rope_freqs"):
        load_model(tmp_path / "model.gguf", torch.float32)


@pytest.mark.parametrize(
    "metadata",
    [
        {"llama.embedding_length": 128},
        {"llama.block_count": 3},
        {"llama.block_count": 2**31},
        {"llama.block_count": 0},
        {"llama.attention.head_count": 0},
        {"llama.attention.head_count": 3},
        {"llama.attention.head_count": "four"},
        {"llama.attention.key_length": 2**31},
        {"llama.feed_forward_length": 511},
        {"llama.vocab_size": 95},
        {"llama.vocab_size": 2**31 - 1, "llama.feed_forward_length": 2**31 - 1},
        {"llama.rope.freq_base": 0.0},
        {"llama.rope.scaling.factor": -1.0},
        {"llama.context_length": 0},
    ],
    ids=str,
)
def test_metadata_that_does_not_fit_the_tensors(metadata: dict[str, Any], tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", metadata=metadata)
    with pytest.raises(MinillmError) as caught:
        load_model(tmp_path / "model.gguf", torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["general.architecture", "llama.embedding_length", "llama.block_count", "llama.attention.head_count"],
)
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama")
    content = (tmp_path / "model.gguf").read_bytes()
    (tmp_path / "model.gguf").write_bytes(content.replace(key.encode(), b"x" * len(key), 1))
    with pytest.raises(UnsupportedModelError, match=key.partition(".")[2].replace(".", r"\.")):
        load_model(tmp_path / "model.gguf", torch.float32)


def test_one_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model-00001-of-00003.gguf", "llama", metadata={"split.count": 3})
    with pytest.raises(UnsupportedModelError, match="3 files"):
        load_model(tmp_path / "model-00001-of-00003.gguf", torch.float32)
