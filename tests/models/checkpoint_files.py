"""Small helpers to write checkpoints that are broken in one place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def edit_json(file: Path, **changes: Any) -> None:
    """Sets keys of a JSON object; None removes one."""
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    write_json(file, {key: value for key, value in content.items() if value is not None})


def edit_weights(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Reads a safetensors file, lets `change` alter the tensors, and writes it again."""
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
