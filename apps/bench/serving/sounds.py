"""What the streams say, and what a server must answer."""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from streamdrnn import StreamingDRNN
from streamdrnn.heads import Head

SAMPLE_RATE = 16000
_TOLERANCE = 1e-4
"""Of outputs of about 0.1: a front-end's spectra and the peers' other orders of sums round differently."""


class Sounds(NamedTuple):
    """A few sounds that the streams share.

    Attributes:
        samples: ``(sounds, messages, samples)`` int16, at 16 kHz.
        expected: ``(sounds, steps, E)`` float32, the outputs for the whole sound offline.
    """

    samples: np.ndarray
    expected: np.ndarray

    @classmethod
    def make(cls, model: Head, weights: str, count: int, messages: int, samples: int) -> Self:
        """Bursts of noise of different colours and loudness.

        Args:
            weights: how the model's are held (:class:`StreamingDRNN`) for what is expected.
        """
        generator = np.random.default_rng(0)
        white = generator.standard_normal((count, messages * samples))
        loudness = np.repeat(generator.uniform(200, 4000, (count, messages)), samples, axis=1)
        sound = (np.cumsum(white, axis=1) - np.roll(np.cumsum(white, axis=1), 8, axis=1)) / 3
        pcm = np.clip(sound * loudness, -32768, 32767).astype(np.int16)
        y = StreamingDRNN(model, count, weights).push(torch.from_numpy(pcm.astype(np.float32) / np.float32(32768)).T)
        return cls(pcm.reshape(count, messages, samples), y.transpose(0, 1).numpy())

    @property
    def messages(self) -> int:
        """How many each sound has."""
        return int(self.samples.shape[1])

    @property
    def seconds_per_message(self) -> float:
        """What a message holds."""
        return float(self.samples.shape[2] / SAMPLE_RATE)

    @property
    def seconds(self) -> float:
        """What each sound holds."""
        return self.messages * self.seconds_per_message

    @property
    def output_size(self) -> int:
        """E."""
        return int(self.expected.shape[2])

    def of(self, stream: int) -> np.ndarray:
        """The messages of a stream, ``(messages, samples)``."""
        messages: np.ndarray = self.samples[stream % len(self.samples)]
        return messages

    def check(self, stream: int, outputs: np.ndarray, exact: bool) -> None:
        """Raise ``ValueError`` if ``(steps, E)`` is not what the stream should have heard, to the bit or nearly."""
        expected = self.expected[stream % len(self.expected)]
        if outputs.shape != expected.shape:
            raise ValueError(f"outputs of shape {outputs.shape}, expected {expected.shape}")
        error = float(np.abs(outputs - expected).max())
        most = 0.0 if exact else _TOLERANCE
        if not error <= most:
            raise ValueError(f"outputs differ by {error:.1e} from those offline, expected {most:.0e} or less")

    def write(self, path: Path) -> None:
        """Into a file, for another process."""
        np.savez(path, **self._asdict())

    @classmethod
    def read(cls, path: Path) -> Self:
        """What :meth:`write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["samples"], file["expected"])
