"""`minillm train course` on the tiny model: from the command line to an adapter that the engine loads."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minillm import LLM
from minillm.cli import app
from minillm.errors import MinillmError
from minillm.training.command import course
from minillm.training.train import Recipe

# The tiny tokenizer cuts words into many pieces, so a step has few conversations.
COURSE = ("train", "course", "--base", "tiny-random", "--rank", "2", "--tokens-per-step", "1500", "--device", "cpu")


def test_it_leaves_an_adapter_that_the_engine_loads_and_a_log(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    result = CliRunner().invoke(app, [*COURSE, "--steps", "3", "-o", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    assert f"minillm train evaluate --model tiny-random+{folder}" in result.output.replace("\n", "")
    steps = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [step["number"] for step in steps] == [1, 2, 3]
    assert all(step["loss"] > 0 for step in steps)
    adapted, base = LLM(f"tiny-random+{folder}", device="cpu"), LLM("tiny-random", device="cpu")
    assert adapted.fingerprint != base.fingerprint


def test_the_command_s_defaults_are_the_recipe_s() -> None:
    """They stand twice, so that --help needn't load PyTorch."""
    options = {name: each.default for name, each in signature(course).parameters.items()}
    defaults = Recipe()
    assert options["steps"] == defaults.num_steps
    assert options["rank"] == defaults.rank == defaults.alpha / 2
    assert options["tokens_per_step"] == defaults.tokens_per_step
    assert options["learning_rate"] == defaults.learning_rate
    assert options["seed"] == defaults.seed


def test_a_finished_training_is_not_done_again_by_accident(tmp_path: Path) -> None:
    arguments = [*COURSE, "--steps", "1", "-o", str(tmp_path)]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    before = (tmp_path / "adapter_model.safetensors").read_bytes()
    with pytest.raises(MinillmError, match="training that is done"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == before
    assert CliRunner().invoke(app, [*arguments, "--anew"], catch_exceptions=False).exit_code == 0


def test_a_folder_that_cannot_be_made_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MinillmError, match="can't be made"):
        CliRunner().invoke(app, [*COURSE, "-o", str(tmp_path / "file" / "adapter")], catch_exceptions=False)


def test_it_goes_on_from_an_adapter(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    CliRunner().invoke(app, [*COURSE, "--steps", "1", "-o", str(first)], catch_exceptions=False)
    CliRunner().invoke(app, [*COURSE, "--steps", "1", "-o", str(second), "--from", str(first)], catch_exceptions=False)
    again, before = ((each / "adapter_model.safetensors").read_bytes() for each in (second, first))
    assert len(again) == len(before) and again != before
    with pytest.raises(MinillmError, match="No adapter is called 'nowhere'"):
        CliRunner().invoke(app, [*COURSE, "-o", str(tmp_path / "third"), "--from", "nowhere"], catch_exceptions=False)
