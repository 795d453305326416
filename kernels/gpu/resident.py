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
from streamdrnn.kernels.gpu.memory import load_bias, load_ring, load_rows, load_weight, store_ring, store_rows
from streamdrnn.kernels.gpu.products import four_products, product, three_products

SIZES = ["T", "B", "d"]
BEGINNINGS = ["p_h0", "p_c0", "p_cursor", "p_lengths"]
GIVEN = ["p_cursor", "p_lengths", "p_dy", "p_dht", "p_dct"]
"""What differs between calls and should not compile a kernel anew: sizes, and whether tensors from elsewhere, which may
be parts of larger ones, begin at a multiple of 16 bytes."""


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
    w_0 = load_weight(p_w, 0, H, unit, unit, True)
    real = (t < length)[:, None] & units
    G: tl.constexpr = 1 if CELL == "rnn" else (3 if CELL == "gru" else 4)
    if CELL == "lstm":
        w_3 = load_weight(p_w, 3, H, unit, unit, True)
        c = load_ring(p_c0, ring, H, unit)
        if SAVE:
            store_rows(p_c, start, H, k, unit, c, inside)
        i_3 = load_rows(p_gi + 3 * H, start, G * H, k, unit, real)
    i_0 = load_rows(p_gi, start, G * H, k, unit, real)
    if CELL != "rnn":
        w_1 = load_weight(p_w, 1, H, unit, unit, True)
        w_2 = load_weight(p_w, 2, H, unit, unit, True)
        b_n = load_bias(p_b, H, unit)
        i_1 = load_rows(p_gi + H, start, G * H, k, unit, real)
        i_2 = load_rows(p_gi + 2 * H, start, G * H, k, unit, real)
    for _ in range(tl.min(t, 0), T, d):
        real = (t < length)[:, None] & units
        # The next step's gates are on their way while this step is computed.
        next_real = (t + d < length)[:, None] & units
        next_0 = load_rows(p_gi, start + stride, G * H, k, unit, next_real)
        if CELL != "rnn":
            next_1 = load_rows(p_gi + H, start + stride, G * H, k, unit, next_real)
            next_2 = load_rows(p_gi + 2 * H, start + stride, G * H, k, unit, next_real)
        if CELL == "lstm":
            next_3 = load_rows(p_gi + 3 * H, start + stride, G * H, k, unit, next_real)
        if CELL == "rnn":
            h_new = cells.rnn(i_0 + product(h, w_0, DOT, PRECISION))
        else:
            if CELL == "gru":
                a_0, a_1, a_2 = three_products(h, w_0, h, w_1, h, w_2, DOT, PRECISION)
                a_2 += b_n
                h_new, s_0, s_1, s_2 = cells.gru(i_0, i_1, i_2, a_0, a_1, a_2, h)
                s_3 = a_2
            else:
                a_0, a_1, a_2, a_3 = four_products(h, w_0, h, w_1, h, w_2, h, w_3, DOT, PRECISION)
                h_new, c_new, s_0, s_1, s_2, s_3 = cells.lstm(i_0 + a_0, i_1 + a_1, i_2 + a_2, i_3 + a_3, c)
                c = tl.where(real, c_new, c)
                i_3 = next_3
                if SAVE:
                    store_rows(p_c, start + stride, H, k, unit, c_new, real)
            i_1 = next_1
            i_2 = next_2
            if SAVE:
                store_rows(p_gates, start, 4 * H, k, unit, s_0, real)
                store_rows(p_gates + H, start, 4 * H, k, unit, s_1, real)
                store_rows(p_gates + 2 * H, start, 4 * H, k, unit, s_2, real)
                store_rows(p_gates + 3 * H, start, 4 * H, k, unit, s_3, real)
        i_0 = next_0
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

    dgates is ``(T, B, G H)``, for a GRU ``(T, B, 4 H)``: those of h_n, r, z and i_n. So its first 3 H are the gradient
    of the state's product and its last 3 H that of the input's.
    """
    first = tl.program_id(0).to(tl.int64) * ROWS
    k = tl.arange(0, ROWS)
    unit = tl.arange(0, UNITS)
    length, phase, ring = rows_of(p_cursor, p_lengths, first + k, T, B, d)
    stride = B.to(tl.int64) * d
    units = (unit < H)[None, :]
    dh = load_ring(p_dht, ring, H, unit)
    w_0 = load_weight(p_w, 0, H, unit, unit, False)
    if CELL != "rnn":
        w_1 = load_weight(p_w, 1, H, unit, unit, False)
        w_2 = load_weight(p_w, 2, H, unit, unit, False)
    if CELL == "lstm":
        w_3 = load_weight(p_w, 3, H, unit, unit, False)
        dc = load_ring(p_dct, ring, H, unit)
        c = load_ring(p_ct, ring, H, unit)
    steps = tl.maximum((T - tl.min(phase, 0) + d - 1) // d, 0)
    t = phase + (steps - 1) * d
    start = first + (steps - 1) * stride
    real = ((t >= 0) & (t < length))[:, None] & units  # rows that begin after the end have no step at all
    s_0, s_1, s_2, s_3, s_4, s_5 = load_saved(p_dy, p_h, p_gates, p_c, start, stride, H, k, unit, real, CELL)
    for _ in range(steps):
        real = (t < length)[:, None] & units
        # What the step before needs is on its way while this one is computed.
        next_real = ((t >= d) & (t - d < length))[:, None] & units
        n_0, n_1, n_2, n_3, n_4, n_5 = load_saved(
            p_dy, p_h, p_gates, p_c, start - stride, stride, H, k, unit, next_real, CELL
        )
        dh_new = dh + s_0
        if CELL == "rnn":
            d_a = cells.rnn_gradient(s_1, dh_new)
            store_rows(p_dgates, start, H, k, unit, d_a, real)
            dh_old = product(d_a, w_0, DOT, PRECISION)
        else:
            if CELL == "gru":
                d_1, d_2, d_3, d_0, direct = cells.gru_gradient(s_1, s_2, s_3, s_4, s_5, dh_new)
            else:
                d_0, d_1, d_2, d_3, dc_old = cells.lstm_gradient(s_1, s_2, s_3, s_4, s_5, c, dh_new, dc)
                dc = tl.where(real, dc_old, dc)
                c = tl.where(real, s_5, c)
            store_rows(p_dgates, start, 4 * H, k, unit, d_0, real)
            store_rows(p_dgates + H, start, 4 * H, k, unit, d_1, real)
            store_rows(p_dgates + 2 * H, start, 4 * H, k, unit, d_2, real)
            store_rows(p_dgates + 3 * H, start, 4 * H, k, unit, d_3, real)
            if CELL == "gru":
                q_0, q_1, q_2 = three_products(d_1, w_0, d_2, w_1, d_0, w_2, DOT, PRECISION)
                dh_old = direct + (q_0 + q_1 + q_2)
            else:
                q_0, q_1, q_2, q_3 = four_products(d_0, w_0, d_1, w_1, d_2, w_2, d_3, w_3, DOT, PRECISION)
                dh_old = q_0 + q_1 + (q_2 + q_3)
        dh = tl.where(real, dh_old, dh)
        s_0, s_1, s_2, s_3, s_4, s_5 = n_0, n_1, n_2, n_3, n_4, n_5
        t -= d
        start -= stride
    store_ring(p_dh0, ring, H, unit, dh)
    if CELL == "lstm":
        store_ring(p_dc0, ring, H, unit, dc)


@triton.jit
def load_saved(p_dy, p_h, p_gates, p_c, start, stride, H, k, unit, mask, CELL: tl.constexpr):
    """What the gradient of a step needs: dy, then r, z, n, h_n and the old h, or i, f, g, o and the old c, or h."""
    dy = load_rows(p_dy, start, H, k, unit, mask)
    if CELL == "rnn":
        h = load_rows(p_h, start + stride, H, k, unit, mask)
        return dy, h, h, h, h, h
    else:
        s_0 = load_rows(p_gates, start, 4 * H, k, unit, mask)
        s_1 = load_rows(p_gates + H, start, 4 * H, k, unit, mask)
        s_2 = load_rows(p_gates + 2 * H, start, 4 * H, k, unit, mask)
        s_3 = load_rows(p_gates + 3 * H, start, 4 * H, k, unit, mask)
        old = load_rows(p_h if CELL == "gru" else p_c, start, H, k, unit, mask)
        return dy, s_0, s_1, s_2, s_3, old
