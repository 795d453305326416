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
def load_ring(p, ring, H, unit):
    """The states in these rows of a ring, 0 for row -1."""
    mask = (ring >= 0)[:, None] & (unit < H)[None, :]
    return tl.load(p + ring[:, None] * H + unit[None, :], mask=mask, other=0.0)


@triton.jit
def store_ring(p, ring, H, unit, value):
    tl.store(p + ring[:, None] * H + unit[None, :], value, mask=(ring >= 0)[:, None] & (unit < H)[None, :])


@triton.jit
def load_weight(p_w, gate, H, inputs, units, TRANSPOSED: tl.constexpr):
    """One gate's weights as [input, output] of the product: transposed for states, as they are for gradients."""
    mask = (inputs < H)[:, None] & (units < H)[None, :]
    at = units[None, :] * H + inputs[:, None] if TRANSPOSED else inputs[:, None] * H + units[None, :]
    return tl.load(p_w + gate * H * H + at, mask=mask, other=0.0)


@triton.jit
def load_bias(p_b, H, unit):
    """Biases ``(1, units)``; zeros where there are none."""
    if p_b is None:
        return tl.zeros_like(unit).to(tl.float32)[None, :]
    else:
        return tl.load(p_b + unit, mask=unit < H, other=0.0).to(tl.float32)[None, :]
