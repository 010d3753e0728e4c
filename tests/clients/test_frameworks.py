"""The same agent nine times, each in its own framework, on `minillm serve` with the real model.

Each is a program of its own, run in an environment that has the framework and nothing of the engine's.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "minillm/agents/frameworks").glob("with_*.py"))
STREAMED = ["openai_agents", "openai_agents_responses", "pydantic_ai", "semantic_kernel", "autogen", "langgraph"]
STREAMED += ["smolagents", "agent_framework", "agent_framework_responses"]


def python_of(environment: str) -> Path:
    """The Python that has a framework. One that isn't there is no reason to skip."""
    folder = ROOT / ".venv-clients" / environment
    if not (folder / ".ready").exists():
        pytest.fail(f"{folder} isn't there, or not whole. It's made by: make test-clients")
    return folder / "bin/python"


def run(environment: str, arguments: Sequence[str], base_url: str) -> str:
    """What a program prints."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON"))}
    variables |= {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "not-needed",
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
    }
    command = [python_of(environment), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=variables, timeout=400, check=False)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_call_and_answer(printed: str) -> None:
    """The tool was called with the city that was asked for, and what it said is in the answer."""
    calls = re.findall(r"get_temperature\((.+)\) -> (.+)$", printed, re.MULTILINE)
    assert ("'Oslo'", "'4 °C'") in calls, printed
    assert all(isinstance(ast.literal_eval(city), str) for city, _ in calls)
    assert "4" in printed.split("answer: ", maxsplit=1)[1]


def test_there_are_nine() -> None:
    assert len(SCRIPTS) == 9


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_agent_calls_its_tool_and_answers(script: str, base_url: str) -> None:
    environment = "llama-index" if script == "with_llama_index" else "frameworks"
    check_call_and_answer(run(environment, ["-m", f"minillm.agents.frameworks.{script}"], base_url))


@pytest.mark.parametrize("framework", STREAMED)
def test_the_agent_streams(framework: str, base_url: str) -> None:
    printed = run("frameworks", [str(ROOT / "tests/clients/streamed_agents.py"), framework], base_url)
    check_call_and_answer(printed)
    pieces = re.search(r"^pieces: (\d+)$", printed, re.MULTILINE)
    assert pieces is not None
    assert int(pieces[1]) > 1 or framework == "smolagents"  # whose answer is a call, told when it's whole
