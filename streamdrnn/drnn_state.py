"""The state of a dilated network: its rings and its clocks."""

import json
from typing import List, NamedTuple

import torch
from torch import Tensor

from streamdrnn.kernels.cells import CELLS
from streamdrnn.state import CELL_NAMES, StreamState


class _DRNNFields(NamedTuple):
    h: List[Tensor]
    c: List[Tensor]
    fusion: Tensor
    cursor: Tensor
    mark: Tensor


class DRNNState(_DRNNFields, StreamState):
    """The state of a :class:`DilatedRNN` for B streams: tensors only, as what walks through states expects.

    Attributes:
        h: per layer the ring of its last d hidden states, ``(d, B, H)``; time t is in slot ``t mod d``.
        c: the same for the cell states of an LSTM, else empty.
        fusion: the ring of the last d0 outputs of the top layer, ``(d0, B, H)``; d0 = 0 without a fusion.
        cursor: ``(B,)`` int64, the steps that each stream has made.
        mark: ``(k, B, 0)``, without numbers; k says which cell the state is of, in the order of
            :data:`streamdrnn.kernels.CELLS`.
    """

    __slots__ = ()

    @property
    def cell(self) -> str:
        """The cell's name."""
        return CELL_NAMES[self.mark.shape[0]]

    @property
    def dilations(self) -> list[int]:
        """The dilation of each layer, which is the length of its ring."""
        return [ring.shape[0] for ring in self.h]

    @property
    def hidden_sizes(self) -> list[int]:
        """The hidden size of each layer."""
        return [ring.shape[2] for ring in self.h]

    @property
    def h_n(self) -> Tensor:
        """The last hidden state of each layer, ``(layers, B, H)`` as ``torch.nn.GRU`` gives it; 0 before the first.

        Raises:
            ValueError: the layers' sizes differ.
        """
        return self._last_of(self.h)

    @property
    def c_n(self) -> Tensor:
        """The last cell state of each layer, ``(layers, B, H)`` as ``torch.nn.LSTM`` gives it; 0 before the first.

        Raises:
            ValueError: the layers' sizes differ, or the cells have no cell state.
        """
        return self._last_of(self.c)

    def _last_of(self, rings: list[Tensor]) -> Tensor:
        if not rings:
            raise ValueError(f"c_n: {self.cell!r} cells have no cell state")
        if len(set(self.hidden_sizes)) > 1:
            raise ValueError(f"h_n, c_n: expected layers of one size, got {self.hidden_sizes}; see h and c")
        streams = torch.arange(self.batch_size, device=self.cursor.device)
        return torch.stack([ring[torch.remainder(self.cursor - 1, ring.shape[0]), streams] for ring in rings])

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
        if self.mark.shape[0] >= len(CELL_NAMES) or self.mark.shape[2] != 0:
            raise ValueError(f"mark has shape {tuple(self.mark.shape)}")
        if [c.shape for c in self.c] != ([h.shape for h in self.h] if CELLS[self.cell].has_c else []):
            raise ValueError("the rings of h and c differ")
        if self.fusion.shape[0] not in (0, self.dilations[0]) or self.fusion.shape[2] != self.hidden_sizes[-1]:
            raise ValueError(f"fusion has shape {tuple(self.fusion.shape)}")
        if {t.dtype for t in [*self.h, *self.c, self.fusion]} not in ({torch.float32}, {torch.float64}):
            raise ValueError("the rings must all be float32, or all float64")
