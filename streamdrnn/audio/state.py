"""The state of a front-end: what it carries from one chunk of samples to the next."""

from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn.state import StreamState


class _AudioFields(NamedTuple):
    tail: Tensor
    filled: Tensor
    history: Tensor
    frames: Tensor


class AudioState(_AudioFields, StreamState):
    """The state of a front-end for B streams.

    Attributes:
        tail: ``(window - 1, B)``, the samples that are still waiting for their frame, at the end; zeros before them.
        filled: ``(B,)`` int64, how many those are.
        history: ``(8, B, M)``, the last features, for deltas; no rows without deltas.
        frames: ``(B,)`` int64, the frames that each stream has completed.
    """

    __slots__ = ()

    def check(self) -> None:
        if self.tail.dim() != 2 or self.history.dim() != 3:
            raise ValueError(f"tail of shape {tuple(self.tail.shape)}, history of {tuple(self.history.shape)}")
        super().check()
        if self.filled.dtype != torch.int64 or self.frames.dtype != torch.int64:
            raise ValueError("filled and frames must be int64")
        if self.filled.numel() and not 0 <= int(self.filled.min()) <= int(self.filled.max()) <= self.tail.shape[0]:
            raise ValueError(f"filled must be from 0 to {self.tail.shape[0]}")
