"""Held-out cases of sentiment: reviews by hand, which a reader can only take one way."""

from __future__ import annotations

from random import Random
from typing import Any

from minillm.training.example import Case, Message
from minillm.training.heldout.reviews import NEGATIVE, NEUTRAL_STARTS, POSITIVE

_REVIEWS_BY = {"positive": POSITIVE, "negative": NEGATIVE}
_PROMPTS = (
    'Is this review positive or negative? Reply as JSON: {{"sentiment": "positive" or "negative"}}.\n\n{review}',
    "{review}\n\n---\nReturn a JSON object whose only field, sentiment, says whether the writer is positive or "
    "negative.",
    "Visitor's comment about a {kind}: \"{review}\"\nDecide on the sentiment (positive, negative). JSON only.",
    "Tag the feedback below.\nfield: sentiment\nallowed values: positive | negative\n\nFeedback: {review}",
    "<review>\n{review}\n</review>\nFill in {{\"sentiment\": ...}} with negative or positive.",
    "How does the author feel about the {kind}? Answer in JSON with the key \"sentiment\".\n\n> {review}",
    "{review}",
)  # fmt: skip
_SYSTEMS = (
    'Judge the tone of each customer text. Output: {"sentiment": "positive"} or {"sentiment": "negative"}.',
    "You sort guest book entries. For each one give a JSON object with the field sentiment: negative or positive.",
    'You are a classifier. Answer with JSON that has one key, "sentiment"; its value is positive or negative.',
)


def sentiment_cases(seed: int = 0) -> list[Case]:
    """Cases of one to three sentences each, half of them positive; each sentence opens one case."""
    random = Random(f"sentiment/{seed}")
    cases = [
        _case(random, label, kind, index)
        for label, by_kind in _REVIEWS_BY.items()
        for kind, sentences in by_kind.items()
        for index in range(len(sentences))
    ]
    random.shuffle(cases)
    return cases


def _case(random: Random, label: str, kind: str, index: int) -> Case:
    sentences = _REVIEWS_BY[label][kind]
    parts = [sentences[index]]
    if random.random() < 0.4:
        parts.append(random.choice([other for other in sentences if other != parts[0]]))
    if random.random() < 0.25:
        parts.insert(0, random.choice(NEUTRAL_STARTS))
    review = " ".join(parts)
    prompt = random.choice(_PROMPTS)
    messages: list[Message] = []
    if prompt == "{review}":  # only then must the system's text say what to do
        messages.append({"role": "system", "content": random.choice(_SYSTEMS)})
    elif random.random() < 0.3:
        messages.append({"role": "system", "content": "You evaluate what guests write. Reply in JSON."})
    messages.append({"role": "user", "content": prompt.format(review=review, kind=kind)})
    labels = random.choice((["positive", "negative"], ["negative", "positive"]))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"sentiment": {"type": "string", "enum": labels}},
        "required": ["sentiment"],
        "additionalProperties": False,
    }
    return Case("sentiment", messages, {"sentiment": label}, schema=schema, max_tokens=64)
