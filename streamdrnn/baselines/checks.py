"""Checks that the baselines share."""

from typing import Optional, TypeVar

import torch
from torch import Tensor

from streamdrnn.checks import check_like, check_positive, check_tensor
from streamdrnn.state import StreamState

State = TypeVar("State", bound=StreamState)


def check_per_layer(name: str, values: object, num_layers: Optional[int]) -> list[int]:
    """``values`` as a list, if it has one positive int per layer; None stands for 1, 2, 4, ...

    Raises:
        TypeError, ValueError: it does not, or there are no layers.
    """
    if values is None:
        if num_layers is None:
            raise ValueError(f"{name}: give a list of them, or num_layers for 1, 2, 4, ...")
        return [2**layer for layer in range(check_positive("num_layers", num_layers))]
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name}: expected a list of ints, got {values!r}")
    chosen = [check_positive(f"{name}[{layer}]", value) for layer, value in enumerate(values)]
    if not chosen:
        raise ValueError(f"{name}: expected one or more, got none")
    if num_layers is not None and num_layers != len(chosen):
        raise ValueError(f"{name}: expected one for each of {num_layers} layers, got {len(chosen)}")
    return chosen


def check_chunk(x: Tensor, input_size: int, weight: Tensor) -> Tensor:
    """``x`` if it is a chunk ``(T, B, I)`` like the weights; under autocast in their dtype.

    Raises:
        TypeError, ValueError: it is not.
    """
    check_tensor("x", x, (None, None, input_size), "(T, B, I)")
    check_like("x", x, weight, torch.is_autocast_enabled(weight.device.type))
    return x.to(weight.dtype)


def state_or_zero(state: Optional[State], zero: State) -> State:
    """``state``, or without one ``zero``, the model's own before the first step.

    Raises:
        TypeError, ValueError: ``state`` is of another model or another number of streams.
    """
    if state is None:
        return zero
    if not isinstance(state, type(zero)):
        raise TypeError(f"state: expected a {type(zero).__name__}, got {type(state).__name__}")
    problem = zero.mismatch(state)
    if not problem and state.batch_size != zero.batch_size:
        problem = f"got {state.batch_size} streams, expected {zero.batch_size}"
    if problem:
        raise ValueError(f"state: {problem}")
    return state


def carried_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which dtype a state is carried: float32 or wider, so that a chunk's end adds no rounding."""
    return torch.float64 if dtype == torch.float64 else torch.float32
