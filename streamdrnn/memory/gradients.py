"""How far back a trained network remembers, by its gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from streamdrnn.checks import check_tensor


def gradient_norms(model: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor, seed: int = 0) -> Tensor:
    """The norm of ``d y_T / d x_(T-n)`` against the lag n.

    One backward pass: over random signs v, the mean of ``|v d y_T / d x|^2`` is the squared Frobenius norm of the
    Jacobian (Hutchinson 1990). Each stream has signs of its own, so the batch is the sample. Where y has one feature
    the norm is exact.

    Args:
        model: maps ``(T, B, I)`` to ``((T, B, ...), state)``: a network or a head. For a head with a front-end
            give the network, and its features as x.
        x: ``(T, B, I)``, T >= 1.
        seed: of the signs.

    Returns:
        ``(T,)`` float64, the root of the mean square over the streams; entry n is that of lag n.

    Raises:
        ValueError, TypeError: x has another shape, no steps or no streams.
    """
    check_tensor("x", x, (None, None, None), "(T, B, I)")
    if not x.shape[0] or not x.shape[1]:
        raise ValueError(f"x: expected a step and a stream or more, got shape {tuple(x.shape)}")
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        last = model(x)[0][-1]
    coins = torch.randint(2, last.shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    (gradient,) = torch.autograd.grad(last, x, (2 * coins - 1).to(last))
    return gradient.double().square().sum(dim=2).mean(dim=1).sqrt().flip(0)
