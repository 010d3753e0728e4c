"""A trace without a model: the real scheduler and the real KV cache manager, with made-up tokens and times."""

from __future__ import annotations

import random

from minillm.engine import EngineConfig, Request
from minillm.engine.request import RequestStatus
from minillm.engine.scheduler import FairScheduler
from minillm.engine.trace import Tracer
from minillm.kv import KVCacheManager
from minillm.sampling import SamplingParams


def simulate(
    num_requests: int = 8,
    *,
    num_blocks: int = 16,
    seed: int = 0,
    budget: int = 48,
    max_num_seqs: int = 8,
    cached_blocks: bool = True,
    limit: int = 2_000,
    abort: int | None = None,
) -> Tracer:
    """Requests of two tenants with a shared beginning, one every other step; number `abort` (to 3) leaves in step 6."""
    now, step = 100.0, 0
    draw = random.Random(seed)
    kv = KVCacheManager(num_blocks, 16, debug=True)
    config = EngineConfig(max_num_seqs=max_num_seqs, max_num_batched_tokens=budget, num_blocks=num_blocks)
    scheduler = FairScheduler(config, kv)
    tracer = Tracer(limit, fingerprint="simulated", cached_blocks=cached_blocks, clock=lambda: now)
    coming = [
        Request(
            f"request-{i}",
            [*range(16), *(draw.randrange(1000) for _ in range(draw.randrange(4, 90)))],
            SamplingParams(max_tokens=1000),
            max_num_tokens=0,
            tenant="ab"[i % 2],
            arrival=i,
        )
        for i in range(num_requests)
    ]
    for request in coming:
        request.max_num_tokens = request.num_tokens + draw.randrange(10, 60)
    alive = list(coming)
    while alive:
        if coming and step % 2 == 0:
            scheduler.add(coming[0])
            tracer.on_arrival(coming.pop(0).request_id, now)
        output = scheduler.schedule()
        trace = tracer.begin(step, now, output, scheduler, kv)
        scheduler.update(output)
        ended = {request.request_id: "length" for request in output.outgrown}
        for item in output.scheduled:
            request = item.request
            if request.num_computed_tokens == request.num_tokens:
                request.token_ids.append(draw.randrange(1000))
                if request.num_tokens >= request.max_num_tokens:
                    ended[request.request_id] = "length"
        if abort is not None and step == 6:
            ended[f"request-{abort}"] = "abort"
        for request in [each for each in alive if each.request_id in ended]:
            scheduler.finish(request)
            request.status = RequestStatus.FINISHED
            tracer.on_finish(request.request_id, ended[request.request_id])
            alive.remove(request)
        seconds = 0.004 + 0.0002 * output.num_tokens
        start, now, step = now, now + seconds, step + 1
        tracer.end(trace, start + 0.1 * seconds, start + 0.8 * seconds, start + 0.9 * seconds, scheduler)
    return tracer
