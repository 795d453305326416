"""Overlapped speech: do two people speak at once now, or not?

Recordings of single speakers are added up, so that it is known when two speak. In every other scene there is one voice
at a time. Its speakers change as often, and it has the same rooms, noises, telephones and levels: none of these tells
the two kinds apart.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from streamdrnn.apps.training.labelled_speech import Samples
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.scenes import Conditions, Scene, draw_conditions, make_scene, one_of
from streamdrnn.apps.training.tasks.scene_task import SceneRecipe, Sounds
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.apps.training.voices import demo_readers

SETS = ("librispeech", "voices/arabic_sc")
WORST_SNR = 5.0
"""In more noise than this, in dB, two voices can hardly be told from one."""
SCENES = (Conditions(tracks=1, pieces=1, pause=0.4), Conditions(tracks=2, pieces=2, pause=1.5))
"""One voice at a time, or two that speak at once at times: about as many turns begin in a scene of either kind."""


@dataclass
class OverlapRecipe(SceneRecipe):
    """Tell when two people speak at once."""

    name: ClassVar[str] = "overlap"
    example: ClassVar[str] = "--out runs/overlap"
    in_16_bits: ClassVar[bool] = True
    bands: ClassVar[int] = 40
    fewest_speakers: ClassVar[int] = 2

    sets: tuple[str, ...] = SETS
    network: NetworkRecipe = field(default_factory=lambda: NetworkRecipe(hidden_size=48, dilations=(1, 2, 4, 8, 16)))
    training: TrainingRecipe = field(
        default_factory=lambda: TrainingRecipe(
            steps=6_000, batch_size=16, learning_rate=8e-3, validate_every=1000, checkpoint_every=1000
        )
    )

    def left_out(self) -> Collection[str]:
        return demo_readers()

    def scene(self, random: Generator, sounds: Sounds, length: int) -> Scene:
        conditions = in_turns(one_of(random, SCENES), draw_conditions(random, WORST_SNR))
        # All are of one set: that two sets were recorded in different ways says nothing of two people in one room.
        speakers = np.array([len(speakers) for speakers in sounds.sets])
        drawn = sounds.sets[random.choice(len(speakers), p=speakers / speakers.sum())]
        return make_scene(random, [drawn], sounds.noises, length, conditions)

    def truth(self, scene: Scene) -> Samples:
        return scene.overlap


def in_turns(kind: Conditions, conditions: Conditions) -> Conditions:
    """Conditions of sound with somebody who speaks, and with the turns of a kind of scene."""
    return conditions._replace(has_speech=True, tracks=kind.tracks, pieces=kind.pieces, pause=kind.pause)
