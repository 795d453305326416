"""Detectors: small networks that say every 20 ms whether something is heard."""

import math

from torch import Tensor

from streamdrnn import StreamingDRNN
from streamdrnn.apps.speaker_id.model import DetectorModel
from streamdrnn.audio import StreamingResampler


class Detector:
    """The probability of what a model detects, from a stream of samples.

    The chunks do not matter: the model judges a frame every 20 ms. The probability is 0.5 where the model's output is
    at its calibrated threshold.

    Args:
        model: the detector.
        sample_rate: samples per second of what it is given.
    """

    def __init__(self, model: DetectorModel, sample_rate: int) -> None:
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
