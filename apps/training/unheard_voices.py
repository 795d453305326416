"""How well a recipe's models know voices that they never heard in training."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.identifier import WINDOW_SECONDS
from streamdrnn.apps.training.embedder_scores import (
    Parts,
    cosines,
    equal_error,
    friends_and_strangers,
    identification_rate,
)

ENROLMENT_SECONDS = 10.0
TEST_SECONDS = 3.0
AMONG = 10


class UnheardVoices(NamedTuple):
    """What was measured on voices that the model at hand never heard, each enrolled with 10 s of its recording.

    Attributes:
        voices: how many have a recording that is long enough.
        threshold: where windows as short as a decision's have as many errors of either kind.
        eer: how frequent they are there.
        eer_3s: the equal error rate of windows of 3 s.
        among_ten: how often such a window is known among ten voices.
    """

    voices: int
    threshold: float
    eer: float
    eer_3s: float
    among_ten: float


def long_enough(voices: Sequence[Tensor], sample_rate: int) -> list[Tensor]:
    """The voices ``(N,)`` of which there is enough to enrol and to test them.

    Raises:
        ValueError: they are too few.
    """
    needed = ENROLMENT_SECONDS + TEST_SECONDS
    found = [voice for voice in voices if len(voice) >= needed * sample_rate]
    if len(found) < AMONG:
        raise ValueError(
            f"{len(found)} of {len(voices)} voices left out of a fold have {needed:g} s, expected {AMONG} or more"
        )
    return found


class UnheardTrials:
    """Collects the trials of several models, each with voices of its own."""

    def __init__(self) -> None:
        self._voices = 0
        self._short: list[tuple[Tensor, Tensor]] = []
        self._long: list[tuple[Tensor, Tensor]] = []
        self._among_ten: list[tuple[float, int]] = []

    def add(self, embedder: SpeakerEmbedder, voices: Sequence[Tensor]) -> None:
        """Try a model on voices ``(N,)`` that it never heard, as :func:`long_enough` gives them."""
        assert embedder.frontend is not None
        enrolment = round(ENROLMENT_SECONDS * embedder.frontend.sample_rate)
        parts = [Parts(voice[:enrolment], voice[enrolment:]) for voice in voices]
        self._voices += len(parts)
        self._short.append(friends_and_strangers(*cosines(embedder, parts, WINDOW_SECONDS)))
        scores, owners = cosines(embedder, parts, TEST_SECONDS)
        self._long.append(friends_and_strangers(scores, owners))
        self._among_ten.append((identification_rate(scores, owners, AMONG), len(owners)))

    def result(self) -> UnheardVoices:
        """What all of them say together."""
        threshold, eer = equal_error(*_joined(self._short))
        windows = sum(count for _, count in self._among_ten)
        return UnheardVoices(
            self._voices,
            threshold,
            eer,
            equal_error(*_joined(self._long)).rate,
            sum(rate * count for rate, count in self._among_ten) / windows,
        )


def _joined(trials: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    friends, strangers = zip(*trials, strict=True)
    return torch.cat(friends), torch.cat(strangers)
