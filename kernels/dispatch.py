"""Which backend computes, and the op in front of them all."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn import functional

from streamdrnn.kernels import cpu, gpu, pytorch, reference
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
        "cpu": Availability(not cpu.why_not(), cpu.why_not()),
        "triton": Availability(not gpu.why_not(), gpu.why_not()),
    }


def check_backend(backend: str) -> None:
    """Raise unless the name is one of :data:`BACKENDS` that can be used on this machine.

    Raises:
        ValueError: the name is unknown, or that backend cannot be used here.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: got {backend!r}, expected one of {', '.join(BACKENDS)}")
    if backend == "auto":
        return
    usable, reason = available()[backend]
    if not usable:
        raise ValueError(f'backend {backend!r} is not available: {reason}; "auto" picks one that is')


def resolve(backend: str, x: Tensor) -> str:
    """The backend that computes on tensors like ``x``: ``"reference"``, ``"torch"``, ``"cpu"`` or ``"triton"``.

    ``"auto"`` takes the fastest. The native CPU kernels are for float32 on the CPU, the Triton kernels for float32
    states on an NVIDIA GPU; with ``"cpu"`` and ``"triton"`` all else goes to ``torch``, and so does what
    ``torch.compile`` traces on the CPU.

    Raises:
        ValueError: as :func:`check_backend`.
    """
    if not torch.compiler.is_compiling():  # which cannot trace how it is found out what can be used
        check_backend(backend)
    if backend == "triton" or (backend == "auto" and x.is_cuda):
        return "triton" if gpu.can_compute(x) else "torch"
    if backend not in ("auto", "cpu"):
        return backend
    if x.dtype != torch.float32 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return "torch"
    if cpu.why_not():
        _warn_that_torch_computes(cpu.why_not())
        return "torch"
    return "cpu"


@cache
def _warn_that_torch_computes(reason: str) -> None:
    warnings.warn(f"the native CPU kernels cannot be used, torch computes: {reason}", RuntimeWarning, stacklevel=2)


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

    All floating point arguments have one dtype and device, the layer's; but the ``triton`` backend also takes bfloat16
    and float16 weights, to which it rounds the operands of its products. Under autocast it rounds them to autocast's
    dtype.

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
    chosen = resolve(backend, x)
    if chosen in ("cpu", "triton"):
        c_rings = None if c_ring is None else [c_ring]
        y, h, c, cursor = stack(chosen, cell, x, [weights], [h_ring.shape[0]], [h_ring], c_rings, cursor, lengths)
        return y, h[0], c[0] if c else None, cursor
    layer = reference.layer if chosen == "reference" else pytorch.layer
    with without_autocast(x):
        return layer(cell, x, weights, h_ring, c_ring, cursor, lengths)


def stack(
    chosen: str,
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    dilations: Sequence[int],
    h_rings: Optional[Sequence[Tensor]],
    c_rings: Optional[Sequence[Tensor]],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor] = None,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """Layers on top of one another as one operation, by the backends that can: ``"cpu"`` and ``"triton"``.

    Args:
        chosen: the backend, from :func:`resolve`.
        x: ``(T, B, I)``.
        weights, dilations: one per layer.
        h_rings: one per layer; None for streams before their first step, of which no cursor need be given either.
        c_rings: the same for an LSTM, else empty or None.
        cursor, lengths: as in :func:`dilated_layer`.

    Returns:
        the top layer's y ``(T, B, H)``, zero where no step was made; the rings and the cursor after the chunk.
    """
    if chosen == "cpu":
        return cpu.stack(cell, x, weights, dilations, h_rings, c_rings, cursor, lengths)
    operands = operand_dtype(x, weights[0])
    with without_autocast(x):
        return gpu.stack(cell, x, weights, dilations, h_rings, c_rings, cursor, lengths, operands)


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
    chosen = resolve(backend, x)
    if chosen in ("cpu", "triton"):
        c_rings, clock = None if c is None else [c[None]], torch.zeros(h.shape[0], dtype=torch.int64, device=h.device)
        y, _, c_new, _ = stack(chosen, cell, x[None], [weights], [1], [h[None]], c_rings, clock)
        return y[0], c_new[0][0] if c_new else None
    step = reference.step if chosen == "reference" else pytorch.step
    with without_autocast(x):
        return step(cell, x, weights, h, c)


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor], backend: str = "auto") -> Tensor:
    """``torch.nn.functional.linear``, by the ``cpu`` backend with the same bits for a row whatever the other rows are.

    Args:
        x: ``(..., K)``.
        weight, bias: ``(M, K)``, and ``(M,)`` or None.

    Returns:
        ``(..., M)``.
    """
    autocast = torch.is_autocast_enabled(x.device.type)
    if x.dtype == weight.dtype and not autocast and resolve(backend, x) == "cpu":
        return cpu.linear(x, weight, bias)
    return functional.linear(x, weight, bias)


def operand_dtype(x: Tensor, weights: Weights) -> torch.dtype:
    """To what the operands of products are rounded: autocast's dtype where it is on, else that of the weights."""
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return weights.w_hh.dtype


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context that computes in the dtype of ``x``: autocast would round the carried state at every step."""
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
