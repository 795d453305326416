"""Ten minutes are enough for nobody's every wish: what time each suite has, and each measurement."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from streamdrnn.apps.bench.timing import Run

TOTAL_SECONDS = 540.0
"""After this no further comparison begins; one that has begun ends, with what it must compile."""
SECONDS_EACH = 0.3
"""What each contender's timed turns of one comparison may take, unless so few turns are too few."""
FEWEST_TURNS = 3


class Deadline(NamedTuple):
    """A time after which nothing new begins.

    Attributes:
        until: in seconds, on the clock ``now``.
    """

    until: float
    now: Callable[[], float] = time.monotonic

    @property
    def over(self) -> bool:
        return self.now() >= self.until


class Allowance:
    """A time that suites share by their weights; what one leaves goes to those after it.

    Args:
        seconds: for all.
        weights: of the suites, in the order in which they will begin.
        now: the time in seconds.
    """

    def __init__(self, seconds: float, weights: Mapping[str, float], now: Callable[[], float] = time.monotonic) -> None:
        self._end = now() + seconds
        self._weights = dict(weights)
        self._now = now

    def begin(self, suite: str) -> Deadline:
        """The deadline of a suite that begins now."""
        left = sum(self._weights.values())
        now = self._now()
        return Deadline(now + (self._end - now) * self._weights.pop(suite) / left, self._now)


def turns_within(run: Run, most: int, seconds: float, clock: Callable[[], int]) -> int:
    """Turns of a run that fit a time, found by two calls: the first may compile, and is not measured.

    Args:
        most: turns, however short.
        seconds: for all turns, each of which is a call to warm up and one that is timed.
        clock: the time in nanoseconds.
    """
    run()
    start = clock()
    run()
    taken = (clock() - start) / 1e9
    return min(most, max(FEWEST_TURNS, int(seconds / (2 * taken)) if taken > 0 else most))
