"""`minillm bench`: JSON alone on standard output, and clear refusals."""

from __future__ import annotations

import json

import pytest
from commands import minillm

TINY = ("--model", "tiny-random", "--device", "cpu")


def test_json_is_all_that_goes_to_standard_output() -> None:
    done = minillm("bench", "batch", *TINY, "--batch-size", "2", "--json")
    content = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert content["workload"] == "batch"
    assert content["parts"][0]["num_requests"] == 2
    assert "ratio" not in content


def test_a_comparison_has_its_ratio_at_the_top() -> None:
    content = json.loads(minillm("bench", "shared-prefix", *TINY, "--json").stdout)
    assert content["ratio"] > 0


def test_people_get_a_table() -> None:
    done = minillm("bench", "single", *TINY, "--quantization", "int8")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("single  tiny-random, int8 weights")
    assert any(line.split()[:1] == ["tokens/s"] for line in lines)
    assert any("perplexity" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bonch",), "choose single, batch, mixed, shared-prefix, repetitive, paging"),
        (("mixed", "--batch-size", "4"), "--batch-size is for batch and paging"),
        (("single", "--quantization", "int3"), "choose int8 or int4"),
        (("single", "--against", "vllm"), "only transformers is known"),
        (("paging", "--against", "transformers"), "compares the engine with itself"),
        (("single", "--repeat", "0"), "--repeat"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: tuple[str, ...], message: str) -> None:
    done = minillm("bench", *arguments, *TINY)
    assert done.returncode == 2
    assert done.stdout == b""
    assert message in " ".join(done.stderr.decode().replace("│", " ").split())


def test_what_cannot_be_measured_is_one_sentence() -> None:
    done = minillm("bench", "single", "--model", "no-such-model")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert done.stdout == b""
