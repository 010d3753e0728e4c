"""Keeps the Triton tests out of a process where they can't run: see test_triton_without_gpu.py."""

from __future__ import annotations

import os

import torch

collect_ignore = []
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore.append("test_triton_kernels.py")
