"""The fusion: with a first dilation d0 above 1, steps of different phases never meet below the top.

A causal 1 x d0 convolution over the last d0 top outputs lets every output see all phases
(Chang et al. 2017, section 2.2 and figure 2).
"""

from typing import Any, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import functional

from streamdrnn.kernels.rings import in_time_order, last_of, steps_made
from streamdrnn.kernels.weights import FusionWeights


def fused(
    y: Tensor,
    ring: Tensor,
    before: Tensor,
    after: Tensor,
    lengths: Optional[Tensor],
    weights: FusionWeights,
    linear: Any,
) -> Tuple[Tensor, Tensor]:
    """The fusion over a chunk.

    Args:
        y: ``(T, B, H)``, the top layer's outputs.
        ring: ``(d0, B, H)``, the last outputs before them.
        before, after: ``(B,)`` int64, the clocks before and after the chunk.
        lengths: as for a stack.
        linear: what computes the products; None is ``torch.nn.functional.linear``, which TorchScript always takes.

    Returns:
        the outputs ``(T, B, H)``, zero where no step was made, and the ring after the chunk.
    """
    history = torch.cat([in_time_order(ring, before), y])
    outputs = _convolution(history[1:], weights, linear)
    if lengths is not None:
        outputs = torch.where(steps_made(y.shape[0], lengths), outputs, 0.0)
    return outputs, last_of(history, ring.shape[0], before, after - before)


def fused_last(
    y: Tensor, ring: Tensor, before: Tensor, after: Tensor, weights: FusionWeights, linear: Any
) -> Tuple[Tensor, Tensor]:
    """The fusion of each stream's last step alone.

    Args:
        y, ring, before, after: as of :func:`fused`.

    Returns:
        the output ``(B, H)``, and the ring after the chunk.
    """
    ring = last_of(torch.cat([in_time_order(ring, before), y]), ring.shape[0], before, after - before)
    return _convolution(in_time_order(ring, after), weights, linear)[0], ring


def fused_step(y: Tensor, ring: Tensor, cursor: Tensor, weights: FusionWeights, linear: Any) -> Tensor:
    """The output ``(B, H)`` of one step whose top output is y ``(B, H)``; the ring stays as it is."""
    history = torch.cat([in_time_order(ring, cursor), y[None]])
    return _convolution(history[1:], weights, linear)[0]


def _convolution(history: Tensor, weights: FusionWeights, linear: Any) -> Tensor:
    """From the d0 - 1 past and T new outputs ``(d0 - 1 + T, B, H)`` to ``(T, B, H)``."""
    own_weight, bias = weights
    weight = own_weight.to(history.dtype)
    if bias is not None:
        bias = bias.to(history.dtype)
    past = weight.shape[2] - 1
    T = history.shape[0] - past
    # One product per tap on a plain slice: the sum has the same order for one step and for a chunk.
    y = _product(history[past:], weight[:, :, past], bias, linear)
    for k in range(past):
        y = y + _product(history[k : k + T], weight[:, :, k], None, linear)
    return y


def _product(x: Tensor, weight: Tensor, bias: Optional[Tensor], linear: Any) -> Tensor:
    if torch.jit.is_scripting():
        return functional.linear(x, weight, bias)
    else:
        product: Tensor = (linear or functional.linear)(x, weight, bias)
        return product
