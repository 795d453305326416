"""What a device can do at most, measured on it, and the times that follow: no version of anything is faster."""

import math
from typing import NamedTuple, Optional

import torch

from streamdrnn import DilatedRNN, kernels
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.precision import AUTOCAST, float32_products
from streamdrnn.apps.bench.target import Target
from streamdrnn.apps.bench.timing import Run, Turns, interleaved
from streamdrnn.apps.bench.workloads import Case, Sizes, Workload
from streamdrnn.kernels import cpu

FLOAT = 4
"""Bytes of a float32 number."""


class Peak(NamedTuple):
    """The most that the processor can multiply and add.

    Attributes:
        gflops: 10^9 floating point operations per second, of all of torch's threads.
        source: how it was measured.
    """

    gflops: float
    source: str


class Ceilings(NamedTuple):
    """Rates of large simple operations, and the time of a small one.

    Attributes:
        bytes_per_s: of a copy, counting what is read and what is written.
        flop_per_s: of a square matrix product, for each precision.
        launch_s: from the call of the smallest operation to the end of it.
    """

    bytes_per_s: float
    flop_per_s: dict[Precision, float]
    launch_s: float


def measured_peak(target: Target, seconds: float) -> Peak:
    """The processor's fastest multiply-adds in float32, repeated for so long."""
    threads = torch.get_num_threads()
    if kernels.available()["cpu"].usable:
        return Peak(cpu.fma_peak(threads, seconds), f"multiply-adds in registers, {threads} thread(s)")
    return Peak(
        max(product_rate(target, "ieee", size, seconds / 3) for size in (256, 512, 1024)) / 1e9,
        f"torch's fastest float32 matrix product, {threads} thread(s): a stand-in, below the real peak",
    )


def measured_ceilings(target: Target, sizes: Sizes) -> Ceilings:
    """The ceilings of a device."""
    # Random numbers, because a product of zeros draws less power and can run faster.
    source = torch.randn(sizes.copied_bytes // 4, device=target.device)
    sink = torch.empty_like(source)
    with torch.inference_mode():
        copy_s = median_s(target, lambda: sink.copy_(source))
        one = sink[:1]
        launch_s = median_s(target, lambda: one.add_(1))
    rates = {precision: product_rate(target, precision, sizes.product) for precision in target.precisions}
    return Ceilings(2 * source.nbytes / copy_s, rates, launch_s)


def product_rate(target: Target, precision: Precision, size: int, seconds: float = math.inf) -> float:
    """The rate in FLOP/s of a product of two square matrices, which is repeated for no longer than is given."""
    a, b = (torch.randn(size, size, device=target.device, dtype=AUTOCAST.get(precision)) for _ in range(2))
    with float32_products(precision):
        return 2 * size**3 / median_s(target, lambda: a @ b, seconds)


def median_s(target: Target, run: Run, seconds: float = math.inf) -> float:
    """The median time of a run in seconds."""
    return interleaved({"run": run}, Turns(7, seconds=seconds), target.clock)["run"].percentile(50) / 1e9


def ceiling_facts(ceilings: Ceilings, sizes: Sizes) -> dict[str, object]:
    """What was measured of the device, in words."""
    rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in ceilings.flop_per_s.items())
    return {
        "copy": f"{ceilings.bytes_per_s / 1e9:.3g} GB/s, read and written ({sizes.copied_bytes / 2**20:g} MiB)",
        "matrix product": f"{rates} TFLOP/s ({sizes.product} x {sizes.product} x {sizes.product})",
        "launch": f"{ceilings.launch_s * 1e6:.3g} us until the end of the smallest operation is known",
    }


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
