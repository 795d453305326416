"""Checks of what callers pass in: one clear line naming the argument, the value got and the one wanted."""

from typing import Optional, Sequence

import torch
from torch import Tensor

from streamdrnn.drnn_state import DRNNState
from streamdrnn.errors import InputError


def check_positive(name: str, value: int) -> int:
    """``value`` if it is a positive int.

    Raises:
        TypeError: it is no int.
        ValueError: it is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < 1:
        raise InputError(f"{name}: expected 1 or more, got {value}")
    return value


def check_tensor(name: str, value: Tensor, shape: Sequence[Optional[int]], what: str) -> None:
    """Raise unless ``value`` is a tensor of this shape; None stands for any size.

    Args:
        what: the shape in words, for the message, such as ``"(T, B, I)"``.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    fits = value.dim() == len(shape) and all(
        want is None or want == got for want, got in zip(shape, value.shape, strict=True)
    )
    if not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: expected shape {what} = ({sizes}), got {tuple(value.shape)}")


def check_like(name: str, value: Tensor, parameter: Tensor, any_float: bool = False) -> None:
    """Raise unless ``value`` has the dtype (or, with ``any_float``, a floating one) and device of the parameters."""
    if value.dtype != parameter.dtype and not (any_float and value.is_floating_point()):
        raise TypeError(f"{name}: expected the parameters' dtype {parameter.dtype}, got {value.dtype}")
    if value.device != parameter.device:
        raise ValueError(f"{name}: expected the parameters' device {parameter.device}, got {value.device}")


def check_lengths(lengths: Tensor, T: int, B: int) -> None:
    """Raise unless ``lengths`` is ``(B,)`` int64 with values from 0 to T."""
    check_tensor("lengths", lengths, (B,), "(B,)")
    if lengths.dtype != torch.int64:
        raise TypeError(f"lengths: expected dtype torch.int64, got {lengths.dtype}")
    if B and (int(lengths.min()) < 0 or int(lengths.max()) > T):
        raise ValueError(f"lengths: expected values from 0 to {T}, got {lengths.tolist()}")


def check_active(active: Tensor, B: int) -> None:
    """Raise unless ``active`` is a ``(B,)`` bool mask."""
    check_tensor("active", active, (B,), "(B,)")
    if active.dtype != torch.bool:
        raise TypeError(f"active: expected dtype torch.bool, got {active.dtype}")


def check_state(
    state: DRNNState,
    cell: str,
    dilations: list[int],
    hidden_sizes: list[int],
    fusion_slots: int,
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Raise unless ``state`` belongs to a model of these sizes and to ``batch_size`` streams."""
    # Not only a DRNNState: what TorchScript returns is a named tuple of a type of its own.
    if not hasattr(state, "cursor"):
        raise TypeError(f"state: expected a DRNNState, got {type(state).__name__}")
    if state.cell != cell:
        raise ValueError(f"state: expected one of a {cell!r} model, got one of a {state.cell!r} model")
    rings = [("h", state.h)] + ([("c", state.c)] if cell == "lstm" else [])
    for field, tensors in rings:
        if len(tensors) != len(dilations):
            raise ValueError(f"state.{field}: expected {len(dilations)} rings, got {len(tensors)}")
        for layer, (ring, d, size) in enumerate(zip(tensors, dilations, hidden_sizes, strict=True)):
            _check_ring(f"state.{field}[{layer}]", ring, (d, batch_size, size), dtype, device)
    _check_ring("state.fusion", state.fusion, (fusion_slots, batch_size, hidden_sizes[-1]), dtype, device)
    check_tensor("state.cursor", state.cursor, (batch_size,), "(B,)")
    _check_kind("state.cursor", state.cursor, torch.int64, device)


def _check_ring(name: str, ring: Tensor, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
    check_tensor(name, ring, shape, "(slots, B, H)")
    _check_kind(name, ring, dtype, device)


def _check_kind(name: str, ring: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    if ring.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {ring.dtype}")
    if ring.device != device:
        raise ValueError(f"{name}: expected device {device}, got {ring.device}")
