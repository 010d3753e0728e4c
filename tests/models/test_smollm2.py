"""The real model: its logits and its greedy texts are transformers', with and without a cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from oracle import assert_same_logits, cached_logits, dense_logits, oracle_logits
from transformers import PreTrainedModel

from minillm import LLM, SamplingParams
from minillm.errors import MinillmError

TEXTS = (
    "The capital of France is Paris, and the capital of Germany is",
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n",
    "日本語の文章と emoji 🙂🙃 and Ünïcödé, all of it at once.",
    "7 * 8 = 56, 12 * 12 = 144, 25 * 4 =",
    "Once upon a time " * 60,
)
PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little robot who",
    "def quicksort(items):\n",
    "The three laws of thermodynamics are",
    "Q: What is the largest planet?\nA:",
    "import numpy as np\n\n",
    "To be, or not to be, that is",
    "Water boils at",
    "1, 1, 2, 3, 5, 8,",
    "Dear Sir or Madam,\n\nI am writing to",
    "The mitochondria is",
    "SELECT name, COUNT(*) FROM users",
    "Translate to French: Good morning ->",
    "- apples\n- oranges\n-",
    "In 1969, the first humans",
    "Ein Hund und eine Katze",
    '{"name": "Ada", "born":',
    "🙂",
)
CHATS = ("What is gravity?", "Write a haiku about the sea.")
GREEDY = SamplingParams(temperature=0, max_tokens=64)


@pytest.fixture(scope="module")
def prompts(smollm2: LLM) -> list[list[int]]:
    """18 texts and 2 conversations as token ids."""
    chats = [smollm2.tokenizer.apply_chat_template([{"role": "user", "content": chat}]) for chat in CHATS]
    return [smollm2.tokenizer.encode(prompt) for prompt in PROMPTS] + chats


@pytest.fixture(scope="module")
def outputs(smollm2: LLM, prompts: list[list[int]]) -> list[list[int]]:
    """What our engine answers, greedily and through its cache."""
    return [output.token_ids for output in smollm2.generate(prompts, GREEDY)]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
def test_logits_equal_the_oracles(text: str, smollm2: LLM, transformers_smollm2: PreTrainedModel) -> None:
    token_ids = torch.tensor(smollm2.tokenizer.encode(text))
    theirs = oracle_logits(transformers_smollm2, token_ids)
    assert_same_logits(dense_logits(smollm2.model, token_ids), theirs, tolerance=1e-3)
    assert_same_logits(cached_logits(smollm2.model, token_ids, 50), theirs, tolerance=1e-3)


def test_greedy_texts_equal_the_oracles(
    smollm2: LLM, transformers_smollm2: PreTrainedModel, prompts: list[list[int]], outputs: list[list[int]]
) -> None:
    """20 prompts, 64 tokens each, through transformers' own generation loop, all in one batch."""
    assert len(prompts) == 20
    ends = sorted(smollm2.tokenizer.eos_token_ids)
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        theirs = transformers_smollm2.generate(  # type: ignore[operator]
            padded, attention_mask=mask, do_sample=False, max_new_tokens=64, eos_token_id=ends, pad_token_id=0
        )
    for prompt, ours, row in zip(prompts, outputs, theirs[:, longest:].tolist(), strict=True):
        end = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        assert ours == row[:end], smollm2.tokenizer.decode(prompt)
    assert sum(map(len, outputs)) > 1000, "texts that end at once would prove little"
    assert any(output[-1] in ends for output in outputs), "the end-of-text token should be met as well"


def test_every_token_is_the_most_likely_one_without_a_cache(
    smollm2: LLM, prompts: list[list[int]], outputs: list[list[int]]
) -> None:
    """If each token is the argmax after those before it, then a loop that computes all anew makes the same text."""
    for prompt, output in zip(prompts, outputs, strict=True):
        logits = dense_logits(smollm2.model, torch.tensor(prompt + output))
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == output


def test_the_naive_loop_makes_the_same_texts(smollm2: LLM, prompts: list[list[int]], outputs: list[list[int]]) -> None:
    """The loop itself, every token computed anew at every step. It takes long, so it runs on two prompts."""
    for index in (0, 17):
        text, expected = list(prompts[index]), outputs[index]
        for _ in expected:
            text.append(int(dense_logits(smollm2.model, torch.tensor(text))[-1].argmax()))
        assert text[len(prompts[index]) :] == expected


# On Linux a child's ru_maxrss begins at its parent's size, which is large here; VmHWM is the process's own.
MEASURE_MEMORY = """
import json, pathlib, re, resource, sys
from minillm import LLM, SamplingParams
llm = LLM("smollm2-135m", device="cpu", dtype=sys.argv[1])
if sys.platform == "darwin":
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
else:
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
print(json.dumps({"peak": peak, "answer": llm.generate("The capital of France is", SamplingParams(max_tokens=4)).text}))
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_needs_less_than_the_promised_memory(dtype: str, smollm2_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE_MEMORY, dtype]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert measured["peak"] < 1.2e9
    assert measured["answer"]


def test_a_copy_that_was_cut_short_is_refused(smollm2_path: Path, tmp_path: Path) -> None:
    with smollm2_path.open("rb") as file:
        (tmp_path / "cut.gguf").write_bytes(file.read(50_000_000))
    with pytest.raises(MinillmError, match="cut short"):
        LLM(tmp_path / "cut.gguf", device="cpu")
