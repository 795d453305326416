"""A browser as a source."""

import time

import numpy as np
import torch

from streamdrnn.apps.speaker_id.sources.source import Source
from streamdrnn.errors import InputError

MAX_MESSAGE_SECONDS = 0.5
MIN_RATE, MAX_RATE = 8_000, 192_000


class BrowserSource(Source):
    """Samples as a browser sends them: float32, little-endian, one channel.

    Args:
        sample_rate: the browser's.

    Raises:
        ValueError: no microphone has that rate.
    """

    def __init__(self, sample_rate: object) -> None:
        if not isinstance(sample_rate, int) or not MIN_RATE <= sample_rate <= MAX_RATE:
            raise InputError(f"sample_rate: expected an integer from {MIN_RATE} to {MAX_RATE}, got {sample_rate!r:.40}")
        super().__init__("a browser", sample_rate)

    def receive(self, message: bytes) -> None:
        """Queue a message's samples; what a browser sends faster than it is heard is dropped, and counted.

        Raises:
            ValueError: they are no samples, or too many at once.
        """
        if len(message) % 4 or len(message) > 4 * MAX_MESSAGE_SECONDS * self.sample_rate:
            raise InputError(
                f"samples: expected whole float32 numbers, {MAX_MESSAGE_SECONDS:g} s at most, got {len(message)} bytes"
            )
        samples = np.frombuffer(message, "<f4").astype(np.float32)
        if not np.isfinite(samples).all():
            raise InputError("samples: expected finite numbers, got NaN or infinity")
        if len(samples):
            self.push(torch.from_numpy(samples), time.monotonic())
