"""The recurrence with a backward pass of its own.

Autograd would keep every gate of every step and make one weight gradient per step. Here the forward keeps the
states only. The backward gets all gates back from them in one product, folds each cell's derivatives into
factors that no longer depend on the incoming gradient, and is then left with a linear recurrence of
one multiplication and one matrix product a step; the weight gradients are one product each after it.
"""

from functools import partial
from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn.functional import linear

from streamdrnn.kernels.autocast import autocasts, without_autocast
from streamdrnn.kernels.pytorch.scan import scan
from streamdrnn.kernels.twice import by_torch, differentiable_gradients


class DilatedScan(torch.autograd.Function):
    """``(x, weights, past) -> past and new states``, ``(d + T, B, H)`` for h and (LSTM) c.

    Second derivatives (a gradient penalty, ``torch.func``) are those of the scan's own operations, computed again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        cell: str,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Optional[Tensor],
        b_hh: Optional[Tensor],
        h0: Tensor,
        c0: Optional[Tensor],
    ) -> tuple[Tensor, Optional[Tensor]]:
        return _compute(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Optional[Tensor]]) -> None:
        ctx.cell, *tensors = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Optional[Tensor]) -> tuple[Optional[Tensor], ...]:
        *inputs, h, c = ctx.saved_tensors
        if autocasts(h):  # the forward pass was not under it either
            with without_autocast(h):
                return DilatedScan.backward(ctx, *grads)
        if by_torch(grads):
            results = partial(_compute, ctx.cell)
            return None, *differentiable_gradients(results, inputs, ctx.needs_input_grad[1:], grads)
        x, w_ih, w_hh, b_ih, b_hh, _, _ = inputs
        T, d, H = x.shape[0], h.shape[0] - x.shape[0], h.shape[2]
        gi, gh = linear(x, w_ih, b_ih), linear(h[:T], w_hh, b_hh)
        # The gradients of all states; the loops below complete them in place, from the last to the first.
        dh = _copy_or_zeros(grads[0], h)
        dc = None
        if ctx.cell == "rnn":
            dgi = dgh = _backward_rnn(h, w_hh, dh, d)
        elif ctx.cell == "gru":
            dgi, dgh = _backward_gru(gi, gh, h, w_hh, dh, d)
        else:
            dc = _copy_or_zeros(grads[1], c)
            dgi = dgh = _backward_lstm(gi + gh, c, w_hh, dh, dc, d)
        dgi, dgh = dgi.flatten(0, 1), dgh.flatten(0, 1)
        _, need_x, need_w_ih, need_w_hh, need_b_ih, need_b_hh, _, _ = ctx.needs_input_grad
        return (
            None,
            (dgi @ w_ih).view_as(x) if need_x else None,
            dgi.T @ x.flatten(0, 1) if need_w_ih else None,
            dgh.T @ h[:T].reshape(-1, H) if need_w_hh else None,
            dgi.sum(0) if need_b_ih else None,
            dgh.sum(0) if need_b_hh else None,
            dh[:d],
            None if dc is None else dc[:d],
        )


def _compute(
    cell: str,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Optional[Tensor],
    b_hh: Optional[Tensor],
    h0: Tensor,
    c0: Optional[Tensor],
) -> tuple[Tensor, Optional[Tensor]]:
    return scan(cell, linear(x, w_ih, b_ih), w_hh, b_hh, h0, c0)


def _copy_or_zeros(grad: Optional[Tensor], like: Tensor) -> Tensor:
    if grad is None:
        return torch.zeros_like(like)
    return grad.clone(memory_format=torch.contiguous_format)


def _blocks_from_the_last(T: int, d: int) -> list[slice]:
    """The runs of steps that :func:`scan` computed together."""
    return [slice(s, min(s + d, T)) for s in range(0, T, d)][::-1]


def _after(steps: slice, d: int) -> slice:
    """Where the states that these steps wrote are, in a history that begins with d past states."""
    return slice(steps.start + d, steps.stop + d)


def _backward_rnn(h: Tensor, w_hh: Tensor, dh: Tensor, d: int) -> Tensor:
    """``h' = tanh(a)``: the gradient of a, ``(T, B, H)``."""
    T = h.shape[0] - d
    da_dh = 1 - h[d:].square()
    da = torch.empty_like(da_dh)
    for steps in _blocks_from_the_last(T, d):
        torch.mul(da_dh[steps], dh[_after(steps, d)], out=da[steps])
        dh[steps].flatten(0, 1).addmm_(da[steps].flatten(0, 1), w_hh)
    return da


def _backward_gru(gi: Tensor, gh: Tensor, h: Tensor, w_hh: Tensor, dh: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """``h' = n + z (h - n)``, ``n = tanh(i_n + r h_n)``: the gradients of gi and gh, ``(T, B, 3 H)``."""
    T, H = gi.shape[0], h.shape[2]
    r, z = torch.sigmoid(gi[..., : 2 * H] + gh[..., : 2 * H]).chunk(2, -1)
    h_n = gh[..., 2 * H :]
    n = torch.tanh(gi[..., 2 * H :] + r * h_n)
    di_n = (1 - z) * (1 - n.square())
    factors = torch.cat([di_n * h_n * r * (1 - r), (h[:T] - n) * z * (1 - z), di_n * r], -1)
    factors = factors.view(T, h.shape[1], 3, H)
    dgh = torch.empty_like(factors)
    for steps in _blocks_from_the_last(T, d):
        dh_new = dh[_after(steps, d)]
        torch.mul(factors[steps], dh_new.unsqueeze(2), out=dgh[steps])
        dh[steps].addcmul_(dh_new, z[steps])
        dh[steps].flatten(0, 1).addmm_(dgh[steps].flatten(2).flatten(0, 1), w_hh)
    dgh = dgh.flatten(2)
    # Only the new gate n sees the two products apart.
    return torch.cat([dgh[..., : 2 * H], di_n * dh[d:]], -1), dgh


def _backward_lstm(gates: Tensor, c: Tensor, w_hh: Tensor, dh: Tensor, dc: Tensor, d: int) -> Tensor:
    """``c' = f c + i g``, ``h' = o tanh(c')``: the gradient of the gates, ``(T, B, 4 H)``."""
    T, H = gates.shape[0], c.shape[2]
    i, f, g, o = gates.chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    tanh_c = torch.tanh(c[d:])
    dc_dh = o * (1 - tanh_c.square())
    do_dh = tanh_c * o * (1 - o)
    difg_dc = torch.stack([g * i * (1 - i), c[:T] * f * (1 - f), i * (1 - g.square())], 2)
    dgates = torch.empty_like(gates).view(T, c.shape[1], 4, H)
    for steps in _blocks_from_the_last(T, d):
        dh_new, dc_new = dh[_after(steps, d)], dc[_after(steps, d)]
        dc_new.addcmul_(dh_new, dc_dh[steps])
        torch.mul(difg_dc[steps], dc_new.unsqueeze(2), out=dgates[steps, :, :3])
        torch.mul(do_dh[steps], dh_new, out=dgates[steps, :, 3])
        dc[steps].addcmul_(dc_new, f[steps])
        dh[steps].flatten(0, 1).addmm_(dgates[steps].flatten(2).flatten(0, 1), w_hh)
    return dgates.flatten(2)
