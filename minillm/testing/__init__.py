"""Conformance suites: what your own component must do before it serves requests, one line per behavior."""

from minillm.testing.report import Behavior, Case, CheckFailed, Report, ReportFailedError, run_cases
from minillm.testing.samplers import check_sampler

__all__ = ["Behavior", "Case", "CheckFailed", "Report", "ReportFailedError", "check_sampler", "run_cases"]
