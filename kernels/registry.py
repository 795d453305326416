"""The backends that there are, and the choice among them."""

import warnings
from functools import cache
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.autograd import forward_ad

from streamdrnn.kernels.backend import Backend
from streamdrnn.kernels.cpu.backend import CPU
from streamdrnn.kernels.gpu.backend import TRITON
from streamdrnn.kernels.pytorch.backend import REFERENCE, TORCH
from streamdrnn.kernels.weights import Weights

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (REFERENCE, TORCH, CPU, TRITON)}
AUTO = "auto"
BACKEND_NAMES = (AUTO, *BACKENDS)


class Availability(NamedTuple):
    """Whether a backend can be used here, and why not."""

    usable: bool
    reason: str = ""


def available() -> dict[str, Availability]:
    """The backends by name: which can be used on this machine, and why the others cannot."""
    return {name: Availability(not backend.why_not(), backend.why_not()) for name, backend in BACKENDS.items()}


def check_backend(name: str) -> None:
    """Raise unless the name is one of :data:`BACKEND_NAMES` that can be used on this machine.

    Raises:
        ValueError: the name is unknown, or that backend cannot be used here.
    """
    if name not in BACKEND_NAMES:
        raise ValueError(f"backend: got {name!r}, expected one of {', '.join(BACKEND_NAMES)}")
    # Also of "auto" it is found out now whether the native kernels can be used, as torch.compile cannot.
    reason = (CPU if name == AUTO else BACKENDS[name]).why_not()
    if name != AUTO and reason:
        raise ValueError(f'backend {name!r} is not available: {reason}; "auto" picks one that is')


def resolve(name: str, x: Tensor) -> Backend:
    """The backend that computes on tensors like ``x``, whose dtype is that of the states.

    ``"auto"`` takes the fastest: the Triton kernels for float32 states on an NVIDIA GPU, the native kernels for float32
    on the CPU. With ``"cpu"`` and ``"triton"`` all else goes to ``torch``. Derivatives of forward mode are those of the
    reference: the others have a backward pass only.

    Raises:
        ValueError: as :func:`check_backend`.
    """
    if not torch.compiler.is_compiling():  # which cannot trace how it is found out what can be used
        check_backend(name)
    if forward_ad._current_level >= 0:
        return REFERENCE
    if name != AUTO:
        return BACKENDS[name] if BACKENDS[name].takes(x) else TORCH
    if x.is_cuda:
        return TRITON if TRITON.takes(x) else TORCH
    if CPU.takes(x):
        return CPU
    if CPU.would_take(x):
        _warn_that_torch_computes(CPU.why_not())
    return TORCH


@cache
def _warn_that_torch_computes(reason: str) -> None:
    warnings.warn(f"the native CPU kernels cannot be used, torch computes: {reason}", RuntimeWarning, stacklevel=3)


def dilated_layer(
    cell: str,
    x: Tensor,
    weights: Weights,
    h_ring: Tensor,
    c_ring: Optional[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor] = None,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor, Optional[Tensor], Tensor]:
    """One dilated layer over a chunk: a stack of one, see :meth:`streamdrnn.kernels.backend.Backend.stack`.

    Args:
        backend: one of :data:`BACKEND_NAMES`.

    Returns:
        y ``(T, B, H)``, zero where no step was made; the rings and the cursor after the chunk.

    Raises:
        ValueError: the backend is unknown or not available.
    """
    c_rings = None if c_ring is None else [c_ring]
    y, h, c, after = resolve(backend, x).stack(
        cell, x, [weights], [h_ring.shape[0]], [h_ring], c_rings, cursor, lengths
    )
    return y, h[0], c[0] if c else None, after
