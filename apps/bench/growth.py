"""Suite ``growth``: how the cost grows with each size, and the law that it follows."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy
import torch

from streamdrnn import StreamingDRNN
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.columns import pivot
from streamdrnn.apps.bench.comparison import Job, compare
from streamdrnn.apps.bench.contenders import OURS, RESHAPE
from streamdrnn.apps.bench.jobs import Passes, Steps
from streamdrnn.apps.bench.process_usage import NEEDS, measurable, resident_bytes
from streamdrnn.apps.bench.sequences import times_table
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.tables import Row, Table, numbers
from streamdrnn.apps.bench.target import Target
from streamdrnn.apps.bench.timing import Turns
from streamdrnn.apps.bench.workloads import Case, Workload

GPU_PRECISIONS: tuple[Precision, ...] = ("tf32",)
TOO_LONG = 8.0
"""Seconds: a contender stops where its next size would take longer, if its cost grew in proportion to the size."""
SECONDS_EACH = 4.0
"""After so long a contender takes no further turn at a size."""
CHUNK = 1000
"""Steps that are pushed at once while the memory is watched."""


class Axis(NamedTuple):
    """A size, and what is timed against it on the CPU.

    Attributes:
        vary: the workload with another size.
        job, contenders: what is computed, and by whom.
        block: calls per turn.
    """

    vary: Callable[[Workload, int], Workload]
    job: Callable[[Target, Case], Job] = Passes
    contenders: tuple[str, ...] = (OURS, RESHAPE)
    block: int = 1


AXES: dict[str, Axis] = {
    "time steps": Axis(lambda base, size: base._replace(steps=size)),
    "hidden units": Axis(lambda base, size: base._replace(inputs=size, hidden=size)),
    "batch": Axis(lambda base, size: base._replace(batch=size)),
    "layers": Axis(lambda base, size: base._replace(layers=size)),
    "live streams": Axis(lambda base, size: base._replace(batch=size), partial(Steps, frames=4), (OURS,), block=20),
}


def on_gpu(session: Session) -> list[Table]:
    """Training steps of ours and of the reshape trick against hidden units: the ratios, and all times and errors."""
    base = session.sizes.growth
    workloads = [base._replace(name=f"H={hidden}", hidden=hidden) for hidden in session.sizes.axes["hidden units"]]
    fields = dict.fromkeys(session.chosen_precisions(GPU_PRECISIONS), (OURS, RESHAPE))
    found = [
        one
        for workload in workloads
        for cell in session.chosen_cells()
        for one in compare(session, f"growth: {workload.name}, {cell}", Case(workload, cell, True), Passes, fields)
    ]
    what = "Training step against hidden units"
    return [
        Table(
            "growth_ratios",
            f"{what}: how many times faster than the reshape trick",
            pivot(found, "hidden precision", "cell"),
            (f"{base}, and H varied.",),
        ),
        times_table(session, "growth", f"{what}: ours and the reshape trick", found, workloads),
    ]


def on_cpu(session: Session) -> list[Table]:
    """Cost against time steps, units, batch, layers and live streams, and memory against time."""
    base = session.sizes.growth
    rows = [row for axis, sizes in session.sizes.axes.items() for row in series(session, axis, sizes)]
    session.say("growth: memory of a live stream")
    memory = memory_over_time(base, session.sizes.memory_steps) if measurable() else []
    return [
        Table(
            "growth",
            "Cost against size",
            rows,
            (
                f"GRU, {base}, and one size varied (hidden units: I=H). Forward passes; of live streams, one step of "
                "all. Medians; where nothing is given, it would have taken too long.",
            ),
        ),
        Table(
            "growth_laws",
            "The law that each follows: cost in proportion to size^exponent",
            laws(rows),
            ("At the end is over the larger half of the sizes, where fixed costs matter least.",),
        ),
        Table(
            "growth_memory",
            "Resident memory while one stream is pushed",
            memory,
            (f"GRU, {base}, in chunks of {CHUNK}, after a first one. It is the memory of this whole process.",)
            if measurable()
            else (f"{NEEDS}.",),
        ),
    ]


def series(session: Session, name: str, sizes: Iterable[int]) -> list[Row]:
    """One row per size and contender; one that would take too long has no time."""
    axis = AXES[name]
    turns = Turns(session.repeats, axis.block, SECONDS_EACH)
    rows: list[Row] = []
    ms_before: dict[str, tuple[int, float]] = {}
    for size in sizes:
        guess = {one: ms * size / before for one, (before, ms) in ms_before.items()}
        names = [one for one in axis.contenders if guess.get(one, 0.0) < 1e3 * TOO_LONG]
        case = Case(axis.vary(session.sizes.growth, size), "gru")
        what = f"growth: {name} {size}"
        found = compare(session, what, case, axis.job, {"ieee": names}, turns) if names else []
        for one in axis.contenders:
            ms = found[0].ms(one) if found else None
            if ms is not None:
                ms_before[one] = (size, ms)
            rows.append({"axis": name, "size": size, "runner": one, "ms": ms})
    return rows


def laws(rows: Sequence[Row]) -> list[Row]:
    """The exponent of each series, over all its sizes and over the larger half."""
    found: list[Row] = []
    for axis, runner in dict.fromkeys((row["axis"], row["runner"]) for row in rows):
        points = [row for row in rows if (row["axis"], row["runner"]) == (axis, runner) and row["ms"] is not None]
        sizes, costs = numbers(points, "size"), numbers(points, "ms")
        if len(points) > 1:
            end = -max(2, (len(points) + 1) // 2)
            found.append(
                {
                    "axis": axis,
                    "runner": runner,
                    "exponent": exponent(sizes, costs),
                    "exponent_at_the_end": exponent(sizes[end:], costs[end:]),
                }
            )
    return found


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the line through the logarithms, by least squares."""
    slope, _ = numpy.polyfit(numpy.log(sizes), numpy.log(costs), 1)
    return float(slope)


def memory_over_time(workload: Workload, steps: int, samples: int = 20) -> list[Row]:
    """What is resident at so many times while one stream is pushed."""
    stream = StreamingDRNN(workload.model("gru"))
    chunk = torch.randn(CHUNK, 1, workload.inputs)
    chunks = steps // CHUNK
    every = max(1, chunks // samples)
    stream.push(chunk)
    first = resident_bytes()
    rows: list[Row] = [{"steps": 0, "resident_mib": first / 2**20, "grown_kib": 0.0}]
    for done in range(1, chunks + 1):
        stream.push(chunk)
        if done % every == 0:
            now = resident_bytes()
            rows.append({"steps": done * CHUNK, "resident_mib": now / 2**20, "grown_kib": (now - first) / 2**10})
    return rows
