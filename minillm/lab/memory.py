"""How much memory a computation needs at its peak, as PyTorch's own allocator counts it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import torch


def peak_bytes(function: Callable[..., object], *arguments: object) -> int:
    """The most bytes that tensors made during `function(*arguments)` held at once; what was there before doesn't count.

    On a GPU the allocator keeps this number. On a CPU the profiler notes each allocation and each release. What a
    library allocates by itself, NumPy for one, isn't seen.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        on_cpu = _cpu_peak(function, arguments)
        torch.cuda.synchronize()
        return max(on_cpu, torch.cuda.max_memory_allocated() - before)
    return _cpu_peak(function, arguments)


def _cpu_peak(function: Callable[..., object], arguments: tuple[object, ...]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler would write its start and stop to the terminal
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = function(*arguments)
        del result
    events = profiler.profiler.kineto_results.events() if profiler.profiler else []
    now = peak = 0
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
