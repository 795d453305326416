"""What is known of a stream of sound at the end of every tenth of a second."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.activity import SPEECH
from streamdrnn.apps.speaker_id.overlap import OVERLAP

TICK_SECONDS = 0.1


class Tick(NamedTuple):
    """What is known at the end of a tick.

    The difference of two ticks' totals, divided by that of their frames, is the mean output over the speech between
    them: one pass of the model gives the embedding of every window.

    Attributes:
        total: ``(H,)`` float64, the sum of the model's outputs so far, in ticks with speech.
        frames: how many those outputs are.
        spoken: how many ticks with speech there were so far.
        speech: the highest probability of speech in this tick.
        level: this tick's level in dBFS.
        clipped: whether more than a few of its samples are at full scale: it was too loud for the microphone.
        overlap: the mean probability in this tick that two people speak at once.
    """

    total: Tensor
    frames: int
    spoken: int
    speech: float
    level: float
    clipped: bool
    overlap: float

    @property
    def has_speech(self) -> bool:
        """Whether somebody speaks in this tick."""
        return self.speech >= SPEECH

    @property
    def is_of_one_voice(self) -> bool:
        """Whether one person speaks in this tick, and nobody else."""
        return self.has_speech and self.overlap < OVERLAP


def tick_zero(model: SpeakerEmbedder) -> Tick:
    """The tick before the first."""
    return Tick(torch.zeros(model.rnn.hidden_size, dtype=torch.float64), 0, 0, 0.0, -120.0, False, 0.0)


def level_dbfs(samples: Tensor) -> float:
    """The level of some samples in dB relative to a full-scale square wave."""
    power = float(samples.square().mean()) if samples.numel() else 0.0
    return 10 * math.log10(max(power, 1e-12))


def mean_embedding(model: SpeakerEmbedder, first: Tick, last: Tick) -> Tensor:
    """The embedding ``(E,)`` of the speech between two ticks; there must be some."""
    mean = (last.total - first.total) / (last.frames - first.frames)
    with torch.inference_mode():
        return model.embed(mean.float())
