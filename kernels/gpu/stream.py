"""Live streams on a GPU: a step of the whole stack, the fusion included, is one kernel, replayed from a CUDA graph."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.weights import Weights

MANY_STREAMS = 2048
"""From here on there are enough streams for all of a GPU's processors also if 64 of them share the weights' reading."""


class Stream:
    """A stack with a copy of its weights, and the state of B streams that it advances in place.

    Args:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        weights, dilations: one per layer; float32, bfloat16 or float16, to which the operands of products are rounded.
        fusion: the weight ``(H, H, d0)`` and bias ``(H,)`` of the fusion, or None.
        batch_size: B.
    """

    def __init__(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[tuple[Tensor, Optional[Tensor]]],
        batch_size: int,
    ) -> None:
        self._cell, self._dilations = cell, list(dilations)
        self._inputs = weights[0].w_ih.shape[1]
        self._sizes = [w.w_hh.shape[1] for w in weights]
        self._layers = [_copies(cell, w) for w in weights]
        self._fusion = None if fusion is None else fusion[0].detach().permute(2, 1, 0).contiguous()
        self._fusion_bias = None if fusion is None or fusion[1] is None else fusion[1].detach().float().clone()
        self._bias = weights[0].b_ih is not None
        like = weights[0].w_ih.detach()
        self._operands = like.dtype
        self._x = like.new_zeros(batch_size, self._inputs, dtype=torch.float32)
        self._y = like.new_zeros(batch_size, self._sizes[-1], dtype=torch.float32)
        self._between = like.new_zeros(2, batch_size, max(self._sizes), dtype=torch.float32)
        self._active = like.new_zeros(batch_size, dtype=torch.int8)
        self._all_active = False

    def bind(self, h_rings: Sequence[Tensor], c_rings: Sequence[Tensor], fusion_ring: Tensor, cursor: Tensor) -> None:
        """Take a state: from now on every step advances it, in its own memory.

        Args:
            h_rings, c_rings: ``(d, B, H)`` float32 per layer; c for an LSTM, else empty.
            fusion_ring: ``(d0, B, H)``.
            cursor: ``(B,)`` int64.
        """
        tensors = [*h_rings, *c_rings, fusion_ring, cursor]
        assert all(t.is_contiguous() and t.device == self._x.device for t in tensors)
        self._state = tensors
        self._fusion_ring, self._cursor = fusion_ring, cursor
        rows = []
        for layer, (copies, d) in enumerate(zip(self._layers, self._dilations, strict=True)):
            c = c_rings[layer] if c_rings else None
            addresses = [0 if t is None else t.data_ptr() for t in (*copies, h_rings[layer], c)]
            rows.append([*addresses, self._sizes[layer - 1] if layer else self._inputs, self._sizes[layer], d])
        self._table = torch.tensor(rows, dtype=torch.int64, device=self._x.device)
        self._graph = self._captured() if self._x.is_cuda else None

    def step(self, x_t: Tensor, active: Optional[Tensor]) -> Tensor:
        """One step, from x ``(B, I)`` to a new y ``(B, H)`` float32, zero for streams that are not active.

        Args:
            active: ``(B,)`` bool, the streams that make it; None is all.
        """
        self._x.copy_(x_t)
        if active is not None:
            self._active.copy_(active)
        elif not self._all_active:
            self._active.fill_(1)
        self._all_active = active is None
        if self._graph is None:  # in the interpreter
            self._launch()
        else:
            self._graph.replay()
        return self._y.clone()

    def _captured(self) -> torch.cuda.CUDAGraph:
        """The launch as a graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._x.device):
            # Triton compiles at the first launch, which a capture forbids; with no stream active it changes nothing.
            self._active.zero_()
            self._all_active = False
            self._launch()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._launch()
        return graph

    def _launch(self) -> None:
        from streamdrnn.kernels.gpu import step
        from streamdrnn.kernels.gpu.scan import precision_of

        B = self._x.shape[0]
        tile = step.LARGE if B >= MANY_STREAMS else step.SMALL
        step.step[(-(-B // tile["ROWS"]),)](
            self._table, self._x, self._active, self._cursor, self._between, self._fusion_ring, self._fusion,
            self._fusion_bias, self._y, B, len(self._layers), self._between.shape[2], self._dilations[0],
            CELL=self._cell, OPERANDS=step.DTYPES[self._operands], BIAS=self._bias,
            PRECISION=precision_of(self._operands), **tile,
        )  # fmt: skip


def _copies(cell: str, weights: Weights) -> list[Optional[Tensor]]:
    """The weights as the kernel wants them: transposed, and the biases in float32."""
    from streamdrnn.kernels.gpu.network import biases

    bias, b_n = biases(cell, weights)
    return [
        weights.w_ih.detach().t().clone(memory_format=torch.contiguous_format),
        weights.w_hh.detach().t().clone(memory_format=torch.contiguous_format),
        None if bias is None else bias.detach().float().clone(),
        None if b_n is None else b_n.detach().float().clone(),
    ]
