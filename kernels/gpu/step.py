"""One step of a whole stack for many streams, as one kernel.

A program takes some streams through all layers. A layer's outputs go to the next through memory (``p_between``),
because a tile of units needs all of them; a ring's slot is overwritten only after everything that reads it has.
"""

import torch
import triton
import triton.language as tl

from streamdrnn.kernels.gpu import cells
from streamdrnn.kernels.gpu.memory import load_bias, load_ring, load_rows, store_ring, store_rows
from streamdrnn.kernels.gpu.products import dot

SMALL = {"ROWS": 16, "UNITS": 64, "INPUTS": 16, "num_warps": 8, "num_stages": 1, "maxnreg": 255}
LARGE = {"ROWS": 64, "UNITS": 16, "INPUTS": 16, "num_warps": 8, "num_stages": 1, "maxnreg": 255}
"""Tiles for few streams, and for so many that their programs had better share the reading of the weights."""

DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}

FIELDS: tl.constexpr = tl.constexpr(9)
"""Numbers per layer in the table: the addresses of w_ih, w_hh, bias, b_n, and the rings of h and c; then I, H, d."""


@triton.jit
def pointer(p_table, layer, field, dtype: tl.constexpr):
    return tl.load(p_table + layer * FIELDS + field).to(tl.pointer_type(dtype))


@triton.jit
def add_products(
    a_0, a_1, a_2, a_3, x, p_w, H, inputs, K, unit,
    GATES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile of inputs times its weights ``(K, G H)`` to the gates' sums."""
    mask = (inputs < K)[:, None] & (unit < H)[None, :]
    at = p_w + inputs[:, None] * (GATES * H) + unit[None, :]
    a_0 = dot(x, tl.load(at, mask=mask, other=0.0), a_0, PRECISION)
    if GATES > 1:
        a_1 = dot(x, tl.load(at + H, mask=mask, other=0.0), a_1, PRECISION)
        a_2 = dot(x, tl.load(at + 2 * H, mask=mask, other=0.0), a_2, PRECISION)
    if GATES > 3:
        a_3 = dot(x, tl.load(at + 3 * H, mask=mask, other=0.0), a_3, PRECISION)
    return a_0, a_1, a_2, a_3


@triton.jit(do_not_specialize=["B"])
def step(
    p_table,
    p_x,
    p_active,
    p_cursor,
    p_between,
    p_fusion_ring,
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
        p_table: int64 ``(layers, 9)``, see ``FIELDS``; weights lie transposed, ``(I, G H)`` and ``(H, G H)``.
        p_active: int8 ``(B,)``; where it is 0 nothing is read but the mask, and y is 0.
        p_between: float32 ``(2, B, widest)`` of working memory.
        p_fusion_w: ``(d_0, H, H)``, tap, input, output; None without a fusion.
    """
    GATES: tl.constexpr = 1 if CELL == "rnn" else (3 if CELL == "gru" else 4)
    start = tl.program_id(0).to(tl.int64) * ROWS
    k = tl.arange(0, ROWS)
    stream = start + k
    active = stream < B
    active = active & (tl.load(p_active + stream, mask=active, other=0) != 0)
    cursor = tl.load(p_cursor + stream, mask=active, other=0)
    K = tl.load(p_table + 6).to(tl.int32)
    H = K
    p_in = p_x + start * K
    for layer in range(layers):
        p_w_ih = pointer(p_table, layer, 0, OPERANDS)
        p_w_hh = pointer(p_table, layer, 1, OPERANDS)
        p_b = pointer(p_table, layer, 2, tl.float32)
        p_b_n = pointer(p_table, layer, 3, tl.float32)
        p_h = pointer(p_table, layer, 4, tl.float32)
        p_c = pointer(p_table, layer, 5, tl.float32)
        K = tl.load(p_table + layer * FIELDS + 6).to(tl.int32)
        H = tl.load(p_table + layer * FIELDS + 7).to(tl.int32)
        d = tl.load(p_table + layer * FIELDS + 8)
        ring = tl.where(active, cursor % d * B + stream, -1)
        p_out = p_between + (layer % 2 * B.to(tl.int64) + start) * widest
        for tile in range(0, H, UNITS):
            unit = tile + tl.arange(0, UNITS)
            real = active[:, None] & (unit < H)[None, :]
            a_0 = tl.zeros([ROWS, UNITS], tl.float32)
            a_1 = a_0
            a_2 = a_0
            a_3 = a_0
            for j in range(0, K, INPUTS):
                inputs = j + tl.arange(0, INPUTS)
                x = load_rows(p_in, 0, K, k, inputs, active[:, None] & (inputs < K)[None, :])
                a_0, a_1, a_2, a_3 = add_products(a_0, a_1, a_2, a_3, x, p_w_ih, H, inputs, K, unit, GATES, PRECISION)
            i_n = a_2
            if CELL == "gru":
                a_2 = tl.zeros([ROWS, UNITS], tl.float32)
            for j in range(0, H, INPUTS):
                inputs = j + tl.arange(0, INPUTS)
                h = load_ring(p_h, ring, H, inputs)
                a_0, a_1, a_2, a_3 = add_products(a_0, a_1, a_2, a_3, h, p_w_hh, H, inputs, H, unit, GATES, PRECISION)
            if BIAS:
                a_0 += load_bias(p_b, H, unit)
                if CELL != "rnn":
                    a_1 += load_bias(p_b + H, H, unit)
                if CELL == "gru":
                    i_n += load_bias(p_b + 2 * H, H, unit)
                    a_2 += load_bias(p_b_n, H, unit)
                if CELL == "lstm":
                    a_2 += load_bias(p_b + 2 * H, H, unit)
                    a_3 += load_bias(p_b + 3 * H, H, unit)
            if CELL == "rnn":
                h_new = cells.rnn(a_0)
            elif CELL == "gru":
                h_new, _, _, _ = cells.gru(a_0, a_1, i_n, 0.0, 0.0, a_2, load_ring(p_h, ring, H, unit))
            else:
                h_new, c_new, _, _, _, _ = cells.lstm(a_0, a_1, a_2, a_3, load_ring(p_c, ring, H, unit))
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
                    at = tap * H.to(tl.int64) * H + inputs[:, None] * H + unit[None, :]
                    w = tl.load(p_fusion_w + at, mask=(inputs < H)[:, None] & (unit < H)[None, :], other=0.0)
                    y = dot(x, w, y, PRECISION)
        store_rows(p_y, start, H, k, unit, tl.where(active[:, None], y, 0.0), inside & (unit < H)[None, :])
    if p_fusion_w is not None:
        tl.debug_barrier()  # nobody reads the slot any more
        for tile in range(0, H, UNITS):
            unit = tile + tl.arange(0, UNITS)
            h = load_rows(p_in, 0, H, k, unit, active[:, None] & (unit < H)[None, :])
            store_ring(p_fusion_ring, tl.where(active, cursor % d_0 * B + stream, -1), H, unit, h)
    tl.store(p_cursor + stream, cursor + 1, mask=active)
