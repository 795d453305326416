"""Checks of what callers pass in: one clear line naming the argument, the value got and the one wanted."""

from typing import Optional, Sequence

import torch
from torch import Tensor

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


def check_per_layer(name: str, values: object, num_layers: Optional[int]) -> list[int]:
    """``values`` as a list, if it has one positive int per layer; None stands for 1, 2, 4, ...

    Raises:
        TypeError, ValueError: it does not, or there are no layers.
    """
    if values is None:
        if num_layers is None:
            raise InputError(f"{name}: give a list of them, or num_layers for 1, 2, 4, ...")
        return [2**layer for layer in range(check_positive("num_layers", num_layers))]
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name}: expected a list of ints, got {values!r}")
    chosen = [check_positive(f"{name}[{layer}]", value) for layer, value in enumerate(values)]
    if not chosen:
        raise InputError(f"{name}: expected one or more, got none")
    if num_layers is not None and num_layers != len(chosen):
        raise InputError(f"num_layers: got {num_layers} with {len(chosen)} {name}; give one of them")
    return chosen


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
