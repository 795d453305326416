"""Fair times: the runs take turns, so that what else the machine does falls on all of them alike."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy

Run = Callable[[], object]


class Times(NamedTuple):
    """How long each of several equal calls took.

    Attributes:
        nanoseconds: one per call.
    """

    nanoseconds: tuple[int, ...]

    def percentile(self, percent: float) -> float:
        """In nanoseconds, interpolated between calls."""
        return float(numpy.percentile(self.nanoseconds, percent))

    @property
    def ms(self) -> float:
        """The median in milliseconds."""
        return self.percentile(50) / 1e6

    @property
    def quartiles_ms(self) -> tuple[float, float]:
        """The first and third quartile in milliseconds."""
        return self.percentile(25) / 1e6, self.percentile(75) / 1e6


class Turns(NamedTuple):
    """How often each run is timed.

    Attributes:
        most: turns.
        block: calls per turn, each timed by itself.
        seconds: after which a run takes no further turn,
        fewest: unless it has had fewer than so many.
    """

    most: int
    block: int = 1
    seconds: float = math.inf
    fewest: int = 1


def interleaved(
    runs: Mapping[str, Run], turns: Turns, clock: Callable[[], int] = time.perf_counter_ns
) -> dict[str, Times]:
    """Time several runs in turns, A B C A B C ...; each turn begins with a call that is not timed.

    Args:
        runs: by name, in the order of their turns.
        clock: the time in nanoseconds.
    """
    taken: dict[str, list[int]] = {name: [] for name in runs}
    spent = dict.fromkeys(runs, 0)
    with no_garbage_collection():
        for turn in range(turns.most):
            for name, run in runs.items():
                if turn >= turns.fewest and spent[name] >= 1e9 * turns.seconds:
                    continue
                begin = clock()
                run()  # the run before has left its data in the caches, and its threads still spin
                for _ in range(turns.block):
                    start = clock()
                    run()
                    taken[name].append(clock() - start)
                spent[name] += clock() - begin
    return {name: Times(tuple(nanoseconds)) for name, nanoseconds in taken.items()}


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Garbage is not collected in the middle of what is timed."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
