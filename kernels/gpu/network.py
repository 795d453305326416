"""A whole stack and its gradient: per layer the input's product, the recurrence, and the weights' gradients.

Everything runs without autograd, so that a layer costs the host little: for a small network that, and not the GPU,
is what training would wait for.
"""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import linear

from streamdrnn.kernels.backend import zero_rings
from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.gpu import scan
from streamdrnn.kernels.gpu.weights import LayerWeights, prepare
from streamdrnn.kernels.operators import plain
from streamdrnn.kernels.stack import by_layer
from streamdrnn.kernels.weights import Weights


def forward(
    cell: str,
    dilations: Sequence[int],
    x: Tensor,
    weights: Sequence[Tensor],
    rings: Sequence[Tensor],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor],
    save: bool,
    layers: Optional[Sequence[LayerWeights]] = None,
) -> list[Tensor]:
    """See :class:`streamdrnn.kernels.stack.StackKernels`.

    Args:
        layers: the weights once more, prepared.

    Returns:
        the top layer's history ``(d + T, B, H)``, the clocks and the rings after the chunk; with ``save`` then the
        other layers' histories, all layers' histories of c, and their gates.
    """
    L = len(dilations)
    layers = layers or prepare(cell, by_layer(weights, dilations))
    if cursor is None:
        cursor = x.new_zeros(x.shape[1], dtype=torch.int64)
        rings = zero_rings(x, by_layer(weights, dilations), dilations) * (2 if CELLS[cell].has_c else 1)
    cursor, lengths = plain(cursor), None if lengths is None else plain(lengths)
    clocks = cursor + (x.shape[0] if lengths is None else lengths)
    y = plain(x)
    histories: list[scan.History] = []
    after_h: list[Tensor] = []
    after_c: list[Tensor] = []
    for number, w in enumerate(layers):
        operands = w.w_ih.dtype
        gi = linear(y.to(operands), w.w_ih, None if w.bias is None else w.bias.to(operands))
        h_ring, *c_ring = (plain(ring) for ring in rings[number::L])
        history, h, c = scan.forward(
            cell, gi, plain(w.w_hh), w.b_n, h_ring, c_ring[0] if c_ring else y.new_empty(0), cursor, lengths, save
        )
        y = history.h[h_ring.shape[0] :]
        after_h.append(h)
        after_c += [c] if c_ring else []
        histories = [*histories, history] if save else [history]
    *below, top = (history.h for history in histories)
    saved = [*below, *(history.c for history in histories), *(history.gates for history in histories)] if save else []
    return [top, clocks, *after_h, *after_c, *saved]


def backward(
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
    _: object = None,
) -> list[Tensor]:
    """See :class:`streamdrnn.kernels.stack.StackKernels`; ``kept`` is the results of :func:`forward` but for the clocks
    and the rings of h, and what was prepared is of no use here."""
    L = len(dilations)
    layers = by_layer(weights, dilations)
    if cursor is None:
        cursor = x.new_zeros(x.shape[1], dtype=torch.int64)
    cursor, lengths = plain(cursor), None if lengths is None else plain(lengths)
    top, *others = kept
    c_after, saved = others[: len(d_rings) - L], others[len(d_rings) - L :]
    histories = [
        scan.History(*parts)
        for parts in zip([*saved[: L - 1], top], saved[L - 1 : 2 * L - 1], saved[2 * L - 1 :], strict=True)
    ]
    d_weights: list[Tensor] = []
    dh_before: list[Tensor] = []
    dc_before: list[Tensor] = []
    dy = plain(dy)
    for number in reversed(range(L)):
        w, history = layers[number], histories[number]
        operands = w.w_hh.dtype
        dh, *dc = (plain(grad) for grad in d_rings[number::L])
        c = c_after[number] if dc else dy.new_empty(0)
        dgates, dh, dc_ring = scan.backward(
            cell, plain(w.w_hh), history, c, cursor, lengths, dy, dh, dc[0] if dc else dy.new_empty(0)
        )
        below = histories[number - 1].h[dilations[number - 1] :] if number else x
        d_weights[:0] = _weight_gradients(cell, w, dgates, below.to(operands), history.h[: x.shape[0]].to(operands))
        if number or of_x:
            dgi = dgates[..., history.h.shape[2] :] if cell == "gru" else dgates
            dy = (dgi @ w.w_ih).to(dy.dtype)
        dh_before.insert(0, dh)
        dc_before[:0] = [dc_ring] if dc else []
    return [dy if of_x else dy.new_empty(0), *d_weights, *dh_before, *dc_before]


def _weight_gradients(cell: str, weights: Weights, dgates: Tensor, x: Tensor, h_old: Tensor) -> list[Tensor]:
    """Sums over all steps of the gates' gradients times inputs ``(T, B, I)`` and old states ``(T, B, H)``."""
    H = h_old.shape[2]
    rows = dgates.flatten(0, 1)
    # A GRU's gates lie as h_n, r, z, i_n: the state's product and the input's each have three of them in a row.
    of_input, of_state = (rows[:, H:], rows[:, : 3 * H]) if cell == "gru" else (rows, rows)
    dw_ih, dw_hh = of_input.T @ x.flatten(0, 1), of_state.T @ h_old.flatten(0, 1)
    if cell == "gru":
        dw_hh = dw_hh.roll(-H, 0)
    found = [dw_ih.to(weights.w_ih.dtype), dw_hh.to(weights.w_hh.dtype)]
    if weights.b_ih is None:
        return found
    db = rows.sum(0, dtype=torch.float32)
    db_ih, db_hh = (db[H:], db[: 3 * H].roll(-H)) if cell == "gru" else (db, db)
    return [*found, db_ih.to(weights.b_ih.dtype, copy=True), db_hh.to(weights.b_ih.dtype, copy=True)]
