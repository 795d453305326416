"""Random arguments of one dilated layer, and everything that a backend makes of them."""

from dataclasses import dataclass
from typing import NamedTuple, Optional

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn.kernels import CELLS, Weights, cpu, dilated_layer, gpu
from tests.strategies import cells, dtypes, randn, seeds

needs_native = pytest.mark.skipif(bool(cpu.why_not()), reason=f"the native CPU kernels cannot be used: {cpu.why_not()}")
NATIVE = pytest.param("cpu", marks=needs_native)
needs_triton = pytest.mark.skipif(bool(gpu.why_not()), reason=f"the Triton kernels cannot be used: {gpu.why_not()}")
TRITON = pytest.param("triton", marks=needs_triton)
DEVICE = torch.device("cpu" if gpu.interpreted() or gpu.why_not() else "cuda")
"""Where the Triton kernels run: on the GPU, or without one in Triton's interpreter."""


def device_of(backend: str) -> torch.device:
    return {"triton": DEVICE}.get(backend, torch.device("cpu"))


class Arguments(NamedTuple):
    """The tensors that a gradient may be asked for."""

    x: Tensor
    w_ih: Tensor
    w_hh: Tensor
    b_ih: Optional[Tensor]
    b_hh: Optional[Tensor]
    h_ring: Tensor
    c_ring: Optional[Tensor]

    @property
    def weights(self) -> Weights:
        return Weights(self.w_ih, self.w_hh, self.b_ih, self.b_hh)

    def to(self, device: torch.device) -> "Arguments":
        return self._replace(**{k: t.to(device) for k, t in self._asdict().items() if t is not None})

    def given(self) -> list[Tensor]:
        return [t for t in self if t is not None]

    def differentiable(self) -> "Arguments":
        leaves = {k: t.detach().clone().requires_grad_() for k, t in self._asdict().items() if t is not None}
        return self._replace(**leaves)

    def double(self) -> "Arguments":
        """The same numbers in float64."""
        return self._replace(**{k: t.double() for k, t in self._asdict().items() if t is not None})


@dataclass(frozen=True)
class Case:
    cell: str = "gru"
    T: int = 5
    I: int = 3  # noqa: E741 (its name everywhere)
    H: int = 4
    d: int = 2
    cursor: tuple[int, ...] = (0, 3)
    lengths: Optional[tuple[int, ...]] = None
    bias: bool = True
    dtype: torch.dtype = torch.float64
    seed: int = 0

    def arguments(self) -> Arguments:
        B, rows = len(self.cursor), CELLS[self.cell].gates * self.H
        shapes = [(self.T, B, self.I), (rows, self.I), (rows, self.H), (rows,), (rows,), (self.d, B, self.H)]
        x, w_ih, w_hh, b_ih, b_hh, h_ring = (
            # Weights whose products stay of order one, however many there are: larger ones make chaos of a recurrence.
            randn(*shape, seed=self.seed + i, dtype=self.dtype) / max(2.0, (shape[-1] if i in (1, 2) else 1) ** 0.5)
            for i, shape in enumerate(shapes)
        )
        c_ring = randn(self.d, B, self.H, seed=self.seed + 9, dtype=self.dtype) if CELLS[self.cell].has_c else None
        return Arguments(x, w_ih, w_hh, b_ih if self.bias else None, b_hh if self.bias else None, h_ring, c_ring)

    def run(self, arguments: Arguments, backend: str) -> tuple[Tensor, Tensor, Optional[Tensor], Tensor]:
        """On the device of the backend, with arguments and results on the CPU."""
        there = device_of(backend)
        cursor = torch.tensor(self.cursor, dtype=torch.int64, device=there)
        lengths = None if self.lengths is None else torch.tensor(self.lengths, dtype=torch.int64, device=there)
        moved = arguments.to(there)
        rings = (moved.h_ring, moved.c_ring)
        y, h, c, cursor = dilated_layer(self.cell, moved.x, moved.weights, *rings, cursor, lengths, backend=backend)
        return y.cpu(), h.cpu(), None if c is None else c.cpu(), cursor.cpu()

    def gradients(self, backend: str, outputs: str = "yhc", arguments: Optional[Arguments] = None) -> list[Tensor]:
        """Of a random functional of some of y, h and c with respect to all arguments (the case's own by default)."""
        arguments = (self.arguments() if arguments is None else arguments).differentiable()
        y, h, c, _ = self.run(arguments, backend)
        picked = [t for name, t in zip("yhc", (y, h, c), strict=True) if name in outputs and t is not None]
        loss = 0 * arguments.x.sum()  # something to differentiate where there are no steps
        for i, t in enumerate(picked):
            loss = loss + (t * randn(*t.shape, seed=77 + i, dtype=t.dtype)).sum()
        return list(torch.autograd.grad(loss, arguments.given(), allow_unused=True, materialize_grads=True))


@st.composite
def cases(draw: st.DrawFn, most_streams: int = 4, most_steps: int = 20, most_phases: int = 9) -> Case:
    B, T = draw(st.integers(1, most_streams)), draw(st.integers(0, most_steps))
    each = st.tuples(*[st.integers(0, T)] * B)
    return Case(
        cell=draw(cells),
        T=T,
        I=draw(st.integers(1, 4)),
        H=draw(st.integers(1, 6)),
        d=draw(st.integers(1, most_phases)),
        cursor=draw(st.tuples(*[st.integers(0, 40)] * B)),
        lengths=draw(st.one_of(st.none(), each)),
        bias=draw(st.booleans()),
        dtype=draw(dtypes),
        seed=draw(seeds),
    )


@st.composite
def wide_cases(draw: st.DrawFn, most_streams: int = 40, most_steps: int = 40, most_phases: int = 70) -> Case:
    """Float32 in sizes that fill vectors and cross blocks, and those one beside them."""
    B, T = draw(st.integers(1, most_streams)), draw(st.integers(0, most_steps))
    each = st.lists(st.integers(0, T), min_size=B, max_size=B).map(tuple)
    cursors = st.one_of(st.integers(0, 200), st.integers(2**55, 2**55 + 200))
    return Case(
        cell=draw(cells),
        T=T,
        I=draw(st.sampled_from([1, 3, 16, 17, 40])),
        H=draw(st.sampled_from([1, 2, 4, 5, 8, 15, 16, 17, 20, 31, 33, 50, 65])),
        d=draw(st.integers(1, most_phases)),
        cursor=draw(st.lists(cursors, min_size=B, max_size=B).map(tuple)),
        lengths=draw(st.one_of(st.none(), each)),
        bias=draw(st.booleans()),
        dtype=torch.float32,
        seed=draw(seeds),
    )


few_cases = cases(most_streams=2, most_steps=6, most_phases=3)
few_wide_cases = wide_cases(most_streams=3, most_steps=12, most_phases=6)
"""Of few programs and steps, of which Triton's interpreter makes some hundred a second."""
