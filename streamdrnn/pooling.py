"""Running summaries of a sequence: after every step what is known so far, and what to carry on from.

A stream that made fewer steps than the chunk is long keeps its summary for the rest of the chunk.
"""

from typing import Tuple

import torch
from torch import Tensor


def running_mean(y: Tensor, total: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
    """The mean of all outputs of a stream so far.

    Args:
        y: ``(T, B, H)``, zero where a stream made no step.
        total: ``(1, B, H)`` float64, the sum of the earlier outputs: a sum in float32 would stop growing in a
            long stream.
        before, after: ``(B,)`` int64, the steps made before and after this chunk.

    Returns:
        the means ``(T, B, H)`` (zero before the first step) and the new total.
    """
    # One addition per step, in their order, so that a chunk and its single steps add up to the same bits.
    totals = torch.cumsum(torch.cat([total, y.to(total.dtype)]), 0)
    steps = before + 1 + torch.arange(y.shape[0], device=y.device)[:, None]
    count = torch.minimum(steps, after).clamp(min=1)[:, :, None]
    return (totals[1:] / count).to(y.dtype), totals[-1:].clone()  # a view would keep all totals in memory


def running_last(y: Tensor, last: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
    """The latest output of a stream.

    Args:
        y: ``(T, B, H)``.
        last: ``(1, B, H)`` float64, the latest output before this chunk.
        before, after: ``(B,)`` int64, the steps made before and after this chunk.

    Returns:
        the latest outputs ``(T, B, H)``, and the last of them.
    """
    if y.shape[0] == 1:  # what live streams do most
        last = torch.where((after > before)[:, None], y.to(last.dtype), last)
        return last.to(y.dtype), last
    outputs = torch.cat([last, y.to(last.dtype)])
    steps = 1 + torch.arange(y.shape[0], device=y.device)[:, None]
    streams = torch.arange(y.shape[1], device=y.device)
    made = after - before
    return outputs[torch.minimum(steps, made), streams].to(y.dtype), outputs[made, streams][None]
