"""`minillm serve` as a person or a supervisor runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from random_adapters import random_adapter

from minillm.models.adapter_files import save_adapter
from minillm.models.tiny import tiny_config
from minillm.text import tiny_tokenizer

MINILLM = str(Path(sys.executable).with_name("minillm"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "80"}
MODEL = "tiny-random"


def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [MINILLM, "serve", "--model", MODEL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)


@contextmanager
def serving(
    *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A running server: its process, the client's base_url and the lines of its log so far."""
    command = [MINILLM, "serve", "--model", MODEL, "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | (environment or {}))
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while not (match := re.search(r"http://\S+/v1", lines[-1] if lines else "")):
            lines.append(process.stderr.readline())
            assert lines[-1], f"it ended: {lines}"
        yield process, match[0].replace("0.0.0.0", "127.0.0.1"), lines
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def client_of(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=8, timeout=30)


def test_help_tells_what_one_needs_to_know() -> None:
    text = refused("--help").stdout
    for word in (
        "/v1/chat/completions",
        "--api-keys",
        "[ann]",
        "tokens_per_minute",
        "SIGTERM",
        "--log-prompts",
        "[telemetry]",
        "499",
    ):
        assert word in text
    for word in ("playground", "/v1/engine/steps"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--host", "0.0.0.0"], "--api-keys", 1),
        (["--host", "::"], "--api-keys", 1),
        (["--api-keys", "/nowhere/keys.toml"], "can't be read", 1),
        (["--port", "99999"], "Port 99999", 1),
        (["--quantization", "int3"], "int3", 2),
    ],
    ids=lambda value: str(value),
)
def test_what_is_wrong_is_said_before_anything_is_loaded(arguments: list[str], message: str, code: int) -> None:
    done = refused(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_it_serves_tenants_logs_no_secrets_and_lets_what_runs_end(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[ann]\nkeys = ["sk-secret-key"]\n', encoding="utf-8")
    with serving("--host", "0.0.0.0", "--api-keys", str(keys), "--log-json") as (process, url, _):
        client = client_of(url, "sk-secret-key")
        messages: list[Any] = [{"role": "user", "content": "my secret"}]
        stream = client.chat.completions.create(
            model=MODEL, messages=messages, max_tokens=600, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        process.send_signal(signal.SIGTERM)
        *_, last = stream
        assert last.choices[0].finish_reason == "length"
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    entries = [json.loads(line) for line in log.splitlines()]
    access = next(entry for entry in entries if "path" in entry)
    assert (access["path"], access["status"], access["tenant"]) == ("/v1/chat/completions", 200, "ann")
    assert access["completion_tokens"] == 600
    assert "secret" not in log


def test_a_second_signal_ends_what_runs() -> None:
    with serving("--drain-seconds", "300", "--log-prompts") as (process, url, _):
        stream = client_of(url).completions.create(
            model=MODEL, prompt="a prompt\nto log", n=64, max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        assert process.stderr is not None
        log = ""
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            while "Stopping" not in (line := process.stderr.readline()):
                log += line
        with pytest.raises(openai.APIError, match="The server was stopped"):
            for _ in stream:
                pass
        assert process.wait(timeout=30) == 0
        assert "prompt: 'a prompt\\nto log'" in log


def test_adapters_are_named_by_the_command_line(tmp_path: Path) -> None:
    for seed, name in enumerate(("a=b", "c")):
        save_adapter(tmp_path / name, random_adapter(tiny_config(tiny_tokenizer().vocab_size), seed=seed))
    with serving("--adapter", str(tmp_path / "a=b"), "--adapter", f"mine={tmp_path / 'c'}") as (_, url, lines):
        client = client_of(url)
        names = [MODEL, f"{MODEL}+{tmp_path / 'a=b'}", f"{MODEL}+mine"]
        assert [model.id for model in client.models.list().data] == names
        assert f"Serving {', '.join(names)} at" in lines[-1]
        texts = {client.completions.create(model=name, prompt="Hi", temperature=0).choices[0].text for name in names}
        assert len(texts) == 3


@pytest.mark.parametrize(
    ("given", "message"), [("curse", "No adapter is called 'curse'"), ("a=./curse", "No adapter is called 'curse'")]
)
def test_an_unknown_adapter_ends_the_start(given: str, message: str) -> None:
    done = refused("--port", "0", "--adapter", given)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
