"""Raw samples from a pipe."""

import os
import time
from typing import BinaryIO

from streamdrnn.apps.speaker_id.sources.source import ThreadedSource
from streamdrnn.errors import InputError

_CHUNK_SECONDS = 0.02
MAX_CHANNELS = 64


class PipeSource(ThreadedSource):
    """Signed 16-bit little-endian samples, channels interleaved, which are averaged.

    Nothing is dropped: a listener that is late makes the program wait that writes to the pipe.

    Args:
        pipe: what to read, such as ``sys.stdin.buffer``.
        sample_rate: samples per second.
        channels: how many channels there are.

    Raises:
        ValueError: the rate or the number of channels is out of range.
    """

    def __init__(self, pipe: BinaryIO, sample_rate: int, channels: int = 1) -> None:
        super().__init__("standard input", sample_rate)
        if not 1 <= channels <= MAX_CHANNELS:
            raise InputError(f"channels: expected 1 to {MAX_CHANNELS}, got {channels}")
        self._pipe = pipe
        self._channels = channels

    def capture(self) -> None:
        import numpy as np
        import torch

        frame = 2 * self._channels
        most = frame * round(_CHUNK_SECONDS * self.sample_rate)
        rest = b""
        # Not read(): it would wait for all of a chunk.
        while data := os.read(self._pipe.fileno(), most):
            data = rest + data
            whole = len(data) - len(data) % frame
            rest = data[whole:]
            samples = np.frombuffer(data[:whole], "<i2").astype(np.float32).reshape(-1, self._channels)
            chunk = torch.from_numpy(samples).mean(1) / 32768
            if len(chunk) and not self.push(chunk, time.monotonic(), wait=True):
                return
