"""The recurrence with its weights on the chip: read once, kept for all steps.

Row r of a layer is phase ``r // B`` of stream ``r % B``. Seen as a matrix of ``T B`` rows, a sequence ``(T, B, ...)``
has the row's step i in row ``r + i d B``: the phases need neither padding nor a copy. One program takes some
rows through all their steps, with their states in registers.

The product has two forms. As multiplications and a sum (``DOT`` false) the weights lie in registers, spread over units
and inputs: least time for a step, for few rows. As ``tl.dot`` (tensor cores) 16 rows share it: most rows per second.

Names: ``p_`` pointers, ``h0``, ``c0`` and ``ht``, ``ct`` the rings before and after, ``d`` or ``d_`` in front of a name
its gradient.
"""

import triton
import triton.language as tl

from streamdrnn.kernels.gpu import cells
from streamdrnn.kernels.gpu.memory import (
    load_bias,
    load_gates,
    load_ring,
    load_rows,
    load_saved,
    load_weights,
    store_gates,
    store_ring,
    store_rows,
)
from streamdrnn.kernels.gpu.products import products, rounded

SIZES = ["T", "B", "d"]
BEGINNINGS = ["p_h0", "p_c0", "p_cursor", "p_lengths"]
GIVEN = ["p_cursor", "p_lengths", "p_dy", "p_dht", "p_dct"]
"""Arguments that differ between calls and should not compile a kernel anew: sizes, and whether tensors from elsewhere,
which may be parts of larger ones, begin at a multiple of 16 bytes."""


@triton.jit
def rows_of(p_cursor, p_lengths, row, T, B, d):
    """Streams' lengths, phases, and rows of the rings; outside the batch the length is 0 and the ring's row is -1."""
    inside = row < B.to(tl.int64) * d
    stream = row % B
    phase = (row // B).to(tl.int32)
    cursor = tl.load(p_cursor + stream, mask=inside, other=0)
    if p_lengths is None:
        length = tl.where(inside, T, 0)
    else:
        length = tl.load(p_lengths + stream, mask=inside, other=0).to(tl.int32)
    slot = ((cursor + phase) % d + d) % d  # the remainder has the sign of the clock
    return length, phase, tl.where(inside, slot * B + stream, -1)


@triton.jit
def load_all(p_w, H, unit, CELL: tl.constexpr, GRADIENT: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """All weights as [input, unit] of the product with the state, or with the gates' gradients in their order."""
    weights = ()
    for gate in tl.static_range(cells.gates(CELL)):
        if GRADIENT:
            w = load_weights(p_w + cells.weights_of(gate, CELL) * H * H, H, 1, unit, H, unit, H)
        else:
            w = load_weights(p_w + gate * H * H, 1, H, unit, H, unit, H)
        weights += (rounded(w, PRECISION if DOT else "ieee"),)
    return weights


@triton.jit
def add_up(total, values):
    for i in tl.static_range(len(values)):
        total += values[i]
    return total


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=BEGINNINGS)
def forward(
    p_gi,
    p_w,
    p_b,
    p_h0,
    p_c0,
    p_cursor,
    p_lengths,
    p_h,
    p_gates,
    p_c,
    p_ht,
    p_ct,
    T,
    B,
    d,
    H,
    CELL: tl.constexpr,
    SAVE: tl.constexpr,
    DOT: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All steps of a chunk, from gi ``(T, B, G H)``: the input's share of the gates with all biases but b, h_n's.

    It gives the history h ``(d + T, B, H)`` (the past in order of rows, then what the steps made) and the rings after.
    With ``SAVE`` also what the gradient needs: the gates ``(T, B, 4 H)`` (r, z, n, h_n or i, f, g, o; none for an rnn)
    and the history of c.
    """
    start = tl.program_id(0).to(tl.int64) * ROWS
    k = tl.arange(0, ROWS)
    unit = tl.arange(0, UNITS)
    length, t, ring = rows_of(p_cursor, p_lengths, start + k, T, B, d)
    stride = B.to(tl.int64) * d
    units = (unit < H)[None, :]
    inside = (ring >= 0)[:, None] & units
    h = load_ring(p_h0, ring, H, unit)
    store_rows(p_h, start, H, k, unit, h, inside)
    weights = load_all(p_w, H, unit, CELL, False, DOT, PRECISION)
    b_n = load_bias(p_b, H, unit)
    c = h
    if CELL == "lstm":
        c = load_ring(p_c0, ring, H, unit)
        if SAVE:
            store_rows(p_c, start, H, k, unit, c, inside)
    i = load_gates(p_gi, start, H, k, unit, (t < length)[:, None] & units, cells.gates(CELL))
    for _ in range(tl.min(t, 0), T, d):
        real = (t < length)[:, None] & units
        # The next step's gates are on their way while this step is computed.
        next_real = (t + d < length)[:, None] & units
        next_i = load_gates(p_gi, start + stride, H, k, unit, next_real, cells.gates(CELL))
        a = products((h, h, h, h), weights, DOT, PRECISION)
        h_new, c_new, saved = cells.step(i, a, b_n, h, c, CELL)
        if CELL == "lstm":
            c = tl.where(real, c_new, c)
            if SAVE:
                store_rows(p_c, start + stride, H, k, unit, c_new, real)
        if SAVE:
            store_gates(p_gates, start, H, k, unit, saved, real)
        i = next_i
        h = tl.where(real, h_new, h)
        store_rows(p_h, start + stride, H, k, unit, h, real)
        start += stride
        t += d
    store_ring(p_ht, ring, H, unit, h)
    if CELL == "lstm":
        store_ring(p_ct, ring, H, unit, c)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=GIVEN)
def backward(
    p_w,
    p_cursor,
    p_lengths,
    p_h,
    p_gates,
    p_c,
    p_ct,
    p_dy,
    p_dht,
    p_dct,
    p_dgates,
    p_dh0,
    p_dc0,
    T,
    B,
    d,
    H,
    CELL: tl.constexpr,
    DOT: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradients of the gates' sums and of the rings.

    dgates is ``(T, B, G H)``, for a GRU ``(T, B, 4 H)``, in the order of ``cells.gradient``.
    """
    first = tl.program_id(0).to(tl.int64) * ROWS
    k = tl.arange(0, ROWS)
    unit = tl.arange(0, UNITS)
    length, phase, ring = rows_of(p_cursor, p_lengths, first + k, T, B, d)
    stride = B.to(tl.int64) * d
    units = (unit < H)[None, :]
    dh = load_ring(p_dht, ring, H, unit)
    weights = load_all(p_w, H, unit, CELL, True, DOT, PRECISION)
    c = dh
    dc = dh
    if CELL == "lstm":
        dc = load_ring(p_dct, ring, H, unit)
        c = load_ring(p_ct, ring, H, unit)
    steps = tl.maximum((T - tl.min(phase, 0) + d - 1) // d, 0)
    t = phase + (steps - 1) * d
    start = first + (steps - 1) * stride
    real = ((t >= 0) & (t < length))[:, None] & units  # rows that begin after the end have no step at all
    dy = load_rows(p_dy, start, H, k, unit, real)
    saved, old = load_saved(p_h, p_gates, p_c, start, stride, H, k, unit, real, CELL)
    for _ in range(steps):
        real = (t < length)[:, None] & units
        # The inputs of the step before are on their way while this one is computed.
        next_real = ((t >= d) & (t - d < length))[:, None] & units
        next_dy = load_rows(p_dy, start - stride, H, k, unit, next_real)
        next_saved, next_old = load_saved(p_h, p_gates, p_c, start - stride, stride, H, k, unit, next_real, CELL)
        d_sums, dh_old, dc_old = cells.gradient(saved, old, c, dh + dy, dc, CELL)
        store_gates(p_dgates, start, H, k, unit, d_sums, real)
        dh_old = add_up(dh_old, products(d_sums, weights, DOT, PRECISION))
        dh = tl.where(real, dh_old, dh)
        if CELL == "lstm":
            dc = tl.where(real, dc_old, dc)
            c = tl.where(real, old, c)
        dy = next_dy
        saved = next_saved
        old = next_old
        t -= d
        start -= stride
    store_ring(p_dh0, ring, H, unit, dh)
    if CELL == "lstm":
        store_ring(p_dc0, ring, H, unit, dc)
