"""Training on the tiny model: the forward pass, what counts as a target, and going on after a stop."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minillm.attention import DenseAttention
from minillm.errors import MinillmError
from minillm.models.tiny import random_model, tiny_config
from minillm.text import Tokenizer, tiny_tokenizer
from minillm.training import train
from minillm.training.example import Example
from minillm.training.train import Recipe, TokenizedExample, Trainer, example_losses, tokenize

CPU = torch.device("cpu")
COLOURS = ("red", "green", "blue", "grey")


def colours(seed: int) -> Iterator[Example]:
    """Repeat the colour that was said: easy to learn, impossible to guess."""
    draw = random.Random(seed)
    while True:
        colour = draw.choice(COLOURS)
        question = {"role": "user", "content": f"I like {colour}. Which colour do I like?"}
        yield Example("colours", [question, {"role": "assistant", "content": colour}])


def make_trainer(**recipe: object) -> Trainer:
    tokenizer = tiny_tokenizer()
    settings = {"rank": 4, "tokens_per_step": 300, "num_steps": 6, "warmup_steps": 2} | recipe
    return Trainer(random_model(tiny_config(tokenizer.vocab_size)), tokenizer, colours, Recipe(**settings))  # type: ignore[arg-type]


def randomize(trainer: Trainer) -> None:
    """Gives every B values, so that the adapter does something."""
    generator = torch.Generator().manual_seed(1)
    for _, part in trainer.model.parts():
        part.lora_B.data.normal_(std=0.1, generator=generator)


def engine_logits(trainer: Trainer, token_ids: Tensor) -> Tensor:
    """Of the decoder that the engine runs, with its own attention."""
    (base,) = trainer.model.base
    return base.logits(base(token_ids, torch.arange(len(token_ids)), DenseAttention()))


def test_before_training_it_is_the_engine_s_model_and_texts_do_not_see_each_other() -> None:
    trainer = make_trainer()
    texts = [torch.randint(0, 512, (length,)) for length in (7, 1, 12)]
    items = [TokenizedExample("", text.tolist(), []) for text in texts]
    logits = trainer.model.logits(trainer.model(torch.cat(texts), items))
    expected = torch.cat([engine_logits(trainer, text) for text in texts])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_adapter_beside_the_weights_does_what_it_does_merged_into_them() -> None:
    trainer = make_trainer()
    randomize(trainer)
    token_ids = torch.randint(0, 512, (20,))
    beside = trainer.model.logits(trainer.model(token_ids, [TokenizedExample("", token_ids.tolist(), [])]))
    (base,) = trainer.model.base
    with torch.no_grad():
        for path, part in trainer.model.parts():
            base.get_submodule(path).weight += part.scale * part.lora_B @ part.lora_A
    merged = engine_logits(trainer, token_ids)
    assert (merged - engine_logits(make_trainer(), token_ids)).abs().max() > 0.1
    torch.testing.assert_close(beside, merged, rtol=1e-3, atol=1e-3)


def test_targets_are_what_the_assistant_says_and_the_end_of_its_turns() -> None:
    tokenizer = tiny_tokenizer()
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First answer."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Second."},
    ]
    item = tokenize(Example("chat", messages), tokenizer)
    learned = tokenizer.decode([item.token_ids[target] for target in item.targets], skip_special_tokens=False)
    assert learned == "First answer.<|im_end|>Second.<|im_end|>"


def test_targets_of_calls_on_the_real_template(smollm2_path: Path) -> None:
    smollm2_tokenizer = Tokenizer.load(smollm2_path)
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    messages = [
        {"role": "user", "content": "What's up?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Stars."},
        {"role": "assistant", "content": "Stars are."},
    ]
    item = tokenize(Example("tools", messages, [tool]), smollm2_tokenizer)
    learned = smollm2_tokenizer.decode([item.token_ids[target] for target in item.targets], skip_special_tokens=False)
    expected = '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call><|im_end|>Stars are.<|im_end|>'
    assert learned == expected


@pytest.mark.parametrize("messages", [[{"role": "user", "content": "Hello?"}], []])
def test_an_example_without_an_answer_is_refused(messages: list[dict[str, str]]) -> None:
    with pytest.raises(MinillmError, match="end with a turn of the assistant's"):
        tokenize(Example("chat", messages), tiny_tokenizer())


def test_the_loss_is_that_of_the_targets_alone() -> None:
    trainer = make_trainer()
    items = [tokenize(example, trainer.tokenizer) for example in islice(colours(0), 3)]
    losses = example_losses(trainer.model, items, CPU)
    for loss, item in zip(losses, items, strict=True):
        logprobs = engine_logits(trainer, torch.tensor(item.token_ids)).log_softmax(-1)
        expected = -torch.stack([logprobs[target - 1, item.token_ids[target]] for target in item.targets]).mean()
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def conversation(*questions_and_answers: str) -> Example:
    turns = [
        {"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(questions_and_answers)
    ]
    return Example("chat", [{"role": "system", "content": "Sky: blue. Grass: green. Snow: white."}, *turns])


FAMILY = [
    conversation("Ready?", "Yes.", "The sky?", "Blue."),
    conversation("Ready?", "Yes.", "The grass?", "Green."),
    conversation("Ready?", "Yes.", "The sky?", "Red is it."),  # differs in its answer only
    conversation("Ready?", "No.", "Snow?", "White."),  # has two turns of its own
]


def test_siblings_are_learned_as_if_each_were_read_from_its_beginning() -> None:
    trainer = make_trainer()
    randomize(trainer)
    family = tokenize(replace(FAMILY[0], siblings=FAMILY[1:]), trainer.tokenizer)
    alone = [tokenize(example, trainer.tokenizer) for example in FAMILY]
    assert family.num_tokens < sum(item.num_tokens for item in alone) / 2
    # What an earlier turn teaches is taught once, by the trunk.
    alone[1:3] = [
        replace(item, targets=item.targets[-len(branch.targets) :])
        for item, branch in zip(alone[1:3], family.branches, strict=False)
    ]

    losses = example_losses(trainer.model, [family, alone[0]], CPU)
    torch.testing.assert_close(losses[:4], example_losses(trainer.model, alone, CPU), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses[4], losses[0], rtol=1e-4, atol=1e-4)
    gradients = []
    for batch in ([family], alone):
        trainer.model.zero_grad()
        example_losses(trainer.model, batch, CPU).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in trainer.model.parameters()])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_siblings_that_do_not_fit_are_left_out() -> None:
    family = tokenize(replace(FAMILY[0], siblings=FAMILY[1:]), tiny_tokenizer())
    limit = len(family.token_ids) + len(family.branches[0].token_ids)
    assert family.without_branches_beyond(limit).branches == family.branches[:1]
    assert family.without_branches_beyond(10).num_tokens == len(family.token_ids)


def test_a_sibling_that_says_the_same_is_refused() -> None:
    with pytest.raises(MinillmError, match="must say something else"):
        tokenize(replace(FAMILY[0], siblings=[FAMILY[0]]), tiny_tokenizer())


def test_parts_give_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splitting a step saves memory; it must not change what is learned."""
    whole, parts = make_trainer(num_steps=3), make_trainer(num_steps=3)
    losses = [step.loss for step in whole.run()]
    monkeypatch.setattr(train, "TOKENS_AT_ONCE", 60)
    assert [step.loss for step in parts.run()] == pytest.approx(losses, rel=1e-4)


def test_it_learns_and_leaves_the_base_model_alone() -> None:
    trainer = make_trainer(num_steps=80, learning_rate=2e-2)
    before = {name: value.clone() for name, value in trainer.model.base[0].named_parameters()}
    steps = list(trainer.run())
    assert [step.number for step in steps] == list(range(1, 81))
    assert steps[-1].loss < steps[0].loss / 3
    for name, value in trainer.model.base[0].named_parameters():
        assert torch.equal(value, before[name])


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = make_trainer()
    losses = [step.loss for step in whole.run()]
    first = make_trainer()
    for step in first.run():
        if step.number == 3:
            break
    first.save_checkpoint(tmp_path / "checkpoint.pt")
    second = make_trainer()
    second.load_checkpoint(tmp_path / "checkpoint.pt")
    list(second.run())
    assert [step.loss for step in second.steps] == losses
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_that_was_interrupted_is_taken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "TOKENS_AT_ONCE", 60)
    whole, stopped = make_trainer(num_steps=2), make_trainer(num_steps=2)
    losses = [step.loss for step in whole.run()]

    calls = iter(range(10))

    def interrupted(*arguments: Any) -> Tensor:
        if next(calls) == 1:
            raise KeyboardInterrupt  # the gradients of the first part are there by now
        return example_losses(*arguments)

    monkeypatch.setattr(train, "example_losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(stopped.run())
    monkeypatch.setattr(train, "example_losses", example_losses)
    assert [step.loss for step in stopped.run()] == losses


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    make_trainer().save_checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(MinillmError, match="another recipe \\(rank 4\\)"):
        make_trainer(rank=8).load_checkpoint(tmp_path / "checkpoint.pt")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half of one")
    with pytest.raises(MinillmError, match="isn't a checkpoint"):
        make_trainer().load_checkpoint(tmp_path / "checkpoint.pt")


def test_the_learning_rate_rises_then_falls_to_a_twentieth() -> None:
    recipe = Recipe(learning_rate=1.0, num_steps=100, warmup_steps=10)
    rates = [recipe.learning_rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert all(after < before for before, after in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.05, abs=0.01)


def test_training_begins_from_an_adapter_where_one_is_given() -> None:
    first = make_trainer()
    list(first.run())
    learned = first.adapter("first", "tiny-random")
    second = make_trainer(seed=1)
    second.begin_from(learned)
    token_ids = torch.randint(0, 512, (20,))
    batch = [TokenizedExample("", token_ids.tolist(), [])]
    assert torch.equal(second.model(token_ids, batch), first.model(token_ids, batch))
    next(second.run())
    assert second.adapter("second", "tiny-random").fingerprint != learned.fingerprint


def test_an_adapter_of_another_rank_or_scale_is_no_beginning() -> None:
    learned = make_trainer().adapter("first", "tiny-random")
    for recipe in ({"rank": 8}, {"alpha": 8.0}):
        with pytest.raises(MinillmError, match="can't begin from 'first'"):
            make_trainer(**recipe).begin_from(learned)
