"""Cutting streams of samples into overlapping frames, whatever the chunks they come in.

Streams share a batch but not a clock: one that was masked or reset has fewer samples waiting than its neighbours.
"""

from typing import Tuple

import torch
from torch import Tensor

from streamdrnn.kernels.rings import steps_made


def next_frames(
    audio: Tensor, lengths: Tensor, tail: Tensor, filled: Tensor, window: int, hop: int, padded: bool = False
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """The frames that a chunk completes.

    Args:
        audio: ``(N, B)`` samples.
        lengths: ``(B,)`` int64 from 0 to N, the samples that are each stream's own.
        tail: ``(window - 1, B)``, the samples waiting, at the end.
        filled: ``(B,)`` int64, how many are waiting.
        window: samples per frame.
        hop: samples from one frame's beginning to the next, at most ``window``.
        padded: whether F is ``ceil(N / hop)`` instead, the most that N samples, at least one, can complete: for graphs
            that are exported, where F cannot follow from what is waiting.

    Returns:
        the frames ``(F, B, window)``, F that of the stream with most; ``(B,)``, how many are each stream's own;
        and the new tail and filled.
    """
    W, B = tail.shape
    # Streams of one clock need no indices; to live streams that is a third of what a front-end costs. An exported
    # graph cannot look.
    if not padded and B > 0 and bool((lengths == audio.shape[0]).all()) and bool((filled == filled[0]).all()):
        if window == 1:  # every sample is a frame, and none ever waits
            return audio[:, :, None], lengths, tail, filled
        return _frames_of_one_clock(torch.cat([tail, audio]), filled, lengths, int(filled[0]), window, hop)
    joined = torch.cat([tail, torch.where(steps_made(audio.shape[0], lengths)[:, :, 0], audio, 0.0)])
    total = filled + lengths
    # Not torch.div and its rounding_mode, which an ONNX graph computes in float32.
    counts = (torch.floor_divide(total - window, hop) + 1).clamp(min=0)
    left = total - counts * hop
    F = (audio.shape[0] - 1) // hop + 1
    if not padded:
        F = int(counts.max()) if B > 0 else 0
    if F == 0:
        frames = joined.new_zeros(0, B, window)
    else:
        # Every stream's samples are moved to the front, so that one strided view frames them all.
        place = torch.arange(joined.shape[0], device=audio.device)[:, None]
        aligned = joined.gather(0, (place + W - filled).clamp(max=joined.shape[0] - 1))
        frames = aligned.unfold(0, window, hop)[:F]
    slots = torch.arange(W, device=audio.device)[:, None]
    tail = torch.where(slots >= W - left, joined.gather(0, slots + lengths), 0.0)
    return frames, counts, tail, left


def _frames_of_one_clock(
    joined: Tensor, filled: Tensor, lengths: Tensor, waiting: int, window: int, hop: int
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`next_frames` for streams that all have as many samples waiting, and hear as many.

    Args:
        joined: ``(window - 1 + N, B)``, the tail and the chunk.
        waiting: what ``filled`` says of each.
    """
    L, B = joined.shape
    W = window - 1
    heard = joined[W - waiting :]
    F = max(0, (heard.shape[0] - window) // hop + 1)
    left = heard.shape[0] - F * hop
    frames = heard.unfold(0, window, hop) if F > 0 else joined.new_zeros(0, B, window)
    tail = torch.cat([joined.new_zeros(W - left, B), joined[L - left :]])
    return frames, torch.full_like(lengths, F), tail, torch.full_like(filled, left)
