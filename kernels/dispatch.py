"""Which backend computes, and the op in front of them all."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.kernels import pytorch, reference
from streamdrnn.kernels.weights import Weights

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Gates per cell, which is how many times H rows its weights have."""

BACKENDS = ("auto", "reference", "torch", "cpu", "triton")


class Availability(NamedTuple):
    """Whether a backend can be used here, and why not."""

    usable: bool
    reason: str = ""


def available() -> dict[str, Availability]:
    """The backends by name: which can be used on this machine, and why the others cannot."""
    return {
        "reference": Availability(True),
        "torch": Availability(True),
        "cpu": Availability(False, "this release has no native CPU kernels"),
        "triton": Availability(False, "this release has no Triton kernels"),
    }


def resolve(backend: str) -> str:
    """The backend that a name stands for; ``"auto"`` takes the fastest that is usable.

    Raises:
        ValueError: the name is unknown, or that backend cannot be used here.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: got {backend!r}, expected one of {', '.join(BACKENDS)}")
    if backend == "auto":
        return "torch"
    usable, reason = available()[backend]
    if not usable:
        raise ValueError(f'backend {backend!r} is not available: {reason}; "auto" picks one that is')
    return backend


def dilated_layer(
    cell: str,
    x: Tensor,
    weights: Weights,
    h_ring: Tensor,
    c_ring: Optional[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor] = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Optional[Tensor], Tensor]:
    """One dilated layer over a chunk of B streams: ``c_t = f(x_t, c_{t-d})``.

    All floating point arguments have one dtype and device, the layer's.

    Args:
        cell: ``"rnn"`` (tanh), ``"gru"`` or ``"lstm"``.
        x: ``(T, B, I)``.
        weights: the layer's.
        h_ring: ``(d, B, H)``, the last d hidden states, time t in slot ``t mod d``.
        c_ring: the same for an LSTM's cell states, else None.
        cursor: ``(B,)`` int64, the time of each stream's first step in this chunk.
        lengths: ``(B,)`` int64 from 0 to T, how many of the steps each stream really makes. The others write
            nothing: the slot that a step overwrites holds the state that the stream's next real step reads.
        backend: see :func:`available`.

    Returns:
        y ``(T, B, H)``, zero where no step was made; the rings and the cursor after the chunk.

    Raises:
        ValueError: the backend is unknown or not available.
    """
    layer = reference.layer if resolve(backend) == "reference" else pytorch.layer
    with without_autocast(x):
        return layer(cell, x, weights, h_ring, c_ring, cursor, lengths)


def cell_step(
    cell: str,
    x: Tensor,
    weights: Weights,
    h: Tensor,
    c: Optional[Tensor],
    backend: str = "auto",
) -> tuple[Tensor, Optional[Tensor]]:
    """One step of one layer for B streams whose states of d steps ago are at hand.

    Args:
        x: ``(B, I)``.
        h, c: ``(B, H)``, the states at t-d; c for an LSTM only.
        The rest: as in :func:`dilated_layer`.

    Returns:
        the states at t, ``(B, H)``.
    """
    step = reference.step if resolve(backend) == "reference" else pytorch.step
    with without_autocast(x):
        return step(cell, x, weights, h, c)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context that computes in the dtype of ``x``: autocast would round the carried state at every step."""
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
