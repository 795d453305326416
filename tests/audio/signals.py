"""Signals and front-ends that the audio tests share."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from streamdrnn.audio import MFCC, FrontEnd, LogMel, RawWaveform

FRONTENDS: dict[str, Callable[[], FrontEnd]] = {
    "raw": lambda: RawWaveform(7),
    "logmel": LogMel,
    "logmel overlapping": lambda: LogMel(n_fft=256, win_length=256, hop_length=64, n_mels=20),
    "mfcc": MFCC,
    "mfcc deltas": lambda: MFCC(n_fft=256, win_length=200, hop_length=100, n_mels=24, n_mfcc=13, deltas=2),
}


def voice_like(samples: int, seed: int = 0) -> Tensor:
    """A gliding buzz in noise, ``(samples,)`` float32: energy in every band, and changing."""
    rng = np.random.default_rng(seed)
    pitch = 120 + 40 * np.sin(np.arange(samples) / 3000 + seed)
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / 16000))
    return torch.from_numpy((0.1 * buzz + 0.02 * rng.standard_normal(samples)).astype(np.float32))
