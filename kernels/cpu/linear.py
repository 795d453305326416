"""A linear map whose every row is computed by itself, always in the same order; two operators of torch."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn import functional

from streamdrnn.kernels.cpu.library import check, load
from streamdrnn.kernels.cpu.packed import address_of, checked
from streamdrnn.kernels.operators import define, differentiate, no_gradient, plain, watched
from streamdrnn.kernels.twice import by_torch, differentiable_gradients, differentiated


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """``torch.nn.functional.linear`` for float32 on the CPU: a row's result does not depend on the other rows.

    Args:
        x: ``(..., K)``.
        weight: ``(M, K)``.
        bias: ``(M,)`` or None.

    Returns:
        ``(..., M)``.
    """
    given = (x, weight, bias)
    y: Tensor = _Linear.apply(*given) if differentiated(given) else _compute(*given)
    return y


def _compute(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    y: Tensor = (_linear_operator if watched([x, weight, bias]) else _rows)(x, weight, bias)
    return y


class _Linear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        return _compute(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Optional[Tensor], ...]:
        x, weight, bias = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if by_torch([dy]):
            return tuple(
                differentiable_gradients(lambda *given: [functional.linear(*given)], [x, weight, bias], needed, [dy])
            )
        grads = (_backward_operator if watched([x, weight, dy]) else _backward)(x, weight, dy, *needed)
        return tuple(grad if need else None for grad, need in zip(grads, needed, strict=True))


def _rows(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    M, K = weight.shape
    x = checked("x", x, (*x.shape[:-1], K))
    weight = checked("weight", weight, (M, K))
    bias = None if bias is None else checked("bias", bias, (M,))
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


def _rows_fake(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _backward(x: Tensor, weight: Tensor, dy: Tensor, of_x: bool, of_weight: bool, of_bias: bool) -> list[Tensor]:
    """The gradients of x, weight and bias; those that are not asked for are empty."""
    M, K = weight.shape
    x, weight, dy = plain(x), plain(weight), plain(dy)
    grads = _backward_fake(x, weight, dy, of_x, of_weight, of_bias)
    wanted = [grad if need else None for grad, need in zip(grads, (of_x, of_weight, of_bias), strict=True)]
    code = load().streamdrnn_linear_backward(
        x.numel() // K,
        K,
        M,
        x.data_ptr(),
        weight.data_ptr(),
        dy.data_ptr(),
        *map(address_of, wanted),
        torch.get_num_threads(),
    )
    check(code)
    return grads


def _backward_fake(x: Tensor, weight: Tensor, dy: Tensor, of_x: bool, of_weight: bool, of_bias: bool) -> list[Tensor]:
    shapes = [(of_x, x.shape), (of_weight, weight.shape), (of_bias, weight.shape[:1])]
    return [x.new_empty(shape if need else 0) for need, shape in shapes]


def _flops(x: Any, weight: Any) -> int:
    rows = 1
    for size in x[:-1]:
        rows *= size
    return 2 * rows * int(weight[0]) * int(weight[1])


_linear_operator = define(
    "linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    ["cpu"],
    _rows,
    _rows_fake,
    lambda x, weight, bias, **_: _flops(x, weight),
)
_backward_operator = define(
    "linear_backward(Tensor x, Tensor weight, Tensor dy, bool of_x, bool of_weight, bool of_bias) -> Tensor[]",
    ["cpu"],
    _backward,
    _backward_fake,
    lambda x, weight, dy, of_x, of_weight, of_bias, **_: (of_x + of_weight) * _flops(x, weight),
)
differentiate("linear", _Linear.apply)
differentiate("linear_backward", no_gradient)
