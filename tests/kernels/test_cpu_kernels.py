"""The C kernels against PyTorch, on the processor at hand and as if it were a lesser one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from minillm.attention.backend import AttentionMetadata
from minillm.attention.cpu_backend import CPUBackend
from minillm.errors import MinillmError
from minillm.kernels import QuantizedTensor, quantize, reference
from minillm.kernels.cpu import CPUKernels, Library, load, why_not
from minillm.kernels.cpu.build import SOURCES

# Each leaves out some instructions, so that the code for machines without them is compiled and tested as well.
# To an ARM compiler they mean nothing.
PROCESSORS: dict[str, tuple[str, ...]] = {
    "this": (),
    "no bfloat16": ("-mno-avx512bf16",),
    "no AVX-512": ("-mno-avx512f",),
    "no AVX-512, no VNNI": ("-mno-avx512f", "-mno-avxvnni"),
    "no AVX": ("-mno-avx",),
}
KINDS = ["float32", "bfloat16", "int8", "int4"]
# Relative to the result's size. Activations are rounded as well: to 8 bits, or to bfloat16's 8.
TOLERANCE = {"float32": 1e-6, "bfloat16": 4e-3, "int8": 2e-2, "int4": 2e-2}


@pytest.fixture(params=PROCESSORS)
def library(request: pytest.FixtureRequest) -> Library:
    flags = PROCESSORS[request.param]
    if flags and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("These flags are for x86 processors.")
    found = load(flags)
    assert found is not None, why_not()
    return found


@pytest.fixture
def kernels(library: Library) -> CPUKernels:
    return CPUKernels(library)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def as_kind(weight: Tensor, kind: str) -> Tensor | QuantizedTensor:
    return quantize(weight, kind) if kind.startswith("int") else weight.to(getattr(torch, kind))


def wide(weight: Tensor | QuantizedTensor) -> Tensor:
    return weight.dequantize() if isinstance(weight, QuantizedTensor) else weight.float()


def distance(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape and found.dtype == torch.float32
    return float((found - expected).norm() / expected.norm())


SIZES = [(1, 576, 960), (2, 100, 33), (3, 64, 4), (5, 33, 17), (16, 96, 576), (17, 1537, 65), (70, 1, 7), (70, 130, 50)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "in_features", "out_features"), SIZES)
def test_a_product_is_pytorchs(kernels: CPUKernels, kind: str, rows: int, in_features: int, out_features: int) -> None:
    x, bias = random(rows, in_features), random(out_features)
    weight = as_kind(random(out_features, in_features, seed=1), kind)
    expected = reference.TorchKernels().linear(x, wide(weight), bias)
    assert distance(kernels.linear(x, weight, bias), expected) < TOLERANCE[kind]
    assert distance(kernels.linear(x, weight, None), expected - bias) < TOLERANCE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_product_is_the_same_to_the_bit_in_any_batch(kernels: CPUKernels, kind: str) -> None:
    for in_features, out_features in [(576, 100), (100, 33), (33, 5)]:
        x, weight = random(70, in_features), as_kind(random(out_features, in_features, seed=1), kind)
        bias = random(out_features)
        together = kernels.linear(x, weight, bias)
        for first, size in [(0, 1), (69, 1), (3, 2), (7, 3), (10, 4), (11, 5), (20, 16), (1, 69)]:
            assert torch.equal(kernels.linear(x[first : first + size], weight, bias), together[first : first + size])


@pytest.mark.parametrize(("out_features", "in_features"), [(16, 4), (1, 1), (17, 5), (33, 130)])
def test_8_bit_weights_lie_where_the_kernel_reads_them(out_features: int, in_features: int) -> None:
    weight = random(out_features, in_features)
    found = quantize(weight, "int8")
    assert found.data.shape == (-(-out_features // 16), -(-in_features // 4), 16, 4)
    expected = torch.full(found.data.shape, 128, dtype=torch.uint8)
    for i in range(out_features):
        for j in range(in_features):
            expected[i // 16, j // 4, i % 16, j % 4] = 128 + (weight[i, j] / found.scales[i]).round().int()
    assert torch.equal(found.data, expected)
    assert (found.dequantize() - weight).abs().max() <= weight.abs().max() / 254 * 1.001


def test_an_8_bit_product_of_whole_numbers_is_exact(kernels: CPUKernels) -> None:
    # The largest numbers there are: sums that overflow or saturate on the way would show.
    for sign in (1.0, -1.0):
        x, weight = torch.full((5, 700), 127.0), torch.full((20, 700), sign * 127.0)
        weight[:, ::7] = -weight[:, ::7]
        assert torch.equal(kernels.linear(x, quantize(weight, "int8"), None), x @ weight.T)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_number_stays_so_in_its_row_and_no_other(kernels: CPUKernels, kind: str) -> None:
    x, weight = random(6, 100), as_kind(random(20, 100), kind)
    x[3, 99] = float("nan")
    found = kernels.linear(x, weight, None)
    assert bool(found[3].isnan().all()) and not bool(found[[0, 1, 2, 4, 5]].isnan().any())


def test_nothing_past_the_end_of_a_row_of_weights_counts(kernels: CPUKernels) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        weight = random(20, 100).to(dtype)  # no whole number of vectors
        weight[2:] = float("inf")
        assert bool(kernels.linear(random(6, 100), weight, None)[:, :2].isfinite().all())


def test_views_and_other_biases_are_taken(kernels: CPUKernels) -> None:
    x, weight = random(4, 50)[:, 3:40], random(30, 37)[5:16]
    bias = random(11).bfloat16()
    assert distance(kernels.linear(x, weight, bias), x @ weight.T + bias.float()) < 1e-6
    assert kernels.linear(random(0, 37), weight, None).shape == (0, 11)


@pytest.mark.parametrize("size", [(1, 576), (70, 33), (3, 16), (500, 100)])
def test_norms_and_gates_are_pytorchs(kernels: CPUKernels, size: tuple[int, int]) -> None:
    x, residual, weight = random(*size), random(*size, seed=1), random(size[1])
    assert distance(kernels.rms_norm(x, weight, 1e-5), reference.rms_norm(x, weight, 1e-5)) < 1e-6
    total = residual + x
    assert distance(kernels.add_rms_norm(x, residual, weight, 1e-5), reference.rms_norm(total, weight, 1e-5)) < 1e-6
    assert torch.equal(residual, total)
    if size[1] % 2 == 0:
        gate_up = x * torch.logspace(-3, 2, size[1])  # to where e^-x is 0 or too large for a float32
        expected = reference.TorchKernels().silu_and_mul(gate_up)
        assert distance(kernels.silu_and_mul(gate_up), expected) < 1e-6
        torch.testing.assert_close(kernels.silu_and_mul(gate_up), expected, rtol=1e-5, atol=1e-30)


def test_a_product_that_does_not_fit_is_refused() -> None:
    kernels = CPUKernels()
    for x, weight in [
        (random(2, 5), random(3, 4)),
        (random(2, 4).bfloat16(), random(3, 4)),
        (random(2, 4), random(3, 4).half()),
        (random(2, 4), random(4, 3).T),
        (random(2, 4), random(3, 9)[:, 1:5]),
    ]:
        with pytest.raises(MinillmError, match="linear takes"):
            kernels.linear(x, weight, None)


class Batch:
    """Sequences of given lengths whose last tokens are new, on a shuffled, paged cache full of what must not count."""

    def __init__(self, lens: Sequence[int], query_lens: Sequence[int], heads: int = 9, kv_heads: int = 3,
                 dim: int = 64, block_size: int = 16, padding: int = 2) -> None:  # fmt: skip
        self.lens, self.query_lens, self.padding = lens, query_lens, padding
        self.heads, self.kv_heads, self.dim, self.block_size = heads, kv_heads, dim, block_size
        counts = [(length + block_size - 1) // block_size for length in lens]
        shuffled = (torch.randperm(sum(counts), generator=torch.Generator().manual_seed(1)) + 1).tolist()
        self.tables = torch.zeros(len(lens), max(counts), dtype=torch.int32)
        for i, count in enumerate(counts):
            self.tables[i, :count] = torch.tensor([shuffled.pop() for _ in range(count)])
        self.cache_shape = (sum(counts) + 1, kv_heads, block_size, dim)
        self.rows = [random(length, (heads + 2 * kv_heads) * dim, seed=i) for i, length in enumerate(lens)]
        angles = torch.outer(torch.arange(max(lens) + 1), 0.1 ** torch.arange(0, 1, 2 / dim)[: dim // 2])
        self.cos, self.sin = torch.cat((angles, angles), 1).cos(), torch.cat((angles, angles), 1).sin()

    def forward(self, backend: CPUBackend | None, dtype: torch.dtype, which: Sequence[int] = (),
                chunks: Sequence[int] = ()) -> list[Tensor]:  # fmt: skip
        """The new tokens' results per sequence, by the C kernels or (None) by the reference.

        which: the sequences of the batch, by default all. chunks: the new tokens' number in each of several calls.
        """
        which = which or range(len(self.lens))
        empty = torch.full(self.cache_shape, float("nan"), dtype=dtype)
        caches = (empty.clone(), empty)
        done = [self.lens[i] - self.query_lens[i] for i in which]
        for i, past in zip(which, done, strict=True):  # the past is written by the reference
            _, k, v, cos, sin, slots = self._tokens(i, 0, past)
            reference.write_kv(reference.rotate(k, cos, sin), v, *caches, slots)
        outs: list[list[Tensor]] = [[] for _ in which]
        for sizes in [[chunk] * len(which) for chunk in chunks] or [[self.query_lens[i] for i in which]]:
            found = self._call(backend, caches, which, done, sizes)
            for j, part in enumerate(found[: sum(sizes)].split(sizes)):
                outs[j].append(part)
                done[j] += sizes[j]
        return [torch.cat(parts) for parts in outs]

    def _tokens(self, i: int, begin: int, end: int) -> tuple[Tensor, ...]:
        sizes = (self.heads * self.dim, self.kv_heads * self.dim, self.kv_heads * self.dim)
        q, k, v = (part.unflatten(1, (-1, self.dim)) for part in self.rows[i][begin:end].split(sizes, dim=1))
        places = torch.arange(begin, end)
        slots = self.tables[i].long()[places // self.block_size] * self.block_size + places % self.block_size
        return q, k, v, self.cos[begin:end], self.sin[begin:end], slots

    def _call(self, backend: CPUBackend | None, caches: tuple[Tensor, Tensor], which: Sequence[int],
              done: Sequence[int], sizes: Sequence[int]) -> Tensor:  # fmt: skip
        rows = torch.cat([self.rows[i][d : d + s] for i, d, s in zip(which, done, sizes, strict=True)])
        rows = torch.cat([rows, torch.full((self.padding, rows.shape[1]), 7.0)])
        split = (self.heads * self.dim, self.kv_heads * self.dim, self.kv_heads * self.dim)
        q, k, v = (part.unflatten(1, (-1, self.dim)) for part in rows.split(split, dim=1))
        tokens = [self._tokens(i, d, d + s) for i, d, s in zip(which, done, sizes, strict=True)]
        cos, sin = (torch.cat([t[j] for t in tokens] + [torch.ones(self.padding, self.dim)]) for j in (3, 4))
        slots = torch.cat([t[5] for t in tokens] + [torch.full((self.padding,), -1)])
        starts = torch.tensor([0, *sizes]).cumsum(0).int()
        lens = torch.tensor([d + s for d, s in zip(done, sizes, strict=True)], dtype=torch.int32)
        tables = self.tables[list(which)]
        if backend is None:
            reference.write_kv(reference.rotate(k, cos, sin), v, *caches, slots)
            return reference.paged_attention(reference.rotate(q, cos, sin), *caches, starts, lens, tables)
        metadata = AttentionMetadata(starts, lens, tables, slots, max(sizes), int(lens.max()), self.block_size)
        out = backend.forward(q, k, v, cos, sin, *caches, metadata)
        assert all(bool(cache[0].isnan().all()) for cache in caches), "padding rows were written"
        assert not bool(out[sum(sizes) :].any())
        return out


SHAPES = {
    "decode": Batch([1, 15, 16, 17, 70, 300], [1] * 6),
    "prefill": Batch([1, 15, 16, 17, 100], [1, 15, 16, 17, 100]),
    "chunks and decode": Batch([40, 16, 17, 600, 33], [15, 16, 17, 30, 1]),
    "one head per kv head": Batch([33, 5], [3, 5], heads=2, kv_heads=2),
    "many heads per kv head": Batch([33, 70], [3, 1], heads=30, kv_heads=1, dim=32),
    "head of no whole vectors": Batch([33, 70, 20], [3, 1, 20], heads=4, kv_heads=2, dim=20, block_size=8),
    "large heads": Batch([33, 70], [3, 1], heads=4, kv_heads=2, dim=128, block_size=32),
    "blocks of one": Batch([33, 70], [3, 1], block_size=1),
    "lone and long": Batch([2000], [1]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_is_pytorchs(library: Library, shape: str, dtype: torch.dtype) -> None:
    batch = SHAPES[shape]
    expected = batch.forward(None, dtype)
    for found, wanted in zip(batch.forward(CPUBackend(library), dtype), expected, strict=True):
        assert distance(found, wanted) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_the_same_to_the_bit_in_any_batch_and_any_chunks(library: Library, dtype: torch.dtype) -> None:
    backend = CPUBackend(library)
    batch = Batch([640, 650, 700, 65], [64] * 4)
    together = batch.forward(backend, dtype)
    for i in range(4):
        for chunks in ([64], [1] * 64, [15, 16, 17, 16], [63, 1]):
            assert torch.equal(batch.forward(backend, dtype, [i], chunks)[0], together[i])


def test_the_number_of_threads_changes_no_bit() -> None:
    threads = torch.get_num_threads()
    x, weight = random(20, 576), random(960, 576)
    found = []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            attended = SHAPES["lone and long"].forward(CPUBackend(), torch.float32)[0]
            found.append((CPUKernels().linear(x, weight, None), attended))
    finally:
        torch.set_num_threads(threads)
    for product, attended in found[1:]:
        assert torch.equal(product, found[0][0]) and torch.equal(attended, found[0][1])


def test_attention_refuses_dtypes_that_it_has_no_code_for() -> None:
    with pytest.raises(MinillmError, match="float32 or bfloat16 KV cache"):
        Batch([5], [1]).forward(CPUBackend(), torch.float16)


def run_elsewhere(code: str, home: Path, **environment: str) -> subprocess.Popen[str]:
    """Runs Python code in a process that has a home of its own, so nothing is compiled yet."""
    environment = {"PATH": "/usr/bin:/bin", "MINILLM_HOME": str(home), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-c", f"from minillm.kernels.cpu import load, why_not; {code}"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_processes_that_compile_at_once_end_up_with_one_library(tmp_path: Path) -> None:
    code = "print(load().path, repr(why_not()))"
    outputs = {process.communicate()[0] for process in [run_elsewhere(code, tmp_path) for _ in range(2)]}
    (library,) = tmp_path.glob("kernels/*")
    assert outputs == {f"{library} ''\n"}


def test_without_a_compiler_the_reason_is_given(tmp_path: Path) -> None:
    output = run_elsewhere("print(load(), why_not())", tmp_path, PATH="/nowhere").communicate()[0]
    assert output.startswith("None No C compiler was found. Install gcc")


def test_what_a_failing_compiler_says_is_passed_on(tmp_path: Path) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit\necho "x.c:1: error: out of patience" >&2; exit 1\n')
    compiler.chmod(0o755)
    code = "from minillm.kernels.cpu import CPUKernels; print(why_not()); CPUKernels()"
    output = run_elsewhere(code, tmp_path, CC=str(compiler)).communicate()[0]
    assert f"{compiler} could not compile the CPU kernels: x.c:1: error: out of patience" in output
    assert "The CPU kernels aren't available." in output and not list(tmp_path.glob("kernels/*"))


def test_the_sources_are_part_of_the_package() -> None:
    names = {"simd.h", "threads.h", "quantize.h", "linear.c", "linear_packed.c", "attention.c", "layer.c", "threads.c"}
    assert {path.name for path in SOURCES.glob("*.[ch]")} == names


def test_threads_that_compute_at_the_same_time_do_not_disturb_each_other() -> None:
    """Python lets go of its lock while a kernel runs; one caller gets the helpers, the others work alone."""
    kernels = CPUKernels()
    x, weight = torch.randn(9, 300), torch.randn(700, 300)
    expected = kernels.linear(x, weight, None)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: kernels.linear(x, weight, None), range(400)):
            assert torch.equal(found, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_computes_with_threads_of_its_own() -> None:
    kernels = CPUKernels()
    x, weight = torch.randn(9, 300), torch.randn(700, 300)
    expected = kernels.linear(x, weight, None)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(kernels.linear(x, weight, None), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
