"""The tokenizer of tiny-random."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from transformers import AutoTokenizer

from minillm.text import Tokenizer, tiny_tokenizer

PRINT_DIGEST = """
import hashlib
from minillm.text import tiny_tokenizer
tokenizer = tiny_tokenizer()
tokens = [tokenizer.token_bytes(i) for i in range(512)]
content = repr(tokens + tokenizer.encode("The cache grows by one entry."))
print(hashlib.sha256(content.encode()).hexdigest())
"""


def test_it_is_a_real_tokenizer_of_512_tokens(tiny: Tokenizer) -> None:
    assert tiny.vocab_size == 512
    assert tiny.special_token_ids == {0, 1, 2}
    assert (tiny.bos_token_id, tiny.eos_token_ids, tiny.add_bos) == (1, {2}, False)
    assert len({tiny.token_bytes(token_id) for token_id in range(512)}) == 512
    assert tiny.token_bytes(tiny.encode(" the")[0]) == b" the"
    assert len(tiny.encode("The capital of France is Paris.")) < 20


def test_every_process_trains_the_same_one() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", PRINT_DIGEST], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] != ""


def test_transformers_reads_what_it_saves(tmp_path: Path, hard_strings: tuple[str, ...]) -> None:
    tiny = tiny_tokenizer()
    tiny.save(tmp_path)
    oracle = AutoTokenizer.from_pretrained(tmp_path)
    assert len(oracle) == tiny.vocab_size
    for text in hard_strings:
        assert tiny.encode(text, parse_special=True) == oracle(text).input_ids
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi 🙂"}]
    expected = oracle.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert tiny.apply_chat_template(messages) == expected
    assert tiny.decode(expected) == "system\nBe brief.\nuser\nHi 🙂\nassistant\n"
