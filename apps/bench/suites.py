"""The registry of suites: what each device has, in the order in which they run.

A suite that reads audio files, serves or needs data sets is imported when it runs: the others do without its packages.
"""

import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import NamedTuple

from streamdrnn.apps.bench import growth, memory, sequences, stream
from streamdrnn.apps.bench.choices import Device, SuiteName
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.tables import Table


class Suite(NamedTuple):
    """One subject.

    Attributes:
        measure: gives its tables.
        share: of the device's time, beside the others' shares.
        by_default: whether it runs unless others are asked for.
    """

    measure: Callable[[Session], list[Table]]
    share: float = 1.0
    by_default: bool = True


def serve(session: Session) -> list[Table]:
    """Servers under load."""
    from streamdrnn.apps.bench.serving import suite as serving

    return serving.measure(serving.QUICK_SERVE if session.quick else serving.SERVE, session.say)


def listen(session: Session) -> list[Table]:
    """Live speaker identification."""
    from streamdrnn.apps.bench.listening import suite as listening

    return listening.measure(listening.QUICK_LISTEN if session.quick else listening.LISTEN, session.say)


def round_weights(session: Session) -> list[Table]:
    """Live streams on rounded weights."""
    from streamdrnn.apps.bench import weights

    return weights.on_cpu(session)


def cycles(session: Session) -> list[Table]:
    """Predictions for a GPU."""
    from streamdrnn.apps.bench import predictions

    return predictions.measure(session)


SUITES: dict[Device, dict[SuiteName, Suite]] = {
    "cpu": {
        "forward": Suite(partial(sequences.on_cpu, train=False)),
        "train": Suite(partial(sequences.on_cpu, train=True)),
        "stream": Suite(stream.on_cpu),
        "memory": Suite(memory.measure),
        "growth": Suite(growth.on_cpu),
        "serve": Suite(serve, by_default=False),
        "listen": Suite(listen, by_default=False),
        "weights": Suite(round_weights, by_default=False),
    },
    "cuda": {
        "forward": Suite(partial(sequences.on_gpu, train=False), share=2.0),
        "train": Suite(partial(sequences.on_gpu, train=True), share=3.0),
        "stream": Suite(stream.on_gpu, share=2.0),
        "growth": Suite(growth.on_gpu, share=2.0),
    },
    "model": {"cycles": Suite(cycles)},
}


def measure(session: Session, names: Collection[SuiteName]) -> Iterator[tuple[SuiteName, list[Table]]]:
    """Run some suites of the session's device, in the registry's order, which share its time.

    Yields:
        each suite's name and tables, as soon as it has run.
    """
    chosen = {name: suite for name, suite in SUITES[session.target.name].items() if name in names}
    left, end = sum(suite.share for suite in chosen.values()), time.monotonic() + session.target.total_seconds
    for name, suite in chosen.items():
        now = time.monotonic()
        session.until = now + (end - now) * suite.share / left  # what a suite leaves goes to those after it
        left -= suite.share
        yield name, suite.measure(session)
