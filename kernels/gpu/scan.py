"""The recurrence of one layer and its gradient: memory is allocated, a plan chosen, kernels launched."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.kernels.gpu import newton, resident, tiled
from streamdrnn.kernels.gpu.plans import NEWTON, Plan, candidates, choose
from streamdrnn.kernels.gpu.weights import precision_of, rounded
from streamdrnn.kernels.rings import in_time_order, last_of, steps_made

TUNING_STEPS = 64  # of each row: enough to tell plans apart that take one step after the other


class History(NamedTuple):
    """The states of a layer over a chunk; row ``(t + d) B + b`` of the matrix of states is that of stream b at time t.

    Attributes:
        h: ``(d + T, B, H)`` float32, the past in order of time, then the new states, zero where no step was made.
        c: the same for an LSTM's cell states, if they were saved; else empty.
        gates: ``(T, B, 4 H)`` in the dtype of the products' operands: r, z, n, h_n or i, f, g, o, if they were saved.
    """

    h: Tensor
    c: Tensor
    gates: Tensor


def forward(
    cell: str,
    gi: Tensor,
    w_hh: Tensor,
    b_n: Optional[Tensor],
    h_ring: Tensor,
    c_ring: Tensor,
    cursor: Tensor,
    lengths: Optional[Tensor],
    save: bool,
) -> tuple[History, Tensor, Tensor]:
    """All steps of a chunk; T and B at least 1, everything contiguous.

    Args:
        gi: ``(T, B, G H)``, the input's share of the gates with all biases but ``b_n``, a GRU's for h_n ``(H,)``.
        w_hh: ``(G H, H)``, in the dtype of gi.
        h_ring, c_ring: ``(d, B, H)`` float32; c empty but for an LSTM.
        cursor, lengths: as in :func:`streamdrnn.kernels.dilated_layer`.
        save: whether the gradient will be asked for.

    Returns:
        the history and the rings after the chunk.
    """
    T, B, d, H = gi.shape[0], gi.shape[1], h_ring.shape[0], h_ring.shape[2]
    lstm = cell == "lstm"
    h = h_ring.new_empty(d + T, B, H) if lengths is None else h_ring.new_zeros(d + T, B, H)
    gates = gi.new_empty((T, B, 4 * H) if save and cell != "rnn" else 0)

    def run(plan: Plan, T: int) -> tuple[Tensor, Tensor, Tensor]:
        """The history of c and the rings after T steps, which are fewer while plans are timed."""
        in_order = plan.inputs or plan == NEWTON
        c = torch.empty_like(h) if lstm and (save or in_order) else h.new_empty(0)
        if in_order:
            h[:d] = in_time_order(h_ring, cursor)
            if lstm:
                c[:d] = in_time_order(c_ring, cursor)
            if plan == NEWTON:
                if not newton.forward(cell, gi[:T], w_hh, b_n, _made(T, lengths), h, c, gates, d):
                    return run(_by_steps(plans), T)
            else:
                w = rounded(w_hh)
                for grid, first, last in _launches(plan, T, B, d, H, 0):
                    tiled.forward[grid](
                        gi, w, b_n, lengths, h, gates, c, T, B, d, H, first, last,
                        CELL=cell, SAVE=save, **_tile(plan), **_options(plan, w_hh),
                    )  # fmt: skip
            made = torch.full_like(cursor, T) if lengths is None else lengths
            return c, last_of(h, d, cursor, made), last_of(c, d, cursor, made) if lstm else c_ring.clone()
        h_after, c_after = torch.empty_like(h_ring), torch.empty_like(c_ring)
        resident.forward[_grid(plan, B, d)](
            gi, w_hh, b_n, h_ring, c_ring, cursor, lengths, h, gates, c, h_after, c_after, T, B, d, H,
            CELL=cell, SAVE=save, DOT=plan.dot, **_tile(plan), **_options(plan, w_hh),
        )  # fmt: skip
        return c, h_after, c_after

    plans = _plans(cell, w_hh, h_ring, T)
    plan = _choose("forward", cell, w_hh, h_ring, T, plans, run, save)
    c, h_after, c_after = run(plan, T)
    return History(h, c if save else c.new_empty(0), gates), h_after, c_after


def backward(
    cell: str,
    w_hh: Tensor,
    history: History,
    c_after: Tensor,
    cursor: Tensor,
    lengths: Optional[Tensor],
    dy: Tensor,
    dh_after: Tensor,
    dc_after: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the gates' sums and of the rings.

    Args:
        history, c_after: of :func:`forward`, which saved.
        dy: ``(T, B, H)``, the gradient of the new states.
        dh_after, dc_after: ``(d, B, H)``, those of the rings after the chunk; c's empty but for an LSTM.

    Returns:
        dgates ``(T, B, G H)``, for a GRU ``(T, B, 4 H)`` as in ``resident.backward``, in the dtype of the weights; the
        gradients of the rings before the chunk, c's empty but for an LSTM.
    """
    h, c, gates = history
    (T, B, H), d = dy.shape, dh_after.shape[0]
    lstm = cell == "lstm"
    width = H if cell == "rnn" else 4 * H
    dgates = w_hh.new_empty(T, B, width) if lengths is None else w_hh.new_zeros(T, B, width)

    def run(plan: Plan, T: int) -> tuple[Tensor, Tensor]:
        if plan == NEWTON:
            ds = _state_gradients(T, d, cursor, lengths, dy, [dh_after, dc_after] if lstm else [dh_after])
            if not newton.backward(cell, w_hh, h[: d + T], c, gates, _made(T, lengths), ds, dgates[:T]):
                return run(_by_steps(plans), T)
            dh, *of_c = (in_time_order(grad, -cursor) for grad in ds[:d].unbind(2))
            return dh, of_c[0] if lstm else dc_after.clone()
        if plan.inputs:
            dh = in_time_order(dh_after, cursor)
            dc = in_time_order(dc_after, cursor) if lstm else dc_after.clone()
            w = rounded(w_hh)
            for grid, first, last in _launches(plan, T, B, d, H, -1)[::-1]:
                tiled.backward[grid](
                    w, lengths, h, gates, c, dy, dgates, dh, dc, T, B, d, H, first, last,
                    CELL=cell, **_tile(plan), **_options(plan, w_hh),
                )  # fmt: skip
            return in_time_order(dh, -cursor), in_time_order(dc, -cursor) if lstm else dc
        dh, dc = torch.empty_like(dh_after), torch.empty_like(dc_after)
        resident.backward[_grid(plan, B, d)](
            w_hh, cursor, lengths, h, gates, c, c_after, dy, dh_after, dc_after, dgates, dh, dc, T, B, d, H,
            CELL=cell, DOT=plan.dot, **_tile(plan), **_options(plan, w_hh),
        )  # fmt: skip
        return dh, dc

    plans = _plans(cell, w_hh, dh_after, T)
    plan = _choose("backward", cell, w_hh, dh_after, T, plans, run)
    return dgates, *run(plan, T)


def _state_gradients(
    T: int, d: int, cursor: Tensor, lengths: Optional[Tensor], dy: Tensor, after: Sequence[Tensor]
) -> Tensor:
    """Those of the past and of the new states, ``(d + T, B, K, H)``, from those of the outputs and of K rings after."""
    ds = dy.new_zeros(d + T, *dy.shape[1:2], len(after), dy.shape[2])
    real = _made(T, lengths)
    ds[d:, :, 0] = dy[:T] if real is None else torch.where(real, dy[:T], 0.0)
    made = torch.full_like(cursor, T) if lengths is None else lengths
    # A ring holds the last d states, the first of which may be from before the chunk.
    streams, last = torch.arange(len(made), device=made.device), made + torch.arange(d, device=made.device)[:, None]
    ds[last, streams] += torch.stack([in_time_order(grad, cursor + made) for grad in after], 2)
    return ds


def _made(T: int, lengths: Optional[Tensor]) -> Optional[Tensor]:
    return None if lengths is None else steps_made(T, lengths)


def _by_steps(plans: Sequence[Plan]) -> Plan:
    return next(plan for plan in plans if plan != NEWTON)


def _plans(cell: str, w: Tensor, ring: Tensor, T: int) -> list[Plan]:
    d, B, H = ring.shape
    rounds = w.dtype != torch.float32 or precision_of(w.dtype) == "tf32"
    return candidates(cell, H, rounds, B * min(d, T))


def _choose(
    direction: str,
    cell: str,
    w: Tensor,
    ring: Tensor,
    T: int,
    plans: list[Plan],
    run: Callable[[Plan, int], object],
    *more: object,
) -> Plan:
    d, B, H = ring.shape
    rows, steps = B * min(d, T), T if NEWTON in plans else min(T, TUNING_STEPS * d)
    key = (direction, w.device, cell, H, w.dtype, precision_of(w.dtype), rows.bit_length(), steps.bit_length(), *more)
    return choose(key, plans, lambda plan: run(plan, steps))


def _grid(plan: Plan, B: int, d: int) -> tuple[int, int]:
    return -(-B * d // plan.rows), 1


def _launches(plan: Plan, T: int, B: int, d: int, H: int, first: int) -> list[tuple[tuple[int, int], int, int]]:
    """The grid, first step and step after the last of each launch."""
    rows, last = _grid(plan, B, d)[0], -(-T // d)
    if plan.spread:
        return [((rows, -(-H // plan.units)), step, step + 1) for step in range(first, last)]
    return [((rows, 1), first, last)]


def _tile(plan: Plan) -> dict[str, int]:
    tile = {"ROWS": plan.rows, "UNITS": plan.units}
    return {**tile, "INPUTS": plan.inputs} if plan.inputs else tile


def _options(plan: Plan, w: Tensor) -> dict[str, Any]:
    compiled = {"num_warps": plan.warps, "num_stages": plan.stages, "maxnreg": plan.registers}
    return {"PRECISION": precision_of(w.dtype), **compiled}
