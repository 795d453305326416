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
from streamdrnn.errors import InputError

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
        raise InputError(
            f"{len(found)} of {len(voices)} voices left out of a fold have {needed:g} s, expected {AMONG} or more"
        )
    return found


class Trials(NamedTuple):
    """What one model made of voices that it never heard.

    Attributes:
        voices: how many.
        short, long: the cosines with the own enrolment, and with the others, of windows of either length.
        among_ten: how often a long one is known among ten voices.
        windows: how many long ones there are.
    """

    voices: int
    short: tuple[Tensor, Tensor]
    long: tuple[Tensor, Tensor]
    among_ten: float
    windows: int


def trials(embedder: SpeakerEmbedder, voices: Sequence[Tensor]) -> Trials:
    """Try a model on voices ``(N,)`` that it never heard, as :func:`long_enough` gives them."""
    assert embedder.frontend is not None
    enrolment = round(ENROLMENT_SECONDS * embedder.frontend.sample_rate)
    parts = [Parts(voice[:enrolment], voice[enrolment:]) for voice in voices]
    scores, owners = cosines(embedder, parts, TEST_SECONDS)
    return Trials(
        len(parts),
        friends_and_strangers(*cosines(embedder, parts, WINDOW_SECONDS)),
        friends_and_strangers(scores, owners),
        identification_rate(scores, owners, AMONG),
        len(owners),
    )


def unheard_voices(models: Sequence[Trials]) -> UnheardVoices:
    """What the trials of several models, each with voices of its own, say together."""
    threshold, eer = equal_error(*_joined([model.short for model in models]))
    windows = sum(model.windows for model in models)
    return UnheardVoices(
        sum(model.voices for model in models),
        threshold,
        eer,
        equal_error(*_joined([model.long for model in models])).rate,
        sum(model.among_ten * model.windows for model in models) / windows,
    )


def _joined(cosines: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    friends, strangers = zip(*cosines, strict=True)
    return torch.cat(friends), torch.cat(strangers)
