"""Tests that only a GPU can run. Without one they aren't collected, and pytest says so."""

from __future__ import annotations

import torch

collect_ignore = [] if torch.cuda.is_available() else ["test_on_gpu.py"]


def pytest_report_collectionfinish() -> str:
    if torch.cuda.is_available():
        return f"tests/gpu: run on {torch.cuda.get_device_name()}"
    return "tests/gpu: left out, since PyTorch finds no GPU; they cover CUDA graphs and whole models in Triton"
