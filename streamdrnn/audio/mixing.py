"""From several channels to one."""

import logging
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.audio.formats import AudioFileError

logger = logging.getLogger(__name__)

_MEMORY_SECONDS = 1.0
_CANCELLED, _AGREED = 0.1, 0.5
"""The average's share of the energy that unrelated channels' average would have: below and above these it is, and is no
longer, given up."""


class Mixer:
    """Averages channels while the samples come in, or takes one of them.

    Channels of opposite phase, as a cable with swapped wires makes them, cancel each other out. While they do, the
    loudest one is taken instead of the average, and a warning is logged once.

    Args:
        name: of the recording, for people.
        sample_rate: frames per second.
        channels: how many there are.
        channel: the one to take, from 1 on; None averages.

    Raises:
        AudioFileError: there is no such channel.
    """

    def __init__(self, name: str, sample_rate: int, channels: int, channel: Optional[int] = None) -> None:
        if channel is not None and not 1 <= channel <= channels:
            raise AudioFileError(f"{name}: channel: expected 1 to {channels}, got {channel}")
        self._name = name
        self._memory = _MEMORY_SECONDS * sample_rate
        self._given = 1 if channels == 1 else channel
        self._instead: Optional[int] = None
        self._warned = False
        self._energies = torch.zeros(channels, dtype=torch.float64, device="cpu")  # of each channel, of late
        self._energy = 0.0  # of their average

    def mix(self, frames: Tensor) -> Tensor:
        """Of frames ``(N, channels)`` one channel ``(N,)``."""
        if self._given is not None:
            return frames[:, self._given - 1].contiguous()
        average = frames.mean(1)
        kept = 0.5 ** (len(frames) / self._memory)
        self._energies = kept * self._energies + frames.double().square().sum(0)
        self._energy = kept * self._energy + float(average.double().square().sum())
        unrelated = float(self._energies.sum()) / len(self._energies) ** 2
        if self._energy >= _AGREED * unrelated:
            self._instead = None
        elif self._energy < _CANCELLED * unrelated and self._instead is None:
            self._instead = int(self._energies.argmax())
            if not self._warned:
                logger.warning(
                    "%s: its channels cancel each other out, so channel %d is heard alone (--channel takes another)",
                    self._name,
                    self._instead + 1,
                )
            self._warned = True
        return average if self._instead is None else frames[:, self._instead].contiguous()
