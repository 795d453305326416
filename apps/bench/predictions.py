"""Suite ``cycles``: what every kernel's loop is predicted to take, from machine code that is compiled without a GPU."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from streamdrnn.apps.bench.choices import Cell, Precision
from streamdrnn.apps.bench.precision import float32_products
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.errors import InputError
from streamdrnn.kernels import CELLS
from streamdrnn.kernels.gpu.availability import interpreted
from streamdrnn.kernels.gpu.plans import NEWTON, Plan, candidates, grouped

CAPABILITY = 90
"""That of an H100."""

ROWS = 128
"""Streams times phases for which plans are offered."""

STREAMS = {"few": 1, "many": 4096}
"""Of a step, which has a tile for each."""


class Launch(NamedTuple):
    """A call that launches a kernel.

    Attributes:
        kernel, direction, layers, plan: what the table says of it.
        call: launches it, among others perhaps.
        name: the kernel's own.
        trips, unrolled: see ``cost.predict``.
    """

    kernel: str
    direction: str
    layers: int
    units: int
    precision: Precision
    plan: str
    call: Callable[[], None]
    name: str
    trips: tuple[int, ...] = ()
    unrolled: int = 1


def measure(session: Session) -> list[Table]:
    """Compile every plan and predict.

    Raises:
        InputError: Triton's interpreter is asked for.
    """
    if interpreted():
        raise InputError("--device model compiles the kernels, which TRITON_INTERPRET=1 forbids: unset it")
    from streamdrnn.kernels.gpu.compiling import compiling_only
    from streamdrnn.kernels.gpu.cost import L1, L2, predict

    rows: list[Row] = []
    compiled: list[Any] = []
    with compiling_only(CAPABILITY, compiled.append):
        for cell in session.chosen_cells():
            for one in launches(session, cell):
                what = f"{one.kernel}, {one.direction}"
                session.say(f"cycles: {cell}, {what}, {one.units} units, {one.precision}, {one.plan}")
                compiled.clear()
                with float32_products(one.precision):
                    one.call()
                (kernel,) = {id(kernel): kernel for kernel in compiled if kernel.name == one.name}.values()
                found = predict(kernel, one.trips, one.unrolled)
                row: Row = {"kernel": one.kernel, "pass": one.direction, "cell": cell, "layers": one.layers}
                row |= {"units": one.units, "precision": one.precision, "plan": one.plan}
                row |= {"registers": found.registers, "spilled": found.spilled, "shared_bytes": found.shared}
                row |= {"instructions": found.instructions, "barriers": found.barriers}
                rows.append(row | {"near_cycles": found.near, "far_cycles": found.far})
    return [
        Table(
            "cycles",
            f"Predicted cycles of one turn of each kernel's loop (compute capability {CAPABILITY / 10:.1f})",
            rows,
            (
                "Predicted from the machine code, and never measured. A turn is a step of the rows of one program "
                "(scan; with weights from memory, one tile of its units), a layer of a step (step), or an iteration of "
                "all layers (skewed). near and far: loads are found in the first cache after "
                f"{L1} cycles, or in the second after {L2}.",
                "plan: rows x units of a program's tile, warps, and inputs that are taken at a time; dot: by tensor "
                "cores, or by as many rows for each weight that is read.",
            ),
        )
    ]


def launches(session: Session, cell: Cell) -> Iterator[Launch]:
    """All of a cell's: each plan with the smallest of the sizes for which it is offered."""
    sizes = session.sizes.axes["hidden units"]
    precisions = session.chosen_precisions(("ieee", "tf32"))
    yield from of_layers(cell, sizes, precisions)
    yield from of_steps(cell, session.sizes.stream.hidden, precisions)
    yield from of_groups(cell, sizes, session.sizes.stream.layers)


def of_layers(cell: Cell, sizes: tuple[int, ...], precisions: list[Precision]) -> Iterator[Launch]:
    from streamdrnn.kernels.gpu.compiling import launch_layer

    seen: set[tuple[Precision, Plan]] = set()
    for units in sizes:
        for precision in precisions:
            for plan in candidates(cell, units, precision != "ieee", ROWS):
                # Without tensor cores' products the code is that of ieee; spread tiles have the code of the others,
                # and Newton's method has no kernel.
                exact: Precision = precision if plan.dot else "ieee"
                if plan == NEWTON or plan.spread or (exact, plan) in seen:
                    continue
                seen.add((exact, plan))
                pieces = (-(-units // plan.inputs),) if plan.inputs else ()
                for direction in ("forward", "backward"):
                    # One tile of units; the gradient's product goes through the gates one by one.
                    gates = (CELLS[cell].gates,) if direction == "backward" else ()
                    yield Launch(
                        "scan",
                        direction,
                        1,
                        units,
                        exact,
                        named(plan),
                        partial(launch_layer, direction, cell, units, plan),
                        direction,
                        (1, *gates, *pieces) if pieces else (),
                    )


def named(plan: Plan) -> str:
    words = [f"{plan.rows} x {plan.units}", f"{plan.warps} warps"]
    words += ["dot"] if plan.dot else []
    words += [f"{plan.inputs} inputs"] if plan.inputs else []
    return ", ".join(words)


def of_steps(cell: Cell, units: int, precisions: list[Precision]) -> Iterator[Launch]:
    from streamdrnn.kernels.gpu import step
    from streamdrnn.kernels.gpu.compiling import launch_step

    for tile, streams in zip((step.SMALL, step.LARGE), STREAMS.values(), strict=True):
        for precision in precisions:
            plan = Plan(tile["ROWS"], tile["UNITS"], tile["num_warps"], dot=True, inputs=tile["INPUTS"])
            yield Launch(
                "step",
                "forward",
                1,
                units,
                precision,
                named(plan),
                partial(launch_step, cell, units, streams),
                "step",
                (-(-units // plan.units), -(-units // plan.inputs)),
            )


def of_groups(cell: Cell, sizes: tuple[int, ...], layers: int) -> Iterator[Launch]:
    from streamdrnn.kernels.gpu.compiling import launch_group

    for units in sizes:
        group = grouped(cell, [units] * layers, 0)
        if group.columns:
            plan = f"{group.columns} columns, {group.threads} threads"
            for what, name, save in (
                ("inference", "forward", False),
                ("training, forward", "forward", True),
                ("backward", "backward", True),
            ):
                yield Launch(
                    "skewed",
                    what,
                    group.last,
                    units,
                    "ieee",
                    plan,
                    partial(launch_group, cell, group, units, save),
                    name,
                    unrolled=group.unrolled if name == "forward" else 1,
                )
