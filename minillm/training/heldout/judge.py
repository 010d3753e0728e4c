"""Held-out cases of a judge: does an answer hold, going by a source?"""

from __future__ import annotations

import re
from random import Random
from typing import Any

from minillm.training.example import Case, Message
from minillm.training.heldout import pools
from minillm.training.heldout.passages import PASSAGES, Passage

_COUNT = 240
_REFUSALS = ("The source doesn't say.", "That isn't stated in the text.", "I can't tell from what I was given.")
_RULES = (
    "An answer passes if it answers the question and the source supports all of it. Where the source doesn't tell, "
    "the only right answer is to say so.",
    "Verdict \"pass\": correct, complete and nothing but what the source says (or an honest \"not stated\", if it "
    "isn't). Verdict \"fail\": anything else, such as a wrong value, an invented detail, or not answering what is "
    "answered there.",
    "Check the answer against the source alone. fail = contradicts it, adds to it, misses the question, or claims "
    "not to know what stands there. pass = right by the source; to say that the source is silent is right when it is "
    "silent.",
)  # fmt: skip
_FORMS = (
    "Return JSON with the fields reason (a few words) and verdict (pass or fail).",
    'Reply as {"reason": "…", "verdict": "pass" or "fail"}; keep the reason under 15 words.',
    'JSON only: "reason", then "verdict". One short reason.',
)
_LAYOUTS = (
    "{rules}\n\nSource: {source}\nQuestion: {question}\nAnswer: {answer}\n\n{form}",
    "{rules} {form}\n\n<question>{question}</question>\n<source>{source}</source>\n<answer>{answer}</answer>",
    "Grade this.\n\nQ: {question}\nA: {answer}\n\nWhat is true:\n{source}\n\n{rules}\n{form}",
    "## Passage\n{source}\n\n## Asked\n{question}\n\n## Candidate's reply\n{answer}\n\n## Your task\n{rules} {form}",
    "A student was asked \"{question}\" and wrote: \"{answer}\"\nThe textbook has: \"{source}\"\n{rules}\n{form}",
)  # fmt: skip
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"type": "string", "enum": ["pass", "fail"]}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}


def judge_cases(seed: int = 0) -> list[Case]:
    """Cases of which every second answer passes."""
    random = Random(f"judge/{seed}")
    cases = [_case(random, PASSAGES[index // 2 % len(PASSAGES)], index % 2 == 0) for index in range(_COUNT)]
    random.shuffle(cases)
    return cases


def _case(random: Random, passage: Passage, passes: bool) -> Case:
    values: dict[str, Any] = {}
    for name, kind in passage.slots.items():
        values[name] = _other(random, kind, list(values.values()))
    question, answer = (_right if passes else _wrong)(random, passage, values)
    filled = {
        "source": passage.text.format(**values),
        "question": question,
        "answer": answer,
        "rules": random.choice(_RULES),
        "form": random.choice(_FORMS),
    }
    layout = random.choice(_LAYOUTS)
    messages: list[Message] = []
    if random.random() < 0.4:
        messages.append({"role": "system", "content": f"{filled['rules']} {filled['form']}"})
        filled |= {"rules": "", "form": ""}
    prompt = re.sub(r"## Your task\s*$", "", layout.format(**filled).strip()).strip()
    messages.append({"role": "user", "content": prompt})
    return Case("judge", messages, {"verdict": "pass" if passes else "fail"}, schema=_SCHEMA, max_tokens=128)


def _right(random: Random, passage: Passage, values: dict[str, Any]) -> tuple[str, str]:
    if random.random() < 0.15:
        return random.choice(passage.untold)[0], random.choice(_REFUSALS)
    slot = random.choice(list(passage.asked))
    question, answers = passage.asked[slot]
    return question.format(**values), _capitalized(random.choice(answers).format(**values))


def _wrong(random: Random, passage: Passage, values: dict[str, Any]) -> tuple[str, str]:
    """A question and an answer that is wrong in one of six ways."""
    slot = random.choice(list(passage.asked))
    question, answers = passage.asked[slot]
    answer, kind = random.choice(answers), passage.slots[slot]
    match random.choices(
        ("value", "confused", "addition", "refusal", "invented", "elsewhere"), (40, 15, 15, 10, 10, 10)
    )[0]:
        case "refusal":
            answer = random.choice(_REFUSALS)
        case "invented":
            question, answer = random.choice(passage.untold)
        case "elsewhere":  # an answer to another question about the same source
            other = random.choice([each for each in passage.asked if each != slot])
            answer = passage.asked[other][1][1]
        case "addition":
            answer = f"{answer} {passage.addition}"
        case "confused" if same := [each for each in passage.slots if each != slot and _alike(passage, each, slot)]:
            answer = answer.replace("{" + slot + "}", "{" + random.choice(same) + "}")
        case _:
            values = values | {slot: _other(random, kind, list(values.values()))}
            return question.format(**values), _capitalized(answer.format(**values))
    return question.format(**values), _capitalized(answer.format(**values))


def _alike(passage: Passage, one: str, other: str) -> bool:
    return pools.KINDS[passage.slots[one]][0] == pools.KINDS[passage.slots[other]][0] != "string" or (
        passage.slots[one] == passage.slots[other]
    )


def _other(random: Random, kind: str, taken: list[Any]) -> Any:
    while (value := pools.KINDS[kind][1](random)) in taken:
        pass
    return value


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
