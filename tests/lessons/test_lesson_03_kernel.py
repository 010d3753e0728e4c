"""The lesson's own Triton kernel: right in the interpreter, and accepted by the compilers of GPUs.

The lesson falls back on PyTorch where Triton isn't installed, so a run of the notebook alone would prove nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from notebooks import ROOT

IMPORTS = "import math\nimport torch\nimport torch.nn.functional as F\n\nfirst_layer = manual_ids = q = k = v = None\n"

AGREES = """
assert has_triton
for heads, num_queries, num_keys, dim, tile in ((2, 75, 75, 16, 32), (3, 1, 50, 32, 16), (1, 40, 7, 64, 16)):
    torch.manual_seed(num_keys)
    q = torch.randn(heads, num_queries, dim)
    k, v = torch.randn(2, heads, num_keys, dim)
    for scale in (1.0, 400.0):
        expected = F.scaled_dot_product_attention(q * scale, k, v)
        torch.testing.assert_close(flash_attention(q * scale, k, v, tile), expected, atol=1e-4, rtol=1e-4)
"""

COMPILES = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

constants = {"DIM": 64, "TILE": 32}
types = {"scale": "fp32", "num_queries": "i32", "num_keys": "i32"} | dict.fromkeys(constants, "constexpr")
signature = {name: types.get(name, "*fp32") for name in flash_kernel.arg_names}
places = {(flash_kernel.arg_names.index(name),): value for name, value in constants.items()}
for capability in (75, 90):
    made = triton.compile(ASTSource(flash_kernel, signature, places), target=GPUTarget("cuda", capability, 32))
    assert made.metadata.shared <= 65536
"""


def run(tmp_path: Path, program: str, **environment: str) -> None:
    """Runs the lesson's cells around the kernel, and the program, as a file: Triton reads a kernel's source."""
    notebook = nbformat.read(ROOT / "lessons" / "03-attention-and-embeddings.ipynb", as_version=4)
    wanted = ("def tiled_attention", "import triton\n", "def flash_kernel", "def flash_attention")
    cells = [next(c.source for c in notebook.cells if c.cell_type == "code" and name in c.source) for name in wanted]
    # What a cell does after its last definition compares with the rest of the lesson, which isn't here.
    cells = [cell.split("\n\nfor ")[0].split("\n\nq, k, v = ")[0] for cell in cells]
    file = tmp_path / "kernel.py"
    file.write_text("\n\n".join([IMPORTS, *cells, program]), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_kernel_equals_pytorchs_attention_in_the_interpreter(tmp_path: Path) -> None:
    run(tmp_path, AGREES, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


def test_the_kernel_compiles_for_gpus(tmp_path: Path) -> None:
    run(tmp_path, COMPILES, TRITON_INTERPRET="0")
