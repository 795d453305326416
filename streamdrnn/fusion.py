"""The fusion: with a first dilation d0 above 1, steps of different phases never meet below the top.

A causal 1 x d0 convolution over the last d0 top outputs lets every output see all phases
(Chang et al. 2017, section 2.2 and figure 2). The weight is laid out as that of ``torch.nn.Conv1d``: its last entry
along the kernel meets the present, its first the output of d0 - 1 steps ago.
"""

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

from streamdrnn import kernels


def fused_outputs(history: Tensor, weight: Tensor, bias: Optional[Tensor], backend: str) -> Tensor:
    """The causal convolution.

    Args:
        history: ``(d0 - 1 + T, B, H)``, the past top outputs in order of time, then T new ones.
        weight: ``(H, H, d0)``.
        bias: ``(H,)`` or None.
        backend: what computes the products.

    Returns:
        ``(T, B, H)``.
    """
    past = weight.shape[2] - 1
    T = history.shape[0] - past
    # One product per tap on a plain slice: the sum has the same order for one step and for a chunk.
    y = _product(history[past:], weight[:, :, past], bias, backend)
    for k in range(past):
        y = y + _product(history[k : k + T], weight[:, :, k], None, backend)
    return y


def _product(x: Tensor, weight: Tensor, bias: Optional[Tensor], backend: str) -> Tensor:
    if torch.jit.is_scripting():
        return functional.linear(x, weight, bias)
    else:
        return kernels.linear(x, weight, bias, backend)
