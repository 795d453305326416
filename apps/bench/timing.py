"""Fair times: the runs take turns, so that what else the machine does falls on all of them alike."""

import gc
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


def interleaved(
    runs: Mapping[str, Run],
    rounds: int,
    block: int = 1,
    at_most: Mapping[str, int] | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Times]:
    """Time several runs in turns, A B C A B C ...; each turn begins with a call that is not timed.

    Args:
        runs: by name, in the order of their turns.
        rounds: turns that each takes.
        block: calls per turn, each timed by itself.
        at_most: fewer turns, for runs that are slow.
        clock: the time in nanoseconds.
    """
    taken: dict[str, list[int]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(block):
            run()
    with no_garbage_collection():
        for turn in range(rounds):
            for name, run in runs.items():
                if turn >= (at_most or {}).get(name, rounds):
                    continue
                run()  # the run before has left its data in the caches, and its threads still spin
                for _ in range(block):
                    start = clock()
                    run()
                    taken[name].append(clock() - start)
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
