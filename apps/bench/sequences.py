"""Suites ``forward`` and ``train``: whole sequences, beside the reshape trick, loops over time and the floors."""

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Optional

import torch

from streamdrnn.apps.bench.agreement import LIMITS
from streamdrnn.apps.bench.ceilings import dependent_steps, sequence_floors
from streamdrnn.apps.bench.choices import Cell, Precision
from streamdrnn.apps.bench.columns import pivot, rows
from streamdrnn.apps.bench.comparison import Comparison, compare
from streamdrnn.apps.bench.contenders import OURS, RESHAPE, SEQUENCES
from streamdrnn.apps.bench.jobs import Passes, new_model, passes
from streamdrnn.apps.bench.precision import float32_products
from streamdrnn.apps.bench.session import FEWEST_TURNS, Session
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.timing import Turns, interleaved
from streamdrnn.apps.bench.workloads import Case, Workload

PRECISIONS: tuple[Precision, ...] = ("tf32", "ieee", "bf16")
LAYER_PRECISIONS: tuple[Precision, ...] = ("tf32", "bf16")
LATENCY_BATCH = 16
LATENCY_TURNS = Turns(6)
TIMES = "work cell precision contender ms quartiles_ms times_ours turns output_error {}first_call_s why_not"
WHAT = {False: "Forward pass", True: "Training step (forward and backward)"}
SUITE = {False: "forward", True: "train"}


def on_cpu(session: Session, train: bool) -> list[Table]:
    """Ours beside the reshape trick; the geometric means of their ratio; and the loops over time."""
    what, suite, found = WHAT[train], SUITE[train], paper_networks(session, train)
    columns = "work cell ours_ms ours_quartiles_ms reshape_ms reshape_quartiles_ms ratio"
    pairs = rows(found, columns, OURS)
    for row, comparison in zip(pairs, found, strict=True):
        ours = comparison.ms(OURS)
        gflops = None if ours is None else comparison.case.flops / (1e6 * ours)
        row["ours_gflop_per_s"] = gflops
        row["ours_percent_of_peak"] = None if gflops is None else 100 * gflops / session.peak.gflops
    medians = f"Medians of {turns_of(session)}"
    return [
        Table(
            suite,
            f"{what}: ours and the reshape trick",
            pairs,
            (
                f"{medians}. ratio: reshape / ours. {sizes_of(session.sizes.sequences)}",
                f"The peak is {session.peak.gflops:.0f} GFLOP/s ({session.peak.source}). Operations are those of the "
                "matrix products.",
            ),
        ),
        Table(f"{suite}_means", f"{what}: how many times faster than the reshape trick", means(found)),
        Table(
            f"{suite}_loops",
            f"{what}: loops over time",
            rows(found, "work cell peer ms times_ours why_not", *session.sizes.loops),
            (f"{medians}.",),
        ),
    ]


def on_gpu(session: Session, train: bool) -> list[Table]:
    """The ratios to the reshape trick, all times and errors, single layers beside FlashRNN, and the floors."""
    what, suite, found = WHAT[train], SUITE[train], paper_networks(session, train)
    layers = [layers_table(session, train)] if "lstm" in session.chosen_cells() else []
    workloads, compiled = session.sizes.sequences, list[Comparison]()
    if session.sizes.compiled is not None:
        workloads = (*workloads, session.sizes.compiled)
        names = (OURS, RESHAPE, "torch", "loop torch.compile", "torch.compile")
        precision = session.chosen_precisions(PRECISIONS)[0]
        compiled = measured(session, session.sizes.compiled, session.chosen_cells()[0], train, {precision: names})
    return [
        Table(
            f"{suite}_ratios",
            f"{what}: how many times faster than the reshape trick",
            pivot(found, "work cell contender", "precision"),
        ),
        times_table(session, suite, f"{what}: ours and peers", found + compiled, workloads),
        *layers,
        floors_table(session, train, found),
    ]


def paper_networks(session: Session, train: bool) -> list[Comparison]:
    """Ours and its peers on the networks of the sizes, with all cells."""
    precisions = session.chosen_precisions(PRECISIONS)
    found: list[Comparison] = []
    for workload in session.sizes.sequences:
        # A loop over time takes a thousand launches, whatever the precision: it is measured in one.
        loops = session.sizes.loops if workload.loops else ()
        fields = {
            precision: (OURS, RESHAPE, *(loops if precision == precisions[0] else ())) for precision in precisions
        }
        for cell in session.chosen_cells():
            found += measured(session, workload, cell, train, fields)
    return found


def measured(
    session: Session, workload: Workload, cell: Cell, train: bool, fields: Mapping[Precision, tuple[str, ...]]
) -> list[Comparison]:
    """Passes of some contenders for each precision."""
    what = f"{SUITE[train]}: {workload.name}, {cell}"
    return compare(session, what, Case(workload, cell, train), Passes, fields)


def means(comparisons: Sequence[Comparison]) -> list[Row]:
    """The geometric mean of the ratio over the cells, for each workload."""
    ratios: dict[str, list[float]] = {}
    for comparison in comparisons:
        of_cells = ratios.setdefault(comparison.case.workload.name, [])
        of_cells += [] if comparison.ratio is None else [comparison.ratio]
    return [
        {"work": name, "geometric_mean_ratio": geometric_mean(of_cells) if of_cells else None}
        for name, of_cells in ratios.items()
    ]


def layers_table(session: Session, train: bool) -> Table:
    """Single LSTM layers beside FlashRNN."""
    workloads = session.sizes.layers
    fields = dict.fromkeys(session.chosen_precisions(LAYER_PRECISIONS), (OURS, RESHAPE, "FlashRNN"))
    found = [one for workload in workloads for one in measured(session, workload, "lstm", train, fields)]
    return Table(
        f"{SUITE[train]}_layers",
        f"{WHAT[train]} of one LSTM layer: ours and FlashRNN",
        rows(found, TIMES.format("gradient_error " if train else "")),
        (sizes_of(workloads), "FlashRNN is its fused Triton kernel, called with the phases as rows of its batch."),
    )


def times_table(
    session: Session, name: str, title: str, comparisons: Sequence[Comparison], workloads: Sequence[Workload]
) -> Table:
    """All times and errors."""
    train = any(comparison.case.train for comparison in comparisons)
    limits = "; ".join(f"{name} {limit.outputs:g} and {limit.gradients:g}" for name, limit in LIMITS.items())
    return Table(
        name,
        title,
        rows(comparisons, TIMES.format("gradient_error " if train else "")),
        (
            f"Medians of {turns_of(session)}. {sizes_of(workloads)}",
            "tf32 and ieee: float32 with torch's switches for matrix products and cuDNN so set; bf16 and fp16: "
            f"autocast. Errors are relative RMS against float64; limits for outputs and gradients: {limits}.",
            "reshape: the reshape trick over cuDNN. torch: our backend of that name, a loop over time. torch.compile: "
            "the same, compiled as a whole, which takes minutes but for the small network. loop torch.compile: a "
            "compiled step of all layers in Python's loop. first call: compilation and check; it is in none of the "
            "other times.",
        ),
    )


def turns_of(session: Session) -> str:
    """How often is timed, in words."""
    return (
        f"{session.repeats} turns, or of as many as take {session.target.seconds_each:g} s for each, "
        f"{FEWEST_TURNS} at least"
    )


def sizes_of(workloads: Sequence[Workload]) -> str:
    """What the names of workloads stand for."""
    return "; ".join(f"{workload.name} is {workload}" for workload in workloads) + "."


def floors_table(session: Session, train: bool, comparisons: Sequence[Comparison]) -> Table:
    """The floors of what was measured of ours, and how far above the highest it is."""
    step_times: dict[tuple[Cell, int, Precision], Optional[float]] = {}
    found: list[Row] = []
    for comparison in comparisons:
        case, precision, ours = comparison.case, comparison.precision, comparison.ms(OURS)
        if ours is None:
            continue
        key = (case.cell, case.workload.hidden, precision)
        if key not in step_times:
            step_times[key] = step_time(session, *key, train)
        step_s = step_times[key]
        floors = sequence_floors(case, precision, session.ceilings, step_s)
        (row,) = rows([comparison], "work cell precision ours_ms", OURS)
        found.append(
            row
            | {
                "bytes_ms": floors.bytes * 1e3,
                "operations_ms": floors.operations * 1e3,
                "steps_ms": None if floors.steps is None else floors.steps * 1e3,
                "dependent_steps": dependent_steps(case.workload),
                "us_per_step": None if step_s is None else step_s * 1e6,
                "times_highest_floor": ours / (floors.highest * 1e3),
            }
        )
    return Table(
        f"{SUITE[train]}_floors",
        f"{WHAT[train]}: ours and its floors",
        found,
        (
            "bytes: the fewest that must move, by the measured rate of a copy. operations: of the matrix products, by "
            "the measured rate of a large one. steps: T/d of each layer, which wait for one another, by the time of "
            f"one: the slope against T of the time of our own layer of this size (d=1, B={LATENCY_BATCH}). This last "
            "is the floor of layer after layer; a schedule in which layers overlap can be below it.",
        ),
    )


def step_time(session: Session, cell: Cell, hidden: int, precision: Precision, train: bool) -> Optional[float]:
    """Seconds that one more step of one layer takes; None if there was no time for it, or it failed."""
    if session.over:
        return None
    target = session.target
    short, long = session.sizes.latency_steps
    workloads = [Workload("latency", LATENCY_BATCH, steps, hidden, hidden, layers=1) for steps in (short, long)]
    try:
        network = SEQUENCES[OURS](new_model(target, Case(workloads[0], cell, train)), precision)
        with float32_products(precision), torch.inference_mode(not train):
            runs = {
                str(one.steps): passes(network, [one.input(target.device)], precision, target.kind, train)
                for one in workloads
            }
            times = interleaved(runs, LATENCY_TURNS, target.clock)
    except Exception as error:
        session.failed(f"time of a step: {cell}, H={hidden}, {precision}", error, is_ours=True)
        return None
    taken = times[str(long)].percentile(50) - times[str(short)].percentile(50)
    return max(0.0, taken / (long - short) / 1e9)
