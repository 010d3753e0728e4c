"""Peak memory, as PyTorch's allocator counts it."""

from __future__ import annotations

import pytest
import torch

from minillm.lab import peak_bytes

MEGABYTE = 250_000  # float32 numbers


def test_what_lives_at_the_same_time_counts_together() -> None:
    def two_at_once() -> torch.Tensor:
        return torch.ones(MEGABYTE) + torch.ones(MEGABYTE)

    assert peak_bytes(two_at_once) == pytest.approx(3e6, rel=0.01)  # both, and the sum


def test_what_was_released_does_not_count() -> None:
    def one_after_the_other() -> None:
        for _ in range(5):
            torch.ones(MEGABYTE)

    assert peak_bytes(one_after_the_other) == pytest.approx(1e6, rel=0.01)


def test_what_was_there_before_does_not_count_and_arguments_are_passed_on() -> None:
    x = torch.ones(10 * MEGABYTE)
    assert peak_bytes(torch.Tensor.sum, x) < 1e5
    assert peak_bytes(lambda: None) == 0


def test_an_error_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        peak_bytes(lambda: 1 // 0)


def test_the_profiler_keeps_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    peak_bytes(torch.ones, 10)
    assert capfd.readouterr().err == ""
