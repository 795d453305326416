"""A stack of dilated layers over a chunk, with its gradients: each is one call of the library."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.cpu.library import LayerGradients, State, check, load
from streamdrnn.kernels.cpu.packed import PackedStack, address_of, addresses_of, checked
from streamdrnn.kernels.operators import plain
from streamdrnn.kernels.stack import StackKernels, StackOperators, by_layer, ring_shapes
from streamdrnn.kernels.weights import weights_in


def _forward(
    cell: str,
    dilations: Sequence[int],
    x: Tensor,
    weights: Sequence[Tensor],
    rings: Sequence[Tensor],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor],
    save: bool,
    packed: Optional[PackedStack] = None,
) -> list[Tensor]:
    T, B, _ = x.shape
    packed = packed or PackedStack(cell, by_layer(weights, dilations), dilations, None, T, B, save)
    x, lengths = checked("x", x, (T, B, weights[0].shape[1])), None if lengths is None else plain(lengths)
    y, new_cursor, *after = _results(cell, dilations, x, weights)
    saved = [x.new_empty(load().streamdrnn_saved_size(packed.handle, T, B))] if save else []
    before = None
    if cursor is not None and rings:
        given = [checked("ring", ring, own.shape) for ring, own in zip(rings, after, strict=True)]
        before = _State(given, dilations, plain(cursor))
    state = _State(after, dilations, new_cursor)
    code = load().streamdrnn_forward(
        packed.handle,
        None if before is None else before.c_struct,
        state.c_struct,
        T,
        x.data_ptr(),
        address_of(lengths),
        y.data_ptr(),
        address_of(saved[0] if saved else None),
        torch.get_num_threads(),
    )
    check(code)
    return [y, new_cursor, *after, *saved]


def _results(cell: str, dilations: Sequence[int], x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Memory for y, the clocks and the rings after a chunk."""
    T, B, _ = x.shape
    shapes = ring_shapes(cell, weights, dilations, B)
    y = x.new_empty(T, B, shapes[-1][2])
    return [y, x.new_empty(B, dtype=torch.int64), *(x.new_empty(shape) for shape in shapes)]


def _shapes(
    cell: str,
    dilations: Sequence[int],
    x: Tensor,
    weights: Sequence[Tensor],
    rings: Sequence[Tensor],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor],
    save: bool,
) -> list[Tensor]:
    results = _results(cell, dilations, x, weights)
    if not save:
        return results
    # The bound of streamdrnn_saved_size that does not depend on the instructions in use.
    T, B, _ = x.shape
    streams = B if B < 8 else (B + 15) // 16 * 16
    return [*results, x.new_empty(T * streams * sum(H for _, _, H in ring_shapes(cell, weights, dilations, B)))]


def _backward(
    cell: str,
    dilations: Sequence[int],
    x: Tensor,
    weights: Sequence[Tensor],
    rings: Sequence[Tensor],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor],
    kept: Sequence[Tensor],
    dy: Tensor,
    d_rings: Sequence[Tensor],
    of_x: bool,
    packed: Optional[PackedStack] = None,
) -> list[Tensor]:
    T, B, _ = x.shape
    packed = packed or PackedStack(cell, by_layer(weights, dilations), dilations, None, T, B, True)
    x, dy, lengths = plain(x), plain(dy), None if lengths is None else plain(lengths)
    turned = [grad.resolve_neg().clone(memory_format=torch.contiguous_format) for grad in d_rings]
    dx = x.new_empty(x.shape if of_x else 0)
    d_weights = [w.new_empty(w.shape) for w in weights]
    targets = (LayerGradients * len(dilations))()
    for target, own in zip(targets, by_layer(d_weights, dilations), strict=True):
        target.w_ih, target.w_hh, target.b_ih, target.b_hh = map(address_of, own)
    clock = x.new_zeros(B, dtype=torch.int64) if cursor is None else plain(cursor)
    before = _State([plain(ring) for ring in rings], dilations, clock)
    after = _State(turned, dilations, clock)
    code = load().streamdrnn_backward(
        packed.handle,
        before.c_struct,
        T,
        x.data_ptr(),
        address_of(lengths),
        kept[0].data_ptr(),
        dy.data_ptr(),
        after.c_struct,
        dx.data_ptr() if of_x else None,
        targets,
        torch.get_num_threads(),
    )
    check(code)
    return [dx, *d_weights, *turned]


class _State:
    """The rings of h, then those of c, as the library takes them; what the structure points to is held here."""

    def __init__(self, rings: Sequence[Tensor], dilations: Sequence[int], cursor: Tensor) -> None:
        h, c = rings[: len(dilations)], rings[len(dilations) :]
        self._held = rings, cursor
        self.c_struct = State(
            cursor.shape[0],
            addresses_of(h) if h else None,
            addresses_of(c) if c else None,
            None,
            cursor.data_ptr(),
        )


stack = StackOperators(
    StackKernels(
        "cpu_stack",
        ["cpu"],
        lambda weights, x: weights_in(x.dtype, weights),
        lambda cell, layers, dilations, T, B: PackedStack(cell, layers, dilations, None, T, B, True),
        _forward,
        _shapes,
        lambda results, L: results[-1:],
        _backward,
    )
)
"""For float32. Raises MemoryError if there is not enough memory, ValueError or TypeError if the weights do not fit."""
