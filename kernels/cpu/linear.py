"""A linear map whose every row is computed by itself, always in the same order."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from streamdrnn.kernels.cpu.library import check, load
from streamdrnn.kernels.cpu.packed import address_of, plain


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """``torch.nn.functional.linear`` for float32 on the CPU: a row's result does not depend on the other rows.

    Args:
        x: ``(..., K)``.
        weight: ``(M, K)``.
        bias: ``(M,)`` or None.

    Returns:
        ``(..., M)``.
    """
    if not torch.is_grad_enabled():  # half of a live stream's time here would be spent on being recorded
        return _rows(x, weight, bias)
    y: Tensor = _Linear.apply(x, weight, bias)
    return y


def _rows(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    M, K = weight.shape
    x, weight = plain(x), plain(weight)
    bias = None if bias is None else plain(bias)
    y = x.new_empty(*x.shape[:-1], M)
    code = load().streamdrnn_linear(
        x.numel() // K,
        K,
        M,
        x.data_ptr(),
        weight.data_ptr(),
        address_of(bias),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    check(code)
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.save_for_backward(plain(x), plain(weight))
        return _rows(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Optional[Tensor], ...]:
        x, weight = ctx.saved_tensors
        M, K = weight.shape
        dy = plain(dy)
        need_x, need_w, need_b = ctx.needs_input_grad
        dx = torch.empty_like(x) if need_x else None
        dw = torch.empty_like(weight) if need_w else None
        db = dy.new_empty(M) if need_b else None
        code = load().streamdrnn_linear_backward(
            x.numel() // K,
            K,
            M,
            x.data_ptr(),
            weight.data_ptr(),
            dy.data_ptr(),
            *map(address_of, (dx, dw, db)),
            torch.get_num_threads(),
        )
        check(code)
        return dx, dw, db
