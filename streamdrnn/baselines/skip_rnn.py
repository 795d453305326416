"""The regular skip RNN: beside the state one step ago every layer reads the one of s steps ago."""

import math
from collections.abc import Sequence
from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from streamdrnn import kernels
from streamdrnn.baselines.checks import carried_dtype, check_chunk, check_per_layer, state_or_zero
from streamdrnn.checks import check_positive, check_tensor
from streamdrnn.kernels import Weights
from streamdrnn.state import StreamState


class _SkipRNNFields(NamedTuple):
    h: List[Tensor]
    c: List[Tensor]


class SkipRNNState(_SkipRNNFields, StreamState):
    """The state of a :class:`SkipRNN` for B streams.

    Attributes:
        h: per layer the last s hidden states in order of time, ``(s, B, H)``.
        c: per layer of an LSTM the last cell state, ``(1, B, H)``; else empty.
    """

    __slots__ = ()


class SkipRNN(nn.Module):
    r"""A stack of recurrent layers with skip connections through time (Chang et al. 2017, equation 2).

    In layer l with skip s, :math:`c_t = f(x_t, c_{t-1}, c_{t-s})`. Here f is an ordinary cell, given :math:`x_t` and
    :math:`h_{t-s}` side by side as its input and :math:`c_{t-1}` as its state:

    .. math:: f(x_t, c_{t-1}, c_{t-s}) = \mathrm{cell}([x_t; h_{t-s}], c_{t-1})

    For ``"rnn"`` that is :math:`\tanh(W x_t + U h_{t-1} + V h_{t-s} + b)`, one recurrent matrix more than
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
        backend: see :class:`DilatedRNN`.

    Attributes:
        weight_ih_l{k}: ``(G H, I + H)``, G = 1, 3 or 4 gates in torch's order; the last H columns meet
            :math:`h_{t-s}`.
        weight_hh_l{k}: ``(G H, H)``.
        bias_ih_l{k}, bias_hh_l{k}: ``(G H,)``.

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
    ) -> None:
        super().__init__()
        if cell not in kernels.GATES:
            raise ValueError(f"cell: got {cell!r}, expected one of {', '.join(kernels.GATES)}")
        kernels.check_backend(backend)
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = check_positive("hidden_size", hidden_size)
        self.skips = check_per_layer("skips", skips, num_layers)
        self.num_layers = len(self.skips)
        self.cell = cell
        self.bias = bool(bias)
        self.backend = backend
        H, rows = self.hidden_size, kernels.GATES[cell] * self.hidden_size
        for layer in range(self.num_layers):
            below = H if layer else self.input_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, below + H)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(rows, H)))
            for name in (f"bias_ih_l{layer}", f"bias_hh_l{layer}"):
                self.register_parameter(name, nn.Parameter(torch.empty(rows)) if self.bias else None)
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
        weight = self._weight()
        where = weight.device if device is None else device
        kind = carried_dtype(weight.dtype if dtype is None else dtype)
        shape = (batch_size, self.hidden_size)
        h = [torch.zeros(skip, *shape, device=where, dtype=kind) for skip in self.skips]
        c = [torch.zeros(1, *shape, device=where, dtype=kind) for _ in self.skips] if self.cell == "lstm" else []
        return SkipRNNState(h, c)

    def forward(self, x: Tensor, state: Optional[SkipRNNState] = None) -> Tuple[Tensor, SkipRNNState]:
        """A chunk of B sequences.

        Args:
            x: ``(T, B, I)``, T >= 0.
            state: where the sequences stand; None is their beginning. It is not written. Gradients flow into it.

        Returns:
            y ``(T, B, H)`` and the state after the chunk.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        x = check_chunk(x, self.input_size, self._weight())
        state = state_or_zero(state, self.zero_state(x.shape[1]))
        y = x.to(carried_dtype(x.dtype))
        h: List[Tensor] = []
        c: List[Tensor] = []
        for layer in range(self.num_layers):
            c_before = state.c[layer] if self.cell == "lstm" else None
            y, h_after, c_after = self._skip_layer(self._weights(layer, y.dtype), y, state.h[layer], c_before)
            h.append(h_after)
            if c_after is not None:
                c.append(c_after)
        return y.to(x.dtype), SkipRNNState(h, c)

    def step(self, x_t: Tensor, state: SkipRNNState) -> Tuple[Tensor, SkipRNNState]:
        """One step of B sequences, ``(B, I) -> (B, H)``; arguments and errors as for :meth:`forward`."""
        check_tensor("x_t", x_t, (None, self.input_size), "(B, I)")
        y, state = self(x_t[None], state)
        return y[0], state

    def _weight(self) -> Tensor:
        return next(self.parameters())

    def _weights(self, layer: int, dtype: torch.dtype) -> Weights:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_ih, w_hh, b_ih, b_hh = (getattr(self, f"{name}_l{layer}") for name in names)
        if self.bias:
            b_ih, b_hh = b_ih.to(dtype), b_hh.to(dtype)
        return Weights(w_ih.to(dtype), w_hh.to(dtype), b_ih, b_hh)

    def _skip_layer(
        self, weights: Weights, x: Tensor, h: Tensor, c: Optional[Tensor]
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """One layer over a chunk: y ``(T, B, H)``, the last s hidden states and, of an LSTM, the last cell state."""
        skip = h.shape[0]
        start = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
        outputs = [x.new_zeros(0, x.shape[1], h.shape[2])]
        for first in range(0, x.shape[0], skip):
            run = x[first : first + skip]
            joined = torch.cat([run, h[: run.shape[0]]], dim=2)
            y, _, c, _ = kernels.dilated_layer(self.cell, joined, weights, h[-1:], c, start, None, self.backend)
            h = torch.cat([h[run.shape[0] :], y])
            outputs.append(y)
        return torch.cat(outputs), h, c
