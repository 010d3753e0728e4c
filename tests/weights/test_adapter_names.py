"""Names of adapters: which come with minillm, and what "model+adapter" stands for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm import weights
from minillm.errors import ModelNotFoundError
from minillm.weights import adapter_names, resolve_adapter, split_adapter


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two adapters and a folder that holds none."""
    for name in ("course", "another", "unfinished"):
        (tmp_path / "shipped" / name).mkdir(parents=True)
    for name in ("course", "another"):
        (tmp_path / "shipped" / name / "adapter_config.json").touch()
    monkeypatch.setattr(weights, "_ADAPTERS", tmp_path / "shipped")
    return tmp_path / "shipped"


def test_every_adapter_that_is_shipped_has_a_name_and_a_folder() -> None:
    for name in adapter_names():
        assert (resolve_adapter(name) / "adapter_model.safetensors").is_file()


def test_names_of_adapters(shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert adapter_names() == ("another", "course")
    assert resolve_adapter("course") == shipped / "course"
    (tmp_path / "mine" / "course").mkdir(parents=True)
    (tmp_path / "mine" / "course" / "adapter_config.json").touch()
    monkeypatch.chdir(tmp_path / "mine")
    assert resolve_adapter("course") == shipped / "course", "a name comes before a path, as with models"
    assert resolve_adapter("./course") == Path("course")
    assert resolve_adapter(tmp_path / "mine/course") == tmp_path / "mine/course"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_adapter("~/mine/course") == tmp_path / "mine/course"


@pytest.mark.parametrize("name", ["", "Course", "unfinished", "./absent", "cour\0se"])
def test_an_unknown_name_lists_those_that_exist(shipped: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_adapter(name)
    message = str(caught.value)
    assert "those that come with minillm are another, course" in message
    assert "adapter_config.json" in message


def test_without_any_adapter_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_ADAPTERS", tmp_path / "absent")
    assert adapter_names() == ()
    with pytest.raises(ModelNotFoundError, match=r"are \(none\)"):
        resolve_adapter("course")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2-135m", ("smollm2-135m", None)),
        ("smollm2-135m+course", ("smollm2-135m", "course")),
        ("SmolLM2+./a+b", ("SmolLM2", "./a+b")),
        ("tiny-random+/tmp/x", ("tiny-random", "/tmp/x")),
        ("org/name+course", ("org/name", "course")),
        ("smollm2-135m+", ("smollm2-135m", "")),
        ("a+b/model+course", ("a+b/model", "course")),
        ("a+b/model", ("a+b/model", None)),
    ],
)
def test_a_model_and_its_adapter(
    name: str, expected: tuple[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a+b" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert split_adapter(name) == expected


@given(st.text())
def test_any_text_can_be_split(text: str) -> None:
    base, adapter = split_adapter(text)
    assert text == (base if adapter is None else f"{base}+{adapter}")
