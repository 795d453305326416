"""A whole stack and its gradient: per layer the input's product, the recurrence, and the weights' gradients.

Everything runs without autograd, so that a layer costs the host little: for a small network that, and not the GPU,
is what training would wait for.
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from streamdrnn.kernels.gpu import scan
from streamdrnn.kernels.weights import Weights


class Result(NamedTuple):
    """What a stack computes.

    Attributes:
        histories: per layer; only the last one if nothing is saved.
        h, c: the rings after the chunk, per layer; c empty but for an LSTM.
    """

    histories: list[scan.History]
    h: list[Tensor]
    c: list[Tensor]


def forward(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    h_rings: Sequence[Tensor],
    c_rings: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    operands: torch.dtype,
    save: bool,
) -> Result:
    """Arguments as :func:`streamdrnn.kernels.gpu.stack`, with rings and a cursor always."""
    result = Result([], [], [])
    y = x.contiguous()
    cursor, lengths = cursor.contiguous(), None if lengths is None else lengths.contiguous()
    for layer, w in enumerate(weights):
        bias, b_n = biases(cell, w)
        gi = linear(y.to(operands), w.w_ih.to(operands), None if bias is None else bias.to(operands))
        h_ring = h_rings[layer].contiguous()
        c_ring = c_rings[layer].contiguous() if c_rings else h_ring.new_empty(0)
        w_hh = w.w_hh.to(operands).contiguous()
        history, h, c = scan.forward(cell, gi, w_hh, b_n, h_ring, c_ring, cursor, lengths, save)
        y = history.h[h_ring.shape[0] :]
        result.h.append(h)
        if c_rings:
            result.c.append(c)
        if not save:
            result.histories.clear()
        result.histories.append(history)
    return result


class Gradients(NamedTuple):
    """The gradients of a stack's arguments, in their order and dtypes."""

    x: Tensor  # empty if not asked for
    weights: list[Weights]
    h_rings: list[Tensor]
    c_rings: list[Tensor]


def backward(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    result: Result,
    cursor: Tensor,
    lengths: Optional[Tensor],
    operands: torch.dtype,
    dy: Tensor,
    dh: Sequence[Tensor],
    dc: Sequence[Tensor],
    of_x: bool,
) -> Gradients:
    """The gradient of :func:`forward`, which saved.

    Args:
        dy: ``(T, B, H)``, of the top layer's new states.
        dh, dc: of the rings after the chunk, per layer; c's empty but for an LSTM.
        of_x: whether the gradient of x is asked for.
    """
    cursor, lengths = cursor.contiguous(), None if lengths is None else lengths.contiguous()
    d_weights: list[Weights] = []
    dh_rings: list[Tensor] = []
    dc_rings: list[Tensor] = []
    dy = dy.contiguous()
    empty = dy.new_empty(0)
    for layer in reversed(range(len(weights))):
        w, history = weights[layer], result.histories[layer]
        w_hh = w.w_hh.to(operands).contiguous()
        c_after, dc_after = (result.c[layer], dc[layer].contiguous()) if dc else (empty, empty)
        dgates, dh_ring, dc_ring = scan.backward(
            cell, w_hh, history, c_after, cursor, lengths, dy, dh[layer].contiguous(), dc_after
        )
        if layer:
            below = result.histories[layer - 1].h
            below = below[below.shape[0] - x.shape[0] :]
        else:
            below = x
        d_weights.append(_weight_gradients(cell, w, dgates, below.to(operands), history.h[: x.shape[0]].to(operands)))
        if layer or of_x:
            dgi = dgates[..., history.h.shape[2] :] if cell == "gru" else dgates
            dy = (dgi @ w.w_ih.to(operands)).to(dy.dtype)
        dh_rings.append(dh_ring)
        if dc:
            dc_rings.append(dc_ring)
    return Gradients(dy if of_x else empty, d_weights[::-1], dh_rings[::-1], dc_rings[::-1])


def biases(cell: str, weights: Weights) -> tuple[Optional[Tensor], Optional[Tensor]]:
    """All biases that are simply added, in one; and in float32 that of a GRU's h_n, which the reset gate scales."""
    b_ih, b_hh = weights.b_ih, weights.b_hh
    if b_ih is None or b_hh is None:
        return None, None
    if cell != "gru":
        return b_ih + b_hh, None
    H = weights.w_hh.shape[1]
    return b_ih + pad(b_hh[: 2 * H], (0, H)), b_hh[2 * H :].float()


def _weight_gradients(cell: str, weights: Weights, dgates: Tensor, x: Tensor, h_old: Tensor) -> Weights:
    """Sums over all steps of the gates' gradients times inputs ``(T, B, I)`` and old states ``(T, B, H)``."""
    H = h_old.shape[2]
    rows = dgates.flatten(0, 1)
    # A GRU's gates lie as h_n, r, z, i_n: the state's product and the input's each have three of them in a row.
    of_input, of_state = (rows[:, H:], rows[:, : 3 * H]) if cell == "gru" else (rows, rows)
    dw_ih, dw_hh = of_input.T @ x.flatten(0, 1), of_state.T @ h_old.flatten(0, 1)
    db_ih = db_hh = None
    if weights.b_ih is not None:
        db = rows.sum(0, dtype=torch.float32)
        db_ih, db_hh = (db[H:], db[: 3 * H].roll(-H)) if cell == "gru" else (db, db)
        db_ih, db_hh = db_ih.to(weights.b_ih.dtype, copy=True), db_hh.to(weights.b_ih.dtype, copy=True)
    if cell == "gru":
        dw_hh = dw_hh.roll(-H, 0)
    return Weights(dw_ih.to(weights.w_ih.dtype), dw_hh.to(weights.w_hh.dtype), db_ih, db_hh)
