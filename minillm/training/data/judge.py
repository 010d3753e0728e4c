"""Answers to judge by a reference or by sources: the reason first, then the verdict.

An example's siblings judge other answers to the same question: one that is nearly the same but wrong, one in other
words but right, and so on. So what decides between them is the answer itself.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from minillm.training.data.judge_cases import Thing, near, reworded, sentence, things
from minillm.training.example import Example

_PADDING = [
    "That is a very good question, and there is a lot to say about it.",
    "Let me go through this carefully, as details matter here.",
    "To begin with, it helps to know the background.",
    "I am glad that you asked.",
    "I have looked at everything that was given to me.",
    "Of course!",
]
_REFUSALS = [
    "I don't know.",
    "I don't know: the sources don't say.",
    "I can't find that in the text.",
    "Unfortunately I have no information on this.",
    "That isn't mentioned.",
    "The text doesn't say.",
    "I'm not sure, please ask somebody else.",
]
_EXTRAS = [
    "It is the best of its kind in the country.",
    "This was decided by the council in 1998.",
    "That has won three prizes.",
    "Everyone gets a free drink as well.",
    "That has been so since the founder retired.",
    "On Sundays it costs half.",
    "Most people are happy with that.",
    "It will change next year.",
    "You can read more about it in the newspaper.",
]
_AGREE = [
    "Judge whether the answer agrees with the {w}",
    "Compare the answer with the {w}: does it say the same",
    "Grade the answer by the {w}",
    "Check the answer against the {w}",
    "Is the answer right, going by the {w}",
    "Decide whether the answer means the same as the {w}, in whatever words",
]
_SUPPORT = [
    "Decide whether the answer replies to the question and is wholly supported by the {w}",
    "Does the answer reply to the question and hold to the {w}, with nothing changed and nothing added",
    "Judge if the answer gives what was asked for and is faithful to the {w}: everything that it says must be there",
    "An answer is good if it answers the question and all of it is backed by the {w}. Judge the answer",
    "Check every statement of the answer against the {w}; what isn't there, or beside the question, is an error. Is it grounded",
]
_CLAIM = [
    "Decide whether the claim is supported by the {w}",
    "Verify the claim with the {w}",
    "Does the claim follow from the {w}",
    "Fact check: is the claim backed by the {w}",
]
_SILENCE = [
    " If the {w} {do} not say, the right answer says so.",
    " Where the {w} {do} not answer the question, only an answer that admits it is right.",
    " Admitting that the {w} {do} not say is right only if that is so.",
]
_LABELS: list[tuple[str | int | bool, str | int | bool, str]] = [
    ("pass", "fail", "verdict"),
    ("pass", "fail", "verdict"),
    ("pass", "fail", "verdict"),
    ("supported", "unsupported", "verdict"),
    ("correct", "incorrect", "verdict"),
    ("correct", "incorrect", "grade"),
    ("correct", "wrong", "judgement"),
    ("grounded", "not grounded", "label"),
    ("accept", "reject", "decision"),
    ("good", "bad", "rating"),
    ("yes", "no", "correct"),
    ("yes", "no", "supported"),
    (True, False, "correct"),
    (True, False, "supported"),
    (1, 0, "score"),
]
_NAMES = ["reason", "reason", "reason", "reason", "explanation", "rationale", "why", "comment"]


@dataclass(frozen=True)
class Judged:
    """An answer, what is to be said about it, and whether it is good: 1, 0, or 0.5 for a good one with an addition."""

    answer: str
    reason: str
    good: float


@dataclass(frozen=True)
class Setting:
    """What a family of examples shares: a question, the lines of the sources, and how these are called."""

    question: str
    lines: list[str]
    word: str

    @property
    def says(self) -> str:
        """How a reason begins."""
        return f"The {self.word} {'say' if self.word.endswith('s') else 'says'}"

    @property
    def denies(self) -> str:
        """The same, where they don't."""
        return f"The {self.word} {'do' if self.word.endswith('s') else 'does'} not say"


@dataclass(frozen=True)
class Form:
    """How answers are asked for and laid out: an instruction, and a text with {answer} near its end."""

    ask: str
    body: str
    as_json: bool
    system: bool


def _reason(rng: random.Random, setting: Setting, value: str, given: str, good: bool) -> str:
    """Says both values before it says how they compare, so that the verdict can be read off."""
    if rng.random() < 0.5:
        return f"{setting.says} {value}; the answer says {given}."
    if good:
        return f"{setting.says} {value}{rng.choice(['; the answer says the same.', ', and so does the answer.'])}"
    return f"{setting.says} {value}{rng.choice([', but the answer says ', '; the answer says ', ', not '])}{given}."


def _short(rng: random.Random, value: str) -> str:
    return rng.choice([f"{value}.", value, f"It is {value}.", f"The answer is {value}."])


def _right(rng: random.Random, setting: Setting, thing: Thing, template: str, told: Sequence[int]) -> list[Judged]:
    """Answers that are right: in several words, short, in other units, and with what the sources say besides."""
    value, attribute = thing.values[0], thing.attributes[0]
    other = reworded(value)

    def judged(answer: str, given: str = value) -> Judged:
        return Judged(answer, _reason(rng, setting, value, given, True), 1)

    found = [judged(thing.say(0, template)), judged(thing.say(0, template))]
    found += [judged(thing.say(0, rng.choice(attribute.says))), judged(sentence(_short(rng, value)))]
    found.append(judged(f"{' '.join(rng.sample(_PADDING, rng.choice([1, 1, 2])))} {thing.say(0, template)}"))
    if other != value:
        found += [judged(thing.say(0, rng.choice([template, *attribute.says]), other), other)] * 2
    more = [number for number in told if number]
    if more:
        also = thing.say(more[0], rng.choice(thing.attributes[more[0]].says))
        also_says = f"{setting.says} {value}; the answer says {value}, and adds what the {setting.word} also gave."
        found += [Judged(f"{thing.say(0, template)} {also}", also_says, 1)] * 2
    return found


def _wrong(rng: random.Random, setting: Setting, all_things: Sequence[Thing], template: str) -> list[Judged]:
    """Answers that are wrong, most of them nearly right."""
    thing, *others = all_things
    value, attribute = thing.values[0], thing.attributes[0]
    said = " ".join(setting.lines)

    def judged(given: str, form: str = template) -> Judged:
        return Judged(thing.say(0, form, given), _reason(rng, setting, value, given, False), 0)

    slips = [near(rng, value, attribute.draw) for _ in range(3)]
    found = [judged(slip) for slip in slips[:2]]
    found.append(judged(slips[2], rng.choice(attribute.says)))
    short = _reason(rng, setting, value, slips[0], False)
    found.append(Judged(sentence(_short(rng, slips[0])), short, 0))
    verbose = judged(slips[1])
    found.append(replace(verbose, answer=f"{' '.join(rng.sample(_PADDING, 2))} {verbose.answer}"))
    found += [judged(other.values[0]) for other in others if other.values[0] in said]
    for other in others[:1]:
        about = f"{setting.says} {value}; the answer is about {other.name}."
        found.append(Judged(other.say(0, template), about, 0))
    found.append(Judged(rng.choice(_REFUSALS), f"{setting.says} {value}; the answer does not give it.", 0))
    denied = f"{setting.says} {value}, which the answer denies."
    found.append(Judged(rng.choice([f"It is not {value}.", f"Not {value}."]), denied, 0))
    either = rng.sample([value, slips[0]], 2)
    unsure = f"{setting.says} {value}; the answer leaves open whether it is {either[0]} or {either[1]}."
    found.append(Judged(rng.choice([f"Either {either[0]} or {either[1]}.", f"{either[0]} or {either[1]}."]), unsure, 0))
    return found


def _added(rng: random.Random, setting: Setting, thing: Thing, template: str, told: Sequence[int]) -> list[Judged]:
    """Right answers with something besides that the sources don't say, or say otherwise."""
    value, right = thing.values[0], thing.say(0, template)
    extras = [rng.choice(_EXTRAS)]
    untold = [number for number in range(1, len(thing.values)) if number not in told]
    extras += [thing.say(number, rng.choice(thing.attributes[number].says)) for number in untold[:1]]
    found = [
        Judged(f"{right} {extra}", f'{setting.says} {value}, as the answer does, but not: "{extra}"', 0.5)
        for extra in extras
    ]
    for number in [number for number in told if number][:1]:
        slip = near(rng, thing.values[number], thing.attributes[number].draw)
        extra = thing.say(number, rng.choice(thing.attributes[number].says), slip)
        reason = f"{setting.says} {value}, as the answer does, but then {thing.values[number]}, not {slip}."
        found.append(Judged(f"{right} {extra}", reason, 0))
    return found


def _silent(rng: random.Random, setting: Setting, all_things: Sequence[Thing], told: Sequence[int]) -> list[Judged]:
    """Answers to a question that the sources leave open."""
    thing, *others = all_things
    attribute = thing.attributes[0]
    found = []
    for refusal in rng.sample(_REFUSALS[:6], 3):
        reason = rng.choice([f"{setting.denies}, as the answer admits.", f"{setting.denies}; neither does the answer."])
        found.append(Judged(refusal, reason, 1))
    given = [thing.values[0], near(rng, thing.values[0], attribute.draw)]
    given += [other.values[0] for other in others if other.values[0] in " ".join(setting.lines)]
    for value in given:
        reason = rng.choice(
            [f"{setting.denies}; the answer says {value}.", f"{setting.denies}, so {value} is made up."]
        )
        if value in " ".join(setting.lines):
            reason = f"{setting.denies}; {value} belongs to something else."
        answer = thing.say(0, rng.choice(attribute.says), value) if rng.random() < 0.7 else sentence(_short(rng, value))
        found.append(Judged(answer, reason, 0))
    for number in told[:1]:
        beside = thing.say(number, rng.choice(thing.attributes[number].says))
        found.append(Judged(beside, f"{setting.denies}; the answer tells something else.", 0))
    return found


def _claims(rng: random.Random, setting: Setting, all_things: Sequence[Thing], told: Sequence[int]) -> list[Judged]:
    """Claims about things of one kind: true ones, with values swapped, changed slightly, and about what isn't told."""
    found = []
    thing = all_things[0]
    said = " ".join(setting.lines)
    pairs = [(thing, number) for number in told] + [(other, 0) for other in all_things[1:] if other.values[0] in said]
    for each, number in pairs:
        value, attribute = each.values[number], each.attributes[number]
        template = rng.choice(attribute.says)
        wrong = [near(rng, value, attribute.draw)]
        wrong += [other.values[0] for other, _ in pairs if other is not each and number == 0]
        for given in [value, *wrong[-1:], wrong[0]]:
            reason = _reason(rng, setting, value, given, given == value).replace("the answer", "the claim")
            found.append(Judged(each.say(number, template, given), reason, float(given == value)))
        found.append(found[-3])
    for number in [number for number in range(len(thing.values)) if number not in told][:1]:
        template = rng.choice(thing.attributes[number].says)
        found.append(Judged(thing.say(number, template), f"{setting.denies} that.", 0))
    return list(dict.fromkeys(found))


def _family(rng: random.Random, judged: Sequence[Judged], count: int) -> list[Judged]:
    """Some of the answers, about half of them good, in any order; none twice."""
    good = list({each.answer: each for each in rng.sample(judged, len(judged)) if each.good == 1}.values())
    bad = list({each.answer: each for each in rng.sample(judged, len(judged)) if each.good < 1}.values())
    half = min(len(good), count // 2 + rng.choice([0, count % 2]))
    chosen = good[:half] + bad[: count - half]
    rng.shuffle(chosen)
    return chosen


def _sources(rng: random.Random, all_things: Sequence[Thing], told: Sequence[int]) -> list[str]:
    """What is said of the first thing, and of the others as far as they come in; in any order."""
    thing, *others = all_things
    lines = [thing.say(number, rng.choice(thing.attributes[number].says)) for number in told]
    for other in others[: rng.choice([0, 1, 1, 2])]:
        numbers = [0, *rng.sample(range(1, len(other.values)), min(len(other.values) - 1, rng.choice([0, 0, 1])))]
        lines.append(" ".join(other.say(number, rng.choice(other.attributes[number].says)) for number in numbers))
    rng.shuffle(lines)
    return lines


def _shown(rng: random.Random, lines: Sequence[str]) -> str:
    if len(lines) > 1 and rng.random() < 0.4:
        form = rng.choice(["[{i}] {x}", "{i}. {x}", "- {x}", "({i}) {x}"])
        return "\n" + "\n".join(form.format(i=number, x=line) for number, line in enumerate(lines, 1))
    return " ".join(lines)


def _body(rng: random.Random, setting: Setting, noun: str) -> tuple[str, bool]:
    """The text to judge with {answer} as its last word, and whether it is JSON."""
    shown = _shown(rng, setting.lines)
    parts = [("question", setting.question), (setting.word, shown)]
    if noun == "claim":
        parts = parts[1:]
    elif rng.random() < 0.3:
        parts.reverse()
    form = rng.choices(["lines", "xml", "json", "heads", "bold"], [55, 18, 8, 12, 7])[0]
    if form == "json":
        record = {**{name.replace(" ", "_"): text.strip() for name, text in parts}, noun: "{answer}"}
        return json.dumps(record, ensure_ascii=False), True
    last = rng.choice([noun, noun, "answer to judge", "candidate answer", "response"]) if noun == "answer" else noun
    parts.append((last, "{answer}"))
    if form == "xml":
        tags = [(name.replace(" ", "_"), text.strip()) for name, text in parts]
        return "\n".join(f"<{tag}>{text}</{tag}>" for tag, text in tags), False
    if form == "heads":
        return "\n\n".join(f"## {name.capitalize()}\n{text.strip()}" for name, text in parts), False
    mark = "**{n}:** {t}" if form == "bold" else "{n}: {t}"
    gap = rng.choice(["\n", "\n", "\n\n"])
    return gap.join(mark.format(n=name.capitalize(), t=text) for name, text in parts), False


def _form(rng: random.Random, setting: Setting, criterion: str, noun: str, fields: str) -> Form:
    body, as_json = _body(rng, setting, noun)
    if fields.startswith(".") and re.search(r"(^|[.:] )(Is|Does|does) [^.:]*$", criterion):
        fields = "?" + fields[1:]
    return Form(f"{criterion}{fields}", body, as_json, rng.random() < 0.4)


def _conversation(form: Form, answer: str, output: dict[str, str | int | bool], first: bool) -> Example:
    shown = json.dumps(answer, ensure_ascii=False)[1:-1] if form.as_json else answer
    body = form.body.replace("{answer}", shown)
    messages = [{"role": "system", "content": form.ask}, {"role": "user", "content": body}]
    if not form.system:
        parts = [form.ask, body] if first else [body, form.ask]
        messages = [{"role": "user", "content": "\n\n".join(parts)}]
    messages.append({"role": "assistant", "content": json.dumps(output, ensure_ascii=False)})
    return Example("judge", messages)


def _labels(
    rng: random.Random, criterion: str, noun: str, judged: Sequence[Judged]
) -> tuple[str, str, str, dict[float, str | int | bool]]:
    """What is to be asked for: the rest of the instruction, the names of both fields, and the verdict by goodness."""
    name = rng.choice(_NAMES)
    if rng.random() < 0.15:
        field, marks = rng.choice(["score", "score", "rating", "points"]), {1.0: 5, 0.5: 1, 0.0: 1}
        scale = rng.choice(["from 1 (wrong or not backed) to 5 (right)", "5 if it is right, 1 if it is not"])
        if any(each.good == 0.5 for each in judged):
            marks[0.5] = 3
            scale = "5 = right, 3 = right but with an addition that isn't there, 1 = wrong or no answer"
        rest = rng.choice(
            [
                f'. Score: {scale}. JSON: "{name}" (one sentence), then "{field}".',
                f'. Reply {{"{name}": "...", "{field}": 1-5}}. {scale[0].upper()}{scale[1:]}.',
            ]
        )
        return rest, name, field, dict(marks)
    yes, no, field = rng.choice(_LABELS)
    if noun == "claim" and field == "grade":
        field = "verdict"
    shown = [json.dumps(yes), json.dumps(no)]
    plain = [word.strip('"') for word in shown]
    kind = {"type": "boolean"} if yes is True else {"enum": [yes, no]}
    schema = {"type": "object", "properties": {name: {"type": "string"}, field: kind}, "required": [name, field]}
    rest = rng.choice(
        [
            f'. Reply with JSON: {{"{name}": "...", "{field}": {shown[0]} or {shown[1]}}}.',
            f": {plain[0]} or {plain[1]}. Give a JSON object with {name} and {field}.",
            f". First the {name} in one sentence, then the {field} ({plain[0]}/{plain[1]}), as JSON.",
            f". JSON Schema: {json.dumps(schema)}",
            f'. Answer with an object of two keys: "{name}", a sentence, and "{field}", {shown[0]} if so, else {shown[1]}.',
            f".\n- {name}: what decides, in a sentence\n- {field}: {plain[0]} or {plain[1]}\nJSON only.",
        ]
    )
    return rest, name, field, {1.0: yes, 0.5: no, 0.0: no}


def _pointwise(rng: random.Random) -> list[Example]:
    all_things = things(rng)
    thing, kind = all_things[0], rng.choices(["reference", "sources", "silent", "claim"], [35, 33, 14, 18])[0]
    attribute, count = thing.attributes[0], rng.choice([4, 4, 5, 6])
    template, noun = rng.choice(attribute.says), "answer"
    if len(thing.attributes) < 2 and kind in ("silent", "claim"):
        kind = "reference"
    told = [0, *range(1, min(len(thing.values) - 1, rng.choice([1, 1, 2, 3])))]
    word = rng.choice(["source", "text", "context", "passage", "document", "sources", "documents", "notes"])
    criterion = rng.choice(_SUPPORT)
    if kind == "reference":
        told, word = (
            [0],
            rng.choice(["reference", "reference", "expected answer", "reference answer", "solution", "key"]),
        )
        criterion = rng.choice(_AGREE)
    elif kind == "silent":
        told = list(range(1, min(len(thing.values), rng.choice([2, 3, 4]))))
    elif kind == "claim":
        noun, criterion = "claim", rng.choice(_CLAIM)
    if kind == "reference":
        lines = [thing.say(0, rng.choice(attribute.says)) if rng.random() < 0.7 else thing.values[0]]
    else:
        lines = _sources(rng, all_things, told)
    setting = Setting(rng.choice(attribute.asks).replace("{e}", thing.name), lines, word)
    setting = replace(setting, question=sentence(setting.question))
    if kind == "silent":
        judged = _silent(rng, setting, all_things, told)
    elif kind == "claim":
        judged = _claims(rng, setting, all_things, told)
    else:
        judged = _right(rng, setting, thing, template, told) + _wrong(rng, setting, all_things, template)
        judged += _added(rng, setting, thing, template, told) if kind == "sources" else []
    chosen = _family(rng, judged, count)
    criterion = rng.choice(["", "", "", "You are a strict grader. ", "You check answers. "]) + criterion
    criterion = criterion.replace("{w}", word)
    rest, name, field, marks = _labels(rng, criterion, noun, chosen)
    refused = any(each.answer in _REFUSALS for each in chosen)
    if kind in ("silent", "sources") and (refused or rng.random() < 0.3):
        rest += rng.choice(_SILENCE).format(w=word, do="do" if word.endswith("s") else "does")
    form, first = _form(rng, setting, criterion, noun, rest), rng.random() < 0.75
    return [
        _conversation(form, each.answer, {name: each.reason, field: marks[each.good]}, first)
        for each in (chosen if first or form.system else chosen[:3])
    ]


def _pairwise(rng: random.Random) -> list[Example]:
    """Two answers to choose from; some siblings have them the other way round."""
    all_things = things(rng)
    thing = all_things[0]
    template = rng.choice(thing.attributes[0].says)
    word = rng.choice(["reference", "source", "text", "expected answer"])
    question = sentence(rng.choice(thing.attributes[0].asks).replace("{e}", thing.name))
    setting = Setting(question, [thing.say(0, rng.choice(thing.attributes[0].says))], word)
    field, name = rng.choice(["winner", "better", "verdict", "choice", "preferred"]), rng.choice(_NAMES)
    ask = rng.choice(
        [
            f'Which answer is better, A or B? JSON with "{name}" and "{field}".',
            f'Compare both answers with the {word}. Reply {{"{name}": "...", "{field}": "A" or "B"}}.',
            f"Two assistants answered. Which one agrees with the {word}? Give {name}, then {field} (A or B), as JSON.",
        ]
    )
    form = _form(rng, setting, ask, "answer", "")
    gap = rng.choice(["\n", "\n\n"])
    form = Form(
        ask, f"Question: {question}{gap}{word.capitalize()}: {setting.lines[0]}{gap}{{answer}}", False, form.system
    )
    found, seen = [], set[str]()
    value = thing.values[0]
    for _ in range(rng.choice([1, 2, 2])):
        right = rng.choice(_right(rng, setting, thing, template, [0]))
        slip = near(rng, value, thing.attributes[0].draw)
        wrong, says = rng.choice(
            [
                (thing.say(0, template, slip), f"says {slip}"),
                (sentence(slip), f"says {slip}"),
                (f"{rng.choice(_PADDING)} {thing.say(0, template, slip)}", f"says {slip}"),
                (rng.choice(_REFUSALS), "does not say"),
            ]
        )
        given = reworded(value) if reworded(value) in right.answer and value not in right.answer else value
        for better in rng.sample("AB", 2):
            pair = [right.answer, wrong] if better == "A" else [wrong, right.answer]
            told = [f"says {given}", says] if better == "A" else [says, f"says {given}"]
            shown = f"Answer A: {pair[0]}{gap}Answer B: {pair[1]}"
            reason = f"{setting.says} {value}; A {told[0]}, B {told[1]}."
            if shown not in seen:
                found.append(_conversation(form, shown, {name: reason, field: better}, True))
            seen.add(shown)
    return found


def judge_examples(seed: int) -> Iterator[Example]:
    """Endless examples of judging, with siblings; about half of the judged answers are good."""
    rng = random.Random(seed)
    while True:
        first, *others = _pairwise(rng) if rng.random() < 0.15 else _pointwise(rng)
        yield replace(first, siblings=tuple(others))
