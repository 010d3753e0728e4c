"""What can be shown of the Triton kernels without a GPU: that they're right, and that GPUs' compilers take them.

Triton decides when it is imported whether it interprets its kernels or compiles them, and PyTorch may have imported it
long before a test asks. So the interpreter gets a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


def test_the_kernels_agree_with_their_references_in_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HERE / "test_triton_kernels.py")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]


def test_triton_is_not_imported_unless_it_is_asked_for() -> None:
    program = (
        "import sys, minillm, minillm.attention, minillm.kernels, minillm.engine; sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(("capability", "dtype"), [(75, "fp16"), (90, "bf16")])
def test_every_kernel_compiles_for_a_gpu_and_fits_its_shared_memory(
    capability: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton.language as tl

    from minillm.kernels.triton import activation, norm, paged_attention, rope_kv

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    q, cache = torch.empty(1, 9, 64, dtype=torch.float16), torch.empty(1, 3, 16, 64)
    dot = {"DOT_DTYPE": tl.bfloat16 if dtype == "bf16" else tl.float16}
    prefill, decode = (paged_attention._sizes(q, cache, rows) | dot for rows in (64, 16))
    splits = {"SPLIT": paged_attention.SPLIT, "MAX_SPLITS": paged_attention.MAX_SPLITS}
    heads = {"HEAD_DIM": 64, "PADDED_DIM": 64, "MASKED": -1e30}
    kv = {"NUM_KV_HEADS": 3, "GROUP": 3, "HEAD_DIM": 64, "BLOCK_SIZE": 16, "GROUP_PADDED": 4, "HALF_PADDED": 32}
    kernels: list[tuple[Any, dict[str, Any]]] = [
        (paged_attention._prefill_kernel, prefill),
        (paged_attention._decode_kernel, decode | splits),
        (paged_attention._combine_kernel, heads | splits | {"NUM_HEADS": 9}),
        (rope_kv._rope_and_write_kv_kernel, kv),
        (norm._rms_norm_kernel, {"ADD": True, "BLOCK": 1024}),
        (activation._silu_and_mul_kernel, {"BLOCK": 1024}),
    ]
    for kernel, constants in kernels:
        assert shared_memory(kernel, constants, dtype, capability) <= 65536, kernel


def shared_memory(kernel: Any, constants: dict[str, Any], dtype: str, capability: int) -> int:
    """Compiles down to machine code, for which no GPU is needed; returns the bytes that a program shares."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    of_type = {"*fp32": {"parts_ptr", "log_totals_ptr"}, "*i64": {"slot_mapping_ptr"}, "fp32": {"scale", "eps"}}
    of_type["*i32"] = {"query_start_loc_ptr", "seq_lens_ptr", "block_tables_ptr"}
    types = {name: type_ for type_, names in of_type.items() for name in names} | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, f"*{dtype}" if name.endswith("_ptr") else "i32") for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    options = {"num_warps": 4, "num_stages": 2, "enable_fp_fusion": True}
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(ASTSource(kernel, signature, places), target=target, options=options).metadata.shared
