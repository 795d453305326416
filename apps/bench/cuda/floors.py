"""What no schedule of these layers is faster than."""

from typing import NamedTuple

from streamdrnn.apps.bench.cuda.ceilings import Ceilings
from streamdrnn.apps.bench.cuda.precision import AUTOCAST
from streamdrnn.apps.bench.works import Work
from streamdrnn.kernels import GATES

FLOAT = 4
"""Bytes of a float32 number."""


class Floors(NamedTuple):
    """Times in seconds that a work takes at least, each by one limit alone.

    Attributes:
        bytes: what must move, at the rate of a copy.
        operations: of the products, at the rate of a large product.
        steps: the steps of each layer, which wait for one another, at the time of one; layer after layer. None if that
            time was not measured.
    """

    bytes: float
    operations: float
    steps: float | None = None

    @property
    def highest(self) -> float:
        return max(self.bytes, self.operations, self.steps or 0.0)


def states_per_unit(cell: str) -> int:
    """h, and for an LSTM c."""
    return 2 if cell == "lstm" else 1


def weight_bytes(work: Work, cell: str) -> int:
    """Of all layers, with their biases."""
    return sum(FLOAT * GATES[cell] * work.hidden * (below + work.hidden + 2) for below in work.sizes_below)


def sequence_bytes(work: Work, cell: str, precision: str, train: bool) -> int:
    """The fewest bytes that a pass moves through the device's memory: what goes in once, what comes out once.

    A forward pass could keep all else on the chip. A training step must at least write each layer's states, in the
    precision's own format, and read them again.
    """
    rows = work.steps * work.batch
    x, y, weights = FLOAT * rows * work.inputs, FLOAT * rows * work.hidden, weight_bytes(work, cell)
    if not train:
        return x + weights + y
    width = AUTOCAST[precision].itemsize if precision in AUTOCAST else FLOAT
    states = rows * work.hidden * work.layers * states_per_unit(cell) * width
    gradients = y + weights  # of y, which comes in, and of the weights
    return 2 * (x + weights + states) + gradients


def step_bytes(work: Work, cell: str) -> int:
    """The fewest bytes of one step of ``work.batch`` streams: each layer's state of d steps ago in, the new one out."""
    states = work.batch * work.hidden * work.layers * states_per_unit(cell)
    return FLOAT * (work.batch * (work.inputs + work.hidden) + 2 * states) + weight_bytes(work, cell)


def dependent_steps(work: Work) -> int:
    """Steps that wait for one another, layer after layer: each layer's longest phase."""
    return sum(-(-work.steps // d) for d in work.dilations)


def sequence_floors(
    work: Work, cell: str, precision: str, train: bool, ceilings: Ceilings, step_s: float | None
) -> Floors:
    """The floors of a pass over a sequence.

    Args:
        step_s: the time of one step of one layer, in a pass of this kind.
    """
    return Floors(
        sequence_bytes(work, cell, precision, train) / ceilings.bytes_per_s,
        work.flops(cell, train) / ceilings.flop_per_s[precision],
        None if step_s is None else dependent_steps(work) * step_s,
    )


def step_floors(work: Work, cell: str, precision: str, ceilings: Ceilings) -> Floors:
    """The floors of one step of ``work.batch`` streams; ``work.steps`` is 1."""
    return Floors(step_bytes(work, cell) / ceilings.bytes_per_s, work.flops(cell) / ceilings.flop_per_s[precision])
