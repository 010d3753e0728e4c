"""How many requests at once: as many as the server takes, found out by asking.

The same rule shares the internet's lines (additive increase, multiplicative decrease; Chiu and Jain, Computer Networks
and ISDN Systems 17:1, 1989): a little more while all goes well, half as much when the server says that it's full.
"""

from __future__ import annotations

import asyncio
import time

from minillm.evaluation.errors import EvaluationError


class AdaptiveLimit:
    """A number of places that grows and shrinks. Belongs to one event loop.

    Attributes:
        value: the limit now; requests may be in flight up to its whole part.
        in_flight: places that are taken.
        num_overloads: how often the server said that it's full.
    """

    def __init__(self, start: int = 4, maximum: int = 64) -> None:
        """Begins with `start` places and never has more than `maximum`.

        Raises:
            EvaluationError: unless 1 ≤ start ≤ maximum.
        """
        if not 1 <= start <= maximum:
            raise EvaluationError(f"start is {start} and maximum {maximum}; expected 1 ≤ start ≤ maximum.")
        self.value, self.maximum = float(start), maximum
        self.in_flight = self.num_overloads = 0
        self._resume_at = 0.0
        self._round = 0
        self._changed = asyncio.Condition()

    async def acquire(self) -> int:
        """Waits for a place, and for the end of the pause that the server asked for.

        Returns:
            the round of the place, to be passed to `release`.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self.in_flight < int(self.value))
            self.in_flight += 1
        try:
            while (wait := self._resume_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self.in_flight -= 1
            raise
        return self._round

    async def release(self, round_: int, *, succeeded: bool = False, retry_after: float | None = None) -> None:
        """Gives a place back, and says how it went.

        Args:
            round_: from `acquire`.
            succeeded: an answer came. The limit grows by one when as many as it allows have come.
            retry_after: the server was full, and asked to wait so many seconds. The limit halves, but only once for the
                requests that were in flight together: their refusals all tell the same.
        """
        async with self._changed:
            self.in_flight -= 1
            if succeeded:
                self.value = min(self.maximum, self.value + 1 / int(self.value))
            if retry_after is not None:
                self.num_overloads += 1
                self._resume_at = max(self._resume_at, time.monotonic() + retry_after)
                if round_ == self._round:
                    self._round += 1
                    self.value = max(1.0, self.value / 2)
            self._changed.notify_all()
