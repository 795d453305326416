"""Suite ``growth``: how the cost grows with each size, and the law that it follows."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy
import torch

from streamdrnn import StreamingDRNN
from streamdrnn.apps.bench.agreement import check_same
from streamdrnn.apps.bench.peers import Reshape
from streamdrnn.apps.bench.process_usage import NEEDS, measurable, resident_bytes
from streamdrnn.apps.bench.stream import next_step
from streamdrnn.apps.bench.tables import Row, Say, Table, numbers
from streamdrnn.apps.bench.timing import Run, interleaved
from streamdrnn.apps.bench.works import GrowthSizes, Work

TOO_LONG = 8.0
"""Seconds: a runner stops where its next size would take longer, if its cost grew in proportion to the size."""
SLOW = 0.5
"""Seconds that are measured once only."""
LIVE_STEPS = 20
"""Steps per turn of the live streams."""
CHUNK = 1000
"""Steps that are pushed at once while the memory is watched."""

Runners = Callable[[int], Mapping[str, Run]]
"""What is timed at a size; each has been checked, so it has run once."""


def measure(sizes: GrowthSizes, repeats: int, say: Say) -> list[Table]:
    """Cost against time steps, units, batch, layers and live streams, and memory against time.

    Raises:
        ValueError: the peer computes something else.
    """
    base = sizes.base
    works: dict[str, tuple[Sequence[int], Callable[[int], Work]]] = {
        "time steps": (sizes.steps, lambda size: base._replace(steps=size)),
        "hidden units": (sizes.hidden, lambda size: base._replace(inputs=size, hidden=size)),
        "batch": (sizes.batch, lambda size: base._replace(batch=size)),
        "layers": (sizes.layers, lambda size: base._replace(layers=size)),
    }
    rows: list[Row] = []
    torch.manual_seed(0)
    with torch.inference_mode():
        for axis, (values, work) in works.items():
            rows += series(axis, values, lambda size, work=work: forward_passes(work(size)), repeats, say)  # type: ignore[misc]
        rows += series("live streams", sizes.streams, lambda size: live_step(base, size), repeats, say, LIVE_STEPS)
        say("growth: memory of a live stream")
        memory = memory_over_time(base, sizes.memory_steps) if measurable() else []
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


def series(axis: str, sizes: Iterable[int], runners: Runners, repeats: int, say: Say, steps: int = 1) -> list[Row]:
    """One row per size and runner, each called ``steps`` times per turn."""
    rows: list[Row] = []
    seconds: dict[str, tuple[int, float]] = {}
    for size in sizes:
        say(f"growth: {axis} {size}")
        guess = {name: taken * size / before for name, (before, taken) in seconds.items()}
        made = runners(size)
        runs = {name: run for name, run in made.items() if guess.get(name, 0.0) < TOO_LONG}
        once = {name: 1 for name in runs if guess.get(name, 0.0) > SLOW}
        times = interleaved(runs, repeats, steps, once)
        for name in made:
            ms = times[name].ms if name in times else None
            if ms is not None:
                seconds[name] = (size, ms / 1e3)
            rows.append({"axis": axis, "size": size, "runner": name, "ms": ms})
    return rows


def forward_passes(work: Work) -> Mapping[str, Run]:
    """Ours and the reshape trick. They are compared on the beginning of the input: whole, it may take minutes.

    Raises:
        ValueError: the peer computes something else.
    """
    model, x = work.model("gru"), work.input()
    reshape = Reshape(model)
    beginning = x[: 2 * max(model.dilations)]
    check_same("reshape", "output", reshape(beginning), model(beginning)[0])
    return {"ours": lambda: model(x), "reshape": lambda: reshape(x)}


def live_step(work: Work, streams: int) -> Mapping[str, Run]:
    """One step of so many streams."""
    stream = StreamingDRNN(work.model("gru"), streams)
    return {"ours": next_step(stream.step, torch.randn(4, streams, work.inputs))}


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


def memory_over_time(work: Work, steps: int, samples: int = 20) -> list[Row]:
    """What is resident at so many times while one stream is pushed."""
    stream = StreamingDRNN(work.model("gru"))
    chunk = torch.randn(CHUNK, 1, work.inputs)
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
