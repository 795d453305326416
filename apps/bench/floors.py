"""What no schedule of these layers is faster than."""

from typing import NamedTuple, Optional

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench.ceilings import Ceilings
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.precision import AUTOCAST
from streamdrnn.apps.bench.workloads import Case, Workload

FLOAT = 4
"""Bytes of a float32 number."""


class Floors(NamedTuple):
    """Times in seconds that a workload takes at least, each by one limit alone.

    Attributes:
        bytes: what must move, at the rate of a copy.
        operations: of the products, at the rate of a large product.
        steps: the steps of each layer, which wait for one another, at the time of one; layer after layer. None if that
            time was not measured.
    """

    bytes: float
    operations: float
    steps: Optional[float] = None

    @property
    def highest(self) -> float:
        return max(self.bytes, self.operations, self.steps or 0.0)


def states_per_unit(cell: str) -> int:
    """h, and for an LSTM c."""
    state = DilatedRNN(1, 1, 1, cell=cell).zero_state(1)
    return len(state.h) + len(state.c)


def sequence_bytes(case: Case, precision: Precision) -> int:
    """The fewest bytes that a pass moves through the device's memory: what goes in once, what comes out once.

    A forward pass could keep all else on the chip. A training step must at least write each layer's states, in the
    precision's own format, and read them again.
    """
    workload, cell, train = case
    rows = workload.steps * workload.batch
    x, y, weights = FLOAT * rows * workload.inputs, FLOAT * rows * workload.hidden, FLOAT * workload.weights(cell)
    if not train:
        return x + weights + y
    width = AUTOCAST[precision].itemsize if precision in AUTOCAST else FLOAT
    states = rows * workload.hidden * workload.layers * states_per_unit(cell) * width
    gradients = y + weights  # of y, which comes in, and of the weights
    return 2 * (x + weights + states) + gradients


def step_bytes(case: Case) -> int:
    """The fewest bytes of one step of a batch of streams: each layer's state of d steps ago in, the new one out."""
    workload, cell, _ = case
    states = workload.batch * workload.hidden * workload.layers * states_per_unit(cell)
    return FLOAT * (workload.batch * (workload.inputs + workload.hidden) + 2 * states + workload.weights(cell))


def dependent_steps(workload: Workload) -> int:
    """Steps that wait for one another, layer after layer: each layer's longest phase."""
    return sum(-(-workload.steps // d) for d in workload.dilations)


def sequence_floors(case: Case, precision: Precision, ceilings: Ceilings, step_s: Optional[float]) -> Floors:
    """The floors of a pass over a sequence.

    Args:
        step_s: the time of one step of one layer, in a pass of this kind.
    """
    return Floors(
        sequence_bytes(case, precision) / ceilings.bytes_per_s,
        case.flops / ceilings.flop_per_s[precision],
        None if step_s is None else dependent_steps(case.workload) * step_s,
    )


def step_floors(case: Case, precision: Precision, ceilings: Ceilings) -> Floors:
    """The floors of one step of a batch of streams."""
    return Floors(step_bytes(case) / ceilings.bytes_per_s, case.flops / ceilings.flop_per_s[precision])
