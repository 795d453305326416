"""Overlapped speech: do two people speak at once now, or not?

Recordings of single speakers are added up, so that it is known when two speak. In every other scene there is one voice
at a time. Its speakers change as often, and it has the same rooms, noises, telephones and levels: none of these tells
the two kinds apart.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

from numpy.random import Generator

from streamdrnn.apps.training.labelled_speech import Samples
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.scenes import Scene, draw_conditions, make_scene, one_of
from streamdrnn.apps.training.tasks.scenes import SceneRecipe, Sounds
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.apps.training.voices import demo_readers

WORST_SNR = 5.0
"""In more noise than this, in dB, two voices can hardly be told from one."""
PIECES = 2
PAUSES = {1: 0.6, 2: 2.5}
"""Seconds between two turns on average, by the number of tracks: about as many turns begin in a scene of either."""


@dataclass
class OverlapRecipe(SceneRecipe):
    """Tell when two people speak at once."""

    name: ClassVar[str] = "overlap"
    in_16_bits: ClassVar[bool] = True
    bands: ClassVar[int] = 40
    fewest_speakers: ClassVar[int] = 2
    left_out: ClassVar[Collection[str]] = demo_readers()

    network: NetworkRecipe = field(default_factory=lambda: NetworkRecipe(hidden_size=48, dilations=(1, 2, 4, 8, 16)))
    training: TrainingRecipe = field(
        default_factory=lambda: TrainingRecipe(
            steps=16_000, batch_size=16, learning_rate=1e-2, validate_every=1000, checkpoint_every=1000
        )
    )

    def scene(self, random: Generator, sounds: Sounds, length: int) -> Scene:
        tracks = int(random.integers(1, 3))
        conditions = draw_conditions(random, WORST_SNR)._replace(tracks=tracks, pieces=PIECES, pause=PAUSES[tracks])
        # All are of one set: that two sets were recorded in different ways says nothing of two people in one room.
        return make_scene(random, [one_of(random, sounds.sets)], sounds.noises, length, conditions)

    def truth(self, scene: Scene) -> Samples:
        return scene.overlap
