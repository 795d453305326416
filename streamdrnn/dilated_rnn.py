"""The dilated recurrent network: a stack of dilated layers with the interface of ``torch.nn.GRU``."""

import math
from collections.abc import Sequence
from typing import List, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from streamdrnn import kernels
from streamdrnn.checks import (
    check_active,
    check_lengths,
    check_like,
    check_positive,
    check_state,
    check_tensor,
)
from streamdrnn.drnn_state import DRNNState
from streamdrnn.fusion import fused_outputs
from streamdrnn.kernels import Weights, cpu, gpu, pytorch
from streamdrnn.kernels.rings import in_time_order, last_of, steps_made


class DilatedRNN(nn.Module):
    r"""A stack of recurrent layers, each with a dilation (Chang et al., NIPS 2017, equation 1).

    In layer l with dilation d, :math:`c_t = f(x_t, c_{t-d})`; :math:`x_t` is the output of the layer below,
    and states before the first step are zero. With d = 1 a layer is ``torch.nn.RNN``, ``GRU`` or ``LSTM`` weight for
    weight, and their ``state_dict`` loads.

    The state that :meth:`forward` and :meth:`step` return continues the sequence exactly, whatever the lengths
    of the chunks. It is never kept inside the module. For a live stream see :class:`StreamingDRNN`.

    Outputs can be differentiated once; ``backend="reference"`` also gives second derivatives.

    Args:
        input_size: I, the features per step.
        hidden_size: H, one int for all layers or one per layer.
        num_layers: with it and no ``dilations``, these are 1, 2, 4, ...
        dilations: one positive int per layer, in any order.
        cell: ``"rnn"`` (tanh), ``"gru"`` or ``"lstm"``.
        bias: whether the layers, and the fusion, have biases.
        batch_first: whether ``x`` and ``y`` of :meth:`forward` are ``(B, T, ...)``. States do not change.
        dropout: probability of dropping an output between two layers, while training.
        fuse: whether the outputs of the last ``dilations[0]`` steps are fused by a causal convolution;
            None means exactly when ``dilations[0] > 1``, as without it steps of different phases never meet.
        backend: ``"auto"``, ``"reference"``, ``"torch"``, ``"cpu"`` or ``"triton"``; see
            :func:`streamdrnn.kernels.available`.

    Attributes:
        weight_ih_l{k}: ``(G H, I)``, G = 1, 3 or 4 gates in torch's order.
        weight_hh_l{k}: ``(G H, H)``.
        bias_ih_l{k}, bias_hh_l{k}: ``(G H,)``.
        fusion_weight, fusion_bias: ``(H, H, d0)`` as in ``torch.nn.Conv1d``, and ``(H,)``.

    Raises:
        ValueError, TypeError: an argument is out of its range, or of the wrong type.

    Example::

        rnn = DilatedRNN(input_size=8, hidden_size=32, num_layers=4)  # dilations 1, 2, 4, 8
        y, state = rnn(torch.randn(100, 3, 8))                        # (T, B, I) -> (T, B, H)
        y_next, state = rnn.step(torch.randn(3, 8), state)
    """

    weight_ih_l0: nn.Parameter
    fusion_weight: Optional[nn.Parameter]
    fusion_bias: Optional[nn.Parameter]
    _scripted_weights: List[Tensor]

    def __init__(
        self,
        input_size: int,
        hidden_size: Union[int, Sequence[int]],
        num_layers: Optional[int] = None,
        dilations: Optional[Sequence[int]] = None,
        cell: str = "gru",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        fuse: Optional[bool] = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if cell not in kernels.GATES:
            raise ValueError(f"cell: got {cell!r}, expected one of {', '.join(kernels.GATES)}")
        if isinstance(dropout, bool) or not isinstance(dropout, int | float):
            raise TypeError(f"dropout: expected a float, got {dropout!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a probability from 0 to below 1, got {dropout}")
        kernels.check_backend(backend)
        self.input_size = check_positive("input_size", input_size)
        self.dilations: List[int] = _dilations(num_layers, dilations)
        self.num_layers = len(self.dilations)
        self.hidden_sizes: List[int] = _hidden_sizes(hidden_size, self.num_layers)
        self.hidden_size = self.hidden_sizes[-1]
        self.cell = cell
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = float(dropout)
        self.fuse = self.dilations[0] > 1 if fuse is None else bool(fuse)
        self.backend = backend

        gates = kernels.GATES[cell]
        sizes = [self.input_size, *self.hidden_sizes]
        for layer, (below, size) in enumerate(zip(sizes, self.hidden_sizes, strict=False)):
            rows = gates * size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, below)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(rows, size)))
            if self.bias:
                self.register_parameter(f"bias_ih_l{layer}", nn.Parameter(torch.empty(rows)))
                self.register_parameter(f"bias_hh_l{layer}", nn.Parameter(torch.empty(rows)))
        self.register_parameter("fusion_weight", None)
        self.register_parameter("fusion_bias", None)
        if self.fuse:
            H = self.hidden_size
            self.fusion_weight = nn.Parameter(torch.empty(H, H, self.dilations[0]))
            if self.bias:
                self.fusion_bias = nn.Parameter(torch.empty(H))
        self._scripted_weights = []
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as torch does: uniform within 1 / sqrt(H), and within 1 / sqrt(H d0) for the fusion."""
        for layer, size in enumerate(self.hidden_sizes):
            for weight in self._layer_weights(layer, self.weight_ih_l0.dtype):
                if weight is not None:
                    nn.init.uniform_(weight, -1 / math.sqrt(size), 1 / math.sqrt(size))
        if self.fusion_weight is not None:
            bound = 1 / math.sqrt(self.hidden_size * self.dilations[0])
            nn.init.uniform_(self.fusion_weight, -bound, bound)
            if self.fusion_bias is not None:
                nn.init.uniform_(self.fusion_bias, -bound, bound)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_sizes}, dilations={self.dilations}, cell={self.cell!r}" + (
            f", fuse={self.fuse}, backend={self.backend!r}"
        )

    def config(self) -> dict[str, object]:
        """The constructor's arguments that make this network again; how it computes is not part of them."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_sizes,
            "dilations": self.dilations,
            "cell": self.cell,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "fuse": self.fuse,
        }

    @torch.jit.export
    def zero_state(
        self,
        batch_size: int,
        device: Optional[torch.device] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> DRNNState:
        """The state of ``batch_size`` streams before their first step.

        Args:
            device, dtype: the parameters' by default; the dtype is float32 at least, so that a chunk's
                end adds no rounding.
        """
        weight = self.weight_ih_l0
        where = weight.device if device is None else device
        kind = _state_dtype(weight.dtype if dtype is None else dtype)
        h: List[Tensor] = []
        c: List[Tensor] = []
        for d, size in zip(self.dilations, self.hidden_sizes):  # noqa: B905 (TorchScript)
            h.append(torch.zeros(d, batch_size, size, device=where, dtype=kind))
            if self.cell == "lstm":
                c.append(torch.zeros(d, batch_size, size, device=where, dtype=kind))
        slots = self.dilations[0] if self.fuse else 0
        fusion = torch.zeros(slots, batch_size, self.hidden_sizes[-1], device=where, dtype=kind)
        cursor = torch.zeros(batch_size, device=where, dtype=torch.int64)
        return DRNNState(self.cell, h, c, fusion, cursor)

    def forward(
        self, x: Tensor, state: Optional[DRNNState] = None, lengths: Optional[Tensor] = None
    ) -> Tuple[Tensor, DRNNState]:
        """A chunk of B sequences.

        Args:
            x: ``(T, B, I)``, or ``(B, T, I)`` if ``batch_first``; T >= 0. Under autocast it is taken to the parameters'
                dtype, in which the recurrence is computed.
            state: where the sequences stand; None is their beginning. It is not written. Gradients flow into it.
            lengths: ``(B,)`` int64 from 0 to T: the steps that each stream really makes, if not all.

        Returns:
            y ``(T, B, H)`` (``(B, T, H)`` if ``batch_first``), zero where a stream made no step, and the state
            of each stream after its own last step.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        if not torch.jit.is_scripting():
            x = self.check_chunk(x, state, lengths)
        if self.batch_first:
            x = x.transpose(0, 1)
        y, state = self.chunk(x, state, lengths)
        if self.batch_first:
            y = y.transpose(0, 1)
        return y, state

    def chunk(self, x: Tensor, state: Optional[DRNNState], lengths: Optional[Tensor]) -> Tuple[Tensor, DRNNState]:
        """:meth:`forward` without its checks, with x ``(T, B, I)`` and y ``(T, B, H)`` always."""
        if torch.jit.is_scripting():  # TorchScript compiles the torch backend only
            return self._layer_by_layer(x, state, lengths)
        else:
            backend = self._resolved(x)
            if backend in ("cpu", "triton") and not (self.training and self.dropout):
                return self._natively(backend, x, state, lengths)
            return self._layer_by_layer(x, state, lengths)

    def _layer_by_layer(
        self, x: Tensor, state: Optional[DRNNState], lengths: Optional[Tensor]
    ) -> Tuple[Tensor, DRNNState]:
        if state is None:
            state = self.zero_state(x.shape[1], x.device, x.dtype)
        y = x.to(state.fusion.dtype)
        cursor = state.cursor
        h: List[Tensor] = []
        c: List[Tensor] = []
        for layer in range(self.num_layers):
            if layer > 0:
                y = dropout(y, self.dropout, self.training)
            c_ring: Optional[Tensor] = None
            if self.cell == "lstm":
                c_ring = state.c[layer]
            weights = self._layer_weights(layer, self._weight_dtype(y))
            arguments = (self.cell, y, weights, state.h[layer], c_ring, state.cursor, lengths)
            if torch.jit.is_scripting():
                y, h_ring, c_ring, cursor = pytorch.layer(*arguments)
            else:
                y, h_ring, c_ring, cursor = kernels.dilated_layer(*arguments, self.backend)
            h.append(h_ring)
            if c_ring is not None:
                c.append(c_ring)
        return self._with_fusion(x, y, h, c, state.fusion, state.cursor, cursor, lengths)

    @torch.jit.unused
    def _natively(
        self, backend: str, x: Tensor, state: Optional[DRNNState], lengths: Optional[Tensor]
    ) -> Tuple[Tensor, DRNNState]:
        y = x.to(_state_dtype(x.dtype))
        weights = [self._layer_weights(layer, self._weight_dtype(y)) for layer in range(self.num_layers)]
        arguments = (backend, self.cell, y, weights, self.dilations)
        if state is None:
            y, h, c, cursor = kernels.stack(*arguments, None, None, None, lengths)
            slots = self.dilations[0] if self.fuse else 0
            fusion, before = y.new_zeros(slots, y.shape[1], self.hidden_size), torch.zeros_like(cursor)
        else:
            y, h, c, cursor = kernels.stack(*arguments, state.h, state.c, state.cursor, lengths)
            fusion, before = state.fusion, state.cursor
        return self._with_fusion(x, y, h, c, fusion, before, cursor, lengths)

    @torch.jit.unused
    def native_stream(self, state: DRNNState) -> Optional[Union[cpu.Stream, gpu.Stream]]:
        """This network on the native CPU or the Triton kernels, with a copy of its weights, advancing ``state`` in
        place; None if another backend computes."""
        backend = kernels.resolve(self.backend, state.fusion)
        if backend not in ("cpu", "triton"):
            return None
        kind = self._weight_dtype(state.fusion)
        weights = [self._layer_weights(layer, kind) for layer in range(self.num_layers)]
        fusion: Optional[Tuple[Tensor, Optional[Tensor]]] = None
        if self.fusion_weight is not None:
            fusion = (
                self.fusion_weight.to(kind),
                None if self.fusion_bias is None else self.fusion_bias.to(kind),
            )
        make = cpu.Stream if backend == "cpu" else gpu.Stream
        stream = make(self.cell, weights, self.dilations, fusion, state.cursor.shape[0])
        stream.bind(state.h, state.c, state.fusion, state.cursor)
        return stream

    @torch.jit.unused
    def _resolved(self, x: Tensor) -> str:
        """The backend that computes the recurrence for inputs like x, whose states may be wider."""
        return kernels.resolve(self.backend, torch.empty(0, device=x.device, dtype=_state_dtype(x.dtype)))

    def _with_fusion(
        self,
        x: Tensor,
        y: Tensor,
        h: List[Tensor],
        c: List[Tensor],
        fusion: Tensor,
        before: Tensor,
        cursor: Tensor,
        lengths: Optional[Tensor],
    ) -> Tuple[Tensor, DRNNState]:
        if self.fuse:
            d0 = self.dilations[0]
            history = torch.cat([in_time_order(fusion, before), y])
            y = self._fused(history[1:])
            if lengths is not None:
                y = torch.where(steps_made(y.shape[0], lengths), y, 0.0)
            fusion = last_of(history, d0, before, cursor - before)
        return y.to(x.dtype), DRNNState(self.cell, h, c, fusion, cursor)

    @torch.jit.export
    def step(self, x_t: Tensor, state: DRNNState, active: Optional[Tensor] = None) -> Tuple[Tensor, DRNNState]:
        """One step of B sequences; the given state is not written.

        Args:
            x_t: ``(B, I)``.
            state: where the sequences stand. Gradients flow into it.
            active: ``(B,)`` bool, the streams that make the step; None is all.

        Returns:
            y_t ``(B, H)``, zero for the streams that are not active, and the state after the step.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        if not torch.jit.is_scripting():
            self.check_step(x_t, state, active)
        state = self.copy_of(state)
        return self.step_(x_t, state, active), state

    @torch.jit.export
    def step_(self, x_t: Tensor, state: DRNNState, active: Optional[Tensor] = None) -> Tensor:
        """:meth:`step` without its checks and copies: ``state`` is written in place."""
        y, h, c, top = self.next_states(x_t, state, active)
        self.write_states(state, h, c, top, active)
        return y

    def next_states(
        self, x_t: Tensor, state: DRNNState, active: Optional[Tensor]
    ) -> Tuple[Tensor, List[Tensor], List[Tensor], Tensor]:
        """What a step computes: its output, the new h and c of each layer, and the new top output for the fusion.

        Nothing is written, so that a failure, here or in a head above, leaves the state as it was.
        """
        streams = torch.arange(x_t.shape[0], device=x_t.device)
        if active is not None:  # what is not a step may be NaN
            x_t = torch.where(active[:, None], x_t, 0.0)
        y = x_t.to(state.fusion.dtype)
        new_h: List[Tensor] = []
        new_c: List[Tensor] = []
        for layer in range(self.num_layers):
            if layer > 0:
                y = dropout(y, self.dropout, self.training)
            slot = torch.remainder(state.cursor, self.dilations[layer])
            h_old = state.h[layer][slot, streams]
            c_old: Optional[Tensor] = None
            if self.cell == "lstm":
                c_old = state.c[layer][slot, streams]
            weights = self._layer_weights(layer, self._weight_dtype(y))
            arguments = (self.cell, y, weights, h_old, c_old)
            if torch.jit.is_scripting():
                y, c_new = pytorch.step(*arguments)
            else:
                y, c_new = kernels.cell_step(*arguments, self.backend)
            new_h.append(y if active is None else torch.where(active[:, None], y, h_old))
            if c_new is not None and c_old is not None:
                new_c.append(c_new if active is None else torch.where(active[:, None], c_new, c_old))
        top = y
        if self.fuse:
            history = torch.cat([in_time_order(state.fusion, state.cursor), y[None]])
            fused = self._fused(history[1:])[0]
            top = y if active is None else torch.where(active[:, None], y, history[0])
            y = fused
        if active is not None:
            y = torch.where(active[:, None], y, 0.0)
        return y.to(x_t.dtype), new_h, new_c, top

    def write_states(
        self, state: DRNNState, h: List[Tensor], c: List[Tensor], top: Tensor, active: Optional[Tensor]
    ) -> None:
        """Write what :meth:`next_states` computed into ``state``, and move its streams on."""
        streams = torch.arange(top.shape[0], device=top.device)
        if self.fuse:
            state.fusion[torch.remainder(state.cursor, self.dilations[0]), streams] = top
        for layer in range(self.num_layers):
            slot = torch.remainder(state.cursor, self.dilations[layer])
            state.h[layer][slot, streams] = h[layer]
            if self.cell == "lstm":
                state.c[layer][slot, streams] = c[layer]
        if active is None:
            state.cursor.add_(1)
        else:
            state.cursor.add_(active)

    def _weight_dtype(self, y: Tensor) -> torch.dtype:
        """In which dtype the layers want their weights, for inputs y in the states' dtype: Triton's take any."""
        if torch.jit.is_scripting():
            return y.dtype
        else:
            return self.weight_ih_l0.dtype if kernels.resolve(self.backend, y) == "triton" else y.dtype

    def _layer_weights(self, layer: int, dtype: torch.dtype) -> Weights:
        b_ih: Optional[Tensor] = None
        b_hh: Optional[Tensor] = None
        if torch.jit.is_scripting():
            first = layer * (4 if self.bias else 2)
            w_ih, w_hh = self._scripted_weights[first], self._scripted_weights[first + 1]
            if self.bias:
                b_ih, b_hh = self._scripted_weights[first + 2], self._scripted_weights[first + 3]
        else:
            w_ih, w_hh = getattr(self, f"weight_ih_l{layer}"), getattr(self, f"weight_hh_l{layer}")
            if self.bias:
                b_ih, b_hh = getattr(self, f"bias_ih_l{layer}"), getattr(self, f"bias_hh_l{layer}")
        if b_ih is not None and b_hh is not None:
            b_ih, b_hh = b_ih.to(dtype), b_hh.to(dtype)
        return Weights(w_ih.to(dtype), w_hh.to(dtype), b_ih, b_hh)

    def _fused(self, history: Tensor) -> Tensor:
        own_weight, own_bias = self.fusion_weight, self.fusion_bias
        assert own_weight is not None
        weight = own_weight.to(history.dtype)
        bias: Optional[Tensor] = None
        if own_bias is not None:
            bias = own_bias.to(history.dtype)
        if torch.jit.is_scripting():
            return fused_outputs(history, weight, bias, "torch")
        else:
            with kernels.without_autocast(history):
                return fused_outputs(history, weight, bias, self.backend)

    def __prepare_scriptable__(self) -> "DilatedRNN":
        # TorchScript cannot look parameters up by a computed name, but it can index a list of them.
        self._scripted_weights = [
            weight
            for layer in range(self.num_layers)
            for weight in self._layer_weights(layer, self.weight_ih_l0.dtype)
            if weight is not None
        ]
        return self

    @torch.jit.unused
    def check_chunk(self, x: Tensor, state: Optional[DRNNState], lengths: Optional[Tensor]) -> Tensor:
        """Raise unless the arguments of :meth:`forward` fit this network; give x, under autocast in its dtype."""
        check_tensor("x", x, (None, None, self.input_size), "(B, T, I)" if self.batch_first else "(T, B, I)")
        check_like("x", x, self.weight_ih_l0, torch.is_autocast_enabled(self.weight_ih_l0.device.type))
        x = x.to(self.weight_ih_l0.dtype)
        T, B = (x.shape[1], x.shape[0]) if self.batch_first else (x.shape[0], x.shape[1])
        if state is not None:
            self.check_state(state, B)
        if lengths is not None:
            check_lengths(lengths, T, B)
        return x

    def copy_of(self, state: DRNNState) -> DRNNState:
        """``state.clone()``, which TorchScript cannot call."""
        h: List[Tensor] = [ring.clone() for ring in state.h]
        c: List[Tensor] = [ring.clone() for ring in state.c]
        return DRNNState(state.cell, h, c, state.fusion.clone(), state.cursor.clone())

    @torch.jit.unused
    def check_step(self, x_t: Tensor, state: DRNNState, active: Optional[Tensor]) -> None:
        """Raise unless the arguments of :meth:`step` fit this network."""
        check_tensor("x_t", x_t, (None, self.input_size), "(B, I)")
        check_like("x_t", x_t, self.weight_ih_l0)
        self.check_state(state, x_t.shape[0])
        if active is not None:
            check_active(active, x_t.shape[0])

    @torch.jit.unused
    def check_state(self, state: DRNNState, batch_size: int) -> None:
        """Raise unless ``state`` is one of this network's, for ``batch_size`` streams."""
        weight = self.weight_ih_l0
        check_state(
            state,
            self.cell,
            self.dilations,
            self.hidden_sizes,
            self.dilations[0] if self.fuse else 0,
            batch_size,
            _state_dtype(weight.dtype),
            weight.device,
        )


def _state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Carried states are float32 or wider."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _dilations(num_layers: Optional[int], dilations: Optional[Sequence[int]]) -> List[int]:
    if dilations is None:
        if num_layers is None:
            raise ValueError("dilations: give a list of them, or num_layers for 1, 2, 4, ...")
        return [2**layer for layer in range(check_positive("num_layers", num_layers))]
    if not isinstance(dilations, Sequence):
        raise TypeError(f"dilations: expected a list of ints, got {dilations!r}")
    chosen = [check_positive(f"dilations[{layer}]", d) for layer, d in enumerate(dilations)]
    if not chosen:
        raise ValueError("dilations: expected one or more, got none")
    if num_layers is not None and num_layers != len(chosen):
        raise ValueError(f"num_layers: got {num_layers} with {len(chosen)} dilations; give one of them")
    return chosen


def _hidden_sizes(hidden_size: Union[int, Sequence[int]], num_layers: int) -> List[int]:
    if not isinstance(hidden_size, Sequence):
        return [check_positive("hidden_size", hidden_size)] * num_layers
    sizes = [check_positive(f"hidden_size[{layer}]", size) for layer, size in enumerate(hidden_size)]
    if len(sizes) != num_layers:
        raise ValueError(f"hidden_size: expected one int or {num_layers} of them, got {len(sizes)}")
    return sizes
