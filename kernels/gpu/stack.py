"""A stack of dilated layers over a chunk, on a GPU. Importing this file does not import Triton."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor

from streamdrnn.kernels.autocast import operand_dtype
from streamdrnn.kernels.gpu.weights import prepare
from streamdrnn.kernels.stack import StackKernels, StackOperators, ring_shapes
from streamdrnn.kernels.weights import Weights


def forward(cell: str, dilations: Sequence[int], x: Tensor, *more: Any) -> list[Tensor]:
    """As ``network.forward``."""
    from streamdrnn.kernels.gpu import network

    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        return network.forward(cell, dilations, x, *more)


def _in_operand_dtype(weights: Weights, x: Tensor) -> Weights:
    """Biases stay as they are: they are added in float32."""
    operands = operand_dtype(x, weights)
    return weights._replace(w_ih=weights.w_ih.to(operands), w_hh=weights.w_hh.to(operands))


def _backward(cell: str, dilations: Sequence[int], x: Tensor, *more: Any) -> list[Tensor]:
    from streamdrnn.kernels.gpu import network

    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        return network.backward(cell, dilations, x, *more)


def _shapes(
    cell: str,
    dilations: Sequence[int],
    x: Tensor,
    weights: Sequence[Tensor],
    rings: Sequence[Tensor],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor],
    save: bool,
) -> list[Tensor]:
    T, B, _ = x.shape
    L = len(dilations)
    shapes = ring_shapes(cell, weights, dilations, B)
    *below, top = [x.new_empty(d + T, B, H) for d, _, H in shapes[:L]]
    results = [top, x.new_empty(B, dtype=torch.int64), *(x.new_empty(shape) for shape in shapes)]
    if not save:
        return results
    cs = [torch.empty_like(h) if shapes[L:] else h.new_empty(0) for h in (*below, top)]
    gates = [weights[1].new_empty((T, B, 4 * h.shape[2]) if cell != "rnn" else 0) for h in (*below, top)]
    return [*results, *below, *cs, *gates]


stack = StackOperators(
    StackKernels(
        "triton_stack",
        ["cpu", "cuda"],  # the interpreter's tensors are on the CPU
        _in_operand_dtype,
        prepare,
        forward,
        _shapes,
        lambda results, L: [results[0], *results[2 + L :]],
        _backward,
    )
)
"""x and the rings are float32; the weights' dtype (float32, bfloat16 or float16) is that to which operands of products
are rounded, and the inputs' products and saved gates. Products are summed, and states carried, in float32."""
