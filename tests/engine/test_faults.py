"""Ten thousand steps in which anything may happen, and nothing leaks."""

from __future__ import annotations

import random
from typing import Any

from minillm import SamplingParams
from minillm.attention import TorchBackend
from minillm.engine import Engine, EngineConfig
from minillm.engine.engine import Event
from minillm.engine.request import RequestOutput
from minillm.errors import EngineOverloadedError, MinillmError

STEPS = 10_000


class Unreliable:
    """A backend that now and then runs out of memory."""

    name = "unreliable"

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.inner, self.failures = chance, TorchBackend(), 0

    def forward(self, *arguments: Any) -> Any:
        if self.chance.random() < 0.002:
            self.failures += 1
            raise MemoryError("no memory for this step")
        return self.inner.forward(*arguments)


def test_aborts_overload_and_failures_in_any_order_leak_nothing() -> None:
    chance = random.Random(7)
    backend = Unreliable(random.Random(8))
    config = EngineConfig(
        device="cpu", num_blocks=20, block_size=4, max_num_seqs=5, max_num_batched_tokens=24, max_num_waiting=6
    )
    engine = Engine("tiny-random", config, attention_backend=backend, kernels="torch")
    ended: dict[str, list[Event]] = {}
    counts = dict.fromkeys(("added", "refused", "too large", "aborted"), 0)
    for step in range(STEPS):
        if chance.random() < 0.2:
            tokens = [40 + chance.randrange(3) for _ in range(chance.choice([1, 3, 4, 5, 9, 30, 70, 100]))]
            params = SamplingParams(max_tokens=chance.choice([1, 2, 9, 40]), n=chance.choice([1, 1, 1, 3]))
            events: list[Event] = []
            try:
                name = engine.add_request(tokens, params, events.append, tenant=chance.choice("ab"))
                ended[name] = events
                counts["added"] += 1
            except EngineOverloadedError:
                counts["refused"] += 1
            except MinillmError:
                counts["too large"] += 1
        if chance.random() < 0.03 and ended:
            counts["aborted"] += engine.abort(chance.choice(list(ended)))
        if chance.random() < 0.001:
            engine.fail_all(MinillmError("killed"))
        engine.step()
        if step % 100 == 0:
            engine.kv.check_integrity()
    while engine.has_unfinished:
        engine.step()
    assert all(counts.values()), counts
    assert backend.failures > 5
    finished = [events for events in ended.values() if events and isinstance(events[-1], RequestOutput)]
    assert len(finished) > 200
    engine.kv.check_integrity()
    usage = engine.kv.usage()
    assert (usage.referenced, usage.free + usage.cached) == (0, usage.total)
    assert engine.scheduler.num_waiting == engine.scheduler.num_running == 0
