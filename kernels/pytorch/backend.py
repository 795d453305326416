"""The backends that compute layer after layer: the specification, and torch's own operations."""

from collections.abc import Callable, Sequence
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

from streamdrnn.kernels import reference
from streamdrnn.kernels.autocast import without_autocast
from streamdrnn.kernels.backend import Rings, StackResult, zero_rings
from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.fusion import fused, fused_step
from streamdrnn.kernels.pytorch.layer import layer
from streamdrnn.kernels.pytorch.step import stack_step, write_step
from streamdrnn.kernels.weights import AS_THEY_ARE, FusionWeights, Weights, refuse_narrow, weights_in

Layer = Callable[
    [str, Tensor, Weights, Tensor, Optional[Tensor], Tensor, Optional[Tensor]],
    tuple[Tensor, Tensor, Optional[Tensor], Tensor],
]


class LayeredBackend:
    """A :class:`streamdrnn.kernels.backend.Backend` of any dtype and device.

    Args:
        name: as users write it.
        layer: one layer over a chunk, as :func:`streamdrnn.kernels.dilated_layer`.
    """

    def __init__(self, name: str, layer: Layer) -> None:
        self.name, self.layer, self.runtime = name, layer, None

    def why_not(self) -> str:
        return ""

    def takes(self, x: Tensor) -> bool:
        return True

    def stack(
        self,
        cell: str,
        x: Tensor,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        h_rings: Optional[Sequence[Tensor]],
        c_rings: Optional[Sequence[Tensor]],
        cursor: Optional[Tensor],
        lengths: Optional[Tensor] = None,
    ) -> StackResult:
        if h_rings is None or cursor is None:
            cursor = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
            h_rings = zero_rings(x, weights, dilations)
            c_rings = zero_rings(x, weights, dilations) if CELLS[cell].has_c else None
        after = StackResult(x, [], [], cursor)
        with without_autocast(x):
            for number, w in enumerate(weights):
                c_ring = c_rings[number] if c_rings else None
                y, h, c, clock = self.layer(
                    cell, after.y, weights_in(x.dtype, w), h_rings[number], c_ring, cursor, lengths
                )
                after = StackResult(y, [*after.h, h], after.c if c is None else [*after.c, c], clock)
        return after

    def linear(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        return functional.linear(x, weight, bias)

    def stream(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
        batch_size: int,
        held: str = AS_THEY_ARE,
    ) -> "LayeredStream":
        refuse_narrow(held, f"the backend {self.name!r}")
        copies = [Weights(*(None if t is None else t.detach().clone() for t in w)) for w in weights]  # type: ignore[arg-type]
        return LayeredStream(self, cell, copies, dilations, fusion)


class LayeredStream:
    """A :class:`streamdrnn.kernels.backend.Stream` in torch's operations."""

    def __init__(
        self,
        backend: LayeredBackend,
        cell: str,
        weights: list[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
    ) -> None:
        self._backend, self._cell, self._weights, self._dilations = backend, cell, weights, dilations
        self._fusion = None
        if fusion is not None:
            bias = None if fusion.bias is None else fusion.bias.detach().clone()
            self._fusion = FusionWeights(fusion.weight.detach().clone(), bias)

    def bind(self, state: Rings) -> None:
        self._state = state

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        return None

    def run_at_once(self, x: Tensor) -> Optional[Tensor]:
        return None

    def run(self, x: Tensor, lengths: Optional[Tensor], state: Optional[Rings] = None) -> Tensor:
        state = self._state if state is None else state
        x = x.to(state.fusion.dtype).contiguous()  # torch's products round other layouts otherwise
        with torch.no_grad(), without_autocast(x):
            if len(x) == 1 and self._backend is TORCH:
                return self._step(x[0], None if lengths is None else lengths > 0, state)[None]
            y, h, c, cursor = self._backend.stack(
                self._cell, x, self._weights, self._dilations, state.h, state.c, state.cursor, lengths
            )
            if self._fusion is not None:
                linear = self._backend.linear
                y, ring = fused(y, state.fusion, state.cursor, cursor, lengths, self._fusion, linear)
                state.fusion.copy_(ring)
            for ring, new in zip([*state.h, *state.c, state.cursor], [*h, *c, cursor], strict=True):
                ring.copy_(new)
        return y

    def _step(self, x: Tensor, active: Optional[Tensor], state: Rings) -> Tensor:
        """One step, which touches one slot of each ring."""
        if active is not None:  # what is not a step may be NaN
            x = torch.where(active[:, None], x, 0.0)
        h, c = stack_step(self._cell, x, self._weights, state.h, state.c, state.cursor)
        y = top = h[-1]
        if self._fusion is not None:
            y = fused_step(top, state.fusion, state.cursor, self._fusion, self._backend.linear)
            write_step([state.fusion], [top], state.cursor, active)
        write_step([*state.h, *state.c], [*h, *c], state.cursor, active)
        state.cursor.add_(1 if active is None else active)
        return y if active is None else torch.where(active[:, None], y, 0.0)


REFERENCE = LayeredBackend("reference", reference.layer)
TORCH = LayeredBackend("torch", layer)
