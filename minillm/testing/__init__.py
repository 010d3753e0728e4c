"""Conformance suites: what your own component must do before it serves requests, one line per behavior."""

from minillm.testing.attention_backends import check_attention_backend
from minillm.testing.block_allocators import check_block_allocator
from minillm.testing.prefix_caches import check_prefix_cache
from minillm.testing.report import Behavior, Case, CheckFailed, Report, ReportFailedError, run_cases
from minillm.testing.samplers import check_sampler
from minillm.testing.schedulers import check_scheduler

__all__ = [
    "Behavior",
    "Case",
    "CheckFailed",
    "Report",
    "ReportFailedError",
    "check_attention_backend",
    "check_block_allocator",
    "check_prefix_cache",
    "check_sampler",
    "check_scheduler",
    "run_cases",
]
