"""Only right results are timed: how far from float64, or from one another, results may be."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.apps.bench.choices import Precision

LIMIT = 1e-4
"""Relative RMS difference below which two float32 results count as equal."""


class Limits(NamedTuple):
    """The largest relative RMS errors that count as right, against float64.

    Attributes:
        outputs: of y.
        gradients: of the gradient of x or of any weight.
    """

    outputs: float
    gradients: float


LIMITS: dict[Precision, Limits] = {
    "ieee": Limits(LIMIT, 2e-4),
    "tf32": Limits(2e-3, 1e-2),
    "fp16": Limits(2e-3, 1e-2),
    "bf16": Limits(1.5e-2, 6e-2),
}
"""ieee: what the package promises for outputs, and twice that for gradients. The others: four to six times the most
that rounding the operands gives by itself. Simulated in float64 for each cell, with nine layers of 20 and of 50 units
and 784 steps, and with one layer of 64 and 1024 steps, operands of 11 significant bits (tf32, fp16) lead to errors of
up to 4.3e-4 in outputs and 1.6e-3 in gradients; 8 bits (bf16), with the states rounded too, to 3.4e-3 and 1.6e-2."""


class Errors(NamedTuple):
    """Relative RMS errors against float64.

    Attributes:
        outputs: of y.
        gradients: the largest of any gradient; None where none was computed.
    """

    outputs: float
    gradients: Optional[float] = None

    def excess(self, precision: Precision) -> str:
        """What exceeds the precision's limits, in words; empty if nothing does. NaN does."""
        limits = LIMITS[precision]
        if not self.outputs < limits.outputs:
            return f"wrong: outputs {self.outputs:.1e}, limit {limits.outputs:.1e}"
        if self.gradients is not None and not self.gradients < limits.gradients:
            return f"wrong: gradients {self.gradients:.1e}, limit {limits.gradients:.1e}"
        return ""


def errors_of(got: Sequence[Tensor], expected: Sequence[Tensor]) -> Errors:
    """The errors of outputs, and of the gradients after them if there are any.

    Raises:
        ValueError: the shapes differ.
    """
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (got, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"results of shapes {shapes[0]}, expected {shapes[1]}")
    outputs, *gradients = (relative_rms(one, other) for one, other in zip(got, expected, strict=True))
    return Errors(outputs, max_with_nan(gradients) if gradients else None)


def check_same(peer: str, what: str, got: Tensor, expected: Tensor) -> None:
    """Raise unless a peer's result is ours.

    Raises:
        ValueError: the shapes differ, or the values by :data:`LIMIT` or more.
    """
    if got.shape != expected.shape:
        raise ValueError(f"{peer}: {what} of shape {tuple(got.shape)}, ours has {tuple(expected.shape)}")
    difference = relative_rms(got, expected)
    if not difference < LIMIT:  # NaN is no agreement
        raise ValueError(f"{peer}: {what} differs from ours by {difference:.1e} (relative RMS), expected below {LIMIT}")


def relative_rms(got: Tensor, expected: Tensor) -> float:
    """The RMS of the difference over that of what is expected; 0 for two that are all zero."""
    error = (got.detach().double() - expected.detach().double()).square().sum()
    size = expected.detach().double().square().sum()
    return float(torch.sqrt(error / size)) if error > 0 else float(error)


def max_with_nan(values: Sequence[float]) -> float:
    """The largest, or NaN if any is: Python's own would depend on their order."""
    return float(torch.tensor(values, dtype=torch.float64).max())
