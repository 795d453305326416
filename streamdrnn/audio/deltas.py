"""Differences of features over time, causally.

librosa's deltas are the slopes of a line (and the curvature of a parabola) fitted to nine frames around each frame,
so they look four frames ahead. Ours are fitted to the nine frames that end with it: at frame t they are
librosa's at t - 4. Before the first frame it is taken to have lasted for ever (librosa's ``mode="nearest"``).
"""

from typing import List, Tuple

import numpy as np
import torch
from torch import Tensor

WIDTH = 9
HISTORY = WIDTH - 1


def delta_weights(orders: int) -> np.ndarray:
    """The weights ``(orders, 9)`` of the nine frames in the first, second, ... difference (Savitzky and Golay 1964)."""
    if orders == 0:
        return np.zeros((0, WIDTH))
    from scipy.signal import savgol_coeffs

    return np.stack([savgol_coeffs(WIDTH, order, deriv=order, use="dot") for order in range(1, orders + 1)])


def with_deltas(
    features: Tensor, history: Tensor, before: Tensor, counts: Tensor, weights: Tensor
) -> Tuple[Tensor, Tensor]:
    """Features followed by their differences.

    Args:
        features: ``(F, B, M)``, F >= 1, zero beyond a stream's own frames.
        history: ``(8, B, M)``, the frames before them.
        before: ``(B,)`` int64, the frames that each stream had completed before.
        counts: ``(B,)`` int64, how many of these are each stream's own.
        weights: ``(orders, 9)`` from :func:`delta_weights`.

    Returns:
        ``(F, B, M (1 + orders))`` and the new history.
    """
    F, B, M = features.shape
    starting = ((before == 0) & (counts > 0))[:, None]
    joined = torch.cat([torch.where(starting, features[0], history), features])
    blocks: List[Tensor] = [features]
    for order in range(weights.shape[0]):
        slope = torch.zeros_like(features)
        for k in range(weights.shape[1]):
            slope = slope + weights[order, k] * joined[k : k + F]
        blocks.append(slope)
    entries = (torch.arange(history.shape[0], device=counts.device)[:, None] + counts)[:, :, None].expand(-1, B, M)
    return torch.cat(blocks, 2), joined.gather(0, entries)
