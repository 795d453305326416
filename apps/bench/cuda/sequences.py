"""Suites ``forward`` and ``train``: whole sequences, with the floors below which no time can be."""

from collections.abc import Sequence

import torch

from streamdrnn.apps.bench.cuda.budget import FEWEST_TURNS, SECONDS_EACH
from streamdrnn.apps.bench.cuda.contenders import OURS
from streamdrnn.apps.bench.cuda.contest import Contest, Result, passes
from streamdrnn.apps.bench.cuda.floors import Floors, dependent_steps, sequence_floors
from streamdrnn.apps.bench.cuda.precision import LIMITS, Precision, float32_products
from streamdrnn.apps.bench.cuda.session import Session
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.timing import interleaved
from streamdrnn.apps.bench.works import CELLS, Work

PRECISIONS: tuple[Precision, ...] = ("tf32", "ieee", "bf16")
LAYER_PRECISIONS: tuple[Precision, ...] = ("tf32", "bf16")
LATENCY_BATCH = 16
LATENCY_TURNS = 5


def measure(session: Session, train: bool) -> list[Table]:
    """Forward passes in inference mode, or training steps.

    Returns:
        the ratios to the reshape trick, all times and errors, single layers beside FlashRNN, and the floors.
    """
    suite = "train" if train else "forward"
    what = "Training step (forward and backward)" if train else "Forward pass"
    cells = session.cells or CELLS
    precisions = session.precisions or PRECISIONS
    results: list[Result] = []
    for work in session.sizes.sequences:
        for cell in cells:
            # The loop over time takes a thousand launches, whatever the precision: it is measured in one.
            entries = {
                precision: ("reshape", "torch") if work.loops and precision == precisions[0] else ("reshape",)
                for precision in precisions
            }
            results += Contest(session, work, cell, train).results(entries)
    layers = [layers_table(session, suite, what, train)] if "lstm" in cells else []
    works = session.sizes.sequences
    compiled: list[Result] = []
    if session.sizes.compiled is not None:
        works = (*works, session.sizes.compiled)
        peers = ("reshape", "torch", "loop torch.compile", "torch.compile")
        compiled = Contest(session, session.sizes.compiled, cells[0], train).results({precisions[0]: peers})
    return [
        Table(f"{suite}_ratios", f"{what}: how many times faster than the reshape trick", ratios(results)),
        Table(suite, f"{what}: ours and peers", rows(results + compiled, train), notes(session, works)),
        *layers,
        floors_table(session, suite, what, results, train),
    ]


def layers_table(session: Session, suite: str, what: str, train: bool) -> Table:
    """Single LSTM layers beside FlashRNN."""
    works = session.sizes.layers
    entries = dict.fromkeys(session.precisions or LAYER_PRECISIONS, ("reshape", "FlashRNN"))
    results = [result for work in works for result in Contest(session, work, "lstm", train).results(entries)]
    return Table(
        f"{suite}_layers",
        f"{what} of one LSTM layer: ours and FlashRNN",
        rows(results, train),
        (sizes_of(works), "FlashRNN is its fused Triton kernel, called with the phases as rows of its batch."),
    )


def rows(results: Sequence[Result], train: bool) -> list[Row]:
    """One for each contender."""
    found: list[Row] = []
    for result in results:
        ours = time_of(results, result, "ours")
        ms = None if result.times is None else result.times.ms
        row: Row = {
            "work": result.work.name,
            "cell": result.cell,
            "precision": result.precision,
            "contender": result.contender,
            "ms": ms,
            "quartiles_ms": None if result.times is None else result.times.quartiles_ms,
            "times_ours": None if ms is None or ours is None else ms / ours,
            "turns": 0 if result.times is None else len(result.times.nanoseconds),
            "output_error": None if result.errors is None else result.errors.outputs,
        }
        if train:
            row["gradient_error"] = None if result.errors is None else result.errors.gradients
        found.append(row | {"first_call_s": result.first_call_s, "why_not": result.why_not})
    return found


def time_of(results: Sequence[Result], like: Result, contender: str) -> float | None:
    """The median in milliseconds of a contender in the comparison that a result is of, if it has one."""
    for other in results:
        if other[:3] == like[:3] and other.contender == contender and other.times is not None:
            return other.times.ms
    return None


def ratios(results: Sequence[Result]) -> list[Row]:
    """Reshape / ours, for each of ours, with a column for each precision."""
    found: dict[tuple[str, str, str], Row] = {}
    for result in results:
        if result.contender in OURS:
            row = found.setdefault(
                (result.work.name, result.cell, result.contender),
                {"work": result.work.name, "cell": result.cell, "contender": result.contender},
            )
            reshape = time_of(results, result, "reshape")
            row[result.precision] = None if result.times is None or reshape is None else reshape / result.times.ms
    return list(found.values())


def notes(session: Session, works: Sequence[Work]) -> tuple[str, ...]:
    """What all tables of times share."""
    limits = "; ".join(f"{name} {limit.outputs:g} and {limit.gradients:g}" for name, limit in LIMITS.items())
    return (
        f"Medians of {session.repeats} turns, or of as many as take {SECONDS_EACH:g} s each, {FEWEST_TURNS} at least. "
        f"{sizes_of(works)}",
        "tf32 and ieee: float32 with torch's switches for matrix products and cuDNN so set; bf16 and fp16: autocast. "
        f"Errors are relative RMS against float64; limits for outputs and gradients: {limits}.",
        "reshape: the reshape trick over cuDNN. torch: our backend of that name, a loop over time. torch.compile: the "
        "same, compiled as a whole, which takes minutes but for the small work. loop torch.compile: a compiled step of "
        "all layers in Python's loop. first call: compilation and check; it is in none of the other times.",
    )


def sizes_of(works: Sequence[Work]) -> str:
    """What the names of works stand for."""
    return "; ".join(f"{work.name} is {work}" for work in works) + "."


def floors_table(session: Session, suite: str, what: str, results: Sequence[Result], train: bool) -> Table:
    """The floors of what was measured of ours, and how far above the highest it is."""
    step_times: dict[tuple[str, int, str], float | None] = {}
    found: list[Row] = []
    for result in results:
        if result.contender != "ours" or result.times is None:
            continue
        key = (result.cell, result.work.hidden, result.precision)
        if key not in step_times:
            step_times[key] = step_time(session, result.cell, result.work.hidden, result.precision, train)
        step_s = step_times[key]
        floors = sequence_floors(result.work, result.cell, result.precision, train, session.ceilings, step_s)
        found.append(
            {
                "work": result.work.name,
                "cell": result.cell,
                "precision": result.precision,
                "ours_ms": result.times.ms,
                **in_ms(floors),
                "dependent_steps": dependent_steps(result.work),
                "us_per_step": None if step_s is None else step_s * 1e6,
                "times_highest_floor": result.times.ms / (floors.highest * 1e3),
            }
        )
    return Table(
        f"{suite}_floors",
        f"{what}: ours and its floors",
        found,
        (
            "bytes: the fewest that must move, by the measured rate of a copy. operations: of the matrix products, by "
            "the measured rate of a large one. steps: T/d of each layer, which wait for one another, by the time of "
            f"one: the slope against T of the time of our own layer of this size (d=1, B={LATENCY_BATCH}). This last "
            "is the floor of layer after layer; a schedule in which layers overlap can be below it.",
        ),
    )


def in_ms(floors: Floors) -> Row:
    """The floors as columns."""
    return {
        "bytes_ms": floors.bytes * 1e3,
        "operations_ms": floors.operations * 1e3,
        "steps_ms": None if floors.steps is None else floors.steps * 1e3,
    }


def step_time(session: Session, cell: str, hidden: int, precision: Precision, train: bool) -> float | None:
    """Seconds that one more step of one layer takes; None if there was no time for it, or it failed."""
    if session.deadline.over:
        return None
    target = session.target
    short, long = session.sizes.latency_steps
    works = [Work("latency", LATENCY_BATCH, steps, hidden, hidden, layers=1) for steps in (short, long)]
    try:
        model = works[0].model(cell, target.backend).to(target.device).train(train)
        network = OURS["ours"](model, precision)
        with float32_products(precision), torch.inference_mode(not train):
            runs = {
                str(work.steps): passes(target, network, [work.input(target.device)], precision, train)
                for work in works
            }
            times = interleaved(runs, LATENCY_TURNS, clock=target.clock)
    except Exception as error:
        session.failed(f"time of a step: {cell}, H={hidden}, {precision}", error, is_ours=True)
        return None
    taken = times[str(long)].percentile(50) - times[str(short)].percentile(50)
    return max(0.0, taken / (long - short) / 1e9)
