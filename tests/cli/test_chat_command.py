"""`minillm chat` in a terminal (a pseudo-terminal with a person's keys) and in a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pexpect
from commands import MINILLM, environment, minillm

from minillm.engine import LLM
from minillm.sampling import SamplingParams

PROMPT = "\r\n> "
CTRL_C, CTRL_D = "\x03", "\x04"


def answers(tiny: LLM, *lines: str, max_tokens: int = 12, system: str | None = None) -> list[str]:
    """What the same model says in this process, turn by turn."""
    history: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    texts = []
    for line in lines:
        history.append({"role": "user", "content": line})
        texts.append(tiny.chat(history, SamplingParams(temperature=0, max_tokens=max_tokens)).text)
        history.append({"role": "assistant", "content": texts[-1]})
    return texts


def on_screen(text: str) -> str:
    return text.replace("\n", "\r\n")


class Terminal:
    """A person at a terminal in which the chat runs."""

    def __init__(self, *options: str, model: str = "tiny-random") -> None:
        arguments = ["chat", "--model", model, "--temperature", "0", *options]
        # So wide that a line is never redrawn while it's typed.
        self.child = pexpect.spawn(
            MINILLM,
            arguments,
            env=environment(COLUMNS="5000"),
            dimensions=(50, 5000),
            encoding="utf-8",
            timeout=90,
        )
        self.child.expect_exact(PROMPT)

    def say(self, line: str) -> str:
        """Types a line and reads up to the next prompt."""
        self.child.sendline(line)
        self.child.expect_exact(PROMPT)
        echo, _, rest = str(self.child.before).partition("\r\n")
        assert line in echo
        return rest

    def leave(self, keys: str = CTRL_D) -> int:
        self.child.send(keys)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert "Traceback" not in str(self.child.before)
        return int(self.child.exitstatus)


def test_a_conversation_remembers_until_it_is_reset(tiny: LLM) -> None:
    terminal = Terminal("--max-tokens", "12")
    first, second = answers(tiny, "Hello there", "And then?")
    (anew,) = answers(tiny, "And then?")
    assert second != anew
    assert terminal.say("Hello there") == on_screen(first) + "\r\n"
    assert terminal.say("And then?") == on_screen(second) + "\r\n"
    assert "begins anew" in terminal.say("/reset")
    assert terminal.say("And then?") == on_screen(anew) + "\r\n"
    assert terminal.say("") == ""  # an empty line asks nothing
    # Until it's too long for the model, which is said, and can be mended.
    long = "cat " * 800
    terminal.say("/reset")
    assert "error:" not in terminal.say(long)
    terminal.say(long)
    said = terminal.say(long)
    assert "error: The prompt has" in said
    assert "/reset begins a new conversation" in said
    terminal.say("/reset")
    assert terminal.say("Hello there") == on_screen(first) + "\r\n"
    assert terminal.leave() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(smollm2_path: Path) -> None:
    # The real model: the tiny one is through with any answer before a busy machine has sent the key.
    terminal = Terminal("--max-tokens", "1900", model="smollm2-135m")
    terminal.child.sendline("Write a very long story about the sea.")
    terminal.child.expect_exact("\r\n")
    terminal.child.expect(r"\w\w")  # it streams: the beginning is there before the end
    terminal.child.send(CTRL_C)
    terminal.child.expect_exact("(stopped)")
    terminal.child.expect_exact(PROMPT)
    terminal.child.send("half a line" + CTRL_C)
    terminal.child.expect_exact("/exit leaves")
    terminal.child.expect_exact(PROMPT)
    assert terminal.leave("/exit\r") == 0


def test_in_a_pipe_each_line_is_a_turn(tiny: LLM) -> None:
    """What can't be answered is said on standard error, and the conversation goes on."""
    options = ("--model", "tiny-random", "--temperature", "0", "--max-tokens", "12", "--system", "Be brief.")
    lines = ("Hello there", "", "cat " * 3000, "And then?", "/exit", "not asked")
    done = minillm("chat", *options, input="\n".join(lines).encode())
    first, second = answers(tiny, "Hello there", "And then?", system="Be brief.")
    assert done.stdout.decode() == f"{first}\n{second}\n"
    assert done.stderr.decode().startswith("error: The prompt has")
    assert done.stderr.count(b"\n") == 1
    assert done.returncode == 0


def test_the_weights_can_be_quantized() -> None:
    options = ("--model", "tiny-random", "--temperature", "0", "--max-tokens", "12", "--quantization", "int8")
    done = minillm("chat", *options, input=b"Hello there")
    quantized = LLM("tiny-random", quantization="int8", device="cpu")
    assert done.stdout.decode().splitlines() == answers(quantized, "Hello there")
