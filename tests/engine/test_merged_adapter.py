"""`LLM("model+adapter")`: the adapter becomes part of the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from random_adapters import random_adapter

from minillm import LLM, SamplingParams
from minillm.attention import DenseAttention
from minillm.errors import ModelNotFoundError, UnsupportedModelError
from minillm.models.adapter_files import save_adapter
from minillm.models.lora import LoRAAdapter
from minillm.models.tiny import tiny_config

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


@pytest.fixture
def adapter(tiny: LLM) -> LoRAAdapter:
    return random_adapter(tiny.model.config)


@pytest.fixture
def folder(adapter: LoRAAdapter, tmp_path: Path) -> Path:
    save_adapter(tmp_path / "adapter", adapter)
    return tmp_path / "adapter"


def test_it_is_part_of_the_weights_the_name_and_the_fingerprint(tiny: LLM, adapter: LoRAAdapter, folder: Path) -> None:
    llm = LLM(f"tiny-random+{folder}", device="cpu")
    assert llm.model_name == f"tiny-random+{folder}"
    assert llm.fingerprint not in ("", tiny.fingerprint)
    for path, factors in adapter.factors.items():
        before, after = tiny.model.get_submodule(path).weight, llm.model.get_submodule(path).weight
        assert torch.allclose(after, before + factors.product(), atol=1e-6)
    assert torch.equal(llm.model.embed_tokens.weight, tiny.model.embed_tokens.weight)
    assert llm.generate("Hello", GREEDY).token_ids != tiny.generate("Hello", GREEDY).token_ids


def test_every_way_to_a_model_takes_an_adapter(
    tiny_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    built, read = LLM("tiny-random+./adapter", device="cpu"), LLM(f"{tiny_folder}+adapter", device="cpu")
    assert read.generate("Hello", GREEDY).token_ids == built.generate("Hello", GREEDY).token_ids
    assert read.chat([{"role": "user", "content": "Hello"}], GREEDY).token_ids


@pytest.mark.parametrize("settings", [{"quantization": "int8"}, {"quantization": "int4"}, {"dtype": "bfloat16"}])
def test_it_is_merged_before_the_weights_are_rounded(
    tiny: LLM, folder: Path, tmp_path: Path, tiny_folder: Path, settings: dict[str, str]
) -> None:
    names = (f"tiny-random+{folder}", f"{tiny_folder}+{folder}")
    one, other = (LLM(name, device="cpu", **settings) for name in names)  # type: ignore[arg-type]
    whole = LLM(names[0], device="cpu")
    token_ids = torch.arange(40)

    def logits(llm: LLM) -> torch.Tensor:
        with torch.inference_mode():
            return llm.model.logits(llm.model(token_ids, torch.arange(40), DenseAttention()))

    assert torch.equal(logits(one), logits(other))
    plain = (logits(tiny) - logits(whole)).abs().mean()
    assert (logits(one) - logits(whole)).abs().mean() < plain / 2


def test_gguf_takes_one_too(smollm2_path: Path, smollm2: LLM, tmp_path: Path) -> None:
    adapter = random_adapter(smollm2.model.config, only=["layers.7."], scale=0.1)
    save_adapter(tmp_path, adapter)
    llm = LLM(f"smollm2-135m+{tmp_path}", device="cpu", num_blocks=8)
    path = "layers.7.self_attn.q_proj"  # whose rows lie in another order in the file
    expected = smollm2.model.get_submodule(path).weight + adapter.factors[path].product()
    assert torch.allclose(llm.model.get_submodule(path).weight, expected, atol=1e-6)
    path = "layers.8.self_attn.q_proj"
    assert torch.equal(llm.model.get_submodule(path).weight, smollm2.model.get_submodule(path).weight)


def test_a_wrong_name_is_told_before_anything_is_loaded(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="No adapter is called 'curse'"):
        LLM("no-such-model+curse", device="cpu")
    shutil.rmtree(folder)
    save_adapter(folder, random_adapter(tiny_config(300), only=["mlp"]))
    with pytest.raises(UnsupportedModelError, match="for another model"):
        LLM(f"smollm2-135m+{folder}", device="cpu")
