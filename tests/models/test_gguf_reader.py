"""Our reader of GGUF headers against the `gguf` package's, and against damage of every sort."""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from gguf_files import FAMILIES, KINDS, finish, random_blocks, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.errors import MinillmError, WeightsError
from minillm.models import load_model
from minillm.models.gguf import GGUFFile


def flat(value: Any) -> Any:
    """The `gguf` package flattens nested arrays."""
    if not isinstance(value, list):
        return value
    return [leaf for item in value for leaf in (flat(item) if isinstance(item, list) else [item])]


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, list):
        for our_item, their_item in zip(ours, theirs, strict=True):
            assert_same(our_item, their_item)
    else:
        assert ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def compare_readers(path: Path) -> None:
    """Every metadata value and every tensor."""
    ours, theirs = GGUFFile(path), GGUFReader(path)
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, field in fields.items():
        assert_same(flat(ours.metadata[key]), field.contents())
    assert ours.tensor_names == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        expected = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        assert expected.shape == tuple(reversed(tensor.shape.tolist()))
        assert torch.equal(ours.tensor(tensor.name), expected), tensor.name


def test_the_real_file_reads_as_the_gguf_package_reads_it(smollm2_path: Path) -> None:
    compare_readers(smollm2_path)


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_generated_files_read_as_the_gguf_package_reads_them(kind: Kind, alignment: int, tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_custom_alignment(alignment)
    rng = np.random.default_rng(0)
    # Sizes that are no multiple of the alignment, so that the padding between tensors matters.
    for i, rows in enumerate((1, 3, 2)):
        if kind in (Kind.F32, Kind.F16):
            data = rng.standard_normal((rows, 5)).astype(np.float32 if kind == Kind.F32 else np.float16)
        elif kind == Kind.BF16:
            data = rng.integers(0, 120, (rows, 10), dtype=np.uint8)
        else:
            data = random_blocks(kind, rows, seed=i).reshape(rows, -1)
        writer.add_tensor(f"tensor {i}", data, raw_dtype=kind)
    writer.add_tensor("vector", rng.standard_normal(7).astype(np.float32))
    finish(writer)
    compare_readers(tmp_path / "model.gguf")


VALUES: dict[GGUFValueType, list[Any]] = {
    GGUFValueType.UINT8: [0, 255],
    GGUFValueType.INT8: [-128, 127],
    GGUFValueType.UINT16: [0, 65535],
    GGUFValueType.INT16: [-32768, 32767],
    GGUFValueType.UINT32: [0, 2**32 - 1],
    GGUFValueType.INT32: [-(2**31), 2**31 - 1],
    GGUFValueType.FLOAT32: [0.1, -0.0, math.inf, -math.inf, math.nan, 1e-45],
    GGUFValueType.BOOL: [True, False],
    GGUFValueType.STRING: ["", "text", "日本 🙂 \x00 \n", "a" * 5000],
    GGUFValueType.UINT64: [0, 2**64 - 1],
    GGUFValueType.INT64: [-(2**63), 2**63 - 1],
    GGUFValueType.FLOAT64: [0.1, 1e308, -math.inf, 5e-324],
}


def test_every_type_of_value_alone_and_in_arrays(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "values.gguf", "llama")
    for kind, values in VALUES.items():
        for i, value in enumerate(values):
            writer.add_key_value(f"{kind.name}.{i}", value, kind)
        writer.add_key_value(f"{kind.name}.array", values, GGUFValueType.ARRAY, sub_type=kind)
        writer.add_key_value(f"{kind.name}.one", values[:1], GGUFValueType.ARRAY, sub_type=kind)
    writer.add_array("nested", [[1, 2, 3], [4], [5, 6]])
    writer.add_array("nested twice", [[["a", "b"], ["c"]], [["d"]]])
    finish(writer)
    compare_readers(tmp_path / "values.gguf")
    metadata = GGUFFile(tmp_path / "values.gguf").metadata
    assert metadata["nested"] == [[1, 2, 3], [4], [5, 6]]
    assert metadata["nested twice"] == [[["a", "b"], ["c"]], [["d"]]]
    assert metadata["UINT64.1"] == 2**64 - 1


def test_an_empty_array_and_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    """The package can't write the first nor read the second; vocabularies hold both."""
    broken = b"\xff\xfe word"
    path = tmp_path / "values.gguf"
    path.write_bytes(
        header(2, 0)
        + string(b"empty")
        + struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, 0)
        + string(b"bytes")
        + struct.pack("<I", GGUFValueType.STRING)
        + string(broken)
    )
    metadata = GGUFFile(path).metadata
    assert metadata["empty"] == []
    assert metadata["bytes"].encode("utf-8", "surrogateescape") == broken


def header(num_values: int, num_tensors: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_values)


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("family", FAMILIES)
def test_version_2_differs_in_nothing_but_its_number(family: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, family, Kind.Q4_0)
    third = load_model(path, torch.float32).state_dict()
    content = path.read_bytes()
    path.write_bytes(content[:4] + struct.pack("<I", 2) + content[8:])
    second = load_model(path, torch.float32).state_dict()
    assert all(torch.equal(third[name], second[name]) for name in third)


# Damage. The file is as small as a model can be, so that it can be cut at very many places.


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 16}
    write_gguf(path, "llama", Kind.Q8_0, num_attention_heads=2, num_key_value_heads=1, **shape)
    return path


def load(content: bytes) -> None:
    """Loads a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(content)
        load_model(path, torch.float32)


def assert_one_sentence_or_two(error: MinillmError) -> None:
    message = str(error)
    assert "\n" not in message
    assert len(message) < 600
    assert message.endswith(".")


def test_the_small_file_is_sound(small_file: Path) -> None:
    load(small_file.read_bytes())


def test_a_file_cut_short_anywhere_is_refused(small_file: Path) -> None:
    content = small_file.read_bytes()
    for length in [*range(0, 2500, 13), *range(2500, len(content), 101), len(content) - 1]:
        with pytest.raises(WeightsError) as caught:
            load(content[:length])
        assert_one_sentence_or_two(caught.value)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # damaged scales are infinite or not numbers
@settings(max_examples=400)
@given(data=st.data())
def test_flipped_bytes_never_end_in_anything_but_a_clear_error(small_file: Path, data: st.DataObject) -> None:
    """Most flips are in the header: in the numbers of a matrix any byte may have any value."""
    damaged = bytearray(small_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, 2400) | st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        load(bytes(damaged))
    except MinillmError as error:
        assert_one_sentence_or_two(error)


@settings(max_examples=100)
@given(rest=st.binary(max_size=300), values=st.integers(0, 2**64 - 1), tensors=st.integers(0, 2**64 - 1))
def test_garbage_behind_a_sound_beginning_is_refused(rest: bytes, values: int, tensors: int) -> None:
    with pytest.raises(MinillmError) as caught:
        load(header(values, tensors) + rest)
    assert_one_sentence_or_two(caught.value)


@settings(max_examples=50)
@given(content=st.binary(max_size=300))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(WeightsError) as caught:
        load(content)
    assert_one_sentence_or_two(caught.value)


def test_arrays_nested_without_end_are_refused() -> None:
    level = struct.pack("<IQ", GGUFValueType.ARRAY, 1)
    value = string(b"deep") + struct.pack("<I", GGUFValueType.ARRAY) + level * 5000
    with pytest.raises(WeightsError, match="GGUF"):
        load(header(1, 0) + value)


def test_a_big_endian_file_is_refused_as_such(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "model.gguf", "llama", endianess=GGUFEndian.BIG)
    writer.add_context_length(512)
    writer.add_tensor("output.weight", np.zeros((2, 32), np.float32))
    finish(writer)
    with pytest.raises(WeightsError, match="big-endian"):
        GGUFFile(tmp_path / "model.gguf")


@pytest.mark.parametrize("version", [0, 1, 4, 99])
def test_other_versions_are_refused_by_number(version: int) -> None:
    with pytest.raises(WeightsError, match=f"version is {version};"):
        load(header(0, 0, version))


@pytest.mark.parametrize("alignment", [("I", 0), ("i", -32)], ids=["zero", "negative"])
def test_an_impossible_alignment_is_refused(alignment: tuple[str, int]) -> None:
    code, number = alignment
    kind = {"I": GGUFValueType.UINT32, "i": GGUFValueType.INT32}[code]
    value = string(b"general.alignment") + struct.pack(f"<I{code}", kind, number)
    with pytest.raises(WeightsError, match="align"):
        load(header(1, 0) + value)


def test_a_missing_file_and_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing\.gguf can't be opened: No such file"):
        load_model(tmp_path / "missing.gguf", torch.float32)
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_model(tmp_path / "folder.gguf", torch.float32)


def test_a_shape_that_blocks_do_not_fill_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("blocks", random_blocks(Kind.Q4_0, 4), raw_dtype=Kind.Q4_0)
    finish(writer)
    content = (tmp_path / "model.gguf").read_bytes()
    at = content.index(b"blocks") + len(b"blocks") + 4
    assert struct.unpack_from("<QQ", content, at) == (32, 4)
    (tmp_path / "model.gguf").write_bytes(content[:at] + struct.pack("<QQ", 33, 4) + content[at + 16 :])
    with pytest.raises(WeightsError, match=r"\[4, 33\]"):
        GGUFFile(tmp_path / "model.gguf").tensor("blocks")
