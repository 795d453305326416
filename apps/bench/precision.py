"""The precisions of the matrix products."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from streamdrnn.apps.bench.choices import Precision

AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The precisions that are those of autocast; the other two are torch's switches for float32."""


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Let float32 products be those of a precision, in matrix products and in cuDNN's networks alike.

    By default cuDNN's switch is on and torch's own off: without this, peers would round where ours does not. What stays
    float32 under autocast takes tf32.
    """
    before = switches()
    set_switches(precision != "ieee", precision != "ieee")
    try:
        yield
    finally:
        set_switches(*before)


def switches() -> tuple[bool, bool]:
    """Whether float32 matrix products and cuDNN's networks may take tf32, by whichever interface that was set."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn.rnn
    return matmul.fp32_precision == "tf32", cudnn.fp32_precision == "tf32"  # type: ignore[attr-defined]


def set_switches(matmul: bool, cudnn: bool) -> None:
    """Set what :func:`switches` gives."""
    with no_advice():
        torch.set_float32_matmul_precision("high" if matmul else "highest")
        torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def no_advice() -> Iterator[None]:
    """Without the advice of some releases to set the switches through torch's newer interface: what was set through
    that one, other parts of torch refuse to read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use the new API settings to control TF32")
        yield


def autocast(precision: Precision, kind: str) -> AbstractContextManager[object]:
    """The context of a forward pass. Each pass enters its own, as a training step does: until its end autocast keeps
    the weights that it has rounded.

    Args:
        kind: of the device.
    """
    return torch.autocast(kind, AUTOCAST[precision]) if precision in AUTOCAST else nullcontext()
