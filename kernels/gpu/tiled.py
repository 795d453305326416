"""The recurrence for states too large for one program's registers: weights come through the cache, tile by tile.

Rows are as in ``resident.py``. These kernels know nothing of rings: the past is the beginning of the histories. A
step is computed tile of units by tile, from the states that the step before left in memory. Either one program takes
its rows through all steps, with a barrier between two (``first`` to ``last``), or the tiles are spread over programs
(the grid's second axis) and every step is a launch, so that few rows, too, use the whole chip.
"""

import triton
import triton.language as tl

from streamdrnn.kernels.gpu import cells
from streamdrnn.kernels.gpu.memory import (
    load_bias,
    load_gates,
    load_rows,
    load_saved,
    load_weights,
    store_gates,
    store_rows,
)
from streamdrnn.kernels.gpu.products import add_products, dot

SIZES = ["T", "B", "d", "first", "last"]
BEGINNINGS = ["p_lengths"]
GIVEN = ["p_lengths", "p_dy"]
"""Arguments that differ between calls and should not compile a kernel anew: sizes, and whether tensors from elsewhere,
which may be parts of larger ones, begin at a multiple of 16 bytes."""


@triton.jit
def length_of(p_lengths, row, T, B, d):
    """The steps that the rows' streams make; 0 outside the batch."""
    inside = row < B.to(tl.int64) * d
    if p_lengths is None:
        return tl.where(inside, T, 0)
    else:
        return tl.load(p_lengths + row % B, mask=inside, other=0).to(tl.int32)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=BEGINNINGS)
def forward(
    p_gi,
    p_w,
    p_b,
    p_lengths,
    p_h,
    p_gates,
    p_c,
    T,
    B,
    d,
    H,
    first,
    last,
    CELL: tl.constexpr,
    SAVE: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    INPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """As ``resident.forward``, for the rows' steps from ``first`` to before ``last``. An LSTM's c is always written."""
    first_row = tl.program_id(0).to(tl.int64) * ROWS
    k = tl.arange(0, ROWS)
    length = length_of(p_lengths, first_row + k, T, B, d)
    phase = ((first_row + k) // B).to(tl.int32)
    stride = B.to(tl.int64) * d
    for step in range(first, last):
        start = first_row + step * stride
        t = phase + step * d
        for tile in range(tl.program_id(1) * UNITS, H, tl.num_programs(1) * UNITS):
            unit = tile + tl.arange(0, UNITS)
            units = (unit < H)[None, :]
            real = (t < length)[:, None] & units
            a = (tl.zeros([ROWS, UNITS], tl.float32),) * cells.gates(CELL)
            for j in range(0, H, INPUTS):
                below = j + tl.arange(0, INPUTS)
                h_j = load_rows(p_h, start, H, k, below, (t < length)[:, None] & (below < H)[None, :])
                a = add_products(a, h_j, p_w, H * H, 1, H, below, H, unit, H, PRECISION)
            i = load_gates(p_gi, start, H, k, unit, real, cells.gates(CELL))
            h = load_rows(p_h, start, H, k, unit, real)
            c = load_rows(p_c, start, H, k, unit, real) if CELL == "lstm" else h
            h_new, c_new, saved = cells.step(i, a, load_bias(p_b, H, unit), h, c, CELL)
            if CELL == "lstm":
                store_rows(p_c, start + stride, H, k, unit, c_new, real)
            if SAVE:
                store_gates(p_gates, start, H, k, unit, saved, real)
            store_rows(p_h, start + stride, H, k, unit, h_new, real)
        tl.debug_barrier()  # the next step reads what all threads wrote


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=GIVEN)
def backward(
    p_w,
    p_lengths,
    p_h,
    p_gates,
    p_c,
    p_dy,
    p_dgates,
    p_dh0,
    p_dc0,
    T,
    B,
    d,
    H,
    first,
    last,
    CELL: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    INPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """As ``resident.backward``, for the rows' steps from ``last - 1`` down to ``first``; step -1 is the past.

    dh0 and dc0 ``(d, B, H)`` are the gradients of the last states in order of rows, and become those of the first. On
    the way dh0 keeps what reaches a state directly, without the product, which the step before computes from dgates.
    """
    first_row = tl.program_id(0).to(tl.int64) * ROWS
    k = tl.arange(0, ROWS)
    length = length_of(p_lengths, first_row + k, T, B, d)
    phase = ((first_row + k) // B).to(tl.int32)
    stride = B.to(tl.int64) * d
    rows = first_row + k < stride
    S: tl.constexpr = 1 if CELL == "rnn" else 4
    for back in range(last - first):
        step = last - 1 - back
        start = first_row + step * stride
        t = phase + step * d
        now = (t < length) & (step >= 0)
        later = t + d < length
        for tile in range(tl.program_id(1) * UNITS, H, tl.num_programs(1) * UNITS):
            unit = tile + tl.arange(0, UNITS)
            units = (unit < H)[None, :]
            real = now[:, None] & units
            dh = load_rows(p_dh0, first_row, H, k, unit, rows[:, None] & units)
            # One product for all gates, which a GRU's weights have as r, z, n, and dgates as n, r, z.
            for gate in range(cells.gates(CELL)):
                for j in range(0, H, INPUTS):
                    above = j + tl.arange(0, INPUTS)
                    mask = later[:, None] & (above < H)[None, :]
                    d_j = load_rows(p_dgates + gate * H, start + stride, S * H, k, above, mask)
                    w = load_weights(p_w + cells.weights_of(gate, CELL) * H * H, H, 1, above, H, unit, H)
                    dh = dot(d_j, w, dh, PRECISION)
            dh += load_rows(p_dy, start, H, k, unit, real)
            saved, old = load_saved(p_h, p_gates, p_c, start, stride, H, k, unit, real, CELL)
            c = dh
            dc = dh
            if CELL == "lstm":
                c = load_rows(p_c, start + stride, H, k, unit, real)
                dc = load_rows(p_dc0, first_row, H, k, unit, real)
            d_sums, direct, dc_old = cells.gradient(saved, old, c, dh, dc, CELL)
            if CELL == "lstm":
                store_rows(p_dc0, first_row, H, k, unit, dc_old, real)
            store_gates(p_dgates, start, H, k, unit, d_sums, real)
            store_rows(p_dh0, first_row, H, k, unit, tl.where(real, direct, dh), rows[:, None] & units)
        tl.debug_barrier()  # the step before reads what all threads wrote
