"""How tiles of rows, rings and weights are read and written; all values are float32 in registers.

A matrix's rows are addressed from a 64-bit ``start`` that the whole tile shares, so that the offsets in the tile
are 32-bit: 64-bit ones would take the registers.
"""

import triton
import triton.language as tl


@triton.jit
def load_rows(p, start, width, k, unit, mask):
    """The tile of rows ``start + k`` and columns ``unit`` of a matrix of ``width`` columns, 0 where masked."""
    return tl.load(p + start * width + (k[:, None] * width + unit[None, :]), mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_rows(p, start, width, k, unit, value, mask):
    at = p + start * width + (k[:, None] * width + unit[None, :])
    tl.store(at, value.to(p.dtype.element_ty), mask=mask)


@triton.jit
def load_gates(p, start, H, k, unit, mask, G: tl.constexpr):
    """The same tile of each of the G parts of H columns."""
    values = ()
    for gate in tl.static_range(G):
        values += (load_rows(p + gate * H, start, G * H, k, unit, mask),)
    return values


@triton.jit
def store_gates(p, start, H, k, unit, values, mask):
    for gate in tl.static_range(len(values)):
        store_rows(p + gate * H, start, len(values) * H, k, unit, values[gate], mask)


@triton.jit
def load_saved(p_h, p_gates, p_c, start, stride, H, k, unit, mask, CELL: tl.constexpr):
    """The arguments of ``cells.gradient``: ``saved`` and ``old``."""
    if CELL == "rnn":
        h = load_rows(p_h, start + stride, H, k, unit, mask)
        return (h,), h
    else:
        old = load_rows(p_h if CELL == "gru" else p_c, start, H, k, unit, mask)
        return load_gates(p_gates, start, H, k, unit, mask, 4), old


@triton.jit
def load_ring(p, ring, H, unit):
    """The states in these rows of a ring, 0 for row -1."""
    mask = (ring >= 0)[:, None] & (unit < H)[None, :]
    return tl.load(p + ring[:, None] * H + unit[None, :], mask=mask, other=0.0)


@triton.jit
def store_ring(p, ring, H, unit, value):
    tl.store(p + ring[:, None] * H + unit[None, :], value, mask=(ring >= 0)[:, None] & (unit < H)[None, :])


@triton.jit
def load_weights(p_w, by_input, by_unit, inputs, K, unit, H):
    """Weights as [input, unit] of the product, of K inputs and H units, with the distances between their numbers."""
    mask = (inputs < K)[:, None] & (unit < H)[None, :]
    return tl.load(p_w + (inputs[:, None] * by_input + unit[None, :] * by_unit), mask=mask, other=0.0)


@triton.jit
def load_bias(p_b, H, unit):
    """Biases ``(1, units)``; zeros where there are none."""
    if p_b is None:
        return tl.zeros_like(unit).to(tl.float32)[None, :]
    else:
        return tl.load(p_b + unit, mask=unit < H, other=0.0).to(tl.float32)[None, :]
