"""The state of a dilated network: its rings and its clocks."""

import json
from typing import List, NamedTuple

import torch
from torch import Tensor

from streamdrnn.state import StreamState

MOST_STEPS = 2**62  # far beyond any stream's life, and as far from overflowing


class _DRNNFields(NamedTuple):
    cell: str
    h: List[Tensor]
    c: List[Tensor]
    fusion: Tensor
    cursor: Tensor


class DRNNState(_DRNNFields, StreamState):
    """The state of a :class:`DilatedRNN` for B streams.

    Attributes:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        h: per layer the ring of its last d hidden states, ``(d, B, H)``; time t is in slot ``t mod d``.
        c: the same for the cell states of an LSTM, else empty.
        fusion: the ring of the last d0 outputs of the top layer, ``(d0, B, H)``; d0 = 0 without a fusion.
        cursor: ``(B,)`` int64, the steps that each stream has made.
    """

    __slots__ = ()

    @property
    def dilations(self) -> list[int]:
        """The dilation of each layer, which is the length of its ring."""
        return [ring.shape[0] for ring in self.h]

    @property
    def hidden_sizes(self) -> list[int]:
        """The hidden size of each layer."""
        return [ring.shape[2] for ring in self.h]

    def describe(self) -> dict[str, str]:
        return {
            "cell": self.cell,
            "dilations": json.dumps(self.dilations),
            "hidden_sizes": json.dumps(self.hidden_sizes),
        }

    def check(self) -> None:
        for name, tensor in self.tensors().items():
            if tensor.dim() != (1 if name == "cursor" else 3):
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}")
        super().check()
        if not self.h:
            raise ValueError("no layers")
        if self.cell not in ("rnn", "gru", "lstm"):
            raise ValueError(f"unknown cell {self.cell!r}")
        if [c.shape for c in self.c] != ([h.shape for h in self.h] if self.cell == "lstm" else []):
            raise ValueError("the rings of h and c differ")
        if self.fusion.shape[0] not in (0, self.dilations[0]) or self.fusion.shape[2] != self.hidden_sizes[-1]:
            raise ValueError(f"fusion has shape {tuple(self.fusion.shape)}")
        if {t.dtype for t in [*self.h, *self.c, self.fusion]} not in ({torch.float32}, {torch.float64}):
            raise ValueError("the rings must all be float32, or all float64")
        if self.cursor.dtype != torch.int64 or bool(((self.cursor < 0) | (self.cursor > MOST_STEPS)).any()):
            raise ValueError("cursor must hold int64 step counts from 0 to 2**62")
