"""`minillm generate`, and what holds for every command: exit codes, one sentence for an error, pipes, encodings."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from commands import MINILLM, environment, minillm

from minillm.engine import LLM
from minillm.sampling import SamplingParams

TINY = ("--model", "tiny-random")


def test_text_goes_to_standard_output_and_nothing_else(tiny: LLM) -> None:
    done = minillm("generate", "The cat", *TINY, "--max-tokens", "12")
    expected = tiny.generate("The cat", SamplingParams(temperature=0, max_tokens=12)).text
    assert done.stdout.decode() == expected + "\n"
    assert done.stderr == b""
    assert done.returncode == 0


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_weights_can_be_quantized(quantization: str) -> None:
    done = minillm("generate", "The cat", *TINY, "--max-tokens", "12", "--quantization", quantization)
    quantized = LLM("tiny-random", quantization=quantization, device="cpu")
    assert done.stderr == b""
    assert (
        done.stdout.decode() == quantized.generate("The cat", SamplingParams(temperature=0, max_tokens=12)).text + "\n"
    )


def test_json_from_standard_input_with_every_option(tiny: LLM) -> None:
    """The input isn't quite UTF-8, which is no error either, however strict Python was set up."""
    params = SamplingParams(temperature=0.9, top_k=40, top_p=0.95, seed=7, max_tokens=40, stop=["e", "zz"])
    options = ("--temperature", "0.9", "--top-k", "40", "--top-p", "0.95", "--seed", "7", "--max-tokens", "40")
    prompt = "Über Katzen 🐈\nand dogs".encode() + b"\xff\xfe."
    strict = environment(PYTHONIOENCODING="utf-8:strict")
    done = minillm("generate", "-", *TINY, *options, "--stop", "e", "--stop", "zz", "--json", input=prompt, env=strict)
    output = json.loads(done.stdout)
    expected = tiny.generate(prompt.decode(errors="replace"), params)
    assert output["text"] == expected.text
    assert output["token_ids"] == expected.token_ids
    assert output["prompt_token_ids"] == expected.prompt_token_ids
    assert output["finish_reason"] == expected.finish_reason == "stop"
    assert output["model"] == "tiny-random"
    assert output["fingerprint"] == tiny.fingerprint
    assert output["metrics"]["num_output_tokens"] == len(expected.token_ids)
    assert done.returncode == 0


def test_a_terminal_that_knows_ascii_only_is_no_error(tiny: LLM) -> None:
    """Neither for the answer, nor for a prompt whose bytes Python can't decode in such a locale."""
    plain = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = minillm("generate", "Über", *TINY, "--max-tokens", "24", env=plain)
    expected = tiny.generate("Über", SamplingParams(temperature=0, max_tokens=24)).text
    assert not expected.isascii()
    assert done.stdout == expected.encode("ascii", "replace") + b"\n"
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(
        [MINILLM, "generate", "The cat", *TINY, "--max-tokens", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)  # `| head -c1`
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(timeout=120) == 1
    assert errors == b""


def test_ctrl_c_ends_it_with_130() -> None:
    process = subprocess.Popen(
        [MINILLM, "generate", "The cat", *TINY, "--max-tokens", "2000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == b""


# -- errors -----------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_one_sentence_and_1() -> None:
    """The name looks like markup, which must not get lost on the way to the screen."""
    done = minillm("generate", "x", "--model", "[bold]no[/such]")
    errors = done.stderr.decode()
    assert (done.returncode, done.stdout) == (1, b"")
    assert errors.startswith("error: ")
    assert "[bold]no[/such]" in errors
    assert "Traceback" not in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("generate", "x", "--temprature", "1"), "--temprature"),
        (("generate", "x", "--max-tokens", "many"), "--max-tokens"),
        (("generate", "x", *TINY, "--temperature", "-1"), "temperature is -1.0"),
        (("generate", "x", *TINY, "--quantization", "int3"), "choose int8 or int4"),
        (("chat", *TINY, "--quantization", "int3"), "choose int8 or int4"),
        (("generate",), "prompt"),
        (("sing",), "sing"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_what_is_wrong(arguments: tuple[str, ...], named: str) -> None:
    done = minillm(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert named in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_weights_that_are_not_known() -> None:
    done = minillm("weights", "gpt-9")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "gpt-9" in done.stderr.decode()
    assert "smollm2-135m" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


# -- help -------------------------------------------------------------------------------------------------------


def test_help_does_not_wait_for_pytorch() -> None:
    for arguments in (["--help"], ["generate", "-h"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "minillm.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            env=environment(),
        )
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "typer" in imported
        heavy = {"torch", "numpy", "tokenizers", "transformers", "fastapi", "matplotlib", "huggingface_hub"}
        assert not heavy & imported
        assert "Usage" in done.stdout


def test_help_names_every_command() -> None:
    done = minillm("--help", env=environment(PYTHONIOENCODING="ascii"))
    assert done.returncode == 0
    for command in ("generate", "chat", "weights", "doctor", "lab"):
        assert command in done.stdout.decode()
