"""Where there is speech: the shipped detector, a small network that learnt Silero's judgement."""

import math

from torch import Tensor

from streamdrnn import StreamingDRNN
from streamdrnn.apps.speaker_id.model import load_activity_model
from streamdrnn.audio import StreamingResampler

SPEECH = 0.5
"""From this probability up a stretch of audio counts as speech."""


class SpeechDetector:
    """The probability of speech, from a stream of samples.

    The chunks do not matter: the model judges a frame every 20 ms. The probability is :data:`SPEECH` where the model's
    output is at its calibrated threshold.

    Args:
        sample_rate: samples per second of what it is given.
    """

    def __init__(self, sample_rate: int) -> None:
        model = load_activity_model()
        assert model.tagger.frontend is not None
        self._rate_in, self._rate = sample_rate, model.tagger.frontend.sample_rate
        self._threshold = model.threshold
        self._stream = StreamingDRNN(model.tagger)
        self.reset()

    def reset(self) -> None:
        """Forget all that was heard."""
        self._stream.reset()
        self._resampler = StreamingResampler(self._rate_in, self._rate)

    def push(self, samples: Tensor) -> list[float]:
        """The probabilities, from 0 to 1, of the frames that these samples ``(N,)`` complete."""
        outputs: list[float] = self._stream.push(self._resampler.push(samples)[:, None])[:, 0, 0].tolist()
        # One by one: torch rounds an element by its place in a vector.
        return [0.5 + 0.5 * math.tanh(0.5 * (output - self._threshold)) for output in outputs]
