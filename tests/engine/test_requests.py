"""Requests that can't be served: refused before any work is done, with the field at fault named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minillm import LLM, SamplingParams
from minillm.errors import InvalidRequestError, MinillmError, ModelNotFoundError
from minillm.sampling import FilteringSampler, SamplingMetadata

ONE = SamplingParams(temperature=0, max_tokens=1)


def refused(llm: LLM, *args: Any, **options: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        llm.generate(*args, **options)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        [[]],
        ["fine", ""],
        [-1],
        [5, 512],
        [[1, 2], [512]],
        [2**70],
        [1.5],
        [[1, "a"]],
        [1, "a"],
        [None],
        [b"bytes"],
        [["text in a list in a list"]],
        None,
        7,
        b"bytes",
        {"prompt": "text"},
        iter(["text"]),
        torch.tensor([1, 2, 3]),
        ["fine", "half a character \ud83d"],
        "half a character \ud83d",
    ],
    ids=lambda prompt: ascii(prompt)[:40],
)
def test_prompts_that_are_none(prompt: Any, tiny: LLM) -> None:
    assert refused(tiny, prompt, ONE).param == "prompt"


def test_a_prompt_that_fills_the_context(tiny: LLM) -> None:
    error = refused(tiny, [300] * 2048, ONE)
    assert error.param == "prompt"
    assert "2048 tokens" in str(error)
    tiny.generate([300] * 2047, ONE)


def test_a_bad_prompt_at_the_end_of_a_list_costs_nothing() -> None:
    class Counting(FilteringSampler):
        calls = 0

        def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
            Counting.calls += 1
            return super().sample(logits, metadata)

    llm = LLM("tiny-random", device="cpu", sampler=Counting)
    refused(llm, ["good", "good", ""], ONE)
    refused(llm, ["good", "good"], [ONE, SamplingParams(logit_bias={512: 1})])
    assert Counting.calls == 0
    llm.generate("good", ONE)
    assert Counting.calls == 1


@pytest.mark.parametrize("params", [[], [ONE], [ONE] * 3, {"temperature": 0}, "greedy", [ONE, None], 0.7], ids=str)
def test_parameters_that_do_not_fit_the_prompts(params: Any, tiny: LLM) -> None:
    assert refused(tiny, ["one", "two"], params).param == "sampling_params"


@pytest.mark.parametrize("token", [512, -1, 2**40])
def test_a_bias_on_a_token_that_does_not_exist(token: int, tiny: LLM) -> None:
    error = refused(tiny, "text", SamplingParams(logit_bias={token: 1.0}))
    assert error.param == "logit_bias"
    assert str(token) in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -0.1), ("top_p", 0), ("top_k", -2), ("min_p", 1.1), ("max_tokens", 0), ("stop", [""])],
)
def test_parameters_out_of_their_range(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplingParams(**{field: value})
    assert caught.value.param == field


# The model


def test_an_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="smollm9"):
        LLM("smollm9-135m", device="cpu")
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        LLM(tmp_path / "nowhere", device="cpu")


@pytest.mark.parametrize("dtype", ["float64", "int8", "fp32", ""])
def test_an_unknown_dtype(dtype: str) -> None:
    with pytest.raises(MinillmError, match="float32, bfloat16, float16"):
        LLM("tiny-random", dtype=dtype, device="cpu")


@pytest.mark.parametrize("device", ["tpu", "gpu", ""])
def test_an_unknown_device(device: str) -> None:
    with pytest.raises(MinillmError, match="cpu, cuda or auto"):
        LLM("tiny-random", device=device)


def test_a_gpu_that_is_not_there() -> None:
    if torch.cuda.is_available():
        assert LLM("tiny-random", device="cuda").device.type == "cuda"
    else:
        with pytest.raises(MinillmError, match="no NVIDIA GPU"):
            LLM("tiny-random", device="cuda")


@pytest.mark.parametrize("length", [2049, 10**9])
def test_a_context_that_the_model_does_not_have(length: int) -> None:
    with pytest.raises(InvalidRequestError, match="2048") as caught:
        LLM("tiny-random", device="cpu", max_model_len=length)
    assert caught.value.param == "max_model_len"


@pytest.mark.parametrize("part", ["norm.weight", "layers.1.mlp.down_proj.weight", "embed_tokens.weight"])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_broken_weights_are_told_instead_of_sampled(part: str, number: float) -> None:
    llm = LLM("tiny-random", device="cpu")
    llm.model.get_parameter(part).view(-1)[::7] = number
    for params in (ONE, SamplingParams(temperature=1.0)):
        with pytest.raises(MinillmError, match="not numbers"):
            llm.generate("text", params)


# A sampler of one's own


class Backwards:
    """Takes the least likely token."""

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        assert logits.shape == (1, 512)
        assert logits.dtype == torch.float32
        assert metadata.uniform.dtype == torch.float64
        return logits.argmin(dim=-1)


def test_a_sampler_plugs_in_as_a_class_an_instance_or_a_function(tiny: LLM) -> None:
    usual = tiny.generate("text", SamplingParams(max_tokens=8, temperature=0)).token_ids
    outputs = [
        LLM("tiny-random", device="cpu", sampler=sampler).generate("text", SamplingParams(max_tokens=8)).token_ids
        for sampler in (Backwards, Backwards(), lambda: Backwards())
    ]
    assert outputs[0] == outputs[1] == outputs[2] != usual


@pytest.mark.parametrize("sampler", ["greedy", 7, object(), object, lambda: "greedy"], ids=str)
def test_what_is_no_sampler(sampler: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        LLM("tiny-random", device="cpu", sampler=sampler)
    assert caught.value.param == "sampler"


@pytest.mark.parametrize("token", [-1, 512])
def test_a_sampler_that_leaves_the_vocabulary(token: int) -> None:
    class Wild:
        def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
            return torch.tensor([token])

    with pytest.raises(MinillmError, match=f"Wild chose token {token};"):
        LLM("tiny-random", device="cpu", sampler=Wild).generate("text")
