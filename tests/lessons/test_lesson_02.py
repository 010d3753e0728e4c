"""Lesson 02's exercises: the stub fails, the solution passes, and typical wrong answers are told what's wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from notebooks import run_cells

from minillm.kernels.reference import rotate
from minillm.lab import Checker
from minillm.testing import Report

STEM = "02-kv-cache-and-streaming"
EXERCISES = {"warm-up": "kv_bytes_per_token", "core": "ContiguousKVCache", "stretch": "WindowedKVCache"}
CELLS = {"core": ("core", "core-rewind")}  # where it isn't one cell of the exercise's name


def answer(folder: str, exercise: str) -> Any:
    cells = run_cells(folder, STEM, *CELLS.get(exercise, (exercise,)))
    cells.update(torch=torch, F=F, rotate=rotate)
    return cells[EXERCISES[exercise]]


def failures(report: Report) -> dict[str, str]:
    """The failed behaviors, each with all that the student is told in the end."""
    return {b.name: f"{b.detail} {b.hint} {b.strong_hint}" for b in report.failed}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_fails(exercise: str) -> None:
    report = Checker("02")(exercise, answer("exercises", exercise))
    assert not report.passed
    assert "NotImplementedError" in str(report)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes(exercise: str) -> None:
    Checker("02")(exercise, answer("solutions", exercise)).raise_if_failed()


def test_a_second_failure_shows_the_stronger_hint() -> None:
    check = Checker("02")
    first, second = (str(check("warm-up", lambda config, size: 0)) for _ in range(2))
    assert "Take one token: in which places" in first
    assert "2 (key and value) · num_layers" in second


# -- warm-up ----------------------------------------------------------------------------------------------------

COUNTS = "counts keys and values, layers, heads and dimensions"

# Wrong answer → (the behavior that catches it, words that name the cause).
WRONG_BYTES = {
    "keys only": (lambda c, size: c.num_layers * c.num_kv_heads * c.head_dim * size, COUNTS, "the keys alone"),
    "query heads": (lambda c, size: 2 * c.num_layers * c.num_heads * c.head_dim * size, COUNTS, "queries aren't kept"),
    "one layer": (lambda c, size: 2 * c.num_kv_heads * c.head_dim * size, COUNTS, "one layer's"),
    "one head": (lambda c, size: 2 * c.num_layers * c.head_dim * size, COUNTS, "one head's"),
    "hidden size": (lambda c, size: 2 * c.num_layers * c.hidden_size * size, COUNTS, "with hidden_size"),
    "head dimension guessed": (
        lambda c, size: 2 * c.num_layers * c.num_kv_heads * (c.hidden_size // c.num_heads) * size,
        COUNTS,
        "it may be another",
    ),
    "numbers": (lambda c, size: 2 * c.num_layers * c.num_kv_heads * c.head_dim, COUNTS, "numbers, not bytes"),
    "bits": (lambda c, size: 16 * c.num_layers * c.num_kv_heads * c.head_dim * size, COUNTS, "bits, not bytes"),
    "always two bytes": (lambda c, size: c.kv_bytes_per_token, "knows number formats", "don't assume two or four"),
    "one model": (lambda c, size: 2 * 7 * 5 * 22 * size, "knows any shape", "not those of one model"),
    "a float": (
        lambda c, size: c.num_layers * c.num_kv_heads * c.head_dim * size / 0.5,
        "returns a whole number",
        "makes a float",
    ),
}


@pytest.mark.parametrize("mistake", WRONG_BYTES)
def test_a_wrong_count_is_explained(mistake: str) -> None:
    function, behavior, words = WRONG_BYTES[mistake]
    failed = failures(Checker("02")("warm-up", function))
    assert words in failed[behavior]


# -- core -------------------------------------------------------------------------------------------------------

Right: Any = answer("solutions", "core")


class GrowsInEveryLayer(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        start, end = self.num_tokens, self.num_tokens + len(k)
        if end > self.max_tokens:
            raise ValueError(f"{self.max_tokens} {end}")
        self.keys[layer, :, start:end], self.values[layer, :, start:end] = k.transpose(0, 1), v.transpose(0, 1)
        self.num_tokens = end
        return self.keys[layer, :, :end], self.values[layer, :, :end]


class GrowsInTheFirstLayer(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        if layer == 0:
            self.before = self.num_tokens
            self.num_tokens += len(k)
        start, end = self.before, self.num_tokens
        self.keys[layer, :, start:end], self.values[layer, :, start:end] = k.transpose(0, 1), v.transpose(0, 1)
        return self.keys[layer, :, :end], self.values[layer, :, :end]


class ReturnsTheReservation(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        super().append(layer, k, v)
        return self.keys[layer], self.values[layer]


class ReturnsTheNewOnly(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        return tuple(part[:, -len(k) :] for part in super().append(layer, k, v))


class ForgetsToTranspose(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        return tuple(part.transpose(0, 1) for part in super().append(layer, k, v))


class SwapsKeysAndValues(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        return super().append(layer, k, v)[::-1]


class OneLayerForAll(Right):
    def __init__(self, config: Any, max_tokens: int) -> None:
        super().__init__(config, max_tokens)
        self.keys = self.keys[:1].expand_as(self.keys)


class Concatenates(Right):
    def __init__(self, config: Any, max_tokens: int) -> None:
        super().__init__(config, max_tokens)
        self.parts: dict[int, Any] = {}

    def append(self, layer: int, k: Any, v: Any) -> Any:
        new = super().append(layer, k, v)
        end = new[0].shape[1]
        old = self.parts.get(layer)
        pairs = new if old is None else [
            torch.cat([a[:, : end - len(k)], b[:, -len(k) :]], dim=1) for a, b in zip(old, new, strict=True)
        ]  # fmt: skip
        self.parts[layer] = pairs
        return tuple(pairs)


class RefusesTheLastPlace(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        if self.num_tokens + len(k) >= self.max_tokens:
            raise ValueError(f"This cache holds {self.max_tokens} tokens; {self.num_tokens + len(k)} are needed.")
        return super().append(layer, k, v)


class RefusesNothing(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        room = self.max_tokens - self.num_tokens
        return super().append(layer, k[:room], v[:room])


class LetsPyTorchRefuse(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        end = self.num_tokens + len(k)
        self.keys[layer, :, self.num_tokens : end] = k.transpose(0, 1)
        return super().append(layer, k, v)


class RefusesWithoutNumbers(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        if self.num_tokens + len(k) > self.max_tokens:
            raise ValueError("The cache is full.")
        return super().append(layer, k, v)


class RefusesAfterCounting(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        try:
            return super().append(layer, k, v)
        except ValueError:
            self.num_tokens += len(k)
            raise


class ClearsWhenFull(Right):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        try:
            return super().append(layer, k, v)
        except ValueError:
            self.num_tokens = 0
            raise


class RewindsTo(Right):
    def rewind(self, num_tokens: int) -> None:
        self.num_tokens = min(num_tokens, self.num_tokens)


class RewindsBelowZero(Right):
    def rewind(self, num_tokens: int) -> None:
        self.num_tokens -= num_tokens


class RewindsToZeroAtLeast(Right):
    def rewind(self, num_tokens: int) -> None:
        self.num_tokens = max(0, self.num_tokens - num_tokens)


class ErasesEverythingOnRewind(Right):
    def rewind(self, num_tokens: int) -> None:
        super().rewind(num_tokens)
        self.keys.zero_()
        self.values.zero_()


class ForgetsToReset(Right):
    def reset(self) -> None:
        self.keys.zero_()


class SharesItsMemory(Right):
    memory: Any = None

    def __init__(self, config: Any, max_tokens: int) -> None:
        super().__init__(config, max_tokens)
        if SharesItsMemory.memory is None or SharesItsMemory.memory.shape != self.keys.shape:
            SharesItsMemory.memory = self.keys
        self.keys = SharesItsMemory.memory


class KeepsKeysUnturned(Right):
    def __call__(self, layer: int, q: Any, k: Any, v: Any, cos: Any, sin: Any) -> Any:
        return super().__call__(layer, q, rotate(k, cos, -sin), v, cos, sin)


GIVES_BACK = "gives back the keys and values that it got"
BEHIND = "puts new tokens behind the old ones, in every layer"
REFUSES = "refuses what doesn't fit, and says why"


@pytest.mark.parametrize(
    ("cache", "behavior", "words"),
    [
        (GrowsInEveryLayer, "counts a token when its last layer is in", "if layer == num_layers - 1"),
        (GrowsInEveryLayer, BEHIND, "only after the last layer"),
        (GrowsInTheFirstLayer, "counts a token when its last layer is in", "is at layer 1"),
        (ReturnsTheReservation, GIVES_BACK, "not the whole reservation"),
        (ReturnsTheNewOnly, BEHIND, "shape"),
        (ForgetsToTranspose, GIVES_BACK, "transpose(0, 1)"),
        (SwapsKeysAndValues, GIVES_BACK, "swapped"),
        (OneLayerForAll, BEHIND, "tokens"),
        (Concatenates, "keeps its memory in one place", "no torch.cat"),
        (RefusesTheLastPlace, "takes exactly as many tokens as it has room for", "end > max_tokens"),
        (RefusesNothing, REFUSES, "raised nothing"),
        (LetsPyTorchRefuse, REFUSES, "RuntimeError"),
        (RefusesWithoutNumbers, REFUSES, "6, the tokens that there's room for, and 7"),
        (RefusesAfterCounting, "is unharmed by a refusal", "before num_tokens changes"),
        (ClearsWhenFull, "is unharmed by a refusal", "num_tokens is 0"),
        (RewindsTo, "forgets the last tokens", "it doesn't go back to three"),
        (RewindsBelowZero, "refuses to forget more than it has", "rewind(5) of 4 tokens raised nothing"),
        (RewindsToZeroAtLeast, "refuses to forget more than it has", "raise ValueError unless"),
        (ErasesEverythingOnRewind, "forgets the last tokens", "Nothing has to be erased"),
        (ForgetsToReset, "is empty after reset", "self.num_tokens = 0"),
        (SharesItsMemory, "shares nothing with another cache", "not in the class body"),
        (KeepsKeysUnturned, "generates the tokens of the naive loop", "as it was given"),
    ],
)
def test_a_wrong_cache_is_explained(cache: type, behavior: str, words: str) -> None:
    failed = failures(Checker("02")("core", cache))
    assert behavior in failed
    assert words in failed[behavior]


# -- stretch ----------------------------------------------------------------------------------------------------

Windowed: Any = answer("solutions", "stretch")


class WindowOneTooLarge(Windowed):
    def __init__(self, config: Any, window: int, num_sinks: int = 0) -> None:
        super().__init__(config, window + 1, num_sinks)


class WindowWithoutTheNew(Windowed):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        if self.num_tokens:
            found = tuple(part.clone() for part in super().append(layer, k, v))
            newest = (found[0][0, :, 0] == k[0, 0, 0]).nonzero()[0, 0]
            return tuple(torch.cat([part[:, :newest], part[:, newest + 1 :]], dim=1) for part in found)
        return super().append(layer, k, v)


class ForgetsTheSinks(Windowed):
    def __init__(self, config: Any, window: int, num_sinks: int = 0) -> None:
        super().__init__(config, window + num_sinks, 0)


class SinksInsideTheWindow(Windowed):
    def __init__(self, config: Any, window: int, num_sinks: int = 0) -> None:
        super().__init__(config, window - num_sinks, num_sinks)


class ReturnsEmptyPlaces(Windowed):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        super().append(layer, k, v)
        return self.keys[layer], self.values[layer]


class CountsTheKept(Windowed):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        found = super().append(layer, k, v)
        self.num_tokens = min(self.num_tokens, self.window + self.num_sinks)
        return found


class KeepsItAllAndReturnsSome:
    def __init__(self, config: Any, window: int, num_sinks: int = 0) -> None:
        self.layers: list[list[Any]] = [[] for _ in range(config.num_layers)]
        self.window, self.num_sinks, self.num_tokens = window, num_sinks, 0

    def append(self, layer: int, k: Any, v: Any) -> Any:
        kept = self.layers[layer]
        kept.append((k[0], v[0]))
        chosen = kept[: self.num_sinks] + kept[self.num_sinks :][-self.window :]
        if layer == len(self.layers) - 1:
            self.num_tokens += 1
        return tuple(torch.stack(parts, dim=1) for parts in zip(*chosen, strict=True))

    __call__ = Windowed.__call__


class EvictsKeysOnly(Windowed):
    def append(self, layer: int, k: Any, v: Any) -> Any:
        keys, values = super().append(layer, k, v)
        return keys, values.roll(1, dims=1)


LAST = "keeps the last tokens, and no more"
SINKS = "keeps the sinks as well"


@pytest.mark.parametrize(
    ("cache", "behavior", "words"),
    [
        (WindowOneTooLarge, LAST, "expected [1, 2, 3, 4]"),
        (WindowWithoutTheNew, LAST, "The window counts the new token"),
        (ForgetsTheSinks, SINKS, "places of their own"),
        (SinksInsideTheWindow, SINKS, "on top of the window"),
        (ReturnsEmptyPlaces, "keeps everything while it fits", "only the places that hold a token"),
        (CountsTheKept, "counts all tokens that came", "never shrink"),
        (KeepsItAllAndReturnsSome, "doesn't grow with the text", "write over the oldest"),
        (EvictsKeysOnly, "keeps everything while it fits", "aren't those of the same tokens"),
    ],
)
def test_a_wrong_window_is_explained(cache: type, behavior: str, words: str) -> None:
    failed = failures(Checker("02")("stretch", cache))
    assert behavior in failed
    assert words in failed[behavior]
