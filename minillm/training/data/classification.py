"""Texts to put under one of several labels: sentiment first of all, then topic, intent, urgency, spam and language."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from minillm.training.data.labels import TASKS, Task
from minillm.training.data.opinions import GENERAL, OPINIONS
from minillm.training.example import Example

SENTIMENT_KEYS = ["sentiment"] * 6 + ["label", "polarity", "opinion", "mood", "class", "tone"]
SYSTEMS = [
    "You classify texts.",
    "You are a careful annotator. Answer only with what is asked for.",
    "Answer with the label and nothing else, unless JSON is asked for.",
    "You sort messages from customers.",
    "You are a helpful assistant.",
]
REASONS = ["reason", "why", "explanation", "evidence", "quote"]


def sentence(words: str) -> str:
    """The clause as a sentence of its own: a capital letter and an end."""
    return words[0].upper() + words[1:] + ("" if words[-1] in ".!?" else ".")


def review(rng: random.Random, mood: str, may_be_mixed: bool = False, thing: str = "") -> tuple[str, str]:
    """A review whose opinion is "positive", "negative", "neutral" or "mixed", and the clause that shows it most.

    With `may_be_mixed`, a contrast ends with a verdict of its own: without one it would be mixed.
    """
    thing = thing or rng.choice(list(OPINIONS))
    clauses = OPINIONS[thing]
    good, bad, plain = (rng.sample(clauses[kind], len(clauses[kind])) for kind in ("positive", "negative", "neutral"))
    if mood == "neutral":
        parts = rng.sample(plain, rng.randint(1, 2))
        if rng.random() < 0.5:
            parts.append(rng.choice(GENERAL["neutral"]))
        return " ".join(map(sentence, parts)), parts[0]
    if mood == "mixed":
        first, second = (good[0], bad[0]) if rng.random() < 0.5 else (bad[0], good[0])
        joined = rng.choice([f"{first}, but {second}", f"On the one hand {first}, on the other hand {second}"])
        return sentence(joined), first
    own, other = (good, bad) if mood == "positive" else (bad, good)
    general = rng.choice(GENERAL[mood])
    shape = rng.random()
    if shape < 0.12:
        parts = [general]
        key = general
    elif shape < 0.34:
        parts, key = [own[0]], own[0]
    elif shape < 0.56:
        parts, key = [own[0], own[1]], own[0]
    elif shape < 0.72:
        parts, key = rng.choice([[own[0], general], [general, own[0]], [own[0], own[1], general]]), own[0]
    elif shape < 0.88:
        contrast = rng.choice(
            [
                f"{other[0]}, but {own[0]}",
                f"Even though {other[0]}, {own[0]}",
                f"It's true that {other[0]}. Still, {own[0]}",
                f"People say that {other[0]}. For me it was quite different: {own[0]}",
                f"{other[0]}. All the same, {own[0]}",
            ]
        )
        parts, key = [contrast, general] if may_be_mixed or rng.random() < 0.5 else [contrast], own[0]
    else:
        parts, key = [plain[0], own[0]], own[0]
        if rng.random() < 0.5:
            parts.append(own[1])
    if len(parts) > 1 and rng.random() < 0.2:
        parts.insert(rng.randrange(len(parts)), plain[1])
    text = " ".join(map(sentence, parts))
    if rng.random() < 0.35:
        opening = [f"About the {thing}: ", f"{thing.capitalize()}. ", f"My {thing} story. ", f"Re: {thing} - "]
        text = rng.choice(opening) + text
    return _styled(rng, text), key


def _styled(rng: random.Random, text: str) -> str:
    chance = rng.random()
    if chance < 0.1:
        return text.lower()
    if chance < 0.2:
        return text[:-1] + rng.choice(["!", "!!", "..."])
    return text


def _sentiment(rng: random.Random) -> Example:
    labels = rng.choice(
        [
            ["positive", "negative"],
            ["positive", "negative"],
            ["positive", "negative", "neutral"],
            ["positive", "negative", "neutral"],
            ["positive", "negative", "neutral"],
            ["positive", "negative", "mixed"],
            ["positive", "negative", "neutral", "mixed"],
        ]
    )
    weights = {"positive": 4, "negative": 4, "neutral": 2, "mixed": 1}
    mood = rng.choices(labels, [weights[label] for label in labels])[0]
    thing = rng.choice(list(OPINIONS)) if rng.random() < 0.5 else ""  # the same for all, so that it decides nothing
    moods = [mood, *_others(rng, mood, labels)]
    reviews = [review(rng, each, "mixed" in labels, thing) for each in moods]
    names = {label: label for label in labels}
    chance = rng.random()
    if chance < 0.1:
        names = {label: label.upper() for label in labels}
    elif chance < 0.16:
        names = {label: label.capitalize() for label in labels}
    elif chance < 0.22:
        names = {"positive": "good", "negative": "bad", "neutral": "neither", "mixed": "both"}
    elif chance < 0.26:
        names = {"positive": "happy", "negative": "unhappy", "neutral": "neutral", "mixed": "torn"}
    shown = [names[label] for label in labels]
    field = rng.choice(SENTIMENT_KEYS)
    asks = [
        "Classify the sentiment of this review.",
        "What is the sentiment of the text?",
        "Is this opinion {or_list}?",
        "Decide how the writer feels.",
        "Sentiment analysis.",
        "Read the review and give its sentiment.",
        "Label the following comment by its sentiment.",
        "How does the customer judge what they got?",
    ]
    items = [(text, names[each], key) for each, (text, key) in zip(moods, reviews, strict=True)]
    return _ask(rng, items, rng.choice(asks), shown, field)


def _others(rng: random.Random, label: str, labels: Sequence[str]) -> list[str]:
    """Labels for three to five siblings: each about as often as the others, the example's own counted."""
    found = [each for each in rng.sample(list(labels), len(labels)) if each != label]
    while len(found) < 5:
        found += rng.sample(list(labels), len(labels))
    return found[: rng.choice([3, 4, 5])]


def _ask(
    rng: random.Random, items: Sequence[tuple[str, str, str]], question: str, labels: Sequence[str], field: str
) -> Example:
    """Puts texts and a question in one of many forms; half of the answers are JSON.

    Args:
        items: each a text, its label and the words that decide; the first is the example's, the others its siblings'.
    """
    shown = rng.sample(list(labels), len(labels))
    or_list = ", ".join(shown[:-1]) + " or " + shown[-1]
    question = question.replace("{or_list}", or_list)
    written = rng.choice(
        [
            f"Labels: {', '.join(shown)}.",
            f"Choose one of: {' | '.join(shown)}.",
            f"Answer with {or_list}.",
            f"Possible answers: {json.dumps(shown, ensure_ascii=False)}",
            "Options:\n" + "\n".join(f"- {label}" for label in shown) + "\n",
        ]
    )
    in_json = rng.random() < 0.5
    extra = ""
    if in_json:
        if rng.random() < 0.25 and all(key.lower() in text.lower() for text, _, key in items):
            extra = rng.choice(REASONS)
        order = [extra, field] if rng.random() < 0.5 else [field, extra]
        order = [name for name in order if name]
        names = " and ".join(f'"{name}"' for name in order)
        properties = {name: {"enum": shown} if name == field else {"type": "string"} for name in order}
        note = f' Quote the deciding words of the text in "{extra}".' if extra else ""
        form = rng.choice(
            [
                f"Reply as JSON with {names}.",
                f"Give a JSON object with the field{'s' if extra else ''} {names}.",
                "Return JSON: " + json.dumps(dict.fromkeys(order, "...")),
                "JSON Schema of the answer: " + json.dumps({"type": "object", "properties": properties}),
                f"Output only JSON, keys: {', '.join(order)}.",
            ]
        )
        form += note
    else:
        order = []
        form = rng.choice(
            ["Answer with one label only.", "One label, nothing else.", "Reply with the label.", "Just the label.", ""]
        )
    body = rng.choice(['"{t}"', "Text: {t}", "Review: {t}" if "entiment" in question else "{t}"])
    body = rng.choice([body, "<text>\n{t}\n</text>", "###\n{t}\n###", body])
    ask, text_first, chance = f"{question} {written} {form}".strip(), rng.random() < 0.3, rng.random()
    system = rng.choice(SYSTEMS) if chance < 0.2 else ask if chance < 0.4 else ""
    examples = []
    for text, label, key in items:
        parts = [ask, body.replace("{t}", text)]
        user = text if system == ask else "\n\n".join(reversed(parts) if text_first else parts)
        start = text.lower().index(key.lower()) if extra else 0
        values = {extra: text[start : start + len(key)], field: label}
        output = json.dumps({name: values[name] for name in order}, ensure_ascii=False) if in_json else label
        turns = [{"role": "system", "content": system}] if system else []
        messages = [*turns, {"role": "user", "content": user}, {"role": "assistant", "content": output}]
        examples.append(Example("classification", messages))
    unique = {str(each.messages[:-1]): each for each in examples}
    first, *siblings = unique.values()
    return first if text_first and system != ask else replace(first, siblings=tuple(siblings))


def _other(rng: random.Random, task: Task) -> Example:
    count = rng.randint(2, min(6, len(task.texts)))
    labels = rng.sample(list(task.texts), count)
    label = rng.choice(labels)
    found = []
    for each in [label, *_others(rng, label, labels)]:
        text = key = rng.choice(task.texts[each])
        if rng.random() < 0.5 and task.fillers:
            filler = rng.choice(task.fillers)
            text = f"{filler} {text}" if rng.random() < 0.5 else f"{text} {filler}"
        found.append((text, each, key))
    names = {name: name for name in labels}
    if rng.random() < 0.2:
        names = {name: name.upper().replace(" ", "_") for name in labels}
    elif rng.random() < 0.2:
        names = {name: name.replace(" ", "_") for name in labels}
    question = rng.choice(task.questions)
    items = [(text, names[each], key) for text, each, key in found]
    return _ask(rng, items, question, [names[name] for name in labels], rng.choice(task.fields))


def classification_examples(seed: int) -> Iterator[Example]:
    """Endless examples of classification; over half are about sentiment, and half of the answers are JSON."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.55:
            yield _sentiment(rng)
        else:
            yield _other(rng, rng.choice(TASKS))
