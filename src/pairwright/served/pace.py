"""When the next call may go out."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from pairwright.served.record import Manners


class Pace:
    """The rate limit, the waits after faults, and the pauses that a server asks for. All calls of a job share it.

    Args:
        manners: rate and waits.
        clock: seconds that only rise.
        sleep: waits so many of them.
    """

    def __init__(
        self,
        manners: Manners,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._manners, self._clock, self._sleep = manners, clock, sleep
        self._spacing = 60.0 / manners.rate if manners.rate else 0.0
        self._next = self._open = clock()

    async def turn(self) -> None:
        """Wait until a call may go out; each caller has a time of its own, evenly spaced."""
        while True:
            start = max(self._clock(), self._next, self._open)
            self._next = start + self._spacing
            await self._sleep(start - self._clock())
            if self._clock() >= self._open:  # else the server asked for a pause meanwhile
                return

    def pause(self, seconds: float) -> None:
        """Let no call out for so long: what a server asks of one call it means for all."""
        self._open = max(self._open, self._clock() + seconds)

    async def back_off(self, attempt: int) -> None:
        """Wait before another attempt at a call, the first of which has number 1."""
        await self._sleep(back_off(attempt, self._manners, random.random()))


def back_off(attempt: int, manners: Manners, drawn: float) -> float:
    """Seconds before a further attempt: half to all of first_wait * 2 ** (attempt - 1), at most longest_wait.

    Args:
        attempt: 1 for the first further one.
        manners: the waits.
        drawn: in [0, 1), so that calls which failed together do not come back together.
    """
    whole = min(manners.longest_wait, manners.first_wait * 2.0 ** min(attempt - 1, 60))
    return whole * (0.5 + 0.5 * drawn)
