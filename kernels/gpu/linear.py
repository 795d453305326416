"""The linear map of networks whose layers run as skewed scans. Importing this file does not import Triton."""

from typing import Any, Optional

import torch
from torch import Tensor

from streamdrnn.kernels.twice import differentiated


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """``torch.nn.functional.linear`` of float32, with the same bits for a row whatever the other rows are."""
    given = (x, weight, bias)
    y: Tensor = _Linear.apply(*given) if differentiated(given) else _compute(*given)
    return y


def _compute(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    from streamdrnn.kernels.gpu import skewed_scan

    with torch.cuda.device_of(x):
        return skewed_scan.linear(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _compute(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Optional[Tensor], ...]:
        """Torch's own operations, so that it can be differentiated."""
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        rows = dy.flatten(0, -2)
        return (
            dy @ weight if of_x else None,
            rows.T @ x.flatten(0, -2) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )
