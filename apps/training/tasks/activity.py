"""Speech activity: is there speech now, or not?

A small network learns what a large one, Silero, says of clean recordings, and hears them among noise. So it may do
better than its teacher would there.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from numpy.random import Generator

from streamdrnn.apps.training.labelled_speech import Samples
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.scenes import Scene, draw_conditions, make_scene
from streamdrnn.apps.training.tasks.scene_task import SceneRecipe, Sounds
from streamdrnn.apps.training.training_recipe import TrainingRecipe


@dataclass
class ActivityRecipe(SceneRecipe):
    """Tell when there is speech."""

    name: ClassVar[str] = "activity"
    example: ClassVar[str] = "--out runs/activity"
    bands: ClassVar[int] = 32

    network: NetworkRecipe = field(default_factory=lambda: NetworkRecipe(hidden_size=36, dilations=(1, 2, 4)))
    training: TrainingRecipe = field(
        default_factory=lambda: TrainingRecipe(
            steps=16_000, batch_size=16, learning_rate=1e-2, validate_every=1000, checkpoint_every=1000
        )
    )

    def scene(self, random: Generator, sounds: Sounds, length: int) -> Scene:
        return make_scene(random, *sounds, length, draw_conditions(random))

    def truth(self, scene: Scene) -> Samples:
        return scene.speech
