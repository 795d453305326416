"""Live streams on a GPU: a step of the whole stack, the fusion included, is one kernel, replayed from a CUDA graph."""

from collections.abc import Callable, Sequence
from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import linear

from streamdrnn.kernels.backend import Rings
from streamdrnn.kernels.fusion import fused
from streamdrnn.kernels.gpu.stack import forward
from streamdrnn.kernels.gpu.weights import LayerWeights, precision_of, prepare, rounded
from streamdrnn.kernels.weights import AS_THEY_ARE, FusionWeights, Weights, refuse_narrow

MANY_STREAMS = 2048
"""From here on there are enough streams for all of a GPU's processors also if 64 of them share the weights' reading."""


class TritonStream:
    """A :class:`streamdrnn.kernels.backend.Stream` on a GPU.

    Args:
        cell: the cell's name.
        weights, dilations: one per layer; float32, bfloat16 or float16, to which the operands of products are rounded.
        fusion: those of the fusion, or None.
        batch_size: B.
        held: how the weights are held; as they are.

    Raises:
        ValueError: ``held`` is another way.
    """

    def __init__(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
        batch_size: int,
        held: str = AS_THEY_ARE,
    ) -> None:
        refuse_narrow(held, "the backend 'triton'")
        self._cell, self._dilations = cell, list(dilations)
        self._layers = [
            LayerWeights(*(None if t is None else _transposed_copy(t) for t in w))  # type: ignore[arg-type]
            for w in prepare(cell, weights)
        ]
        self._precision = precision_of(weights[0].w_ih.dtype)
        self._fusion = None
        if fusion is not None:
            taps = _transposed_copy(fusion.weight.movedim(2, 0))  # (d0, H, H): tap, output, input
            bias = None if fusion.bias is None else _transposed_copy(fusion.bias.float())
            self._fusion = FusionWeights(taps.movedim(0, 2), bias)
        w_ih = self._layers[0].w_ih
        self._x = w_ih.new_zeros(batch_size, w_ih.shape[1], dtype=torch.float32)
        sizes = [w.w_hh.shape[1] for w in weights]
        self._y = w_ih.new_zeros(batch_size, sizes[-1], dtype=torch.float32)
        self._between = w_ih.new_zeros(2, batch_size, max(sizes), dtype=torch.float32)
        self._active = w_ih.new_zeros(batch_size, dtype=torch.int8)
        self._all_active = False
        self._table = w_ih.new_zeros(len(sizes) + 1, 9, dtype=torch.int64)
        self._graph: Optional[torch.cuda.CUDAGraph] = None

    def bind(self, state: Rings) -> None:
        """It costs one copy: the kernel finds all memory of a state in its table."""
        tensors = [*state.h, *state.c, state.fusion, state.cursor]
        assert all(t.is_contiguous() and t.device == self._x.device for t in tensors)
        self._state = state
        rows = [[state.cursor.data_ptr(), state.fusion.data_ptr(), *[0] * 7]]
        for layer, (w, d) in enumerate(zip(self._layers, self._dilations, strict=True)):
            c = state.c[layer] if state.c else None
            addresses = [0 if t is None else t.data_ptr() for t in (*w, state.h[layer], c)]
            rows.append([*addresses, w.w_ih.shape[1], w.w_hh.shape[1], d])
        self._table.copy_(torch.tensor(rows, dtype=torch.int64, device="cpu"))

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        return None

    def run_at_once(self, x: Tensor) -> Optional[Tensor]:
        return None

    def run(self, x: Tensor, lengths: Optional[Tensor], state: Optional[Rings] = None) -> Tensor:
        """A step of the bound state is one launch; a chunk computes its phases side by side."""
        x = x.detach().float()
        if x.shape[0] == 1 and state is None:
            return self._step(x[0], None if lengths is None else lengths > 0)[None]
        state = self._state if state is None else state
        with torch.no_grad():
            rings = [*state.h, *state.c]
            history, clocks, *after = forward(
                self._cell, self._dilations, x, [], rings, state.cursor, lengths, False, self._layers
            )
            y = history[self._dilations[-1] :]
            if self._fusion is not None:
                y, ring = fused(y, state.fusion, state.cursor, clocks, lengths, self._fusion, linear)
                state.fusion.copy_(ring)
            for ring, new in zip([*rings, state.cursor], [*after, clocks], strict=True):
                ring.copy_(new)
        return y

    def _step(self, x_t: Tensor, active: Optional[Tensor]) -> Tensor:
        """One step, from x ``(B, I)`` to a new y ``(B, H)`` float32, zero for streams that are not active."""
        if self._graph is None and self._x.is_cuda:
            # With no stream active, the launch that compiles changes nothing.
            self._active.zero_()
            self._all_active = False
            self._graph = captured(self._launch, self._x.device)
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

    def _launch(self) -> None:
        from streamdrnn.kernels.gpu import step

        B, dtype = self._x.shape[0], self._layers[0].w_ih.dtype
        tile = step.LARGE if B >= MANY_STREAMS else step.SMALL
        weight, bias = (None, None) if self._fusion is None else self._fusion
        step.step[(-(-B // tile["ROWS"]),)](
            self._table, self._x, self._active, self._between, weight, bias, self._y, B, len(self._layers),
            self._between.shape[2], self._dilations[0], CELL=self._cell, OPERANDS=step.DTYPES[dtype],
            BIAS=self._layers[0].bias is not None, PRECISION=self._precision, **tile,
        )  # fmt: skip


def captured(launch: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """The launch as a graph. It is launched once before: Triton compiles then, which a capture forbids."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        launch()
        torch.cuda.synchronize()
        # torch's own stream for captures is that of the device of the first capture.
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
            launch()
    return graph


def _transposed_copy(t: Tensor) -> Tensor:
    """A copy of a vector, or of matrices as the step reads them: rounded, and transposed in memory."""
    t = t.detach().resolve_neg()
    return t.clone() if t.dim() < 2 else rounded(t.contiguous()).mT.clone(memory_format=torch.contiguous_format).mT
