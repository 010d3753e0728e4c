"""Answers to judge by a reference or by sources: the reason first, then the verdict."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minillm.training.data import form_words as words
from minillm.training.example import Example


def tidy(sentence: str) -> str:
    """Mends what filling templates leaves behind: two full stops, and "a" before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aio]\w)", r"\1n ", sentence.replace("..", "."))


@dataclass(frozen=True)
class Fact:
    """Something made up that can be asked for.

    Attributes:
        question: asks for the value.
        statements: tell the whole fact, each in other words; {v} stands for the value.
        value: the right value.
        wrong: another value of the same kind.
    """

    question: str
    statements: tuple[str, ...]
    value: str
    wrong: str

    def told(self, rng: random.Random, value: str | None = None) -> str:
        """A sentence that tells the fact, or tells it wrongly, with another value."""
        return tidy(rng.choice(self.statements).replace("{v}", value or self.value))


_FACTS = """
When does {town}'s library close?|The library of {town} closes at {v}.|In {town}, the library shuts at {v}.|clock
Who leads the {thing} team at {company}?|{v} leads the {thing} team at {company}.|At {company}, the head of the {thing} team is {v}.|person
How much does a {thing} cost at {company}?|A {thing} costs {v} euros at {company}.|{company} sells the {thing} for {v} euros.|int
In which town is {company}?|{company} has its office in {v}.|The office of {company} is in {v}.|town
How many people work at {company}?|{company} employs {v} people.|There are {v} people working at {company}.|int
Who won the chess cup in {town}?|{v} won the chess cup in {town}.|The chess cup in {town} went to {v}.|person
What is the code of the {thing}?|The {thing} has the code {v}.|{v} is the code of the {thing}.|code
Which address does {person} live at?|{person} lives at {v}.|The home of {person} is at {v}.|address
When does the bus to {town} leave?|The bus to {town} leaves at {v}.|Departure of the bus to {town} is at {v}.|clock
How many days may a member borrow a {thing}?|Members may borrow a {thing} for {v} days.|A {thing} can be kept by members for {v} days.|int
Who planted the roses in the park of {town}?|The roses in the park of {town} were planted by {v}.|{v} planted the roses in the park of {town}.|person
How long is the warranty on the {thing} from {company}?|The warranty on the {thing} from {company} lasts {v} months.|{company} gives {v} months of warranty on the {thing}.|int
What does {person} bring to the meeting?|{person} brings a {v} to the meeting.|A {v} is what {person} brings to the meeting.|thing
How many pupils are in the class of {person}?|The class of {person} has {v} pupils.|There are {v} pupils in the class of {person}.|int
How much energy does the {thing} use a year?|The {thing} uses {v} kWh a year.|In a year the {thing} needs {v} kWh.|int
Who maintains the search service of {company}?|{v} maintains the search service of {company}.|At {company}, {v} looks after the search service.|person
Where was {person} born?|{person} was born in {v}.|The birthplace of {person} is {v}.|town
"""

_POOLS: dict[str, Callable[[random.Random], str]] = {
    "town": words.town,
    "company": words.company,
    "person": words.person,
    "thing": words.thing,
    "code": words.code,
    "address": words.address,
    "clock": words.clock,
    "int": lambda rng: str(rng.randint(2, rng.choice([30, 300, 3000]))),
}
_EXTRAS = [
    "It is the best of its kind in the country.",
    "This was decided by the council in 1998.",
    "It has won three prizes.",
    "Everyone gets a free drink as well.",
    "That has been so since the founder retired.",
    "On Sundays it costs half.",
]
_PADDING = [
    "That is a very good question, and there is a lot to say about it.",
    "Let me go through this carefully, as details matter here.",
    "To begin with, it helps to know the background.",
    "I am glad that you asked.",
]
_REFUSALS = [
    "I don't know.",
    "The sources don't say.",
    "I can't find that in the text.",
    "Unfortunately I have no information on this.",
]
_WORDS = [
    ("pass", "fail", "verdict"),
    ("pass", "fail", "verdict"),
    ("pass", "fail", "verdict"),
    ("supported", "unsupported", "verdict"),
    ("correct", "incorrect", "verdict"),
    ("correct", "incorrect", "grade"),
    ("yes", "no", "correct"),
]


def fact(rng: random.Random) -> Fact:
    """A made-up fact, composed anew."""
    question, *statements, pool = rng.choice(_FACTS.strip().splitlines()).split("|")
    make = _POOLS[pool]
    value = make(rng)
    wrong = value
    while wrong == value:
        near = pool == "int" and rng.random() < 0.5  # a slip of a digit is easy to overlook
        wrong = str(int(value) + rng.choice([1, 2, 10, 20, 100])) if near else make(rng)
    for slot in ("town", "company", "person", "thing"):
        filled = _POOLS[slot](rng)
        while filled in (value, wrong):
            filled = _POOLS[slot](rng)
        question = question.replace(f"{{{slot}}}", filled)
        statements = [statement.replace(f"{{{slot}}}", filled) for statement in statements]
    return Fact(tidy(question), tuple(statements), value, wrong)


def _right(rng: random.Random, asked: Fact) -> tuple[str, str]:
    answer = rng.choice([asked.told(rng), asked.told(rng), f"{asked.value}.", f"It is {asked.value}."])
    if rng.random() < 0.15:
        answer = f"{rng.choice(_PADDING)} {answer}"
    reasons = [
        "The answer gives {v}, as the SOURCE does.",
        "Both say {v}.",
        "The SOURCE says {v}, and so does the answer.",
    ]
    return answer, rng.choice(reasons).replace("{v}", asked.value)


def _wrong(rng: random.Random, asked: Fact, sourced: bool) -> tuple[str, str]:
    kind = rng.choice(["value", "value", "verbose", "refusal", "addition", "denial"])
    if kind == "refusal":
        return rng.choice(_REFUSALS), f"The SOURCE says {asked.value}, but the answer doesn't give it."
    if kind == "addition" and sourced:
        extra = rng.choice(_EXTRAS)
        return f"{asked.told(rng)} {extra}", f'The SOURCE doesn\'t say: "{extra}"'
    if kind == "denial":
        return f"It is not {asked.value}.", f"The SOURCE says {asked.value}, which the answer denies."
    answer = rng.choice([asked.told(rng, asked.wrong), f"{asked.wrong}.", f"It is {asked.wrong}."])
    if kind == "verbose":
        answer = " ".join([*rng.sample(_PADDING, 2), answer])
    return answer, f"The SOURCE says {asked.value}, but the answer says {asked.wrong}."


def _pointwise(rng: random.Random) -> tuple[str, str, dict[str, str | int]]:
    asked, sourced = fact(rng), rng.random() < 0.5
    others = [fact(rng) for _ in range(rng.randint(0, 3))] if sourced else []
    lines = [asked.told(rng), *(other.told(rng) for other in others)]
    rng.shuffle(lines)
    word = rng.choice(["source", "text", "context"]) if sourced else rng.choice(["reference", "expected answer"])
    good = rng.random() < 0.5
    answer, reason = _right(rng, asked) if good else _wrong(rng, asked, sourced)
    reason = reason.replace("SOURCE", word)
    body = "\n".join([f"Question: {asked.question}", f"{word.capitalize()}: {' '.join(lines)}", f"Answer: {answer}"])
    if rng.random() < 0.25:
        body = f"<question>{asked.question}</question>\n<{word.split()[0]}>{' '.join(lines)}</{word.split()[0]}>\n<answer>{answer}</answer>"
    criterion = f"Judge whether the answer agrees with the {word}"
    name = rng.choice(["reason", "reason", "reason", "explanation", "rationale"])
    if rng.random() < 0.15:
        score = 5 if good else 1
        ask = f'{criterion}, from 1 (wrong or not backed) to 5 (right). JSON: "{name}" (one sentence), then "score".'
        return ask, body, {name: reason, "score": score}
    yes, no, field = rng.choice(_WORDS)
    forms = [
        f'{criterion}. Reply with JSON: {{"{name}": "...", "{field}": "{yes}" or "{no}"}}.',
        f"{criterion}: {yes} or {no}. Give a JSON object with {name} and {field}.",
        f"You are a strict grader. {criterion}. First the {name} in one sentence, then the {field} ({yes}/{no}), as JSON.",
        f"{criterion}. JSON Schema: "
        + json.dumps({"type": "object", "properties": {name: {"type": "string"}, field: {"enum": [yes, no]}}}),
    ]
    return rng.choice(forms), body, {name: reason, field: yes if good else no}


def _pairwise(rng: random.Random) -> tuple[str, str, dict[str, str | int]]:
    asked = fact(rng)
    (right, _), (wrong, reason) = _right(rng, asked), _wrong(rng, asked, sourced=False)
    better = rng.choice("AB")
    first, second = (right, wrong) if better == "A" else (wrong, right)
    word = rng.choice(["reference", "source"])
    body = f"Question: {asked.question}\n{word.capitalize()}: {asked.told(rng)}\nAnswer A: {first}\nAnswer B: {second}"
    field = rng.choice(["winner", "better", "verdict", "choice"])
    ask = rng.choice(
        [
            f'Which answer is better, A or B? JSON with "reason" and "{field}".',
            f'Compare both answers with the {word}. Reply {{"reason": "...", "{field}": "A" or "B"}}.',
        ]
    )
    reason = f"The {word} says {asked.value}, which only answer {better} gives."
    if wrong.startswith("It is not"):
        reason = f"The {word} says {asked.value}, which answer {'B' if better == 'A' else 'A'} denies."
    return ask, body, {"reason": reason, field: better}


def judge_examples(seed: int) -> Iterator[Example]:
    """Endless examples of judging; about half of the judged answers are right."""
    rng = random.Random(seed)
    while True:
        ask, body, output = _pairwise(rng) if rng.random() < 0.15 else _pointwise(rng)
        messages = [{"role": "system", "content": ask}, {"role": "user", "content": body}]
        if rng.random() < 0.6:
            parts = [ask, body] if rng.random() < 0.6 else [body, ask]
            messages = [{"role": "user", "content": "\n\n".join(parts)}]
        answer = {"role": "assistant", "content": json.dumps(output, ensure_ascii=False)}
        yield Example("judge", [*messages, answer])
