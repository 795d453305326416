"""Suite ``stream``: networks that advance one step at a time, called from Python."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Optional

from streamdrnn.apps.bench.ceilings import step_floors
from streamdrnn.apps.bench.choices import Cell, Precision
from streamdrnn.apps.bench.columns import rows
from streamdrnn.apps.bench.comparison import Comparison, compare
from streamdrnn.apps.bench.contenders import GIVEN_MEMORY, OURS, PUSHED, STEPPED
from streamdrnn.apps.bench.from_c import FromC, contenders
from streamdrnn.apps.bench.jobs import Audio, Steps
from streamdrnn.apps.bench.machine import one_thread
from streamdrnn.apps.bench.precision import AUTOCAST
from streamdrnn.apps.bench.session import FEWEST_TURNS, Session
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.timing import Turns
from streamdrnn.apps.bench.workloads import Case

COMPILED = "loop torch.compile"
ON_CPU = (OURS, GIVEN_MEMORY, "loop", "loop TorchScript", COMPILED, "onnxruntime")
ON_GPU = (OURS, "torch", "cuDNN", COMPILED)
C_CELLS: tuple[Cell, ...] = ("gru", "lstm")
GPU_CELLS: tuple[Cell, ...] = ("gru", "lstm")
GPU_PRECISIONS: tuple[Precision, ...] = ("tf32",)
FRAMES = 16
"""Inputs that many streams take round and round on the CPU, few enough to stay in its caches."""


def on_cpu(session: Session) -> list[Table]:
    """Single steps beside their peers, a second of raw audio, and many streams; all on one thread."""
    sizes = session.sizes.stream
    with one_thread():
        single = [one for inputs in sizes.inputs for one in steps(session, "gru", {"ieee": ON_CPU}, inputs=inputs)]
        case = Case(sizes.workload(inputs=1, steps=sizes.samples), "gru")
        ways = partial(Audio, chunk=sizes.chunk)
        (audio,) = compare(session, "stream: audio", case, ways, {"ieee": (PUSHED, STEPPED)}, Turns(session.repeats))
        fields: dict[Precision, tuple[str, ...]] = {"ieee": (OURS,)}
        many = [one for streams in sizes.streams for one in steps(session, "gru", fields, streams, frames=FRAMES)]
    pushed_and_stepped = rows([audio], "how seconds quartiles_seconds us_per_sample")
    pushed_and_stepped[0]["how"] = f"{PUSHED}, {sizes.chunk} at once"
    network = f"GRU, {sizes.layers} layers of {sizes.hidden}, dilations 1, 2, 4, ...; one thread"
    count = sizes.blocks * sizes.block
    from_c = [] if session.rtneural is None else [steps_from_c(session, session.rtneural)]
    return [
        Table(
            "stream_steps",
            "One step of one stream",
            rows(single, "inputs runner p50_us p95_us p99_us times_ours why_not"),
            (f"{network}. {count} steps each, timed one by one, in turns of {sizes.block}.",),
        ),
        Table(
            "stream_audio",
            f"{sizes.samples} samples of raw audio (I=1), on one core",
            pushed_and_stepped,
            (f"{network}. Medians of {session.repeats}. At 16 kHz this is {sizes.samples / 16000:g} s of sound.",),
        ),
        Table(
            "stream_many",
            "One step of many streams at once",
            rows(many, "streams us_per_step us_per_step_of_a_stream"),
            (f"{network}, I={sizes.hidden}. Medians of {count} steps.",),
        ),
        *from_c,
    ]


def steps_from_c(session: Session, rtneural: Path) -> Table:
    """Single steps of one stream in a loop of C++, ours beside RTNeural's; on one thread."""
    sizes = session.sizes.stream
    turns = Turns(sizes.blocks, sizes.block, session.target.seconds_each, FEWEST_TURNS)
    layers = [(one.inputs, one.hidden) for one in sizes.from_c if one.layers == 1]
    job = partial(FromC, folder=rtneural, sizes=layers)
    found: list[Comparison] = []
    with one_thread():
        for case in (Case(workload, cell) for workload in sizes.from_c for cell in C_CELLS):
            what = f"stream: from C++, {case.cell}, {case.workload.name}, I={case.workload.inputs}"
            found += compare(session, what, case, job, {"ieee": contenders(case)}, turns)
    return Table(
        "stream_from_c",
        "One step of one stream, called from C++",
        rows(found, "work cell inputs contender times_ours ns_per_step output_error why_not"),
        (
            "A loop of single steps in C++ is timed as a whole, in turns with the others; its steps share the median. "
            "Several layers have dilations 1, 2, 4, ... One thread.",
            "ours: streamdrnn_push, one step at a time, sizes known when the model is loaded. RTNeural: ModelT, sizes "
            "known when it is compiled (-O3 -march=native -ffast-math).",
        ),
    )


def steps(
    session: Session,
    cell: Cell,
    fields: Mapping[Precision, Sequence[str]],
    streams: int = 1,
    inputs: Optional[int] = None,
    frames: Optional[int] = None,
) -> list[Comparison]:
    """Steps of so many streams, in blocks; I is H unless it is given."""
    sizes = session.sizes.stream
    case = Case(sizes.workload(streams, inputs), cell)
    turns = Turns(sizes.blocks, sizes.block, session.target.seconds_each, FEWEST_TURNS)
    what = f"stream: {cell}, {streams} streams, I={case.workload.inputs}"
    return compare(session, what, case, partial(Steps, frames=frames), fields, turns)


def on_gpu(session: Session) -> list[Table]:
    """Steps of ours and of its peers for each number of streams, and their floors."""
    sizes = session.sizes.stream
    precisions = [one for one in session.chosen_precisions(GPU_PRECISIONS) if one not in AUTOCAST] or GPU_PRECISIONS
    found: list[Comparison] = []
    for cell in session.chosen_cells(GPU_CELLS):
        for streams in sizes.streams:
            names = [name for name in ON_GPU if name != COMPILED or streams in sizes.compiled]
            found += steps(session, cell, dict.fromkeys(precisions, names), streams)
    return [
        Table(
            "stream",
            "One step of all streams at once",
            rows(
                found,
                "cell streams precision contender p50_us p99_us us_per_stream times_ours steps_timed output_error "
                "first_call_s why_not",
            ),
            (
                f"{sizes.layers} layers of {sizes.hidden}, I={sizes.hidden}, dilations 1, 2, 4, ... Each step is timed "
                f"by itself, from its call until its output is there: {sizes.blocks} turns of {sizes.block} steps, or "
                f"as many turns as take {session.target.seconds_each:g} s.",
                "Outputs are checked while the rings go round twice, those of 128 streams. torch: our backend of that "
                "name. cuDNN: a stack of torch's layers, each called for one step. loop torch.compile: a compiled step "
                "of all layers.",
            ),
        ),
        Table(
            "stream_floors",
            "One step of all streams at once: ours and its floors",
            [floors_row(session, one) for one in found if one.ms(OURS) is not None],
            (
                "bytes: the fewest that must move, by the measured rate of a copy. operations: of the matrix products, "
                "by the measured rate of a large one. launch: of the smallest operation, timed in the same way.",
            ),
        ),
    ]


def floors_row(session: Session, comparison: Comparison) -> Row:
    """What bounds a step of ours, and how far above the highest of these it is."""
    floors = step_floors(comparison.case, comparison.precision, session.ceilings)
    ours = comparison.ms(OURS)
    assert ours is not None
    (row,) = rows([comparison], "cell streams precision", OURS)
    return row | {
        "ours_p50_us": ours * 1e3,
        "bytes_us": floors.bytes * 1e6,
        "operations_us": floors.operations * 1e6,
        "launch_us": session.ceilings.launch_s * 1e6,
        "times_highest_floor": ours / (1e3 * max(floors.highest, session.ceilings.launch_s)),
    }
