"""The dilated recurrent network: a stack of dilated layers with the interface of ``torch.nn.GRU``."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from streamdrnn import kernels
from streamdrnn.checks import check_per_layer, check_positive
from streamdrnn.drnn_state import DRNNState
from streamdrnn.errors import InputError, refusing_input
from streamdrnn.kernels import Backend, FusionWeights, StackResult, Weights, pytorch
from streamdrnn.kernels.fusion import fused, fused_last, fused_step
from streamdrnn.kernels.pytorch.step import stack_step, write_step
from streamdrnn.network import check_chunk, check_step, register_network
from streamdrnn.state import CELL_NAMES, carried_dtype, traceable


@register_network
class DilatedRNN(nn.Module):
    """A stack of recurrent layers, each with a dilation (Chang et al., NIPS 2017, equation 1).

    In layer l with dilation d, ``c[t] = f(x[t], c[t-d])``; ``x[t]`` is the output of the layer below,
    and states before the first step are zero. With d = 1 a layer is ``torch.nn.RNN``, ``GRU`` or ``LSTM`` weight for
    weight, and their ``state_dict`` loads.

    The state that :meth:`forward` and :meth:`step` return continues the sequence exactly, whatever the lengths
    of the chunks. It is never kept inside the module. For a live stream see :class:`StreamingDRNN`.

    First derivatives are those of kernels of their own; second ones (a gradient penalty) of torch's operations.

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
        device, dtype: of the parameters, as everywhere in torch.
        bidirectional, proj_size: options of ``torch.nn.LSTM`` that this network does not have; only their defaults
            are accepted.

    Attributes:
        weight_ih_l{k}: ``(G H, I)``, G = 1, 3 or 4 gates in torch's order.
        weight_hh_l{k}: ``(G H, H)``.
        bias_ih_l{k}: ``(G H,)``.
        bias_hh_l{k}: ``(G H,)``.
        fusion_weight: ``(H, H, d0)``, as in ``torch.nn.Conv1d``.
        fusion_bias: ``(H,)``.

    Raises:
        ValueError, TypeError: an argument is out of its range, or of the wrong type.

    Example::

        rnn = DilatedRNN(input_size=8, hidden_size=32, num_layers=4)  # dilations 1, 2, 4, 8
        y, state = rnn(torch.randn(100, 3, 8))                        # (T, B, I) -> (T, B, H)
        y_next, state = rnn.step(torch.randn(3, 8), state)
    """

    weight_ih_l0: nn.Parameter
    if TYPE_CHECKING:  # to TorchScript an optional weight is one that a trace cannot compute on
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
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
        bidirectional: bool = False,
        proj_size: int = 0,
    ) -> None:
        super().__init__()
        with refusing_input():
            gates, has_c = kernels.cell_named(cell)[1:]
            kernels.check_backend(backend)
        if bidirectional:
            raise InputError("bidirectional: a network that streams cannot read the future, expected False")
        if proj_size:
            raise InputError(f"proj_size: the cells have no projection, expected 0, got {proj_size}")
        if isinstance(dropout, bool) or not isinstance(dropout, int | float):
            raise TypeError(f"dropout: expected a float, got {dropout!r}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout: expected a probability from 0 to below 1, got {dropout}")
        self.input_size = check_positive("input_size", input_size)
        self.dilations: List[int] = check_per_layer("dilations", dilations, num_layers)
        self.num_layers = len(self.dilations)
        self.hidden_sizes: List[int] = _hidden_sizes(hidden_size, self.num_layers)
        self.hidden_size = self.hidden_sizes[-1]
        self.cell = cell
        self._has_c = has_c
        self._mark = CELL_NAMES.index(cell)
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = float(dropout)
        self.fuse = self.dilations[0] > 1 if fuse is None else bool(fuse)
        self._slots = self.dilations[0] if self.fuse else 0
        self.backend = backend

        options: Any = {"device": device, "dtype": dtype}
        sizes = [self.input_size, *self.hidden_sizes]
        for layer, (below, size) in enumerate(zip(sizes, self.hidden_sizes, strict=False)):
            rows = gates * size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, below, **options)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(rows, size, **options)))
            if self.bias:
                self.register_parameter(f"bias_ih_l{layer}", nn.Parameter(torch.empty(rows, **options)))
                self.register_parameter(f"bias_hh_l{layer}", nn.Parameter(torch.empty(rows, **options)))
        self.register_parameter("fusion_weight", None)
        self.register_parameter("fusion_bias", None)
        if self.fuse:
            H = self.hidden_size
            self.fusion_weight = nn.Parameter(torch.empty(H, H, self.dilations[0], **options))
            if self.bias:
                self.fusion_bias = nn.Parameter(torch.empty(H, **options))
        self._scripted_weights = []
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as torch does: uniform within 1 / sqrt(H), and within 1 / sqrt(H d0) for the fusion."""
        for layer, size in enumerate(self.hidden_sizes):
            for weight in self._layer_weights(layer):
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
        kind = carried_dtype(weight.dtype if dtype is None else dtype)
        h: List[Tensor] = []
        c: List[Tensor] = []
        for d, size in zip(self.dilations, self.hidden_sizes):  # noqa: B905 (TorchScript)
            h.append(torch.zeros(d, batch_size, size, device=where, dtype=kind))
            if self._has_c:
                c.append(torch.zeros(d, batch_size, size, device=where, dtype=kind))
        fusion = torch.zeros(self._slots, batch_size, self.hidden_sizes[-1], device=where, dtype=kind)
        cursor = torch.zeros(batch_size, device=where, dtype=torch.int64)
        return DRNNState(h, c, fusion, cursor, torch.zeros(self._mark, batch_size, 0, device=where, dtype=kind))

    def forward(
        self, x: Tensor, state: Optional[DRNNState] = None, lengths: Optional[Tensor] = None
    ) -> Tuple[Tensor, DRNNState]:
        """A chunk of B sequences.

        Args:
            x: ``(T, B, I)``, or ``(B, T, I)`` if ``batch_first``; T >= 0. Under autocast it is taken to the parameters'
                dtype, in which the recurrence is computed. As ``torch.nn.GRU`` it also takes one sequence ``(T, I)``,
                of which y is ``(T, H)`` and the state that of one stream, and a ``PackedSequence``, of which y is one
                too.
            state: where the sequences stand; None is their beginning. It is not written. Gradients flow into it.
            lengths: ``(B,)`` int64 from 0 to T: the steps that each stream really makes, if not all.

        Returns:
            y ``(T, B, H)`` (``(B, T, H)`` if ``batch_first``), zero where a stream made no step, and the state
            of each stream after its own last step.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        if not torch.jit.is_scripting():
            if isinstance(x, PackedSequence):
                return self._packed(x, state, lengths)  # type: ignore[unreachable]
            if isinstance(x, Tensor) and x.dim() == 2:
                y, state = self.chunk(check_chunk(self, x[:, None], state, lengths), state, lengths)
                return y[:, 0], state
            x = check_chunk(self, x, state, lengths, self.batch_first)
        if self.batch_first:
            x = x.transpose(0, 1)
        y, state = self.chunk(x, state, lengths)
        if self.batch_first:
            y = y.transpose(0, 1)
        return y, state

    @torch.jit.unused
    def _packed(self, x: PackedSequence, state: Optional[DRNNState], lengths: Optional[Tensor]) -> Any:
        if lengths is not None:
            raise ValueError("lengths: a PackedSequence has its own, expected None")
        padded, own = pad_packed_sequence(x)
        y, state = self.chunk(check_chunk(self, padded, state, own), state, own.to(padded.device))
        if x.sorted_indices is not None:
            y, own = y[:, x.sorted_indices], own[x.sorted_indices.cpu()]
        data, batch_sizes = pack_padded_sequence(y, own)[:2]
        return PackedSequence(data, batch_sizes, x.sorted_indices, x.unsorted_indices), state

    def chunk(self, x: Tensor, state: Optional[DRNNState], lengths: Optional[Tensor]) -> Tuple[Tensor, DRNNState]:
        """:meth:`forward` without its checks, with x ``(T, B, I)`` and y ``(T, B, H)`` always."""
        fusion = self._fusion_weights()
        if torch.jit.is_scripting():  # TorchScript compiles the torch backend only
            y = x.to(carried_dtype(x.dtype))
            weights = [self._layer_weights(layer) for layer in range(self.num_layers)]
            if state is None:
                state = self.zero_state(x.shape[1], x.device, x.dtype)
            cursor = state.cursor
            h: List[Tensor] = []
            c: List[Tensor] = []
            for layer in range(self.num_layers):
                if layer > 0:
                    y = dropout(y, self.dropout, self.training)
                c_ring: Optional[Tensor] = None
                if self._has_c:
                    c_ring = state.c[layer]
                own = kernels.weights_in(y.dtype, weights[layer])
                y, h_ring, c_ring, cursor = pytorch.layer(
                    self.cell, y, own, state.h[layer], c_ring, state.cursor, lengths
                )
                h.append(h_ring)
                if c_ring is not None:
                    c.append(c_ring)
            ring = state.fusion
            if fusion is not None:
                y, ring = fused(y, ring, state.cursor, cursor, lengths, fusion, None)
            return y.to(x.dtype), DRNNState(h, c, ring, cursor, state.mark)
        else:
            top, before, after, linear = self._unfused(x, state, lengths)
            if fusion is not None:
                with kernels.without_autocast(top):
                    top, ring = fused(top, after.fusion, before, after.cursor, lengths, fusion, linear)
                after = after._replace(fusion=ring)
            return top.to(x.dtype), traceable(after)

    @torch.jit.unused
    def last(
        self, x: Tensor, state: Optional[DRNNState] = None, lengths: Optional[Tensor] = None
    ) -> Tuple[Tensor, DRNNState]:
        """The outputs of a chunk's last steps alone, for labels of whole sequences.

        A fusion of outputs that nobody reads costs more than the layers, where the first dilation is large.

        Args:
            x: ``(T, B, I)``, or ``(B, T, I)`` if ``batch_first``; T >= 1.
            state: as in :meth:`forward`.
            lengths: ``(B,)`` int64 from 1 to T: the steps that each stream really makes, if not all.

        Returns:
            ``(B, H)``, what :meth:`forward` gives for each stream's own last step, and the state after it.

        Raises:
            ValueError, TypeError: as :meth:`forward`.
        """
        x = check_chunk(self, x, state, lengths, self.batch_first)
        if self.batch_first:
            x = x.transpose(0, 1)
        if x.shape[0] == 0 or (lengths is not None and bool((lengths < 1).any())):
            raise ValueError("x, lengths: expected a step or more of each stream, as there is no last one without")
        fusion = self._fusion_weights()
        top, before, after, linear = self._unfused(x, state, lengths)
        if fusion is not None:
            with kernels.without_autocast(top):
                y, ring = fused_last(top, after.fusion, before, after.cursor, fusion, linear)
            after = after._replace(fusion=ring)
        elif lengths is None:
            y = top[-1]
        else:
            y = top[lengths - 1, torch.arange(top.shape[1], device=top.device)]
        return y.to(x.dtype), traceable(after)

    @torch.jit.unused
    def _unfused(
        self, x: Tensor, state: Optional[DRNNState], lengths: Optional[Tensor]
    ) -> Tuple[Tensor, Tensor, DRNNState, Any]:
        """The top outputs, the clocks before, the state after but for the ring of the fusion, and its products."""
        y = x.to(carried_dtype(x.dtype))
        backend = kernels.resolve(self.backend, y)
        weights = [self._layer_weights(layer) for layer in range(self.num_layers)]
        top, h, c, cursor = self._stack(backend, y, weights, state, lengths)
        if state is None:
            ring, mark = (y.new_zeros(n, x.shape[1], H) for n, H in ((self._slots, self.hidden_size), (self._mark, 0)))
            return top, torch.zeros_like(cursor), DRNNState(h, c, ring, cursor, mark), backend.linear
        return top, state.cursor, DRNNState(h, c, state.fusion, cursor, state.mark), backend.linear

    @torch.jit.unused
    def _stack(
        self,
        backend: Backend,
        y: Tensor,
        weights: List[Weights],
        state: Optional[DRNNState],
        lengths: Optional[Tensor],
    ) -> StackResult:
        """The layers at once, or one by one where something is dropped between them."""
        h_rings, c_rings, cursor = (None, None, None) if state is None else (state.h, state.c, state.cursor)
        if not (self.training and self.dropout):
            return backend.stack(self.cell, y, weights, self.dilations, h_rings, c_rings, cursor, lengths)
        after = StackResult(y, [], [], y)
        for layer, d in enumerate(self.dilations):
            one = slice(layer, layer + 1)
            own_h, own_c = (None if rings is None else rings[one] for rings in (h_rings, c_rings))
            x = dropout(after.y, self.dropout) if layer else y
            top, h, c, clocks = backend.stack(self.cell, x, weights[one], [d], own_h, own_c, cursor, lengths)
            after = StackResult(top, after.h + h, after.c + c, clocks)
        return after

    @torch.jit.unused
    def stream(self, batch_size: int, held: str = kernels.AS_THEY_ARE) -> kernels.Stream:
        """This network as it is now, on a copy of its weights, for live streams; see :class:`StreamingDRNN`.

        Args:
            held: how the weights are held, one of :data:`streamdrnn.kernels.HELD`.

        Raises:
            ValueError: the backend cannot hold them so.
        """
        like = torch.empty(0, device=self.weight_ih_l0.device, dtype=carried_dtype(self.weight_ih_l0.dtype))
        weights = [self._layer_weights(layer) for layer in range(self.num_layers)]
        backend = kernels.resolve(self.backend, like)
        return backend.stream(self.cell, weights, self.dilations, self._fusion_weights(), batch_size, held)

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
        if torch.jit.is_scripting():
            state = self.copy_of(state)
            return self.step_(x_t, state, active), state
        else:
            x_t = check_step(self, x_t, state, active)
            y, after = self.chunk(x_t[None], state, None if active is None else active.long())
            return y[0], after

    @torch.jit.export
    def step_(self, x_t: Tensor, state: DRNNState, active: Optional[Tensor] = None) -> Tensor:
        """:meth:`step` without its checks and copies, by torch's operations: ``state`` is written in place."""
        x = x_t.to(state.fusion.dtype)
        if active is not None:  # what is not a step may be NaN
            x = torch.where(active[:, None], x, 0.0)
        weights = [self._layer_weights(layer) for layer in range(self.num_layers)]
        h, c = stack_step(self.cell, x, weights, state.h, state.c, state.cursor)
        y = h[-1]
        fusion = self._fusion_weights()
        if fusion is not None:
            y = fused_step(y, state.fusion, state.cursor, fusion, None)
            write_step([state.fusion], h[-1:], state.cursor, active)
        write_step(state.h, h, state.cursor, active)
        write_step(state.c, c, state.cursor, active)
        if active is None:
            state.cursor.add_(1)
        else:
            state.cursor.add_(active)
            y = torch.where(active[:, None], y, 0.0)
        return y.to(x_t.dtype)

    def _layer_weights(self, layer: int) -> Weights:
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
        return Weights(w_ih, w_hh, b_ih, b_hh)

    def _fusion_weights(self) -> Optional[FusionWeights]:
        weight = self.fusion_weight
        if weight is None:
            return None
        return FusionWeights(weight, self.fusion_bias)

    def copy_of(self, state: DRNNState) -> DRNNState:
        """``state.clone()``, which TorchScript cannot call."""
        h: List[Tensor] = [ring.clone() for ring in state.h]
        c: List[Tensor] = [ring.clone() for ring in state.c]
        return DRNNState(h, c, state.fusion.clone(), state.cursor.clone(), state.mark)

    def __prepare_scriptable__(self) -> "DilatedRNN":
        # TorchScript cannot look parameters up by a computed name, but it can index a list of them.
        self._scripted_weights = [
            weight for layer in range(self.num_layers) for weight in self._layer_weights(layer) if weight is not None
        ]
        return self


def _hidden_sizes(hidden_size: Union[int, Sequence[int]], num_layers: int) -> List[int]:
    if not isinstance(hidden_size, Sequence):
        return [check_positive("hidden_size", hidden_size)] * num_layers
    sizes = [check_positive(f"hidden_size[{layer}]", size) for layer, size in enumerate(hidden_size)]
    if len(sizes) != num_layers:
        raise InputError(f"hidden_size: expected one int or {num_layers} of them, got {len(sizes)}")
    return sizes
