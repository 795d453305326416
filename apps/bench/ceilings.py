"""What a device can do at most, measured on it: no version of anything is faster."""

import math
from typing import NamedTuple

import torch

from streamdrnn import kernels
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.precision import AUTOCAST, float32_products
from streamdrnn.apps.bench.target import Target
from streamdrnn.apps.bench.timing import Run, Turns, interleaved
from streamdrnn.apps.bench.workloads import Sizes
from streamdrnn.kernels import cpu


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
