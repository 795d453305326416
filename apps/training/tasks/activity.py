"""Speech activity: is there speech now, or not?

A small network learns what a large one, Silero, says of clean recordings, and hears them among noise. So it may do
better than its teacher would there. It judges every 20 ms from the sound so far, and its output is one number, the
logarithm of the odds of speech.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple, Optional

import numpy as np
import torch

from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.labelled_speech import PARTS, RATE, Part, Samples, Speaker, load_noises, load_speakers
from streamdrnn.apps.training.network import AudioInput, NetworkRecipe
from streamdrnn.apps.training.scenes import coloured_noises, draw_conditions, hums, make_scene
from streamdrnn.apps.training.tasks.task import FALSE_ALARMS, Batch, Recipe, Split, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.audio import FrontEnd, LogMel
from streamdrnn.errors import InputError

SETS = ("librispeech", "voices/arabic_sc", "voices/dspspeech20")
NOISE = "noise"
EVALUATION_BATCHES, EVALUATION_SCENES = 8, 32
STANDARDISED_BY = 64
"""Scenes that mean and deviation are taken from."""
STEADY_NOISES = 20
"""Clips of either kind that are heard beside those of ESC-10."""


def activity_frontend() -> LogMel:
    """32 bands, 50 times a second."""
    return LogMel(RATE, hop_length=RATE // 50, n_mels=32)


@dataclass
class ActivityRecipe(Recipe):
    """Tell when there is speech.

    Attributes:
        sets: folders of recordings in the data folder, in the layouts of the speaker task.
        minutes: the most that is heard of a speaker.
        seconds: of the scenes that train.
    """

    name: ClassVar[str] = "activity"

    sets: tuple[str, ...] = SETS
    minutes: float = 2.0
    seconds: float = 8.0
    network: NetworkRecipe = field(default_factory=lambda: NetworkRecipe(hidden_size=36, dilations=(1, 2, 4)))
    training: TrainingRecipe = field(
        default_factory=lambda: TrainingRecipe(
            steps=16_000, batch_size=16, learning_rate=1e-2, validate_every=1000, checkpoint_every=1000
        )
    )

    def load(self, data_dir: Optional[Path]) -> "ActivityTask":
        frontend = activity_frontend()
        if not frontend.window <= self.seconds * RATE < np.inf:
            raise InputError(f"seconds: expected {frontend.window / RATE:g} or more, one frame, got {self.seconds:g}")
        if not 0 < self.minutes < np.inf:
            raise InputError(f"minutes: expected more than 0, got {self.minutes:g}")
        if not self.sets:
            raise InputError("sets: expected one folder or more")
        folders = [data_folder(data_dir, name) for name in self.sets]
        return ActivityTask(folders, data_folder(data_dir, NOISE), frontend, self)


class Sounds(NamedTuple):
    """What scenes are made of: the speakers by data set, and the clips of noise."""

    sets: list[list[Speaker]]
    noises: list[Samples]


class ActivityTask(Task):
    """Scenes that are drawn anew for every batch. No speaker and no clip of noise is in two splits.

    Args:
        folders: of the sets.
        noise: the folder of ESC-10.
        frontend: what the network hears.
        recipe: minutes, seconds, batch size and seed.

    Raises:
        OSError, ValueError: recordings are missing or cannot be read.
    """

    per_step = True
    num_outputs = 1
    metric = "recall"
    higher_is_better = True

    def __init__(self, folders: list[Path], noise: Path, frontend: FrontEnd, recipe: ActivityRecipe) -> None:
        self._folders, self._noise, self._recipe = folders, noise, recipe
        self._frontend = frontend
        self.input_size = frontend.num_features
        self.length = 1 + (round(recipe.seconds * RATE) - frontend.window) // frontend.hop_length
        # Whole frames: further samples would be heard by none of them.
        self._samples = frontend.window + (self.length - 1) * frontend.hop_length
        self._sounds: dict[Part, Sounds] = {}
        features = frontend(self._scenes("train", STANDARDISED_BY, 0, 0).x)[0].flatten(0, 1)
        self.audio_input = AudioInput(frontend, features.mean(0), features.std(0))

    @property
    def chance(self) -> dict[str, float]:
        return {"recall": FALSE_ALARMS}

    def notes_of(self, scores: dict[str, float]) -> dict[str, str]:
        return {"threshold": f"{scores['threshold']:.4f}"}

    def batch(self, step: int) -> Batch:
        training = self._recipe.training
        return self._scenes("train", training.batch_size, training.seed, 1 + step)

    def evaluation(self, split: Split) -> Iterator[Batch]:
        for number in range(EVALUATION_BATCHES):
            yield self._scenes(split, EVALUATION_SCENES, 0, number)

    def _scenes(self, part: Part, count: int, *seed: int) -> Batch:
        if part not in self._sounds:
            self._sounds[part] = self._load(part)
        random = np.random.default_rng((PARTS.index(part), *seed))
        scenes = [make_scene(random, *self._sounds[part], self._samples, draw_conditions(random)) for _ in range(count)]
        x, speech = (torch.from_numpy(np.stack(tracks)).T for tracks in zip(*scenes, strict=True))
        # A frame is judged when its last sample has been heard.
        return Batch(x, speech[self._frontend.window - 1 :: self._frontend.hop_length])

    def _load(self, part: Part) -> Sounds:
        sets = [load_speakers(folder, part, self._recipe.minutes) for folder in self._folders]
        random = np.random.default_rng(PARTS.index(part))
        steady = coloured_noises(random, STEADY_NOISES) + hums(random, STEADY_NOISES)
        return Sounds(sets, load_noises(self._noise, part) + steady)
