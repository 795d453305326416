"""The regular skip RNN: beside the state one step ago every layer reads the one of s steps ago."""

import math
from collections.abc import Sequence
from typing import Any, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from streamdrnn import kernels
from streamdrnn.checks import check_per_layer, check_positive
from streamdrnn.errors import refusing_input
from streamdrnn.kernels import Weights
from streamdrnn.network import ChunkedNetwork, carried, register_network
from streamdrnn.state import CELL_NAMES, StreamState, carried_dtype, last_steps


class _SkipRNNFields(NamedTuple):
    h: List[Tensor]
    c: List[Tensor]
    cursor: Tensor
    mark: Tensor


class SkipRNNState(_SkipRNNFields, StreamState):
    """The state of a :class:`SkipRNN` for B streams.

    Attributes:
        h: per layer the last s hidden states in order of time, ``(s, B, H)``.
        c: per layer of an LSTM the last cell state, ``(1, B, H)``; else empty.
        cursor: ``(B,)`` int64, the steps that each stream has made.
        mark: which cell the state is of, as in :class:`streamdrnn.DRNNState`.
    """

    __slots__ = ()


@register_network
class SkipRNN(ChunkedNetwork):
    """A stack of recurrent layers with skip connections through time (Chang et al. 2017, equation 2).

    In layer l with skip s, ``c[t] = f(x[t], c[t-1], c[t-s])``. Here f is an ordinary cell, given ``x[t]`` and
    ``h[t-s]`` side by side as its input and ``c[t-1]`` as its state::

        f(x[t], c[t-1], c[t-s]) = cell([x[t]; h[t-s]], c[t-1])

    For ``"rnn"`` that is ``tanh(W x[t] + U h[t-1] + V h[t-s] + b)``, one recurrent matrix more than
    without the skip, as in Zhang et al., "Architectural Complexity Measures of Recurrent Neural Networks", NIPS
    2016. For gated cells it adds one matrix per gate and leaves the cell as it is, so that V = 0 gives
    ``torch.nn.GRU`` and ``LSTM``. Each run of s steps reads only skips that are known before it, so it is one call of
    the kernels that compute the layers of :class:`DilatedRNN`.

    Args:
        input_size: I, the features per step.
        hidden_size: H, of every layer.
        num_layers: how many layers; with it and no ``skips``, these are 1, 2, 4, ...
        skips: one positive int per layer. With 1 a layer reads the same state twice.
        cell: ``"rnn"`` (tanh), ``"gru"`` or ``"lstm"``.
        bias: whether the layers have biases.
        backend, device, dtype: see :class:`DilatedRNN`.

    Attributes:
        weight_ih_l{k}: ``(G H, I + H)``, G = 1, 3 or 4 gates in torch's order; the last H columns meet
            ``h[t-s]``.
        weight_hh_l{k}: ``(G H, H)``.
        bias_ih_l{k}: ``(G H,)``.
        bias_hh_l{k}: ``(G H,)``.

    Raises:
        ValueError, TypeError: an argument is out of its range, or of the wrong type.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: Optional[int] = None,
        skips: Optional[Sequence[int]] = None,
        cell: str = "gru",
        bias: bool = True,
        backend: str = "auto",
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__()
        with refusing_input():
            gates, self._has_c = kernels.cell_named(cell)[1:]
            kernels.check_backend(backend)
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = check_positive("hidden_size", hidden_size)
        self.skips = check_per_layer("skips", skips, num_layers)
        self.num_layers = len(self.skips)
        self.cell = cell
        self.bias = bool(bias)
        self.backend = backend
        H, rows = self.hidden_size, gates * self.hidden_size
        options: Any = {"device": device, "dtype": dtype}
        for layer in range(self.num_layers):
            below = H if layer else self.input_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, below + H, **options)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(rows, H, **options)))
            for name in (f"bias_ih_l{layer}", f"bias_hh_l{layer}"):
                self.register_parameter(name, nn.Parameter(torch.empty(rows, **options)) if self.bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as torch does: uniform within 1 / sqrt(H)."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, skips={self.skips}, cell={self.cell!r}"

    def config(self) -> dict[str, object]:
        """The constructor's arguments that make this network again; how it computes is not part of them."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "skips": self.skips,
            "cell": self.cell,
            "bias": self.bias,
        }

    def zero_state(
        self, batch_size: int, device: Optional[torch.device] = None, dtype: Optional[torch.dtype] = None
    ) -> SkipRNNState:
        """The state of ``batch_size`` streams before their first step; device and dtype (float32 at least) are the
        parameters' by default."""
        options = carried(self, device, dtype)

        def zeros(slots: int, size: int = self.hidden_size) -> Tensor:
            return torch.zeros(slots, batch_size, size, **options)

        c = [zeros(1) for _ in self.skips if self._has_c]
        cursor = torch.zeros(batch_size, device=options["device"], dtype=torch.int64)
        return SkipRNNState([zeros(skip) for skip in self.skips], c, cursor, zeros(CELL_NAMES.index(self.cell), 0))

    def chunk(self, x: Tensor, state: SkipRNNState, lengths: Optional[Tensor]) -> Tuple[Tensor, SkipRNNState]:
        y = x.to(carried_dtype(x.dtype))
        backend = kernels.resolve(self.backend, y)
        h: List[Tensor] = []
        c: List[Tensor] = []
        for layer, past in enumerate(state.h):
            y, c_after = self._skip_layer(backend, layer, y, past, state.c[layer : layer + 1], lengths)
            h.append(last_steps(past, y, lengths))
            c += c_after
        made = x.shape[0] if lengths is None else lengths
        return y.to(x.dtype), SkipRNNState(h, c, state.cursor + made, state.mark)

    def _skip_layer(
        self, backend: kernels.Backend, layer: int, x: Tensor, past: Tensor, c: List[Tensor], lengths: Optional[Tensor]
    ) -> Tuple[Tensor, List[Tensor]]:
        """One layer over a chunk, after the hidden states ``past``: y ``(T, B, H)``, and an LSTM's last cell state."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [Weights(*(getattr(self, f"{name}_l{layer}") for name in names))]
        skip, h = past.shape[0], [past[-1:]]
        clock = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
        outputs = [x.new_zeros(0, *past.shape[1:])]
        for first in range(0, x.shape[0], skip):
            run = x[first : first + skip]
            own = None if lengths is None else (lengths - first).clamp(0, len(run))
            joined = torch.cat([run, past[: len(run)]], dim=2)
            y, h, c, _ = backend.stack(self.cell, joined, weights, [1], h, c, clock, own)
            past = torch.cat([past[len(run) :], y])
            outputs.append(y)
        return torch.cat(outputs), c
