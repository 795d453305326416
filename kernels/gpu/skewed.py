"""Several layers of H units as one skewed scan, where all their weights fit into one program's registers.

One program takes one stream through all steps. At iteration s layer l computes time s - l, so that its input is what
the layer below made one iteration before. No program waits for another one, and a chunk takes T + L - 1 iterations.
Where a number P divides all dilations, times that differ modulo P never meet: P programs take every P-th step each.

A column of a tile is one unit of one layer, with its weights in registers. The vectors that they meet come through
memory that the program's own threads have just written, with a barrier between (``p_between``). A step is a chunk of
one step, by the same code; all sums have one order, so that a sequence's bits do not depend on its chunks.

Names are those of ``resident.py``.
"""

import triton
import triton.language as tl

from streamdrnn.kernels.gpu import cells

SIZES = ["T", "B"]
GIVEN = ["p_gi", "p_cursor", "p_lengths", "p_ring_h", "p_ring_c", "p_dy"]
"""Arguments that differ between calls and should not compile a kernel anew: sizes, and whether tensors from elsewhere,
which may be parts of larger ones, begin at a multiple of 16 bytes."""


@triton.constexpr_function
def pieces(H, PIECE):
    """How many pieces a vector of H numbers has."""
    return (H + PIECE - 1) // PIECE


@triton.jit
def load_columns(p, at, by_gate, real, others):
    """A number of each column for each gate; others where they are not real."""
    found = ()
    for gate in tl.static_range(len(others)):
        found += (tl.load(p + at + gate * by_gate, mask=real, other=others[gate]).to(tl.float32),)
    return found


@triton.jit
def load_biases(p_b, at, by_gate, used, G: tl.constexpr):
    """Each gate's; zeros where there are none."""
    zeros = (tl.zeros([at.shape[0]], tl.float32),) * G
    if p_b is None:
        return zeros
    else:
        return load_columns(p_b, at, by_gate, used, zeros)


@triton.jit
def load_weights(p_w, at, real, H: tl.constexpr, CELL: tl.constexpr, KEPT: tl.constexpr, PIECE: tl.constexpr):
    """Each gate's weights of all columns, in pieces of some inputs: tiles ``(columns, inputs)``, float32.

    Args:
        KEPT: whether the gates are in the order of the gradients that are kept, and not in torch's.
    """
    found = ()
    for gate in tl.static_range(cells.gates(CELL)):
        for piece in tl.static_range(pieces(H, PIECE)):
            k = piece * PIECE + tl.arange(0, PIECE)
            row = at + (cells.weights_of(gate, CELL) if KEPT else gate) * H
            p = p_w + (row[:, None] * (pieces(H, PIECE) * PIECE) + k[None, :])
            found += (tl.load(p, mask=real[:, None], other=0.0).to(tl.float32),)
    return found


@triton.jit
def load_vectors(p, at, used, H: tl.constexpr, PIECE: tl.constexpr):
    """The vector of numbers that begins there for each column, in pieces."""
    found = ()
    for piece in tl.static_range(pieces(H, PIECE)):
        k = piece * PIECE + tl.arange(0, PIECE)
        found += (tl.load(p + (at[:, None] + k[None, :])),)
    return found


@triton.jit
def add_terms(totals, below, own, w_ih, w_hh, piece: tl.constexpr, N: tl.constexpr, CELL: tl.constexpr):
    """Add a piece's products to the totals ``(columns, inputs of a piece)``: one for each gate, and a GRU's h_n."""
    found = ()
    for gate in tl.static_range(cells.gates(CELL)):
        total = below * w_ih[gate * N + piece]
        if piece > 0:
            total += totals[gate]
        if not (CELL == "gru" and gate == 2):
            total += own * w_hh[gate * N + piece]
        found += (total,)
    if CELL == "gru":
        h_n = own * w_hh[2 * N + piece]
        if piece > 0:
            h_n += totals[3]
        found += (h_n,)
    return found


@triton.jit
def add_up(totals):
    found = ()
    for part in tl.static_range(len(totals)):
        found += (tl.sum(totals[part], 1),)
    return found


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=GIVEN)
def forward(
    p_gi,
    p_w_ih,
    p_w_hh,
    p_b,
    p_b_n,
    p_cursor,
    p_lengths,
    p_layers,
    p_ring_h,
    p_ring_c,
    p_between,
    p_h,
    p_gates,
    p_c,
    T,
    B,
    phases,
    CELL: tl.constexpr,
    SAVE: tl.constexpr,
    FED: tl.constexpr,
    LAYERS: tl.constexpr,
    H: tl.constexpr,
    COLUMNS: tl.constexpr,
    PIECE: tl.constexpr,
    UNROLLED: tl.constexpr,
):
    """All steps of a chunk. The rings become those after it, in place.

    Args:
        p_gi: ``(T, B, G H)`` float32, the lowest layer's input's share of the gates, with all biases but b_n; where it
            is ``FED``, as the other layers are, its input ``(T, B, H)``.
        p_w_ih: ``(LAYERS - 1, G H, pieces * PIECE)``, of the other layers, with zeros after the H weights of a row;
            with ``FED`` of all layers.
        phases: P, which divides all dilations.
        p_w_hh, p_b, p_b_n: ``(LAYERS, G H, pieces * PIECE)``; ``(LAYERS, G H)`` and ``(LAYERS, H)`` float32, or None.
        p_layers: int64 ``(4, LAYERS)``: dilations; where the layers' rings of h and of c begin, counted in numbers from
            ``p_ring_h`` and ``p_ring_c``; and the row of ``p_h`` that a layer's first step gives.
        p_between: ``(B, P, 2, 2, LAYERS, pieces * PIECE)`` float32 zeros: for the iterations in turns, the layers' own
            past states and their inputs.
        p_h: rows ``(B, H)``: with ``SAVE`` those of all layers, each the past in order of time and then what the steps
            made; else what the top layer's steps made.
        p_gates, p_c: ``(LAYERS, T, B, 4 H)``, and rows as those of h; with ``SAVE`` only.
    """
    G: tl.constexpr = cells.gates(CELL)
    N: tl.constexpr = pieces(H, PIECE)
    WIDTH: tl.constexpr = N * PIECE
    INPUTS: tl.constexpr = LAYERS * WIDTH
    TURN: tl.constexpr = 2 * INPUTS
    stream = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    used = column < LAYERS * H
    layer = tl.minimum(column // H, LAYERS - 1)
    unit = column % H
    length = T
    if p_lengths is not None:
        length = tl.load(p_lengths + stream).to(tl.int32)
    below = layer if FED else layer - 1
    w_ih = load_weights(p_w_ih, below * (G * H) + unit, used & (below >= 0), H, CELL, False, PIECE)
    w_hh = load_weights(p_w_hh, layer * (G * H) + unit, used, H, CELL, False, PIECE)
    b = load_biases(p_b, layer * (G * H) + unit, H, used, G)
    b_n = load_biases(p_b_n, layer * H + unit, 0, used, 1)

    # Where each column is in time, in its ring and in the results. All move on by P steps per iteration.
    phase = tl.program_id(1)
    by_step = B.to(tl.int64) * H
    by_turn = by_step * phases
    own = stream * H + unit
    t = phase - layer * phases
    dilation = tl.load(p_layers + layer)
    ring = tl.load(p_layers + LAYERS + layer) + own
    ring_of_c = tl.load(p_layers + 2 * LAYERS + layer) + own - ring
    to_past = dilation * by_step
    # Where the layer's step begins among all layers' steps, H numbers for each stream.
    steps_below = layer.to(tl.int64) * T
    at_step = (steps_below + t) * by_step + stream * H
    to_h = (tl.load(p_layers + 3 * LAYERS + layer) - steps_below) * by_step + unit
    slot = ((tl.load(p_cursor + stream) + t) % dilation + dilation) % dilation
    at_ring = ring + slot * by_step
    slot = slot.to(tl.int32)
    first = slot % phases
    first_ring = ring + first * by_step
    d = dilation.to(tl.int32)
    one = d == phases
    at_own = layer * WIDTH + unit
    at_above = INPUTS + (layer + 1) * WIDTH + unit
    vector = layer * WIDTH

    # A state of d = P stays in its register; the others are loaded one iteration ahead.
    p_between += (stream * phases + phase) * (2 * TURN)
    begun = used & (one | ((t == phase) & (t < length)))
    h = tl.load(p_ring_h + at_ring, mask=begun, other=0.0)
    c = h
    if CELL == "lstm":
        c = tl.load(p_ring_c + at_ring + ring_of_c, mask=begun, other=0.0)
    tl.store(p_between + TURN + at_own, h, mask=used)
    lowest = used & (layer == 0)
    gi = b
    if FED:
        x = tl.load(p_gi + at_step + unit, mask=lowest & (t < length), other=0.0)
        tl.store(p_between + (TURN + INPUTS) + unit, x, mask=lowest)
    else:
        gi = load_columns(p_gi, G * at_step + unit, H, lowest & (t < length), b)
    tl.debug_barrier()

    turn = 0
    # An iteration more than there are makes no step. In a loop of two the compiler knows whose turn it is.
    for _ in range(((T + phases - 1) // phases + LAYERS - 2 + UNROLLED) // UNROLLED):
        for _ in tl.static_range(UNROLLED):
            own_states = load_vectors(p_between + (1 - turn) * TURN, vector, used, H, PIECE)
            inputs = load_vectors(p_between + ((1 - turn) * TURN + INPUTS), vector, used, H, PIECE)
            # What the next iteration needs is on its way while this one is computed.
            real = used & (t >= 0) & (t < length)
            early = real & (t < d)
            t += phases
            slot = tl.where(slot + phases >= d, first, slot + phases)
            next_ring = tl.where(slot == first, first_ring, at_ring + by_turn)
            soon = used & (d > phases) & (t >= 0) & (t < length)
            next_h = tl.load(p_ring_h + next_ring, mask=soon, other=0.0)
            next_c = next_h
            if CELL == "lstm":
                next_c = tl.load(p_ring_c + next_ring + ring_of_c, mask=soon, other=0.0)
            next_gi = b
            next_x = next_h
            if FED:
                next_x = tl.load(p_gi + (at_step + by_turn) + unit, mask=lowest & (t < length), other=0.0)
            else:
                next_gi = load_columns(p_gi, G * (at_step + by_turn) + unit, H, lowest & (t < length), b)

            totals = ()
            for piece in tl.static_range(N):
                totals = add_terms(totals, inputs[piece], own_states[piece], w_ih, w_hh, piece, N, CELL)
            products = add_up(totals)
            sums = ()
            for gate in tl.static_range(G):
                sums += (products[gate] + gi[gate],)
            h_n = b_n[0]
            if CELL == "gru":
                h_n += products[3]
            h_new, c_new, saved = cells.step_of_sums(sums, h_n, h, c, CELL)
            kept = tl.where(real, h_new, h)
            next_h = tl.where(one, kept, next_h)
            tl.store(p_between + turn * TURN + at_own, next_h, mask=used)
            tl.store(p_between + turn * TURN + at_above, kept, mask=used & (layer < LAYERS - 1))
            if FED:
                tl.store(p_between + (turn * TURN + INPUTS) + unit, next_x, mask=lowest)
            tl.store(p_ring_h + at_ring, h_new, mask=real)
            if CELL == "lstm":
                tl.store(p_ring_c + at_ring + ring_of_c, c_new, mask=real)
            if SAVE:
                # The past begins with what the first d steps have read.
                tl.store(p_h + (at_step + to_h - to_past), h, mask=early)
                tl.store(p_h + (at_step + to_h), h_new, mask=real)
                if CELL == "lstm":
                    tl.store(p_c + (at_step + to_h - to_past), c, mask=early)
                    tl.store(p_c + (at_step + to_h), c_new, mask=real)
                for gate in tl.static_range(len(saved)):
                    tl.store(
                        p_gates + (4 * at_step + unit) + gate * H, saved[gate].to(p_gates.dtype.element_ty), mask=real
                    )
            else:
                tl.store(p_h + (at_step + to_h), h_new, mask=real & (layer == LAYERS - 1))
            h = next_h
            if CELL == "lstm":
                c = tl.where(one, tl.where(real, c_new, c), next_c)
            gi = next_gi
            at_ring = next_ring
            at_step += by_turn
            turn = 1 - turn
            tl.debug_barrier()  # the next iteration reads what all threads wrote


@triton.jit
def load_saved(p_h, p_gates, p_c, at_h, to_past, at_gates, real, H: tl.constexpr, CELL: tl.constexpr):
    """The arguments of ``cells.gradient`` that the forward pass saved: ``saved``, ``old`` and ``c``."""
    if CELL == "rnn":
        h = tl.load(p_h + at_h, mask=real, other=0.0)
        return (h,), h, h
    else:
        p_states = p_h if CELL == "gru" else p_c
        old = tl.load(p_states + (at_h - to_past), mask=real, other=0.0)
        gates = load_columns(p_gates, at_gates, H, real, (tl.zeros_like(old),) * 4)
        c = old
        if CELL == "lstm":
            c = tl.load(p_c + at_h, mask=real, other=0.0)
        return gates, old, c


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=GIVEN)
def backward(
    p_w_ih,
    p_w_hh,
    p_cursor,
    p_lengths,
    p_layers,
    p_ring_h,
    p_ring_c,
    p_between,
    p_h,
    p_gates,
    p_c,
    p_dy,
    p_dgates,
    T,
    B,
    phases,
    CELL: tl.constexpr,
    LAYERS: tl.constexpr,
    H: tl.constexpr,
    COLUMNS: tl.constexpr,
    PIECE: tl.constexpr,
):
    """The gradients of the gates' sums and, in place, of the rings: skewed the other way, from the top layer down.

    Args:
        p_w_ih, p_w_hh: as in :func:`forward`, each gate's matrix transposed.
        p_ring_h, p_ring_c: the gradients of the rings after the chunk, which become those of the rings before it.
        p_between: ``(B, P, kept + 1, LAYERS, pieces * PIECE)`` float32 zeros: the layers' kept gradients and, of the
            layer above, those of its inputs.
        p_h, p_gates, p_c: as :func:`forward` saved them.
        p_dy: ``(T, B, H)``, the gradients of the top layer's outputs.
        p_dgates: ``(LAYERS, T, B, kept H)``, in the order of ``cells.gradient``.
        phases: P, which divides all dilations.
    """
    G: tl.constexpr = cells.gates(CELL)
    KEPT: tl.constexpr = 4 if CELL == "gru" else G
    N: tl.constexpr = pieces(H, PIECE)
    WIDTH: tl.constexpr = N * PIECE
    FROM_ABOVE: tl.constexpr = KEPT * LAYERS * WIDTH
    stream = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    used = column < LAYERS * H
    layer = tl.minimum(column // H, LAYERS - 1)
    unit = column % H
    top = layer == LAYERS - 1
    length = T
    if p_lengths is not None:
        length = tl.load(p_lengths + stream).to(tl.int32)
    w_ih = load_weights(p_w_ih, (layer - 1) * (G * H) + unit, used & (layer > 0), H, CELL, False, PIECE)
    w_hh = load_weights(p_w_hh, layer * (G * H) + unit, used, H, CELL, True, PIECE)

    phase = tl.program_id(1)
    by_step = B.to(tl.int64) * H
    by_turn = by_step * phases
    turns = (T + phases - 1) // phases + LAYERS - 1
    own = stream * H + unit
    t = phase + (turns - 1 - layer) * phases
    dilation = tl.load(p_layers + layer)
    ring = tl.load(p_layers + LAYERS + layer) + own
    ring_of_c = tl.load(p_layers + 2 * LAYERS + layer) + own - ring
    to_past = dilation * by_step
    # Where the layer's step begins among all layers' steps, H numbers for each stream.
    steps_below = layer.to(tl.int64) * T
    at_step = (steps_below + t) * by_step + stream * H
    to_h = (tl.load(p_layers + 3 * LAYERS + layer) - steps_below) * by_step + unit
    to_dy = unit - steps_below * by_step
    slot = ((tl.load(p_cursor + stream) + t) % dilation + dilation) % dilation
    at_ring = ring + slot * by_step
    slot = slot.to(tl.int32)
    last_ring = ring + (slot % phases) * by_step + to_past
    one = dilation == phases
    vector = layer * WIDTH
    at_own = vector + unit

    p_between += (stream * phases + phase) * (FROM_ABOVE + LAYERS * WIDTH)
    real = used & (t >= 0) & (t < length)
    saved, old, c = load_saved(p_h, p_gates, p_c, at_step + to_h, to_past, 4 * at_step + unit, real, H, CELL)
    dy = tl.load(p_dy + at_step + to_dy, mask=real & top, other=0.0)
    dh = tl.load(p_ring_h + at_ring, mask=real | (used & one), other=0.0)
    dc = dh
    if CELL == "lstm":
        dc = tl.load(p_ring_c + at_ring + ring_of_c, mask=real | (used & one), other=0.0)

    for _ in range(turns):
        sent = tl.load(p_between + FROM_ABOVE + WIDTH + at_own, mask=used & (layer < LAYERS - 1), other=dy)
        d_sums, direct, dc_old = cells.gradient(saved, old, c, dh + sent, dc, CELL)
        for gate in tl.static_range(KEPT):
            d_sum = tl.where(real, d_sums[gate], 0.0)
            tl.store(p_between + gate * (LAYERS * WIDTH) + at_own, d_sum, mask=used)
            tl.store(p_dgates + KEPT * at_step + unit + gate * H, d_sum.to(p_dgates.dtype.element_ty), mask=real)
        tl.debug_barrier()  # the products read what all threads wrote
        # What the next iteration needs is on its way while this one is computed.
        was_real = real
        was_ring = at_ring
        t -= phases
        at_step -= by_turn
        at_ring = tl.where(slot < phases, last_ring, at_ring) - by_turn
        slot = tl.where(slot < phases, slot + dilation.to(tl.int32), slot) - phases
        real = used & (t >= 0) & (t < length)
        saved, old, c = load_saved(p_h, p_gates, p_c, at_step + to_h, to_past, 4 * at_step + unit, real, H, CELL)
        dy = tl.load(p_dy + at_step + to_dy, mask=real & top, other=0.0)
        next_dh = tl.load(p_ring_h + at_ring, mask=real & (dilation > phases), other=0.0)
        next_dc = next_dh
        if CELL == "lstm":
            next_dc = tl.load(p_ring_c + at_ring + ring_of_c, mask=real & (dilation > phases), other=0.0)

        totals = ()
        for piece in tl.static_range(N):
            at = vector[:, None] + (piece * PIECE + tl.arange(0, PIECE))[None, :]
            totals = add_gradients(totals, p_between + at, LAYERS * WIDTH, w_ih, w_hh, piece, N, KEPT, CELL)
        products = add_up(totals)
        dh_old = direct + products[0]
        tl.store(p_between + FROM_ABOVE + at_own, products[1], mask=used)
        tl.store(p_ring_h + was_ring, dh_old, mask=was_real)
        dh = tl.where(one, tl.where(was_real, dh_old, dh), next_dh)
        if CELL == "lstm":
            tl.store(p_ring_c + was_ring + ring_of_c, dc_old, mask=was_real)
            dc = tl.where(one, tl.where(was_real, dc_old, dc), next_dc)
        tl.debug_barrier()  # the layer below reads what this one sent, and the next gradients overwrite the last ones


@triton.jit
def add_gradients(
    totals, p, by_gate, w_ih, w_hh, piece: tl.constexpr, N: tl.constexpr, KEPT: tl.constexpr, CELL: tl.constexpr
):
    """Add a piece's products to the gradients of the states and of the inputs; the first G kept gradients belong to the
    state's weights, the last G to the input's."""
    G: tl.constexpr = cells.gates(CELL)
    dh = None if piece == 0 else totals[0]
    dx = None if piece == 0 else totals[1]
    for gate in tl.static_range(KEPT):
        d_sum = tl.load(p + gate * by_gate)
        if gate < G:
            term = d_sum * w_hh[gate * N + piece]
            dh = term if dh is None else dh + term
        if gate >= KEPT - G:
            term = d_sum * w_ih[(gate - (KEPT - G)) * N + piece]
            dx = term if dx is None else dx + term
    return dh, dx


@triton.jit(do_not_specialize=["rows"])
def linear(p_x, p_w, p_b, p_y, rows, I, N, ROWS: tl.constexpr, UNITS: tl.constexpr):  # noqa: E741
    """``y = x @ w.T + b`` in float32, of x ``(rows, I)`` and w ``(N, I)``; a row's bits do not depend on the others."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    unit = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    total = tl.zeros([ROWS, UNITS], tl.float32)
    for k in range(I):
        x = tl.load(p_x + row * I + k, mask=row < rows, other=0.0)
        w = tl.load(p_w + unit * I + k, mask=unit < N, other=0.0).to(tl.float32)
        total += x[:, None] * w[None, :]
    if p_b is not None:
        total += tl.load(p_b + unit, mask=unit < N, other=0.0)[None, :]
    tl.store(p_y + (row * N)[:, None] + unit[None, :], total, mask=(row < rows)[:, None] & (unit < N)[None, :])
