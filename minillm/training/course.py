"""`minillm train course`: makes the adapter that the course ships, from the first example to the file."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from minillm.engine.loading import load_adapter, load_model_and_tokenizer, resolve_device
from minillm.errors import MinillmError
from minillm.models.adapter_files import save_adapter
from minillm.training.data.mix import course_examples
from minillm.training.train import Recipe, Step, Trainer, fastest_dtype

SECONDS_BETWEEN_CHECKPOINTS = 120
STEPS_BETWEEN_LINES = 10


def train_course(
    folder: Path,
    *,
    base_model: str,
    recipe: Recipe,
    device: str,
    anew: bool,
    console: Console,
    begin_from: str | None = None,
) -> None:
    """Trains, and leaves in `folder` the adapter in PEFT's format and a log with one line of JSON a step.

    Where the folder holds the checkpoint of a training that was stopped, that is gone on with. `begin_from` is the name
    or the folder of an adapter to begin with, instead of none.

    Raises:
        MinillmError: for a folder that can't be written, a finished training, or a checkpoint of another recipe.
    """
    checkpoint, log = folder / "checkpoint.pt", folder / "training.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinillmError(f"{folder} can't be made: {error.strerror}.") from error
    if anew:
        checkpoint.unlink(missing_ok=True)
    where = resolve_device(device)
    first = load_adapter(begin_from) if begin_from is not None else None
    with console.status("Loading the model …"):
        base, tokenizer = load_model_and_tokenizer(base_model, fastest_dtype(where), where)
        trainer = Trainer(base, tokenizer, course_examples, recipe)
        if checkpoint.exists():
            trainer.load_checkpoint(checkpoint)
        elif first is not None:
            trainer.begin_from(first)
    if len(trainer.steps) >= recipe.num_steps:
        raise MinillmError(f"{folder} holds a training that is done. Give --anew to do it again, or another folder.")
    _say_what_happens(trainer, base_model, base.embed_tokens.weight.dtype, where, console)
    saved = sum(step.seconds for step in trainer.steps)
    try:
        with _progress(trainer, console) as show:
            for step in trainer.run():
                show(step)
                seconds = sum(each.seconds for each in trainer.steps)
                if seconds - saved > SECONDS_BETWEEN_CHECKPOINTS:
                    trainer.save_checkpoint(checkpoint)
                    saved = seconds
    except KeyboardInterrupt:
        trainer.save_checkpoint(checkpoint)
        console.print(f"Stopped after step {len(trainer.steps)}. The same command goes on from there.")
        raise
    trainer.save_checkpoint(checkpoint)
    save_adapter(folder, trainer.adapter("course", base_model))
    log.write_text("".join(json.dumps(asdict(step)) + "\n" for step in trainer.steps), encoding="utf-8")
    total = sum(step.seconds for step in trainer.steps)
    console.print(
        f"Done in {total / 60:.0f} minutes, {trainer.steps[-1].num_tokens:,} tokens. Try it:\n"
        f"  minillm train evaluate --model {base_model}+{_as_adapter(folder)}"
    )


def _as_adapter(folder: Path) -> str:
    """The folder as it's written after a model's name and "+", where a bare name would be that of a shipped adapter."""
    return str(folder) if folder.is_absolute() or folder.parts[0] == ".." else f"./{folder}"


def _say_what_happens(
    trainer: Trainer, base_model: str, dtype: torch.dtype, device: torch.device, console: Console
) -> None:
    numbers = sum(part.numel() for part in trainer.model.parameters())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    console.print(
        f"{base_model} in {str(dtype).removeprefix('torch.')} on {name}, {torch.get_num_threads()} threads: "
        f"rank {trainer.recipe.rank}, {numbers / 1e6:.2f} million numbers to learn, {trainer.recipe.num_steps} steps"
        + (f", of which {len(trainer.steps)} are done." if trainer.steps else ".")
    )


@contextmanager
def _progress(trainer: Trainer, console: Console) -> Iterator[Callable[[Step], None]]:
    """Shows each step: as a bar in a terminal, elsewhere as a line now and then."""
    recipe = trainer.recipe
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=recipe.num_steps, completed=len(trainer.steps))

        def show(step: Step) -> None:
            recent = trainer.steps[-STEPS_BETWEEN_LINES:]
            loss = sum(each.loss for each in recent) / len(recent)
            started = trainer.steps[-len(recent) - 1].num_tokens if len(trainer.steps) > len(recent) else 0
            speed = (step.num_tokens - started) / sum(each.seconds for each in recent)
            progress.update(task, completed=step.number, description=f"loss {loss:.3f}  {speed:.0f} tokens/s")
            if not console.is_terminal and (step.number % STEPS_BETWEEN_LINES == 0 or step.number == 1):
                console.print(f"step {step.number} of {recipe.num_steps}  loss {loss:.3f}  {speed:.0f} tokens/s")

        yield show
