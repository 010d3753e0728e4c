"""The nine agents can be read side by side: what isn't the framework's is the same in all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import minillm.agents.frameworks

FOLDER = Path(minillm.agents.frameworks.__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("with_*.py"))
CONSTANTS = ["BASE_URL", "API_KEY", "MODEL", "INSTRUCTIONS", "QUESTION", "TEMPERATURES"]


def source_of(script: str) -> str:
    return (FOLDER / f"{script}.py").read_text(encoding="utf-8")


def parts_of(script: str) -> dict[str, ast.stmt]:
    """The statements of a script that aren't imports, by what they define, in their order."""
    _, *statements = ast.parse(source_of(script)).body
    parts: dict[str, ast.stmt] = {}
    for statement in statements:
        match statement:
            case ast.Import() | ast.ImportFrom():
                assert not parts, "imports come first"
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                parts[name] = statement
            case _:
                parts[type(statement).__name__] = statement
    return parts


def lines_in_ask(script: str) -> int:
    ask = parts_of(script)["ask"]
    assert isinstance(ask, ast.AsyncFunctionDef)
    assert ask.end_lineno is not None
    return ask.end_lineno - ask.body[0].lineno  # the first one is the docstring


def test_there_are_nine() -> None:
    assert len(SCRIPTS) == 9


@pytest.mark.parametrize("script", SCRIPTS)
def test_all_have_the_same_parts_in_the_same_order(script: str) -> None:
    parts, model = parts_of(script), parts_of("with_openai")
    assert list(parts) == [*CONSTANTS, "get_temperature", "ask", "If"]
    for name in [*CONSTANTS, "If"]:
        assert ast.dump(parts[name]) == ast.dump(model[name]), name
    tool, ask = parts["get_temperature"], parts["ask"]
    assert isinstance(tool, ast.FunctionDef)
    tool.decorator_list = []  # some frameworks want one
    assert ast.dump(tool) == ast.dump(model["get_temperature"])
    assert isinstance(ask, ast.AsyncFunctionDef)
    assert ast.unparse(ask.args) == "question: str"


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_is_short_and_imports_nothing_of_minillm(script: str) -> None:
    assert source_of(script).count("\n") <= 60
    imported = re.findall(r"^\s*(?:from|import) (\w+)", source_of(script), re.MULTILINE)
    assert "minillm" not in imported
    assert script not in imported  # run by its path, it would import itself


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_docstring_says_what_one_needs_to_know(script: str) -> None:
    doc = ast.get_docstring(ast.parse(source_of(script)))
    assert doc is not None
    for word in ("Endpoint: /v1/", "Particular: ", "Needs: pip install "):
        assert word in doc


def test_the_table_tells_the_lines_and_endpoints_as_they_are() -> None:
    rows = re.findall(r"^\| `(with_\w+)` \| (\d+) \| (\w+) \|", minillm.agents.frameworks.__doc__ or "", re.MULTILINE)
    endpoints = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
    assert sorted(name for name, _, _ in rows) == SCRIPTS
    for name, lines, endpoint in rows:
        assert int(lines) == lines_in_ask(name), name
        assert f"Endpoint: {endpoints[endpoint]}" in source_of(name)
