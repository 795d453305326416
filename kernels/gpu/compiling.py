"""Kernels compiled as calls launch them, without a GPU: for what machine code can tell.

Nothing is described twice: the package's own code launches, in place of a GPU's driver stands one that only says which
GPU there is, and every launch ends once its kernel is compiled. What the kernels get to know of their arguments (types,
divisibility by 16, None) is thus what they get to know on a GPU. Results are memory as it was found.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.gpu import scan, skewed_scan
from streamdrnn.kernels.gpu.plans import Group, Plan
from streamdrnn.kernels.gpu.stream import TritonStream
from streamdrnn.kernels.gpu.weights import prepare
from streamdrnn.kernels.weights import FusionWeights, Weights

SCALED_BIAS = ("gru",)
"""Cells with a bias of the state that a gate scales: it is an argument of its own."""


class NoDevice:
    """In place of Triton's driver: a GPU of a compute capability such as 90, without the GPU."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling_only(capability: int, seen: Callable[[Any], object]) -> Iterator[None]:
    """Within it, launches compile their kernels and run nothing; what Triton compiled is shown launch by launch."""
    run, before = JITFunction.run, driver._active

    def compile_only(fn: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(fn, *arguments, grid=grid, warmup=True, **options)
        seen(kernel)
        return kernel

    driver.set_active(NoDevice(capability))
    JITFunction.run = compile_only
    try:
        yield
    finally:
        JITFunction.run = run
        driver.set_active(before)


def launch_layer(
    direction: str,
    cell: str,
    H: int,
    plan: Plan,
    dtype: torch.dtype = torch.float32,
    lengths: bool = False,
    save: bool = True,
    bias: bool = True,
) -> None:
    """What a call of ``scan`` launches.

    Args:
        direction: ``"forward"`` or ``"backward"``.
        dtype: of the products' operands.
        lengths, save, bias: whether there are lengths, what the gradient needs is kept, and there are biases.
    """
    T, B, d = 5, 3, 2
    _, G, has_c = CELLS[cell]
    ring = torch.zeros(d, B, H)
    c_ring = torch.zeros(d, B, H) if has_c else torch.zeros(0)
    w = torch.zeros(G * H, H, dtype=dtype)
    cursor, given = torch.zeros(B, dtype=torch.int64), torch.full((B,), T) if lengths else None
    with patch.object(scan, "choose", lambda key, plans, run: plan):
        if direction == "forward":
            b_n = torch.zeros(H) if cell in SCALED_BIAS and bias else None
            gi = torch.zeros(T, B, G * H, dtype=dtype)
            scan.forward(cell, gi, w, b_n, ring, c_ring, cursor, given, save)
        else:
            h = torch.zeros(d + T, B, H)
            gates = torch.zeros((T, B, 4 * H) if G > 1 else 0, dtype=dtype)
            history = scan.History(h, torch.zeros_like(h) if has_c else torch.zeros(0), gates)
            scan.backward(cell, w, history, c_ring, cursor, given, torch.zeros(T, B, H), ring, c_ring)


def zero_weights(
    cell: str, H: int, dtype: torch.dtype, bias: bool = True, layers: int = 2, first: int = 3
) -> list[Weights]:
    """Those of layers over so many inputs of the first."""
    rows = CELLS[cell].gates * H
    b = torch.zeros(rows, dtype=dtype) if bias else None
    inputs = [first, *[H] * (layers - 1)]
    return [Weights(torch.zeros(rows, n, dtype=dtype), torch.zeros(rows, H, dtype=dtype), b, b) for n in inputs]


def launch_step(
    cell: str, H: int, B: int, dtype: torch.dtype = torch.float32, fusion: bool = True, bias: bool = True
) -> None:
    """What a step of B live streams launches."""
    bias_of_fusion = torch.zeros(H, dtype=dtype) if bias else None
    fused = FusionWeights(torch.zeros(H, H, 2, dtype=dtype), bias_of_fusion) if fusion else None
    rings = [torch.zeros(d, B, H) for d in (2, 4)]
    c_rings = rings if CELLS[cell].has_c else []
    live = TritonStream(cell, zero_weights(cell, H, dtype, bias), [2, 4], fused, B)
    live.bind(_Rings(rings, c_rings, torch.zeros(2, B, H), torch.zeros(B, dtype=torch.int64)))
    live.run(torch.zeros(1, B, 3), None)


class _Rings(NamedTuple):
    """A :class:`streamdrnn.kernels.backend.Rings`."""

    h: list[Tensor]
    c: list[Tensor]
    fusion: Tensor
    cursor: Tensor


def launch_group(cell: str, group: Group, H: int, save: bool, lengths: bool = False) -> None:
    """What a group of layers launches; with ``save`` also in the backward pass."""
    T, B, L, inputs = 5, 3, group.last - group.first, H if group.fed else 3
    weights = zero_weights(cell, H, torch.float32, layers=L, first=inputs)
    rings = [torch.zeros(group.phases * 2**layer, B, H) for layer in range(L)]
    c_rings = rings if CELLS[cell].has_c else []
    cursor, given = torch.zeros(B, dtype=torch.int64), torch.full((B,), T) if lengths else None
    x, layers = torch.zeros(T, B, inputs), prepare(cell, weights)
    histories, _, _ = skewed_scan.forward(cell, group, x, layers, rings, c_rings, cursor, given, save)
    if save:
        dy = torch.zeros(T, B, H)
        skewed_scan.backward(cell, group, weights, histories, [], cursor, given, dy, rings, c_rings)
