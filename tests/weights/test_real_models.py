"""The pinned models themselves. The first run downloads them (180 MB); they stay in the usual cache."""

from __future__ import annotations

import pytest

from minillm.weights import MODELS, fetch, is_cached, resolve


@pytest.mark.parametrize("name", list(MODELS))
def test_the_pinned_model_can_be_fetched_and_verified(name: str) -> None:
    source = MODELS[name]
    path = fetch(name)
    assert is_cached(name)
    assert resolve(name.upper()) == path
    folder = path.parent if source.entry else path
    assert {file.path: (folder / file.path).stat().st_size for file in source.files} == {
        file.path: file.size for file in source.files
    }
    assert (path if source.entry else folder / "config.json").is_file()


def test_the_files_are_what_their_names_say() -> None:
    assert fetch("smollm2-135m").read_bytes()[:4] == b"GGUF"
    assert b'"hidden_size": 384' in (fetch("all-minilm-l6-v2") / "config.json").read_bytes()
