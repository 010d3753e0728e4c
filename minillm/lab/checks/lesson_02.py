"""Checks of lesson 02's exercises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from minillm.attention import DenseAttention
from minillm.engine import LLM
from minillm.models import Decoder, ModelConfig
from minillm.testing import Case, CheckFailed, Report, run_cases

# -- warm-up ----------------------------------------------------------------------------------------------------

# Every number is another one, and head_dim isn't hidden_size / num_heads: what's taken for what can be told apart.
_SHAPE = ModelConfig(
    "llama", vocab_size=1000, hidden_size=160, intermediate_size=500, num_layers=7, num_heads=15, num_kv_heads=5,
    head_dim=22, max_model_len=512,
)  # fmt: skip


def check_kv_bytes_per_token(function: Callable[[ModelConfig, int], Any]) -> Report:
    """`kv_bytes_per_token(config, bytes_per_number)`: what a token adds to the cache."""
    c, size = _SHAPE, 4
    expected = 2 * c.num_layers * c.num_kv_heads * c.head_dim * size
    shape = "7 layers, 15 query heads, 5 key/value heads, head_dim 22, hidden_size 160, 4 bytes"

    def is_whole() -> None:
        value = function(c, size)
        if not isinstance(value, int) or isinstance(value, bool):
            raise CheckFailed(f"it returned {value!r}, which is a {type(value).__name__}")

    def counts() -> None:
        found = function(c, size)
        known = {
            expected // 2: "that's the keys alone, or two bytes per number in place of the four that were given",
            2 * c.num_layers * c.num_heads * c.head_dim * size: "that's with the 15 query heads; queries aren't kept",
            c.num_layers * c.num_heads * c.head_dim * size: "that's with the query heads, which aren't kept, and only "
            "for the keys",
            2 * c.num_kv_heads * c.head_dim * size: "that's one layer's; each of the 7 has keys and values of its own",
            2 * c.num_layers * c.head_dim * size: "that's one head's; there are 5 key/value heads",
            2 * c.num_layers * c.hidden_size * size: "that's with hidden_size; a key is num_kv_heads · head_dim wide",
            2 * c.num_layers * c.num_kv_heads * (c.hidden_size // c.num_heads) * size: "that's with hidden_size / "
            "num_heads for the head dimension; a model's config says it, and it may be another",
            2 * c.num_layers * c.num_kv_heads * c.head_dim: "those are numbers, not bytes",
            expected * 8: "those are bits, not bytes",
        }
        for value, meaning in known.items():
            if found == value:
                raise CheckFailed(f"for {shape} it returned {found}: {meaning}")
        if found != expected:
            raise CheckFailed(f"for {shape} it returned {found}; it's {expected}")

    def knows_formats() -> None:
        for size in (1, 2):
            found, right = function(c, size), 2 * c.num_layers * c.num_kv_heads * c.head_dim * size
            if found != right:
                raise CheckFailed(f"with {size} bytes per number it returned {found}; it's {right}")

    def knows_shapes() -> None:
        for shape in (replace(c, num_kv_heads=15), replace(c, num_layers=3), replace(c, head_dim=64)):
            found, right = function(shape, 2), 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * 2
            if found != right:
                raise CheckFailed(f"for {shape.num_layers} layers, {shape.num_kv_heads} key/value heads and head_dim "
                                  f"{shape.head_dim} it returned {found}; it's {right}")  # fmt: skip

    return run_cases(
        "Warm-up: bytes per token",
        [
            Case(
                "counts keys and values, layers, heads and dimensions",
                counts,
                "Take one token: in which places of the model is something kept for it, and how long is each vector?",
                "2 (key and value) · num_layers · num_kv_heads · head_dim · bytes_per_number.",
            ),
            Case(
                "knows number formats",
                knows_formats,
                "The second argument says how many bytes a number has.",
                "Multiply by bytes_per_number; don't assume two or four.",
            ),
            Case(
                "knows any shape",
                knows_shapes,
                "Each of the numbers comes from the config that's given.",
                "Use config.num_layers, config.num_kv_heads and config.head_dim, not those of one model.",
            ),
            Case(
                "returns a whole number",
                is_whole,
                "Bytes are counted in whole numbers.",
                "Multiply integers; a division with / makes a float.",
            ),
        ],
    )


# -- core -------------------------------------------------------------------------------------------------------

_ROOM = 6


def check_contiguous_cache(make: Callable[[ModelConfig, int], Any]) -> Report:
    """`ContiguousKVCache(config, max_tokens)`: by itself, and then in the decoder, generating."""
    llm = LLM("tiny-random", device="cpu", dtype="float32")
    config = llm.model.config
    last = config.num_layers - 1

    def passes(cache: Any, *lengths: int) -> list[tuple[Tensor, Tensor]]:
        """Forward passes of these lengths over one text; returns what each layer's last append gave back."""
        position, found = int(cache.num_tokens), []
        for length in lengths:
            found = [cache.append(layer, *_marked(config, layer, position, length)) for layer in range(last + 1)]
            position += length
        return found

    def gives_back() -> None:
        found = make(config, _ROOM).append(0, *_marked(config, 0, 0, 3))
        _compare(config, found, 0, [0, 1, 2], "after 3 tokens")

    def appends() -> None:
        cache = make(config, _ROOM)
        for layer, found in enumerate(passes(cache, 3, 2)):
            _compare(config, found, layer, [0, 1, 2, 3, 4], f"after 3 tokens and 2 more, layer {layer}")

    def counts_once() -> None:
        cache = make(config, _ROOM)
        for layer in range(last + 1):
            if cache.num_tokens != 0:
                raise CheckFailed(
                    f"the first pass of 2 tokens is at layer {layer} of {last + 1}, and num_tokens is "
                    f"{cache.num_tokens} already"
                )
            cache.append(layer, *_marked(config, layer, 0, 2))
        if cache.num_tokens != 2:
            raise CheckFailed(f"after 2 tokens in all {last + 1} layers num_tokens is {cache.num_tokens}")

    def keeps_memory() -> None:
        cache = make(config, _ROOM)
        first, second = passes(cache, 2)[0], passes(cache, 1)[0]
        for name, before, after in zip(("keys", "values"), first, second, strict=True):
            if before.untyped_storage().data_ptr() != after.untyped_storage().data_ptr():
                raise CheckFailed(f"the {name} lay somewhere else after the next token: they were copied")

    def fills_up() -> None:
        cache = make(config, _ROOM)
        for layer, found in enumerate(passes(cache, 4, _ROOM - 4)):
            _compare(config, found, layer, list(range(_ROOM)), f"filled to its {_ROOM} tokens, layer {layer}")

    def refuse() -> tuple[Any, str]:
        cache = make(config, _ROOM)
        passes(cache, 5)
        try:
            cache.append(0, *_marked(config, 0, 5, 2))
        except ValueError as error:
            return cache, str(error)
        except NotImplementedError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"2 tokens more than 5, in a cache for {_ROOM}: it raised {type(error).__name__}: {error}"
            ) from error
        raise CheckFailed(f"2 tokens more than 5, in a cache for {_ROOM}: it raised nothing")

    def refuses() -> None:
        _, message = refuse()
        told = {_ROOM: "the tokens that there's room for", 7: "those that there would be in all"}
        missing = [f"{number}, {what}" for number, what in told.items() if str(number) not in message]
        if missing:
            raise CheckFailed(f"its message is {message!r}, which lacks {', and '.join(missing)}")

    def unchanged() -> None:
        cache, _ = refuse()
        if cache.num_tokens != 5:
            raise CheckFailed(f"5 tokens were in and 2 were refused; num_tokens is {cache.num_tokens}")
        for layer, found in enumerate(passes(cache, 1)):
            _compare(config, found, layer, list(range(6)), "after a refusal, one more token")

    def rewinds() -> None:
        cache = make(config, _ROOM)
        passes(cache, 4)
        cache.rewind(3)
        if cache.num_tokens != 1:
            raise CheckFailed(f"rewind(3) of 4 tokens leaves 1; num_tokens is {cache.num_tokens}")
        for layer in range(last + 1):
            found = cache.append(layer, *_marked(config, layer, 1, 2, other=True))
            _compare(config, found, layer, [0, -1, -2], "4 tokens, rewind(3), then 2 others")
        cache.rewind(0)
        if cache.num_tokens != 3:
            raise CheckFailed(f"rewind(0) forgets nothing; num_tokens went from 3 to {cache.num_tokens}")

    def refuses_to_rewind() -> None:
        for number in (5, -1):
            cache = make(config, _ROOM)
            passes(cache, 4)
            try:
                cache.rewind(number)
            except ValueError:
                if cache.num_tokens != 4:
                    raise CheckFailed(f"rewind({number}) was refused, but num_tokens is {cache.num_tokens}") from None
                continue
            raise CheckFailed(f"rewind({number}) of 4 tokens raised nothing; num_tokens is now {cache.num_tokens}")

    def resets() -> None:
        cache = make(config, _ROOM)
        passes(cache, 5)
        cache.reset()
        if cache.num_tokens != 0:
            raise CheckFailed(f"after reset() num_tokens is {cache.num_tokens}")
        for layer, found in enumerate(passes(cache, _ROOM)):
            _compare(config, found, layer, list(range(_ROOM)), "after reset(), layer by layer")

    def alone() -> None:
        first, second = make(config, _ROOM), make(config, _ROOM)
        before = [tuple(part.clone() for part in pair) for pair in passes(first, 2)]
        for layer in range(last + 1):
            second.append(layer, *_marked(config, layer, 0, 2, other=True))
        if first.num_tokens != 2 or second.num_tokens != 2:
            raise CheckFailed("a token in one cache was counted in another")
        first.rewind(0)
        again = [first.append(layer, *_marked(config, layer, 2, 1)) for layer in range(last + 1)]
        for old, new in zip(before, again, strict=True):
            if not all(torch.equal(a, b[:, :2]) for a, b in zip(old, new, strict=True)):
                raise CheckFailed("what was put into one cache turned up in another")

    def generates() -> None:
        prompt = llm.tokenizer.encode("The quick brown fox")
        found, expected = _generate(llm.model, make(config, 64), prompt, 12), _naive(llm.model, prompt, 12)
        _same_tokens(found, expected, "the naive loop")

    def continues() -> None:
        prompt = llm.tokenizer.encode("A long way")
        cache = make(config, 64)
        first = _generate(llm.model, cache, prompt, 10)
        cache.rewind(6)  # of the ten, nine are in; the tenth was chosen and not read yet
        again = _generate(llm.model, cache, [first[3]], 6)
        _same_tokens(again, first[4:], "the first time")
        cache.reset()
        other = llm.tokenizer.encode("Nothing at all")
        _same_tokens(
            _generate(llm.model, cache, other, 6), _naive(llm.model, other, 6), "the naive loop, after reset()"
        )

    return run_cases(
        "Core: a cache that goes back, and knows when it's full",
        [
            Case(
                "gives back the keys and values that it got",
                gives_back,
                "append returns what's in the cache for this layer, heads first.",
                "k comes as [tokens, heads, head_dim]: transpose(0, 1) it, and return keys[layer, :, :end], not the "
                "whole reservation and not the new tokens alone.",
            ),
            Case(
                "puts new tokens behind the old ones, in every layer",
                appends,
                "All layers of a pass write to the same places. When does num_tokens grow?",
                "Write to keys[layer, :, num_tokens : num_tokens + len(k)]; let num_tokens grow only after the last "
                "layer, or the next layer writes too far back.",
            ),
            Case(
                "counts a token when its last layer is in",
                counts_once,
                "One token is appended once in each layer, and it's still one token.",
                "if layer == num_layers - 1: self.num_tokens = end.",
            ),
            Case(
                "keeps its memory in one place",
                keeps_memory,
                "Appending must not copy what's there already.",
                "Reserve torch.empty for max_tokens in __init__ and return slices of it; no torch.cat, no clone().",
            ),
            Case(
                "takes exactly as many tokens as it has room for",
                fills_up,
                f"A cache for {_ROOM} tokens holds {_ROOM}.",
                "Refuse if end > max_tokens, not if end >= max_tokens.",
            ),
            Case(
                "refuses what doesn't fit, and says why",
                refuses,
                "Compare before you write, and raise a ValueError that a reader of a log understands.",
                'raise ValueError(f"… holds {max_tokens} tokens; {end} would be needed") before anything is written.',
            ),
            Case(
                "is unharmed by a refusal",
                unchanged,
                "A refused pass leaves the cache as it was.",
                "Do the check first, before the writing and before num_tokens changes.",
            ),
            Case(
                "forgets the last tokens",
                rewinds,
                "rewind(3) forgets three tokens; it doesn't go back to three.",
                "self.num_tokens -= num_tokens. Nothing has to be erased: what comes next is written over it.",
            ),
            Case(
                "refuses to forget more than it has",
                refuses_to_rewind,
                "What should rewind(5) do with 4 tokens? And rewind(-1)?",
                "raise ValueError unless 0 <= num_tokens <= self.num_tokens.",
            ),
            Case(
                "is empty after reset",
                resets,
                "After reset the next token is the first.",
                "self.num_tokens = 0; the memory stays reserved.",
            ),
            Case(
                "shares nothing with another cache",
                alone,
                "Two caches are two texts.",
                "Make the tensors in __init__, as self.keys and self.values, not in the class body.",
            ),
            Case(
                "generates the tokens of the naive loop",
                generates,
                "The decoder calls your cache in each layer: first with the prompt, then with one token at a time.",
                "If all of the above passes, see that __call__ is still as it was given.",
                time_limit=60,
            ),
            Case(
                "goes on rightly after rewind and reset",
                continues,
                "After rewind the same tokens have to come again.",
                "The tokens that stay must keep their keys, and the next one must be written behind them.",
                time_limit=60,
            ),
        ],
    )


def _marked(config: ModelConfig, layer: int, first: int, count: int, *, other: bool = False) -> tuple[Tensor, Tensor]:
    """Keys and values in which every number says where it belongs: layer, token, head, and key or value.

    `other` tokens have negative marks: -1 for the token at position 1, and so on.
    """
    tokens = torch.arange(first, first + count, dtype=torch.float32) * (-1 if other else 1)
    heads = torch.arange(config.num_kv_heads, dtype=torch.float32) / 8
    keys = (1000 * layer + tokens[:, None] + heads)[..., None].expand(-1, -1, config.head_dim)
    return keys.clone(), keys.clone() + 500


def _compare(config: ModelConfig, found: Any, layer: int, tokens: Sequence[int], when: str) -> None:
    """What came back must be the marked keys and values of these tokens, heads first."""
    if not (isinstance(found, Sequence) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)):
        raise CheckFailed(
            f"{when}, append returned {type(found).__name__}; expected a pair of tensors, keys and values"
        )
    for name, part, offset in zip(("keys", "values"), found, (0, 500), strict=True):
        shape = (config.num_kv_heads, len(tokens), config.head_dim)
        if tuple(part.shape) != shape:
            raise CheckFailed(f"{when}, the {name} have the shape {list(part.shape)}; expected {list(shape)}")
        if part[0, 0, 0] == tokens[0] + 1000 * layer + 500 - offset:
            raise CheckFailed(f"{when}, the {name} are the other ones: keys and values are swapped")
        marks = (part[0, :, 0] - offset - 1000 * layer).round().int().tolist()
        if marks != list(tokens):
            raise CheckFailed(f"{when}, the {name} are those of the tokens {_names(marks)}; expected {list(tokens)}")
        if not torch.equal(part, torch.cat([_column(config, layer, token, offset) for token in tokens], dim=1)):
            raise CheckFailed(f"{when}, the {name} of the heads are mixed up")


def _column(config: ModelConfig, layer: int, token: int, offset: int) -> Tensor:
    keys = _marked(config, layer, abs(token), 1, other=token < 0)[0]
    return (keys + offset).transpose(0, 1)


def _names(marks: Sequence[int]) -> str:
    """Marks that were never put in are memory as it was found."""
    return "[" + ", ".join(str(mark) if abs(mark) < 100 else "something else" for mark in marks) + "]"


@torch.inference_mode()
def _generate(model: Decoder, cache: Any, token_ids: Sequence[int], count: int) -> list[int]:
    """Greedy tokens behind those in the cache, through the decoder's attention argument."""
    new, found = list(token_ids), []
    for _ in range(count):
        positions = torch.arange(cache.num_tokens, cache.num_tokens + len(new))
        hidden = model(torch.tensor(new), positions, cache)
        new = [int(model.logits(hidden[-1:]).argmax())]
        found += new
    return found


@torch.inference_mode()
def _naive(model: Decoder, token_ids: Sequence[int], count: int) -> list[int]:
    ids = list(token_ids)
    for _ in range(count):
        hidden = model(torch.tensor(ids), torch.arange(len(ids)), DenseAttention())
        ids.append(int(model.logits(hidden[-1:]).argmax()))
    return ids[len(token_ids) :]


def _same_tokens(found: Sequence[int], expected: Sequence[int], of: str) -> None:
    for position, (token, right) in enumerate(zip(found, expected, strict=True)):
        if token != right:
            raise CheckFailed(f"token {position} is {token}; {of} has {right}")


# -- stretch ----------------------------------------------------------------------------------------------------

_WINDOW, _SINKS = 4, 2


def check_windowed_cache(make: Callable[..., Any]) -> Report:
    """`WindowedKVCache(config, window, num_sinks)`: which tokens are kept, and generation while all are."""
    llm = LLM("tiny-random", device="cpu", dtype="float32")
    config = llm.model.config

    def tokens_kept(cache: Any, count: int) -> Iterator[tuple[int, int, list[int]]]:
        """After each of `count` tokens: its position, the layer, and the tokens that this layer gave back."""
        for position in range(count):
            for layer in range(config.num_layers):
                pair = cache.append(layer, *_marked(config, layer, position, 1))
                if not (isinstance(pair, Sequence) and len(pair) == 2):
                    raise CheckFailed(f"append returned {type(pair).__name__}; expected a pair, keys and values")
                keys, values = pair
                marks = (keys[0, :, 0] - 1000 * layer).round().int().tolist()
                if (values[0, :, 0] - 500 - 1000 * layer).round().int().tolist() != marks:
                    raise CheckFailed(
                        f"after token {position}, layer {layer}: keys and values aren't those of the same tokens"
                    )
                yield position, layer, marks

    def compare(window: int, sinks: int, count: int, from_token: int = 0) -> None:
        cache = make(config, window, sinks)
        for position, layer, marks in tokens_kept(cache, count):
            sink_tokens = range(min(sinks, position + 1))
            expected = sorted({*sink_tokens, *range(max(0, position + 1 - window), position + 1)})
            if position >= from_token and sorted(marks) != expected:
                kind = f"a window of {window}" + (f" and {sinks} sinks" if sinks else "")
                raise CheckFailed(
                    f"{kind}, after token {position} (counted from 0), layer {layer}: it kept {_names(sorted(marks))}; "
                    f"expected {expected}"
                )

    def counts() -> None:
        cache = make(config, _WINDOW, _SINKS)
        for position, layer, _ in tokens_kept(cache, 9):
            expected = position + 1 if layer == config.num_layers - 1 else position
            if cache.num_tokens != expected:
                raise CheckFailed(
                    f"{expected} tokens have come (the last at layer {layer}); num_tokens is {cache.num_tokens}"
                )

    def stays_small() -> None:
        cache = make(config, _WINDOW, _SINKS)
        sizes = []
        for position, layer, _ in tokens_kept(cache, 40):
            if layer == config.num_layers - 1 and position in (19, 39):
                sizes.append(_held_bytes(cache))
        if sizes[1] > sizes[0]:
            raise CheckFailed(f"after 20 tokens it held {sizes[0]:,} bytes of tensors, after 40 tokens {sizes[1]:,}")

    def generates() -> None:
        prompt = llm.tokenizer.encode("The quick brown fox")
        cache = make(config, 60, 4)
        for token in prompt[:-1]:
            _generate(llm.model, cache, [token], 1)
        found = _generate(llm.model, cache, prompt[-1:], 12)
        _same_tokens(found, _naive(llm.model, prompt, 12), "the naive loop")

    return run_cases(
        "Stretch: a cache that forgets",
        [
            Case(
                "keeps everything while it fits",
                lambda: compare(_WINDOW, 0, _WINDOW),
                "Until the window is full, nothing is forgotten.",
                "Return only the places that hold a token, the new one included.",
            ),
            Case(
                "keeps the last tokens, and no more",
                lambda: compare(_WINDOW, 0, 11),
                "The window counts the new token, too.",
                "With a window of 4 and token 9 just in, 6, 7, 8 and 9 stay. In a ring, token n goes to n % window.",
            ),
            Case(
                "keeps the sinks as well",
                lambda: compare(_WINDOW, _SINKS, 13),
                "The first num_sinks tokens never leave, and they come on top of the window.",
                "Give the sinks places of their own, and let only tokens from num_sinks on go round in the ring: "
                "num_sinks + (n - num_sinks) % window.",
            ),
            Case(
                "counts all tokens that came",
                counts,
                "num_tokens is the next token's position, and forgetting doesn't change positions.",
                "Let num_tokens grow by one after the last layer, and never shrink.",
            ),
            Case(
                "doesn't grow with the text",
                stays_small,
                "Forgotten tokens must not stay in memory.",
                "Reserve num_sinks + window places and write over the oldest; a slice of a long tensor holds it all.",
            ),
            Case(
                "generates the tokens of the naive loop while all fit",
                generates,
                "The decoder calls your cache in each layer, one token at a time.",
                "If all of the above passes, see that __call__ is still as it was given.",
                time_limit=60,
            ),
        ],
    )


def _held_bytes(thing: Any) -> int:
    """Bytes of all tensors that an object holds, in lists and dicts too; shared storage counts once."""
    storages: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, Mapping):
            for each in value.values():
                visit(each)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            for each in value:
                visit(each)

    visit(vars(thing))
    return sum(storages.values())


CHECKS: Mapping[str, Callable[..., Report]] = {
    "warm-up": check_kv_bytes_per_token,
    "core": check_contiguous_cache,
    "stretch": check_windowed_cache,
}
