"""Short helpful conversations, so that plain chat stays as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator

from minillm.training.data import form_words as words
from minillm.training.data.conversations import FOLLOW_UPS, SEEDS
from minillm.training.example import Example

_SYSTEMS = ["You are a helpful assistant.", "Answer briefly.", "You are a friendly assistant.", "Be kind and concise."]


def _arithmetic(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(2, 60), rng.randint(2, 20)
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice([f"What is {a} + {b}?", f"Add {a} and {b}."]), f"{a} + {b} = {a + b}."
    if kind == 1:
        return rng.choice([f"What is {a + b} - {b}?", f"Take {b} from {a + b}."]), f"{a + b} - {b} = {a}."
    if kind == 2:
        a = rng.randint(2, 12)
        return rng.choice([f"What is {a} times {b}?", f"{a} * {b}?"]), f"{a} times {b} is {a * b}."
    thing = words.thing(rng)
    return f"One {thing} costs {a} euros. How much are {b}?", f"{b} times {a} is {a * b}, so they cost {a * b} euros."


def _message(rng: random.Random) -> tuple[str, str]:
    name, thing = words.person(rng).split()[0], words.thing(rng)
    return rng.choice(
        [
            (
                f"Write a short note to thank {name} for the {thing}.",
                f"Dear {name},\nthank you very much for the {thing}. I'm really happy with it!",
            ),
            (
                f"Write a message to ask {name} to return my {thing}.",
                f"Hi {name}, could you please bring back my {thing} when you have a moment? Thank you!",
            ),
            (f"My name is {name}. Say hello to me.", f"Hello {name}! It's nice to meet you."),
        ]
    )


def chat_examples(seed: int) -> Iterator[Example]:
    """Endless short conversations of one or two turns, sometimes with a system prompt."""
    rng = random.Random(seed)
    while True:
        chance = rng.random()
        if chance < 0.08:
            question, answer = _arithmetic(rng)
        elif chance < 0.16:
            question, answer = _message(rng)
        else:
            wordings, answer = rng.choice(SEEDS)
            question = rng.choice(wordings)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if rng.random() < 0.2:
            if rng.random() < 0.5:
                more, reply = rng.choice(FOLLOW_UPS)
            else:
                wordings, reply = rng.choice(SEEDS[6:])
                more = rng.choice(wordings)
            messages += [{"role": "user", "content": more}, {"role": "assistant", "content": reply}]
        if rng.random() < 0.25:
            messages.insert(0, {"role": "system", "content": rng.choice(_SYSTEMS)})
        yield Example("chat", messages)
