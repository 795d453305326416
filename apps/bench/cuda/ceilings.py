"""What the device can do at most, measured on it: no version of anything is faster."""

from typing import NamedTuple

import torch

from streamdrnn.apps.bench.cuda.precision import AUTOCAST, LIMITS, float32_products
from streamdrnn.apps.bench.cuda.target import Target
from streamdrnn.apps.bench.timing import Run, interleaved

TURNS = 7


class Ceilings(NamedTuple):
    """Rates of large simple operations, and the time of a small one.

    Attributes:
        bytes_per_s: of a copy, counting what is read and what is written.
        flop_per_s: of a square matrix product, for each precision.
        launch_s: from the call of the smallest operation to the end of it.
    """

    bytes_per_s: float
    flop_per_s: dict[str, float]
    launch_s: float


def measured_ceilings(target: Target, copied_bytes: int, size: int) -> Ceilings:
    """Measure them.

    Args:
        copied_bytes: of the copy: many times what the caches hold.
        size: of the matrices.
    """
    # Random numbers, because a product of zeros draws less power and can run faster.
    source = torch.randn(copied_bytes // 4, device=target.device)
    sink = torch.empty_like(source)
    rates: dict[str, float] = {}
    with torch.inference_mode():
        copy_s = seconds(target, lambda: sink.copy_(source))
        one = sink[:1]
        launch_s = seconds(target, lambda: one.add_(1))
        a, b = (torch.randn(size, size, device=target.device) for _ in range(2))
        for precision in LIMITS:
            with float32_products(precision):
                dtype = AUTOCAST.get(precision, torch.float32)
                left, right = a.to(dtype), b.to(dtype)
                rates[precision] = 2 * size**3 / seconds(target, lambda a=left, b=right: a @ b)  # type: ignore[misc]
    return Ceilings(2 * source.nbytes / copy_s, rates, launch_s)


def seconds(target: Target, run: Run) -> float:
    """The median time of a run."""
    return interleaved({"run": run}, TURNS, clock=target.clock)["run"].percentile(50) / 1e9
