"""Rings of past states: time t is in slot ``t mod d``, and every stream has its own clock.

Batch computation wants the past in order of time instead. The first two functions are where the two views meet. They
index where they could gather: a gather keeps the ring for its gradient, and a step could then not write into it.
"""

from typing import Optional

import torch
from torch import Tensor


def in_time_order(ring: Tensor, cursor: Tensor) -> Tensor:
    """The ring's states, oldest first.

    Args:
        ring: ``(d, B, H)``.
        cursor: ``(B,)`` int64, the time of each stream's next step.

    Returns:
        ``(d, B, H)``; entry k is the state that step ``cursor + k`` reads.
    """
    d = ring.shape[0]
    slots = torch.remainder(cursor + torch.arange(d, device=ring.device)[:, None], d)
    return ring[slots, _streams(ring)]


def last_of(history: Tensor, d: int, cursor: Tensor, lengths: Tensor) -> Tensor:
    """The ring after a chunk, from the past followed by what the chunk computed.

    Args:
        history: ``(d + T, B, H)``, :func:`in_time_order` of the ring before, then the T new states.
        d: the ring's length.
        cursor: ``(B,)`` int64, the time at which the chunk began.
        lengths: ``(B,)`` int64, how many of the T steps each stream really made.

    Returns:
        the ring, ``(d, B, H)``.
    """
    slots = torch.arange(d, device=history.device)[:, None]
    entries = lengths + torch.remainder(slots - cursor - lengths, d)
    return history[entries, _streams(history)]


def _streams(states: Tensor) -> Tensor:
    return torch.arange(states.shape[1], device=states.device)


def where_made(x: Tensor, made: Optional[Tensor]) -> Tensor:
    """A chunk with zeros where no step is made, whatever x holds there (NaN, perhaps); None is all."""
    return x if made is None else torch.where(made, x, 0.0)


def steps_made(T: int, lengths: Tensor) -> Tensor:
    """Which steps of a chunk are real: ``(T, B, 1)`` bool."""
    return (torch.arange(T, device=lengths.device)[:, None] < lengths)[:, :, None]
