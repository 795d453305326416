"""A group of layers as one skewed scan: memory is allocated, the kernels of ``skewed.py`` are launched."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor
from torch.nn.functional import pad

from streamdrnn.kernels.gpu import skewed
from streamdrnn.kernels.gpu.plans import MOST_REGISTERS, Group
from streamdrnn.kernels.gpu.scan import History
from streamdrnn.kernels.gpu.weights import LayerWeights
from streamdrnn.kernels.operators import plain
from streamdrnn.kernels.weights import Weights

ROWS, UNITS = 16, 64
"""Of a program's tile of an input's product."""


class Packed(NamedTuple):
    """The weights of a group as the kernel takes them.

    Attributes:
        lowest: the lowest layer's, whose inputs' product comes first; None if that layer is fed as the others.
        w_ih, w_hh: of the layers that are fed and of all, a gate's row with zeros up to whole pieces; layers in front.
        bias, b_n: of all layers, layers in front.
    """

    lowest: Optional[LayerWeights]
    w_ih: Tensor
    w_hh: Tensor
    bias: Optional[Tensor]
    b_n: Optional[Tensor]


def pack(group: Group, layers: Sequence[LayerWeights]) -> Packed:
    biases = [w.bias for w in layers if w.bias is not None]
    of_h_n = [w.b_n for w in layers if w.b_n is not None]
    w_ih, w_hh = (_in_pieces(group, w) for w in _stacked(layers, group.fed))
    return Packed(
        None if group.fed else layers[0],
        w_ih,
        w_hh,
        torch.stack(biases) if biases else None,
        torch.stack(of_h_n) if of_h_n else None,
    )


def _stacked(layers: Sequence[Union[Weights, LayerWeights]], fed: bool) -> tuple[Tensor, Tensor]:
    """``w_ih`` of all layers, if the lowest is not fed but of that one, and ``w_hh`` of all; layers in front."""
    w_hh, w_ih = torch.stack([w.w_hh for w in layers]), [w.w_ih for w in layers[0 if fed else 1 :]]
    return torch.stack(w_ih) if w_ih else w_hh[:0], w_hh


def _in_pieces(group: Group, w: Tensor) -> Tensor:
    H = w.shape[-1]
    return pad(w, (0, _width(group, H) - H)).contiguous()


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """``torch.nn.functional.linear`` in float32, with the same bits for a row whatever the other rows are."""
    (N, I), rows = weight.shape, x.shape[:-1].numel()  # noqa: E741
    y = x.new_empty(*x.shape[:-1], N, dtype=torch.float32)
    skewed.linear[(-(-rows // ROWS), -(-N // UNITS))](
        plain(x),
        plain(weight),
        None if bias is None else plain(bias),
        y,
        rows,
        I,
        N,
        ROWS=ROWS,
        UNITS=UNITS,
        num_warps=4,
    )
    return y


def forward(
    cell: str,
    group: Group,
    x: Tensor,
    layers: Sequence[LayerWeights],
    h_rings: Sequence[Tensor],
    c_rings: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    save: bool,
) -> tuple[list[History], list[Tensor], list[Tensor]]:
    """All steps of a chunk in a group of layers.

    Args:
        x: ``(T, B, I)``; T and B at least 1.
        layers, h_rings, c_rings: of the group's layers only; rings ``(d, B, H)`` float32, none of c but for an LSTM.
        cursor, lengths, save: as in ``scan.forward``.

    Returns:
        the layers' histories, or without ``save`` the top layer's alone, whose past is not written; the rings after.
    """
    (T, B), (_, _, H) = x.shape[:2], h_rings[0].shape
    dilations = [ring.shape[0] for ring in h_rings]
    own = dilations if save else dilations[-1:]
    new = h_rings[0].new_empty if lengths is None else h_rings[0].new_zeros
    h_rows, none = new(sum(own) + T * len(own), B, H), x.new_empty(0)
    c_rows = torch.empty_like(h_rows) if c_rings and save else none
    saved = 4 * H if save and cell != "rnn" else 0
    operands = layers[0].w_hh.dtype
    gates = x.new_empty((len(own), T, B, saved) if saved else 0, dtype=operands)
    h_ring = torch.cat(list(h_rings))
    c_ring = torch.cat(list(c_rings)) if c_rings else none
    table = _table(T, B, H, dilations, save, x.device)
    launch(cell, group, x, pack(group, layers), table, h_ring, c_ring, cursor, lengths, h_rows, gates, c_rows, save)
    sizes = [d + T for d in own]
    c_parts = c_rows.split(sizes) if c_rows.numel() else [none] * len(own)
    gate_parts = gates.unbind() if saved else [none.to(operands)] * len(own)
    histories = [History(*parts) for parts in zip(h_rows.split(sizes), c_parts, gate_parts, strict=True)]
    return histories, list(h_ring.split(dilations)), list(c_ring.split(dilations)) if c_rings else []


def backward(
    cell: str,
    group: Group,
    layers: Sequence[Weights],
    histories: Sequence[History],
    _: object,
    cursor: Tensor,
    lengths: Optional[Tensor],
    dy: Tensor,
    dh_after: Sequence[Tensor],
    dc_after: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The gradients of the gates' sums and of the rings in a group of layers.

    Args:
        layers: the group's.
        histories: of :func:`forward`, which saved; or copies.
        dy: ``(T, B, H)``, the gradients of the top layer's new states.
        dh_after, dc_after: those of the rings after the chunk, none of c but for an LSTM.

    Returns:
        by layer, dgates as of ``scan.backward``, and the gradients of the rings before the chunk.
    """
    (T, B, H), L = dy.shape, len(layers)
    dilations = [ring.shape[0] for ring in dh_after]
    operands, none = layers[0].w_hh.dtype, dy.new_empty(0)
    kept = 1 if cell == "rnn" else 4
    dgates = (dy.new_empty if lengths is None else dy.new_zeros)(L, T, B, kept * H, dtype=operands)
    dh, dc = torch.cat(list(dh_after)), torch.cat(list(dc_after)) if dc_after else none
    h, c, gates = (_joined(parts) for parts in zip(*histories, strict=True))
    # Of each gate's matrix, what a unit sends to all gates lies together.
    w_ih, w_hh = (_in_pieces(group, w.view(-1, H, H).mT) for w in _stacked(layers, False))
    between = dy.new_zeros(B, group.phases, kept + 1, L, _width(group, H))
    skewed.backward[(B, group.phases)](
        w_ih, w_hh, cursor, lengths, _table(T, B, H, dilations, True, dy.device), dh, dc,
        between, h, gates, c, dy, dgates, T, B, group.phases, CELL=cell, **_tile(group, H), **_options(group),
    )  # fmt: skip
    return list(dgates.unbind()), list(dh.split(dilations)), list(dc.split(dilations)) if dc_after else []


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts one after the other: as they lie in memory, unless somebody has copied them."""
    first, end = parts[0], parts[0].data_ptr()
    for part in parts:
        if part.data_ptr() != end or part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
            return torch.cat([*parts])
        end += part.numel() * part.element_size()
    return first.as_strided((sum(part.shape[0] for part in parts), *first.shape[1:]), first.stride())


def _table(T: int, B: int, H: int, dilations: Sequence[int], save: bool, device: torch.device) -> Tensor:
    """The kernels' table of layers whose rings lie one after the other, as the histories that are saved do."""
    before = [0, *accumulate(dilations)][:-1]
    rings = [rows * B * H for rows in before]
    first = [rows + d + (T * n if save else -rows) for n, (rows, d) in enumerate(zip(before, dilations, strict=True))]
    return table_of(device, *dilations, *rings, *rings, *first)


@lru_cache(maxsize=64)
def table_of(device: torch.device, *numbers: int) -> Tensor:
    """These numbers on the device, for which a copy is made once."""
    return torch.tensor(numbers, dtype=torch.int64, device=device)


def launch(
    cell: str,
    group: Group,
    x: Tensor,
    weights: Packed,
    table: Tensor,
    h_ring: Tensor,
    c_ring: Tensor,
    cursor: Tensor,
    lengths: Optional[Tensor],
    h_rows: Tensor,
    gates: Tensor,
    c_rows: Tensor,
    save: bool,
) -> None:
    """The lowest layer's product with x ``(T, B, I)``, unless it is fed, and the scan, see ``skewed.forward``."""
    (T, B), L, H = x.shape[:2], weights.w_hh.shape[0], h_rows.shape[2]
    gi = plain(x) if weights.lowest is None else linear(x, weights.lowest.w_ih, weights.lowest.bias)
    between = h_rows.new_zeros(B, group.phases, 2, 2, L, _width(group, H))
    skewed.forward[(B, group.phases)](
        gi, weights.w_ih, weights.w_hh, weights.bias, weights.b_n, cursor, lengths, table, h_ring, c_ring, between,
        h_rows, gates, c_rows, T, B, group.phases,
        CELL=cell, SAVE=save, FED=group.fed, UNROLLED=group.unrolled, **_tile(group, H), **_options(group),
    )  # fmt: skip


def _width(group: Group, H: int) -> int:
    """A vector's length in memory, of whole pieces."""
    return -(-H // group.piece) * group.piece


def _tile(group: Group, H: int) -> dict[str, int]:
    return {"LAYERS": group.last - group.first, "H": H, "COLUMNS": group.columns, "PIECE": group.piece}


def _options(group: Group) -> dict[str, Any]:
    return {"num_warps": group.warps, "num_stages": 1, "maxnreg": MOST_REGISTERS}
