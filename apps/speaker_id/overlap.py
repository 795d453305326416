"""Where two people speak at once: the shipped detector of overlapped speech."""

from collections.abc import Sequence

from streamdrnn.apps.speaker_id.detector import Detector
from streamdrnn.apps.speaker_id.model import load_overlap_model

OVERLAP = 0.4
"""From this mean probability up two people speak at once: lower than 0.5, as a mean is less extreme."""
NEAR_TICKS = 3
"""A tick is judged by those so near to it, too: a wrong "another voice" is worse than one that is missed."""


class OverlapDetector(Detector):
    """The probability that two people speak at once, from a stream of samples.

    Args:
        sample_rate: samples per second of what it is given.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__(load_overlap_model(), sample_rate)


def is_overlapped(probabilities: Sequence[float]) -> bool:
    """Whether two people speak at once in neighbouring ticks, by the probability of each."""
    return sum(probabilities) / len(probabilities) >= OVERLAP
