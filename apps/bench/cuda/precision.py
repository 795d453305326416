"""The precisions of the products, and how far from the exact result each may lead."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, NamedTuple

import torch

Precision = Literal["tf32", "ieee", "bf16", "fp16"]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The precisions that are those of autocast; the other two are torch's switches for float32."""


class Limits(NamedTuple):
    """The largest relative RMS errors that count as right, against float64.

    Attributes:
        outputs: of y.
        gradients: of the gradient of x or of any weight.
    """

    outputs: float
    gradients: float


LIMITS: dict[str, Limits] = {
    "ieee": Limits(1e-4, 2e-4),
    "tf32": Limits(2e-3, 1e-2),
    "fp16": Limits(2e-3, 1e-2),
    "bf16": Limits(1.5e-2, 6e-2),
}
"""ieee: what the package promises for outputs, and twice that for gradients. The others: four to six times the most
that rounding the operands gives by itself. Simulated in float64 for each cell, with nine layers of 20 and of 50 units
and 784 steps, and with one layer of 64 and 1024 steps, operands of 11 significant bits (tf32, fp16) lead to errors of
up to 4.3e-4 in outputs and 1.6e-3 in gradients; 8 bits (bf16), with the states rounded too, to 3.4e-3 and 1.6e-2."""


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Let float32 products be those of a precision, in matrix products and in cuDNN's networks alike.

    By default cuDNN's switch is on and torch's own off: without this, peers would round where ours does not. What stays
    float32 under autocast takes tf32.
    """
    before = switches()
    set_switches("highest" if precision == "ieee" else "high", precision != "ieee")
    try:
        yield
    finally:
        set_switches(*before)


def switches() -> tuple[str, bool]:
    """Torch's precision of float32 matrix products, and whether cuDNN may take tf32."""
    with no_advice():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def set_switches(matmul: str, cudnn_tf32: bool) -> None:
    """Set what :func:`switches` gives."""
    with no_advice():
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn_tf32


@contextmanager
def no_advice() -> Iterator[None]:
    """Without the advice of some releases to set the switches through torch's newer interface: what was set through
    that one, other parts of torch refuse to read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use the new API settings to control TF32")
        yield


def autocast(precision: str, kind: str) -> AbstractContextManager[object]:
    """The context of a forward pass. Each pass enters its own, as a training step does: until its end autocast keeps
    the weights that it has rounded.

    Args:
        kind: of the device.
    """
    return torch.autocast(kind, AUTOCAST[precision]) if precision in AUTOCAST else nullcontext()
