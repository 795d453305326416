"""The suites of the benchmark on a GPU, and what they have in common."""

from collections.abc import Sequence
from typing import NamedTuple

from streamdrnn.apps.bench.cuda import growth, sequences, stream, works
from streamdrnn.apps.bench.cuda.budget import TOTAL_SECONDS, Allowance, Deadline
from streamdrnn.apps.bench.cuda.ceilings import measured_ceilings
from streamdrnn.apps.bench.cuda.machine import ceiling_facts
from streamdrnn.apps.bench.cuda.precision import Precision
from streamdrnn.apps.bench.cuda.session import Session
from streamdrnn.apps.bench.cuda.target import Target
from streamdrnn.apps.bench.cuda.works import Sizes
from streamdrnn.apps.bench.tables import Say, Table

WEIGHTS = {"forward": 2.0, "train": 3.0, "stream": 2.0, "growth": 2.0}
"""How the suites share the time, in the order in which they run."""


class Measured(NamedTuple):
    """What a run gives.

    Attributes:
        facts: what was found out about the device.
        tables: of all suites.
        problems: rows that are wrong, and failures of ours, in words.
    """

    facts: dict[str, object]
    tables: list[Table]
    problems: list[str]


def measure(
    target: Target,
    suites: Sequence[str],
    cells: Sequence[str],
    precisions: Sequence[Precision],
    repeats: int,
    quick: bool,
    say: Say,
) -> Measured:
    """Run suites in the order of :data:`WEIGHTS`.

    Args:
        cells, precisions: none is each suite's own.
        repeats: the most turns that anything is timed in.
        quick: tiny sizes.
    """
    chosen = {suite: weight for suite, weight in WEIGHTS.items() if suite in suites}
    allowance = Allowance(TOTAL_SECONDS, chosen)
    sizes: Sizes = works.QUICK if quick else works.FULL
    say("measuring what the device can do")
    ceilings = measured_ceilings(target, sizes.copied_bytes, sizes.product)
    session = Session(target, ceilings, sizes, tuple(cells), tuple(precisions), repeats, say, Deadline(0.0))
    tables: list[Table] = []
    for suite in chosen:
        session.deadline = allowance.begin(suite)
        match suite:
            case "forward" | "train":
                tables += sequences.measure(session, suite == "train")
            case "stream":
                tables += stream.measure(session)
            case "growth":
                tables += growth.measure(session)
    return Measured(ceiling_facts(ceilings, sizes), tables, session.problems)
