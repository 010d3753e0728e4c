"""The model as `LLM` holds it: where it's loaded from, and the fingerprint that tells one from another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from minillm import LLM, SamplingParams
from minillm.errors import InvalidRequestError, MinillmError

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to change."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def set_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_folder_from_transformers_is_the_model_that_was_saved(folder: Path, tiny: LLM) -> None:
    llm = LLM(folder, device="cpu")
    assert llm.model_name == str(folder)
    ours, theirs = llm.model.state_dict(), tiny.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert llm.generate("Hello", GREEDY).token_ids == tiny.generate("Hello", GREEDY).token_ids
    chat = [{"role": "user", "content": "Hello"}]
    assert llm.chat(chat, GREEDY).token_ids == tiny.chat(chat, GREEDY).token_ids
    assert llm.tokenizer.eos_token_ids == tiny.tokenizer.eos_token_ids


def test_a_text_begins_with_one_bos_where_the_tokenizer_says_so(folder: Path, tiny: LLM) -> None:
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    backend.save(str(folder / "tokenizer.json"))
    llm = LLM(folder, device="cpu")
    plain = tiny.tokenizer.encode("Hello")
    assert llm.generate("Hello", GREEDY).prompt_token_ids == [1, *plain]
    assert llm.generate(plain, GREEDY).prompt_token_ids == plain, "token ids are taken as they are"


def test_a_model_may_have_several_end_tokens(folder: Path) -> None:
    set_json(folder / "generation_config.json", eos_token_id=[0, 2])
    llm = LLM(folder, device="cpu")
    for token in (0, 2):
        output = llm.generate("Hello", SamplingParams(temperature=0, logit_bias={token: 100}))
        assert (output.token_ids, output.finish_reason) == ([token], "stop")


def test_a_context_given_by_the_user_is_the_limit(folder: Path) -> None:
    assert LLM(folder, device="cpu").max_model_len == 2048
    assert LLM(folder, device="cpu", max_model_len=100).max_model_len == 100


def test_a_folder_without_a_tokenizer_says_what_is_missing(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MinillmError, match=r"tokenizer\.json"):
        LLM(folder, device="cpu")


def test_the_gguf_file_and_its_name_are_one_model(smollm2: LLM, smollm2_path: Path) -> None:
    by_path = LLM(smollm2_path, device="cpu")
    assert by_path.fingerprint == smollm2.fingerprint
    assert smollm2.model_name == "smollm2-135m"
    assert smollm2.dtype == torch.float32
    assert smollm2.max_model_len == 8192


# Fingerprint


def test_the_fingerprint_is_stable(tiny: LLM, tiny_folder: Path) -> None:
    assert tiny.fingerprint.startswith("fp_")
    assert tiny.fingerprint == LLM("tiny-random", device="cpu").fingerprint
    assert LLM(tiny_folder, device="cpu").fingerprint == LLM(tiny_folder, device="cpu").fingerprint
    before = tiny.fingerprint
    tiny.generate("Hello", GREEDY)
    assert tiny.fingerprint == before


def test_the_fingerprint_changes_with_everything_that_decides_the_tokens(folder: Path) -> None:
    seen = {LLM(folder, device="cpu").fingerprint, LLM(folder, device="cpu", dtype="bfloat16").fingerprint}

    config = json.loads((folder / "config.json").read_text())
    for change in ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rms_norm_eps": 1e-3}):
        set_json(folder / "config.json", **change)
        seen.add(LLM(folder, device="cpu").fingerprint)
        (folder / "config.json").write_text(json.dumps(config))

    set_json(folder / "generation_config.json", eos_token_id=[0])
    seen.add(LLM(folder, device="cpu").fingerprint)

    seen.add(LLM(folder, device="cpu", quantization="int8").fingerprint)
    seen.add(LLM(folder, device="cpu", kv_cache_dtype="bfloat16").fingerprint)
    seen.add(LLM(folder, device="cpu", deterministic=True).fingerprint)
    seen.add(LLM(folder, device="cpu", kernels="torch").fingerprint)

    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    seen.add(LLM(folder, device="cpu").fingerprint)
    assert len(seen) == 10


@pytest.mark.parametrize("kernels", ["cpu", "torch"])
def test_keys_and_values_of_quantized_weights_are_bfloat16_unless_told_otherwise(kernels: str) -> None:
    caches = {
        settings: LLM("tiny-random", device="cpu", kernels=kernels, **dict(settings)).engine.runner.cache.keys.dtype
        for settings in [
            (("quantization", None),),
            (("quantization", "int8"),),
            (("quantization", "int8"), ("kv_cache_dtype", "float32")),
            (("quantization", None), ("kv_cache_dtype", "bfloat16")),
        ]
    }
    assert list(caches.values()) == [torch.float32, torch.bfloat16, torch.float32, torch.bfloat16]


def test_a_narrow_kv_cache_hardly_changes_an_answer() -> None:
    answers = []
    for kv_cache_dtype in ("float32", "bfloat16"):
        llm = LLM("tiny-random", device="cpu", kv_cache_dtype=kv_cache_dtype)
        answers.append(llm.generate("Hello there", GREEDY).token_ids)
    assert answers[0] == answers[1]


def test_a_kv_cache_that_the_kernels_cannot_read_is_refused() -> None:
    with pytest.raises(MinillmError, match="kv_cache_dtype 'int4' is not supported"):
        LLM("tiny-random", device="cpu", kv_cache_dtype="int4")
    with pytest.raises(InvalidRequestError, match=r"can't read keys and values in torch\.float16"):
        LLM("tiny-random", device="cpu", kv_cache_dtype="float16")
