"""Where there is speech: the shipped detector, a small network that learnt Silero's judgement."""

from streamdrnn.apps.speaker_id.detector import Detector
from streamdrnn.apps.speaker_id.model import load_activity_model

SPEECH = 0.5
"""From this probability up a stretch of audio counts as speech."""


class SpeechDetector(Detector):
    """The probability of speech, from a stream of samples.

    Args:
        sample_rate: samples per second of what it is given.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__(load_activity_model(), sample_rate)
