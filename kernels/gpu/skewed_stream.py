"""Live streams on the kernel of batches: a step is a chunk of one step, so that any chunking gives the same bits."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.backend import Rings
from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.fusion import fused
from streamdrnn.kernels.gpu.plans import Group, phases
from streamdrnn.kernels.gpu.stream import captured
from streamdrnn.kernels.gpu.weights import LayerWeights, prepare
from streamdrnn.kernels.operators import plain
from streamdrnn.kernels.weights import AS_THEY_ARE, FusionWeights, Weights, refuse_narrow


class SkewedStream:
    """A :class:`streamdrnn.kernels.backend.Stream` of layers that all run in groups. No GPU has run it yet.

    Args:
        groups: of all layers, see ``plans.groups``.
        cell, weights, dilations, fusion, batch_size, held: as for ``TritonStream``.

    Raises:
        ValueError: ``held`` is another way.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
        batch_size: int,
        held: str = AS_THEY_ARE,
    ) -> None:
        from streamdrnn.kernels.gpu import skewed_scan

        refuse_narrow(held, "the backend 'triton'")
        self._scan, self._groups, self._cell, self._dilations = skewed_scan, groups, cell, tuple(dilations)
        layers = [LayerWeights(*(None if t is None else _copy(t) for t in w)) for w in prepare(cell, weights)]  # type: ignore[arg-type]
        self._weights = [skewed_scan.pack(group, layers[group.first : group.last]) for group in groups]
        self._fusion = None if fusion is None else FusionWeights(*(None if t is None else _copy(t) for t in fusion))  # type: ignore[arg-type]
        w = layers[0].w_ih
        self._x = w.new_zeros(1, batch_size, w.shape[1], dtype=torch.float32)
        self._y = w.new_zeros(1, batch_size, layers[-1].w_hh.shape[1], dtype=torch.float32)
        self._cursor, self._active = (w.new_zeros(batch_size, dtype=kind) for kind in (torch.int64, torch.int8))
        self._tables = [w.new_zeros(4, group.last - group.first, dtype=torch.int64) for group in groups]
        self._graph: Optional[torch.cuda.CUDAGraph] = None

    def bind(self, state: Rings) -> None:
        """The kernel finds rings by their distance from a tensor of this object, so that one graph does for all."""
        self._state = state
        for table, numbers in zip(self._tables, self._addresses(state), strict=True):
            table.copy_(torch.tensor(numbers, dtype=torch.int64, device="cpu"))

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        return None

    def run_at_once(self, x: Tensor) -> Optional[Tensor]:
        return None

    def run(self, x: Tensor, lengths: Optional[Tensor], state: Optional[Rings] = None) -> Tensor:
        """A step of the bound state is a replayed graph; its kernels are those of a chunk."""
        x = x.detach().float()
        with torch.no_grad(), torch.cuda.device_of(x):
            if state is None and x.is_cuda and x.shape[0] == 1:
                y = self._replayed(x, lengths)
            else:
                tables = self._tables
                if state is not None:
                    tables = [
                        torch.tensor(numbers, dtype=torch.int64, device=x.device) for numbers in self._addresses(state)
                    ]
                y = self._advance(x, tables, (self._state if state is None else state).cursor, lengths)
            state = self._state if state is None else state
            before = state.cursor.clone()
            state.cursor.add_(x.shape[0] if lengths is None else lengths)
            if self._fusion is not None:
                y, ring = fused(y, state.fusion, before, state.cursor, lengths, self._fusion, self._scan.linear)
                state.fusion.copy_(ring)
        return y

    def _addresses(self, state: Rings) -> list[list[list[int]]]:
        """The rows of each group's table, see ``skewed.forward``."""

        def distance(ring: Tensor) -> int:
            assert ring.is_contiguous()
            assert ring.device == self._x.device
            return (ring.data_ptr() - self._x.data_ptr()) // ring.element_size()

        of_h, of_c = ([distance(ring) for ring in rings] for rings in (state.h, state.c or state.h))
        parts = [slice(group.first, group.last) for group in self._groups]
        return [[list(self._dilations[own]), of_h[own], of_c[own], [0] * len(of_h[own])] for own in parts]

    def _advance(self, x: Tensor, tables: Sequence[Tensor], cursor: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """From x ``(T, B, I)`` to the top layer's y, with the rings moved on in place."""
        T, B, _ = x.shape
        none = x.new_empty(0)
        for group, weights, table in zip(self._groups, self._weights, tables, strict=True):
            y = x.new_zeros(T, B, weights.w_hh.shape[1] // CELLS[self._cell].gates)
            many = group._replace(phases=phases(group, self._dilations, T, B))
            self._scan.launch(
                self._cell, many, x, weights, table, self._x, self._x, cursor, lengths, y, none, none, False
            )
            x = y
        return x

    def _replayed(self, x: Tensor, lengths: Optional[Tensor]) -> Tensor:
        if self._graph is None:
            self._active.zero_()  # with no stream active, the launch that compiles changes nothing
            self._graph = captured(self._launch, self._x.device)
        self._x.copy_(x)
        self._cursor.copy_(self._state.cursor)
        if lengths is None:
            self._active.fill_(1)
        else:
            self._active.copy_(lengths)
        self._graph.replay()
        return self._y.clone()

    def _launch(self) -> None:
        self._y.copy_(self._advance(self._x, self._tables, self._cursor, self._active))


def _copy(t: Tensor) -> Tensor:
    return plain(t.detach()).clone()
