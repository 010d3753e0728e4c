"""`check_attention_backend`: what attention over the paged cache must do before a model runs on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minillm.attention import AttentionBackend
from minillm.errors import MinillmError
from minillm.kernels.reference import rotate
from minillm.testing.attention_batches import KINDS, KV_HEAD, MISSING, TOLERANCE, WEIGHTS, Hints, Scene, same, tensors
from minillm.testing.report import Behavior, Case, CheckFailed, Report, run_cases

TURN: Hints = (
    "The turning by RoPE is off: compare with minillm.kernels.reference.rotate.",
    "Row t is turned by cos[t] and sin[t]: first, second = x.chunk(2, dim=-1); x * cos + torch.cat((-second, first), "
    "dim=-1) * sin, with cos and sin as [num_tokens, 1, head_dim].",
)
SCALE: Hints = (
    "The scores have the wrong size before the softmax.",
    "Multiply q · k by head_dim ** -0.5, once. With F.scaled_dot_product_attention that's done already.",
)
TOP_LEFT: Hints = (
    "A chunk's queries don't see all of the text before the chunk.",
    "Row j of n new ones stands at position seq_lens[i] - n + j, not at j. The mask is torch.ones(n, length).tril("
    "length - n); is_causal=True of scaled_dot_product_attention starts at the upper left and is right only for n == "
    "length.",
)
ORDER: Hints = (
    "Keys are read from other places than the block table says.",
    "Token p of sequence i lies in block block_tables[i, p // block_size] at p % block_size. Blocks lie anywhere in "
    "the pool: gather them by the table, key_cache[block_tables[i, :n]], instead of slicing from the first.",
)
OVERFLOW: Hints = (
    "exp of a large score is infinite, and of a very negative one 0.",
    "Subtract the row's largest score before exp: weights = (scores - scores.amax(-1, keepdim=True)).exp(), then "
    "divide by their sum. Over tiles, shrink what was summed so far when a higher score turns up.",
)
LONG: Hints = (
    "With a long text something gets lost that's there in a short one.",
    "Look at what works in tiles or parts: is the last, partly filled one taken; is what was summed so far shrunk by "
    "exp(old maximum - new maximum) when a higher score turns up; is there a fixed limit to the length?",
)
SLOTS: Hints = (
    "Keys and values go to other places in the cache than slot_mapping says.",
    "block, offset = slot // block_size, slot % block_size; key_cache[block, :, offset] = k. The slot isn't the "
    "position in the text and not the row in the batch, and one block more or less in the table changes nothing.",
)


def check_attention_backend(
    backend: AttentionBackend | Callable[[], AttentionBackend], *, device: str = "cpu"
) -> Report:
    """Checks an attention backend against the protocol `minillm.attention.AttentionBackend`, by what it computes only.

    A backend may refuse a dtype with a `MinillmError`; float32 it has to take.

    Args:
        backend: an instance, or a class (or another maker) that is called without arguments.
        device: where the tensors lie that it gets.

    Returns:
        The report, a line per behavior. `report.raise_if_failed()` raises it, `report.hint()` says more.
    """
    name = getattr(backend, "__name__", type(backend).__name__)
    suite, behaviors = _Suite(backend, device), list[Behavior]()
    # Each stage rests on the one before it. While that fails, the later lines would only mislead.
    *foundations, others = suite.stages()
    for stage in foundations:
        behaviors += run_cases(name, stage).behaviors
        if not all(behavior.passed for behavior in behaviors):
            return Report(f"attention backend {name} (more follows once this holds)", behaviors)
    return Report(f"attention backend {name}", behaviors + run_cases(name, others).behaviors)


class _Suite:
    """The behaviors. Angles are 0, blocks side by side and full, but where a case is about just that."""

    def __init__(self, backend: Any, device: str) -> None:
        self._given, self._device = backend, device
        self._scene = partial(Scene, device=device)

    def _new(self) -> AttentionBackend:
        given = self._given
        backend: AttentionBackend = given() if isinstance(given, type) or not hasattr(given, "forward") else given
        return backend

    def stages(self) -> list[list[Case]]:
        """All behaviors, the simple ones first."""
        others = [*self._text_cases(), *self._size_cases(), *self._manner_cases(), self._engine_case()]
        slots, *stored = self._write_cases()
        return [self._call_cases(), [slots], stored, self._mean_cases(), self._query_cases(), others]

    # -- the call -----------------------------------------------------------------------------------------------

    def _call_cases(self) -> list[Case]:
        return [
            Case(
                "has a name and a method forward that returns a tensor of q's shape and dtype",
                self._call,
                "A backend is built without arguments. It returns [num_tokens, num_heads, head_dim].",
                "class MyBackend: name = 'mine'; def forward(self, q, k, v, cos, sin, key_cache, value_cache, "
                "metadata): …; return out, with out = torch.zeros_like(q) to begin with.",
            )
        ]

    def _call(self) -> None:
        backend = self._new()
        if not isinstance(getattr(backend, "name", None), str):
            raise CheckFailed(f"an object of the class {type(backend).__name__} has no name, which is a text")
        arguments = self._scene([(4, 4)], num_heads=4).build()
        q, out = arguments["q"], backend.forward(*arguments.values())
        if not isinstance(out, Tensor):
            raise CheckFailed(f"forward returned {type(out).__name__}; expected a tensor")
        if (out.shape, out.dtype) != (q.shape, q.dtype):
            raise CheckFailed(
                f"for q of {list(q.shape)} {q.dtype}, forward returned {list(out.shape)} {out.dtype}; expected the same"
            )

    # -- the cache ----------------------------------------------------------------------------------------------

    def _write_cases(self) -> list[Case]:
        return [
            Case("writes each new token at its slot and nowhere else", self._slots, *SLOTS),
            Case("keys are turned by the angles given before they are stored", self._keys, *TURN),
            Case(
                "values are stored as they are",
                self._values,
                "Values carry no position, so they aren't turned or changed in any other way.",
                "Only q and k go through rotate; value_cache gets v itself, at the slots of the keys.",
            ),
        ]

    def _slots(self) -> None:
        for scattered in (False, True):
            for texts in ([(1, 1)], [(3, 3)], [(6, 6)], [(6, 1)], [(4, 4), (3, 3)], [(6, 2), (5, 2)]):
                self._check_slots(self._scene(texts, scattered=scattered))

    def _check_slots(self, scene: Scene, **how: Any) -> None:
        arguments = scene.build(**how)
        self._new().forward(*arguments.values())
        new, size = [int(scene.slots[row]) for row in scene.rows], scene.block_size
        for name in ("key_cache", "value_cache"):
            changed = ~same(arguments[name], scene.before[name]).transpose(1, 2).flatten(2).all(-1).flatten()
            found = changed.nonzero()[:, 0].tolist()
            if not found:
                raise CheckFailed(
                    f"{scene}: nothing was written to {name}",
                    hint="The cache given is the one that counts: write into it.",
                    strong_hint="Assign to its elements, key_cache[block, :, offset] = k. The result of "
                    "key_cache[blocks] or of reshape may be a copy, and what is written into a copy is lost.",
                )
            if set(found) != set(new):
                missing = [slot for slot in new if slot not in found] or "no slot"
                extra = [slot for slot in found if slot not in new] or "no slot"
                raise CheckFailed(
                    f"{scene}: slot_mapping is {arguments['metadata'].slot_mapping.tolist()}; in {name}, {extra} was "
                    f"written to beside that, and {missing} was left out (slot {new[0]} is block {new[0] // size}, "
                    f"offset {new[0] % size})"
                )

    def _keys(self) -> None:
        scene = self._scene([(4, 4)], num_heads=1, num_kv_heads=1, turned=True)
        found = self._stored(scene, "key_cache")
        if _close(found, scene.turned_keys()):
            return
        hint, strong = _turning_mistake(found, scene)
        at = int((found - scene.turned_keys()).abs().flatten(1).amax(1).nan_to_num(1e9).gt(TOLERANCE).nonzero()[0])
        raise CheckFailed(
            f"{scene}: of {scene.name(at)} the stored key begins with {_numbers(found[at, 0, :4])}; expected "
            f"{_numbers(scene.turned_keys()[at, 0, :4])} (the key given begins with {_numbers(scene.k[at, 0, :4])})",
            hint=hint,
            strong_hint=strong,
        )

    def _values(self) -> None:
        scene = self._scene([(4, 4)], turned=True)
        scene.v = torch.randn(scene.v.shape, generator=torch.Generator().manual_seed(0))
        found = self._stored(scene, "value_cache")
        if not _close(found, scene.v):
            hint = "The values were turned like keys." if _close(found, rotate(scene.v, scene.cos, scene.sin)) else None
            raise CheckFailed(
                f"{scene}: of A0 the stored value begins with {_numbers(found[0, 0, :4])}; expected "
                f"{_numbers(scene.v[0, 0, :4])}",
                hint=hint,
            )

    def _stored(self, scene: Scene, name: str) -> Tensor:
        """What lies at the slots of the scene's tokens after the call: [num_tokens, num_kv_heads, head_dim]."""
        arguments = scene.build()
        self._new().forward(*arguments.values())
        cache: Tensor = arguments[name].cpu()
        return cache[scene.slots // scene.block_size, :, scene.slots % scene.block_size]

    # -- the mean -----------------------------------------------------------------------------------------------

    def _mean_cases(self) -> list[Case]:
        return [
            Case("a query finds the mean of the values, weighted by softmax(q · k / √head_dim)", self._mean, *SCALE)
        ]

    def _mean(self) -> None:
        for head_dim in (16, 64):
            scene = self._scene([(4, 1)], num_heads=1, num_kv_heads=1, head_dim=head_dim)
            scene.run(self._new(), {"weights": SCALE})

    def _query_cases(self) -> list[Case]:
        return [
            Case(
                "queries are turned by the angles given",
                lambda: self._runs([[(4, 1)]], {"weights": TURN}, turned=True),
                *TURN,
            ),
            Case(
                "a query sees the text up to itself, and nothing after it",
                lambda: self._runs([[(2, 2)], [(4, 4)]], num_heads=1, num_kv_heads=1, block_size=2),
                "Each query of a prompt has a different end to what it sees.",
                "Mask the scores where the key's position is greater than the query's, before the softmax.",
            ),
            Case("each query head reads the KV head of its group", self._groups, *KV_HEAD),
        ]

    def _groups(self) -> None:
        for heads, kv_heads in ((2, 2), (4, 2), (6, 2), (4, 1), (6, 3)):
            self._runs([[(4, 1)]], num_heads=heads, num_kv_heads=kv_heads)

    def _runs(
        self, examples: Sequence[list[tuple[int, int]]], hints: dict[str, Hints] | None = None, **options: Any
    ) -> None:
        for texts in examples:
            self._scene(texts, **options).run(self._new(), hints)

    # -- texts --------------------------------------------------------------------------------------------------

    def _text_cases(self) -> list[Case]:
        chunks: list[list[tuple[int, int]]] = [[(8, 4)], [(8, 3)], [(12, 5)]]
        partial_blocks: list[list[tuple[int, int]]] = [[(1, 1)], [(3, 1)], [(2, 2)], [(6, 6)]]
        ordered = dict.fromkeys(("unwritten", "missing", "weights", "foreign", "future"), ORDER)
        return [
            Case(
                "a chunk sees what came before it",
                lambda: self._runs(chunks, {"missing": TOP_LEFT}),
                *TOP_LEFT,
            ),
            Case(
                "a text's blocks may lie in any order",
                lambda: self._runs([[(8, 1)], [(12, 1)], [(12, 12)]], ordered, scattered=True),
                *ORDER,
            ),
            Case(
                "each sequence sees its own text only",
                lambda: self._runs([[(4, 1), (4, 1)], [(4, 4), (4, 4)], [(4, 1), (8, 1)], [(8, 8), (4, 4)]]),
                "Rows of several sequences lie one after another in q, k and v.",
                "Go through the sequences: rows query_start_loc[i] to query_start_loc[i + 1], block_tables[i], "
                "seq_lens[i].",
            ),
            Case(
                "what lies behind a text in its last block isn't seen",
                lambda: self._runs(partial_blocks),
                "The last block of a text is rarely full.",
                "Cut the gathered keys and values to seq_lens[i], before or in the mask.",
            ),
            Case(
                "it isn't seen even if it is NaN",
                lambda: self._runs(partial_blocks, unwritten=float("nan")),
                "The cache's memory isn't cleared before it's used, so anything may lie behind a text, NaN too.",
                "0 * NaN is NaN, so a weight of 0 doesn't hide a value: cut to seq_lens, or mask the values as well.",
            ),
            Case(
                "prefill, chunks and single tokens go together in one call",
                self._mixes,
                "Nothing may depend on what else is in the batch, nor on where in it a sequence stands.",
                "A batch isn't either prefill or decode: with query_start_loc one code path serves any number of new "
                "tokens of a sequence.",
            ),
            Case("a text gives the same in one go, in chunks and token by token", self._agree, *MISSING),
        ]

    def _mixes(self) -> None:
        self._runs([[(4, 4), (4, 1)], [(4, 4), (4, 2), (4, 1)]])
        for seed in range(60):
            rng = random.Random(seed)
            lengths = [rng.randint(1, 5 + seed // 20 * 4) for _ in range(rng.randint(1, 4))]
            texts = [(length, rng.choice((1, length, rng.randint(1, length)))) for length in lengths]
            kv_heads = rng.choice((1, 2, 3))
            self._scene(
                texts,
                num_heads=kv_heads * rng.choice((1, 2, 3)),
                num_kv_heads=kv_heads,
                head_dim=64,
                block_size=rng.choice((4, 8, 16)),
                turned=True,
                scattered=True,
                seed=seed,
            ).run(self._new())

    def _agree(self) -> None:
        backend = self._new()
        for news in ([11], [4, 4, 3], [5, 1, 5], [1] * 11):
            caches: dict[str, Tensor] = {}
            for i, new in enumerate(news):
                scene = self._scene([(11, 11)], turned=True, scattered=True)
                scene.cut(sum(news[: i + 1]), new)
                arguments = scene.build() | caches
                caches = {name: arguments[name] for name in ("key_cache", "value_cache")}
                try:
                    scene.compare(backend.forward(*arguments.values()))
                except CheckFailed as error:
                    parts = ", ".join(map(str, news[: i + 1]))
                    raise CheckFailed(
                        f"a text comes in parts of {parts} tokens, each with what was stored before: {error}",
                        hint=error.hint,
                        strong_hint=error.strong_hint,
                    ) from None

    # -- sizes --------------------------------------------------------------------------------------------------

    def _size_cases(self) -> list[Case]:
        return [
            Case("finds a token anywhere in a long text", self._needle, *LONG),
            Case("takes the mean over a long text", self._long_mean, *LONG),
            Case("large scores don't overflow", self._large, *OVERFLOW),
        ]

    def _needle(self) -> None:
        length = 3000
        for new in (1, 3):
            for place in (0, 255, 256, 1023, 2500, length - new):
                scene = self._scene([(length, new)], block_size=16, num_kv_heads=1, scattered=True)
                scene.q[:], scene.k[:], scene.v[:] = 0, 0, 0
                scene.q[..., 0], scene.k[place, :, 0], scene.v[place, :, 0] = 4, 40, 1
                found = self._new().forward(*scene.build().values()).cpu()[:, :, 0].min()
                if not abs(found - 1) < 0.01:
                    raise CheckFailed(
                        f"a text of {length} tokens, the last {new} new; the queries match the key of token {place} "
                        f"and no other, so its weight is 1.00; found {found:.2f}"
                    )

    def _long_mean(self) -> None:
        for length in (17, 100, 300, 1000, 3000):
            scene = self._scene([(length, 1)], block_size=16, scattered=True)
            scene.k[:], scene.v[:] = 0, 0
            scene.v[..., 0] = torch.arange(length)[:, None] / length
            found, expected = self._new().forward(*scene.build().values()).cpu()[0, 0, 0], scene.expected()[0, 0, 0]
            if not abs(found - expected) < 0.2 / length:
                raise CheckFailed(
                    f"a text of {length} tokens with equal keys, and values that rise from 0 to 1; the last query "
                    f"finds {found:.4f}; expected their mean, {expected:.4f}"
                )

    def _large(self) -> None:
        # Products of few bits, so that every score is exact in any float format.
        for size in (20.0, -20.0):
            scene = self._scene([(4, 1)], num_heads=1, num_kv_heads=1)
            scene.q[:], scene.k[:] = 0, 0
            scene.q[..., 0] = 512
            scene.k[:, 0, 0] = torch.tensor([size, 2 * size, size, 2 * size])
            try:
                scene.run(self._new(), dict.fromkeys(KINDS, OVERFLOW))
            except CheckFailed as error:
                scores = ", ".join(f"{512 * key / 4:g}" for key in scene.k[:, 0, 0].tolist())
                raise CheckFailed(
                    f"the scores are {scores}; {error}", hint=error.hint, strong_hint=error.strong_hint
                ) from None

    # -- manners ------------------------------------------------------------------------------------------------

    def _manner_cases(self) -> list[Case]:
        return [
            Case(
                "q, k and v may be views of one tensor",
                lambda: self._scene([(4, 4)], num_heads=4).run(self._new(), views=True),
                "The model computes q, k and v in one product, so each is a part of its rows, with gaps in memory.",
                "view() needs tensors without gaps, and a kernel has to use stride(0) of each: reshape(), or "
                "contiguous() first.",
            ),
            Case(
                "the result has q's dtype, whatever the cache's is",
                self._dtypes,
                "Queries and cache may have other dtypes than float32, and different ones.",
                "Convert on writing, k.to(key_cache.dtype), and on reading, keys.to(q.dtype); return out.to(q.dtype). "
                "What it can't do, a backend refuses with a MinillmError.",
            ),
            Case(
                "leaves its inputs as they were",
                self._inputs,
                "All but the two caches belongs to the caller, who may use it again.",
                "x *= cos, x.mul_(cos), masked_fill_ and assignments to slices change the tensor that was given. Use x "
                "* cos, or clone() it first.",
            ),
            Case(
                "a padding row (slot -1, of a sequence of length 0) is neither written nor in the way",
                self._padding,
                "Batches are padded to sizes for which a CUDA graph was recorded. Slot -1 means: nothing to write.",
                "-1 // block_size is -1 too, which is the pool's last block. Take the rows with slot_mapping >= 0 "
                "only. What is returned for a padding row doesn't matter.",
            ),
        ]

    def _dtypes(self) -> None:
        half = torch.bfloat16
        for dtype, cache_dtype in ((half, half), (torch.float32, half)):
            scene = self._scene([(4, 4)])
            arguments = scene.build(dtype=dtype, cache_dtype=cache_dtype)
            what = f"q of {dtype} with a cache of {cache_dtype}"
            try:
                out = self._new().forward(*arguments.values())
            except MinillmError:  # it says that it can't
                continue
            if out.dtype != dtype:
                raise CheckFailed(f"{what} gave a result of {out.dtype}")
            try:
                scene.compare(out, {"weights": WEIGHTS}, tolerance=0.05)
            except CheckFailed as error:
                raise CheckFailed(f"{what}: {error}", hint=error.hint, strong_hint=error.strong_hint) from None

    def _inputs(self) -> None:
        scene = self._scene([(4, 4)], turned=True)
        arguments = scene.build()
        self._new().forward(*arguments.values())
        for name, value in tensors(arguments).items():
            if not name.endswith("_cache") and not same(value, scene.before[name]).all():
                raise CheckFailed(f"{scene}: after the call, {name} is another than before")

    def _padding(self) -> None:
        for texts in ([(4, 1)], [(4, 1), (3, 1)]):
            for padding in (1, 3):
                scene = self._scene(texts)
                self._check_slots(scene, padding=padding)
                scene.run(self._new(), padding=padding)

    # -- the engine ---------------------------------------------------------------------------------------------

    def _engine_case(self) -> Case:
        return Case(
            "the engine generates the same tokens with it as with the reference",
            self._engine,
            "It serves real requests, in a model with several layers, whose prompts come in chunks.",
            "Each layer has a cache of its own: keep nothing of one call for the next. If all other lines pass, "
            "compare with TorchBackend call by call.",
            time_limit=60,
        )

    def _engine(self) -> None:
        from minillm.engine import LLM  # takes a while, and all else does without it
        from minillm.sampling import SamplingParams

        prompts = ["The cat", "Blocks lie anywhere in the pool, and the table finds them. " * 2, "The cat sat on"]
        params = SamplingParams(temperature=0, max_tokens=24)
        texts = []
        for backend in ("torch", self._new()):
            llm = LLM(
                "tiny-random",
                attention_backend=backend,
                device=self._device,
                dtype="float32",
                num_blocks=64,
                max_num_batched_tokens=24,
            )
            texts.append([output.token_ids for output in llm.generate(prompts, params)])
        for prompt, expected, found in zip(prompts, *texts, strict=True):
            if found != expected:
                at = next((i for i, (one, other) in enumerate(zip(found, expected, strict=False)) if one != other), 0)
                raise CheckFailed(
                    f"{prompt!r} went on with the tokens {found[: at + 1][-4:]}, from output token {max(0, at - 3)} "
                    f"on; expected {expected[: at + 1][-4:]}"
                )


def _turning_mistake(found: Tensor, scene: Scene) -> Hints:
    """Which known mistake turned the scene's keys into what was found in the cache."""
    k, cos, sin = scene.k, scene.cos, scene.sin
    pairs = torch.stack((-k[..., 1::2], k[..., 0::2]), dim=-1).flatten(-2)
    # Interleaved pairs come with each angle twice in a row, or with the halves as they are given.
    spread = [table[:, : table.shape[1] // 2].repeat_interleave(2, dim=1)[:, None] for table in (cos, sin)]
    if _close(found, k):
        return "The keys are stored as they came, not turned.", "Store rotate(k, cos, sin), and turn q as well."
    if _close(found, rotate(k, cos, -sin)):
        return "The keys are turned backwards.", f"It's torch.cat((-second, first)), not (second, -first). {TURN[1]}"
    if _close(found, k * spread[0] + pairs * spread[1]) or _close(found, k * cos[:, None] + pairs * sin[:, None]):
        return (
            "The keys are turned, but with the wrong dimensions paired.",
            f"Dimension i is paired with i + head_dim / 2, not with its neighbour. {TURN[1]}",
        )
    if _close(found, rotate(scene.turned_keys(), cos, sin)):
        return "The keys are turned twice.", "Turn them once, before they're written to the cache."
    return TURN


def _close(one: Tensor, other: Tensor) -> bool:
    return bool(((one.float() - other).abs() <= TOLERANCE).all())


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())
