"""A whole stack and its gradient: per layer the input's product, the recurrence, and the weights' gradients.

Everything runs without autograd, so that a layer costs the host little: for a small network that, and not the GPU,
is what training would wait for.
"""

from collections.abc import Callable, Sequence
from typing import Optional, Union

import torch
from torch import Tensor
from torch.nn.functional import linear

from streamdrnn.kernels.backend import zero_rings
from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.gpu import scan, skewed_scan
from streamdrnn.kernels.gpu.plans import Group, choose, splits
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

    def run(split: Sequence[Group]) -> list[Tensor]:
        y = plain(x)
        histories: list[scan.History] = []
        after_h: list[Tensor] = []
        after_c: list[Tensor] = []
        for group in split:
            own = slice(group.first, group.last)
            h_rings, c_rings = ([plain(ring) for ring in kind[own]] for kind in (rings[:L], rings[L:]))
            scanned = skewed_scan.forward if group.columns else _layer
            made, h, c = scanned(cell, group, y, layers[own], h_rings, c_rings, cursor, lengths, save)
            y = made[-1].h[dilations[group.last - 1] :]
            after_h += h
            after_c += c
            histories = [*histories, *made] if save else made
        *below, top = (history.h for history in histories)
        kept = [*below, *(history.c for history in histories), *(history.gates for history in histories)]
        return [top, clocks, *after_h, *after_c, *(kept if save else ())]

    return run(_split("forward", cell, x, layers, dilations, run, save))


def _split(
    direction: str,
    cell: str,
    x: Tensor,
    layers: Sequence[Union[Weights, LayerWeights]],
    dilations: Sequence[int],
    run: Callable[[Sequence[Group]], object],
    *more: object,
) -> Sequence[Group]:
    """The groups of a chunk: where there is a choice, the fastest for chunks of about as many steps and streams."""
    (T, B), sizes = x.shape[:2], tuple(w.w_hh.shape[1] for w in layers)
    ways = splits(cell, sizes, dilations, T, B)
    # Sizes that are about the same may have other ways: each set of them keeps its own choice.
    about = T.bit_length(), B.bit_length(), *map(tuple, ways)
    return choose((direction, x.device, cell, sizes, tuple(dilations), *about, *more), ways, run)


def _layer(
    cell: str,
    group: Group,
    x: Tensor,
    layers: Sequence[LayerWeights],
    h_rings: Sequence[Tensor],
    c_rings: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    save: bool,
) -> tuple[list[scan.History], list[Tensor], list[Tensor]]:
    """As ``skewed_scan.forward``, for one layer by its phases."""
    (w,), (h_ring,) = layers, h_rings
    c_ring = c_rings[0] if c_rings else x.new_empty(0)
    operands = w.w_ih.dtype
    gi = linear(x.to(operands), w.w_ih, None if w.bias is None else w.bias.to(operands))
    history, h, c = scan.forward(cell, gi, plain(w.w_hh), w.b_n, h_ring, c_ring, cursor, lengths, save)
    return [history], [h], [c] if c_rings else []


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

    def run(split: Sequence[Group]) -> list[Tensor]:
        d_weights: list[Tensor] = []
        dh_before: list[Tensor] = []
        dc_before: list[Tensor] = []
        d_outputs = plain(dy)
        for group in reversed(split):
            own = slice(group.first, group.last)
            d_rings_h, d_rings_c = ([plain(grad) for grad in kind[own]] for kind in (d_rings[:L], d_rings[L:]))
            scanned = skewed_scan.backward if group.columns else _layer_backward
            dgates, dh, dc = scanned(
                cell, group, layers[own], histories[own], c_after[own], cursor, lengths, d_outputs, d_rings_h, d_rings_c
            )
            for number in reversed(range(group.first, group.last)):
                w, h = layers[number], histories[number].h
                below = histories[number - 1].h[dilations[number - 1] :] if number else x
                operands = w.w_hh.dtype
                grads = dgates[number - group.first]
                d_weights[:0] = _weight_gradients(cell, w, grads, below.to(operands), h[: x.shape[0]].to(operands))
            if group.first or of_x:
                dgi = grads[..., h.shape[2] :] if cell == "gru" else grads
                d_outputs = (dgi @ w.w_ih).to(dy.dtype)
            dh_before[:0] = dh
            dc_before[:0] = dc
        return [d_outputs if of_x else dy.new_empty(0), *d_weights, *dh_before, *dc_before]

    return run(_split("backward", cell, x, layers, dilations, run))


def _layer_backward(
    cell: str,
    group: Group,
    layers: Sequence[Weights],
    histories: Sequence[scan.History],
    c_after: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    dy: Tensor,
    dh_after: Sequence[Tensor],
    dc_after: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """As ``skewed_scan.backward``, for one layer by its phases."""
    none = dy.new_empty(0)
    c, dc = (c_after[0], dc_after[0]) if dc_after else (none, none)
    dgates, dh, dc = scan.backward(cell, plain(layers[0].w_hh), histories[0], c, cursor, lengths, dy, dh_after[0], dc)
    return [dgates], [dh], [dc] if dc_after else []


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
