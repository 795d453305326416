"""Suite ``stream``: one step of many live streams at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn.apps.bench.agreement import relative_rms
from streamdrnn.apps.bench.cuda.accuracy import Errors
from streamdrnn.apps.bench.cuda.budget import SECONDS_EACH, turns_within
from streamdrnn.apps.bench.cuda.contenders import COMPILED_STEP, STEPS, torch_twin
from streamdrnn.apps.bench.cuda.floors import step_floors
from streamdrnn.apps.bench.cuda.precision import AUTOCAST, Precision, float32_products
from streamdrnn.apps.bench.cuda.session import NO_TIME, Session
from streamdrnn.apps.bench.peers import CannotRunError, compiling
from streamdrnn.apps.bench.stream import LiveStep, microseconds, next_step
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.timing import Run, Times, interleaved
from streamdrnn.apps.bench.works import Work

CELLS = ("gru", "lstm")
PRECISIONS: tuple[Precision, ...] = ("tf32",)
CHECKED_STREAMS = 128


class StepResult(NamedTuple):
    """What became of one contender; as :class:`~streamdrnn.apps.bench.cuda.contest.Result`, of steps.

    Attributes:
        work: its batch is the number of streams.
    """

    work: Work
    cell: str
    precision: Precision
    contender: str
    times: Times | None = None
    errors: Errors | None = None
    first_call_s: float | None = None
    why_not: str = ""


def measure(session: Session) -> list[Table]:
    """Steps of ours and of its peers for each number of streams, and their floors."""
    sizes = session.sizes
    precisions = [precision for precision in session.precisions if precision not in AUTOCAST] or PRECISIONS
    results: list[StepResult] = []
    for cell in session.cells or CELLS:
        for streams in sizes.streams:
            work = Work(str(streams), streams, 1, sizes.stream_hidden, sizes.stream_hidden, sizes.stream_layers)
            for precision in precisions:
                results += compare(session, work, cell, precision)
    network = f"{sizes.stream_layers} layers of {sizes.stream_hidden}, I={sizes.stream_hidden}, dilations 1, 2, 4, ..."
    return [
        Table(
            "stream",
            "One step of all streams at once",
            rows(results),
            (
                f"{network} Each step is timed by itself, from its call until its output is there: {sizes.blocks} "
                f"turns of {sizes.block} steps, or as many turns as take {SECONDS_EACH:g} s.",
                f"Outputs are checked while the rings go round twice, those of {CHECKED_STREAMS} streams. torch: our "
                "backend of that name. cuDNN: a stack of torch's layers, each called for one step. torch.compile: a "
                "compiled step of all layers.",
            ),
        ),
        Table(
            "stream_floors",
            "One step of all streams at once: ours and its floors",
            [floors_row(session, result) for result in results if result.contender == "ours" and result.times],
            (
                "bytes: the fewest that must move, by the measured rate of a copy. operations: of the matrix products, "
                "by the measured rate of a large one. launch: of the smallest operation, timed in the same way.",
            ),
        ),
    ]


def compare(session: Session, work: Work, cell: str, precision: Precision) -> list[StepResult]:
    """Check ours and its peers, and time them in turns."""
    names = [name for name in STEPS if name != COMPILED_STEP or work.batch in session.sizes.compiled_streams]
    what = f"stream: {cell}, {work.batch} streams, {precision}"
    why_not = NO_TIME
    if not session.deadline.over:
        session.say(what)
        try:
            with torch.inference_mode(), float32_products(precision):
                return in_turns(session, [StepResult(work, cell, precision, name) for name in names], what)
        except Exception as error:  # in what is common to all: the reference, or the turns
            why_not = session.failed(what, error, is_ours=True)
    return [StepResult(work, cell, precision, name, why_not=why_not) for name in names]


def in_turns(session: Session, entries: Sequence[StepResult], what: str) -> list[StepResult]:
    """The entries of one comparison, with what was measured."""
    target, sizes = session.target, session.sizes
    work, cell = entries[0].work, entries[0].cell
    torch.manual_seed(0)
    with torch.inference_mode(False):
        model = work.model(cell, target.backend).to(target.device).eval()
    steps = 2 * max(model.dilations) + 1  # the rings go round twice
    x = work._replace(steps=steps).input(target.device)
    sample = torch.linspace(0, work.batch - 1, min(CHECKED_STREAMS, work.batch), device=target.device).long()
    expected, _ = torch_twin(model, torch.float64)(x[:, sample].double())
    results: dict[str, StepResult] = {}
    runs: dict[str, Run] = {}
    turns: dict[str, int] = {}
    for entry in entries:
        name, result = entry.contender, entry
        try:
            with compiling():
                with torch.inference_mode(False):  # torch.compile refuses weights of inference mode
                    step = STEPS[name](model, work.batch)
                result, wrong = checked(session, result, step, x, sample, expected)
                if wrong:
                    session.problems.append(f"{what}, {name}: {wrong}")
                    result = result._replace(why_not=wrong)
                else:
                    run = next_step(step, x)
                    # A turn is one step to warm up and a block of them.
                    seconds = 2 * SECONDS_EACH / (sizes.block + 1)
                    turns[name] = turns_within(run, sizes.blocks, seconds, target.clock)
                    runs[name] = run
        except CannotRunError as error:
            result = result._replace(why_not=str(error))
        except Exception as error:
            result = result._replace(why_not=session.failed(f"{what}, {name}", error, is_ours=name == "ours"))
        results[name] = result
    times = interleaved(runs, sizes.blocks, sizes.block, turns, target.clock)
    return [result._replace(times=times.get(name)) for name, result in results.items()]


def checked(
    session: Session, result: StepResult, step: LiveStep, x: Tensor, sample: Tensor, expected: Tensor
) -> tuple[StepResult, str]:
    """The result with the errors of a sequence of steps, and what exceeds the limits."""
    clock = session.target.clock
    start = clock()
    # Indexing copies: a step may write its next output to the same memory.
    outputs = [step(x[0])[sample]]
    first_call_s = (clock() - start) / 1e9
    outputs += [step(x_t)[sample] for x_t in x[1:]]
    errors = Errors(relative_rms(torch.stack(outputs), expected))
    return result._replace(errors=errors, first_call_s=first_call_s), errors.excess(result.precision)


def rows(results: Sequence[StepResult]) -> list[Row]:
    """One for each contender."""
    found: list[Row] = []
    for result in results:
        of_ours = [other.times for other in results if other[:3] == result[:3] and other.contender == "ours"]
        ours, p50 = microseconds(of_ours[0], 50), microseconds(result.times, 50)
        found.append(
            {
                "cell": result.cell,
                "streams": result.work.batch,
                "precision": result.precision,
                "contender": result.contender,
                "p50_us": p50,
                "p99_us": microseconds(result.times, 99),
                "us_per_stream": None if p50 is None else p50 / result.work.batch,
                "times_ours": None if p50 is None or ours is None else p50 / ours,
                "steps_timed": 0 if result.times is None else len(result.times.nanoseconds),
                "output_error": None if result.errors is None else result.errors.outputs,
                "first_call_s": result.first_call_s,
                "why_not": result.why_not,
            }
        )
    return found


def floors_row(session: Session, result: StepResult) -> Row:
    """What bounds a step of ours, and how far above the highest of these it is."""
    floors = step_floors(result.work, result.cell, result.precision, session.ceilings)
    p50 = microseconds(result.times, 50)
    assert p50 is not None
    launch_us = session.ceilings.launch_s * 1e6
    return {
        "cell": result.cell,
        "streams": result.work.batch,
        "precision": result.precision,
        "ours_p50_us": p50,
        "bytes_us": floors.bytes * 1e6,
        "operations_us": floors.operations * 1e6,
        "launch_us": launch_us,
        "times_highest_floor": p50 / max(floors.highest * 1e6, launch_us),
    }
