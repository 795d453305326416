"""One step of a whole stack for many streams, as one kernel.

A program takes some streams through all layers. A layer's outputs go to the next through memory (``p_between``),
because a tile of units needs all of them; a ring's slot is overwritten only after everything that reads it has.
"""

import torch
import triton
import triton.language as tl

from streamdrnn.kernels.gpu import cells
from streamdrnn.kernels.gpu.memory import load_bias, load_ring, load_rows, load_weights, store_ring, store_rows
from streamdrnn.kernels.gpu.products import add_products, dot

SMALL = {"ROWS": 16, "UNITS": 64, "INPUTS": 16, "num_warps": 8, "num_stages": 1, "maxnreg": 255}
LARGE = {"ROWS": 64, "UNITS": 16, "INPUTS": 16, "num_warps": 8, "num_stages": 1, "maxnreg": 255}
"""Tiles for few streams, and for so many that their programs had better share the reading of the weights."""

DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}

FIELDS: tl.constexpr = tl.constexpr(9)
"""Numbers per row of the table. The first has the addresses of the clocks and of the fusion's ring; each layer's then
those of w_ih, w_hh, bias, b_n, and the rings of h and c, and I, H, d."""


@triton.jit
def pointer(p_row, field, dtype: tl.constexpr):
    return tl.load(p_row + field).to(tl.pointer_type(dtype))


@triton.jit
def add_biases(sums, p_b, H, unit):
    total = ()
    for gate in tl.static_range(len(sums)):
        total += (sums[gate] + load_bias(p_b + gate * H, H, unit),)
    return total


@triton.jit(do_not_specialize=["B"])
def step(
    p_table,
    p_x,
    p_active,
    p_between,
    p_fusion_w,
    p_fusion_b,
    p_y,
    B,
    layers,
    widest,
    d_0,
    CELL: tl.constexpr,
    OPERANDS: tl.constexpr,
    BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    INPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """From x ``(B, I)`` to y ``(B, H)``, the rings and cursors of active streams moved on.

    Args:
        p_table: int64 ``(1 + layers, 9)``, see ``FIELDS``; weights lie transposed, ``(I, G H)`` and ``(H, G H)``.
        p_active: int8 ``(B,)``; where it is 0 nothing is read but the mask, and y is 0.
        p_between: float32 ``(2, B, widest)`` of working memory.
        p_fusion_w: ``(d_0, H, H)``, tap, input, output; None without a fusion.
    """
    G: tl.constexpr = cells.gates(CELL)
    start = tl.program_id(0).to(tl.int64) * ROWS
    k = tl.arange(0, ROWS)
    stream = start + k
    active = stream < B
    active = active & (tl.load(p_active + stream, mask=active, other=0) != 0)
    p_cursor = pointer(p_table, 0, tl.int64)
    p_fusion_ring = pointer(p_table, 1, tl.float32)
    cursor = tl.load(p_cursor + stream, mask=active, other=0)
    K = tl.load(p_table + FIELDS + 6).to(tl.int32)
    H = K
    p_in = p_x + start * K
    for layer in range(layers):
        p_row = p_table + (1 + layer) * FIELDS
        p_w_ih = pointer(p_row, 0, OPERANDS)
        p_w_hh = pointer(p_row, 1, OPERANDS)
        p_b = pointer(p_row, 2, tl.float32)
        p_b_n = pointer(p_row, 3, tl.float32)
        p_h = pointer(p_row, 4, tl.float32)
        p_c = pointer(p_row, 5, tl.float32)
        K = tl.load(p_row + 6).to(tl.int32)
        H = tl.load(p_row + 7).to(tl.int32)
        d = tl.load(p_row + 8)
        ring = tl.where(active, cursor % d * B + stream, -1)
        p_out = p_between + (layer % 2 * B.to(tl.int64) + start) * widest
        for tile in range(0, H, UNITS):
            unit = tile + tl.arange(0, UNITS)
            real = active[:, None] & (unit < H)[None, :]
            i = (tl.zeros([ROWS, UNITS], tl.float32),) * G
            for j in range(0, K, INPUTS):
                inputs = j + tl.arange(0, INPUTS)
                x = load_rows(p_in, 0, K, k, inputs, active[:, None] & (inputs < K)[None, :])
                i = add_products(i, x, p_w_ih, H, G * H, 1, inputs, K, unit, H, PRECISION)
            a = (tl.zeros([ROWS, UNITS], tl.float32),) * G
            for j in range(0, H, INPUTS):
                inputs = j + tl.arange(0, INPUTS)
                a = add_products(a, load_ring(p_h, ring, H, inputs), p_w_hh, H, G * H, 1, inputs, H, unit, H, PRECISION)
            if BIAS:
                i = add_biases(i, p_b, H, unit)
            b_n = load_bias(p_b_n if BIAS and CELL == "gru" else None, H, unit)
            h = load_ring(p_h, ring, H, unit)
            c = load_ring(p_c, ring, H, unit) if CELL == "lstm" else h
            h_new, c_new, _ = cells.step(i, a, b_n, h, c, CELL)
            if CELL == "lstm":
                store_ring(p_c, ring, H, unit, c_new)
            store_rows(p_out, 0, H, k, unit, h_new, real)
        tl.debug_barrier()  # all units are there, and nobody reads the ring's slot any more
        for tile in range(0, H, UNITS):
            unit = tile + tl.arange(0, UNITS)
            h = load_rows(p_out, 0, H, k, unit, active[:, None] & (unit < H)[None, :])
            store_ring(p_h, ring, H, unit, h)
        p_in = p_out
    inside = (stream < B)[:, None]
    for tile in range(0, H, UNITS):
        unit = tile + tl.arange(0, UNITS)
        if p_fusion_w is None:
            y = load_rows(p_in, 0, H, k, unit, active[:, None] & (unit < H)[None, :])
        else:
            y = tl.zeros([ROWS, UNITS], tl.float32) + load_bias(p_fusion_b, H, unit)
            for tap in range(d_0):
                # The last tap meets the present, which is in no ring yet.
                past = tl.where(active, (cursor + 1 + tap) % d_0 * B + stream, -1)
                for j in range(0, H, INPUTS):
                    inputs = j + tl.arange(0, INPUTS)
                    if tap == d_0 - 1:
                        x = load_rows(p_in, 0, H, k, inputs, active[:, None] & (inputs < H)[None, :])
                    else:
                        x = load_ring(p_fusion_ring, past, H, inputs)
                    w = load_weights(p_fusion_w + tap * H.to(tl.int64) * H, H, 1, inputs, H, unit, H)
                    y = dot(x, w, y, PRECISION)
        store_rows(p_y, start, H, k, unit, tl.where(active[:, None], y, 0.0), inside & (unit < H)[None, :])
    if p_fusion_w is not None:
        tl.debug_barrier()  # nobody reads the slot any more
        for tile in range(0, H, UNITS):
            unit = tile + tl.arange(0, UNITS)
            h = load_rows(p_in, 0, H, k, unit, active[:, None] & (unit < H)[None, :])
            store_ring(p_fusion_ring, tl.where(active, cursor % d_0 * B + stream, -1), H, unit, h)
    tl.store(p_cursor + stream, cursor + 1, mask=active)
