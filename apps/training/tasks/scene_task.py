"""What is true of the voices in :mod:`streamdrnn.apps.training.scenes`, told every 20 ms from the sound so far.

A task of this kind has one output, the logarithm of the odds.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar, NamedTuple, Optional

import numpy as np
import torch
from numpy.random import Generator

from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.labelled_speech import (
    PARTS,
    RATE,
    Part,
    Samples,
    Speaker,
    load_noises,
    load_speakers,
    recordings_of,
)
from streamdrnn.apps.training.music import music
from streamdrnn.apps.training.network import AudioInput
from streamdrnn.apps.training.scenes import Scene, coloured_noises, hums
from streamdrnn.apps.training.tasks.task import FALSE_ALARMS, Batch, Recipe, Split, Task
from streamdrnn.audio import LogMel
from streamdrnn.errors import InputError

SETS = ("librispeech", "voices/arabic_sc", "voices/dspspeech20")
NOISE = "noise"
EVALUATION_BATCHES, EVALUATION_SCENES = 8, 32
STANDARDISED_BY = 64
"""Scenes that mean and deviation are taken from."""
STEADY_NOISES, MUSIC = 20, 80
"""Clips of either kind of steady noise, and of music, that are heard beside those of ESC-10."""


class Sounds(NamedTuple):
    """What scenes are made of: the speakers by data set, and the clips of noise."""

    sets: list[list[Speaker]]
    noises: list[Samples]


@dataclass
class SceneRecipe(Recipe):
    """Tell what is true of the voices in scenes.

    Attributes:
        sets: folders of recordings in the data folder, in the layouts of the speaker task.
        minutes: the most that is heard of a speaker.
        seconds: of the scenes that train.
        bands: of the log-mel features, 50 times a second.
        fewest_speakers: that a set has in each split.
    """

    bands: ClassVar[int]
    fewest_speakers: ClassVar[int] = 1

    sets: tuple[str, ...] = SETS
    minutes: float = 2.0
    seconds: float = 8.0

    def left_out(self) -> Collection[str]:
        """Names of speakers who are in no split."""
        return ()

    @abstractmethod
    def scene(self, random: Generator, sounds: Sounds, length: int) -> Scene:
        """A scene of so many samples."""

    @abstractmethod
    def truth(self, scene: Scene) -> Samples:
        """The probability ``(N,)`` of what is to be told."""

    def frontend(self) -> LogMel:
        """What the network hears."""
        return LogMel(RATE, hop_length=RATE // 50, n_mels=self.bands)

    def load(self, data_dir: Optional[Path]) -> "SceneTask":
        frontend = self.frontend()
        if not frontend.window <= self.seconds * RATE < np.inf:
            raise InputError(f"seconds: expected {frontend.window / RATE:g} or more, one frame, got {self.seconds:g}")
        if not 0 < self.minutes < np.inf:
            raise InputError(f"minutes: expected more than 0, got {self.minutes:g}")
        if not self.sets:
            raise InputError("sets: expected one folder or more")
        folders = [data_folder(data_dir, name) for name in self.sets]
        for folder, part in product(folders, PARTS):
            if (count := len(recordings_of(folder, part, self.left_out()))) < self.fewest_speakers:
                raise InputError(
                    f"{folder}: {count} speakers of the part {part}, expected {self.fewest_speakers} or more"
                )
        return SceneTask(folders, data_folder(data_dir, NOISE), frontend, self)


class SceneTask(Task):
    """Scenes that are drawn anew for every batch. No speaker and no clip of noise is in two splits.

    Args:
        folders: of the sets.
        noise: the folder of ESC-10.
        frontend: what the network hears.
        recipe: what is drawn and told; minutes, seconds, batch size and seed.

    Raises:
        OSError, ValueError: recordings are missing or cannot be read.
    """

    per_step = True
    num_outputs = 1
    metric = "recall"
    higher_is_better = True

    def __init__(self, folders: list[Path], noise: Path, frontend: LogMel, recipe: SceneRecipe) -> None:
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
        scenes = [self._recipe.scene(random, self._sounds[part], self._samples) for _ in range(count)]
        x = torch.from_numpy(np.stack([scene.samples for scene in scenes], 1))
        # A frame is judged when its last sample has been heard.
        judged = slice(self._frontend.window - 1, None, self._frontend.hop_length)
        return Batch(x, torch.from_numpy(np.stack([self._recipe.truth(scene)[judged] for scene in scenes], 1)))

    def _load(self, part: Part) -> Sounds:
        recipe = self._recipe
        sets = [load_speakers(folder, part, recipe.minutes, recipe.left_out()) for folder in self._folders]
        random = np.random.default_rng(PARTS.index(part))
        steady = coloured_noises(random, STEADY_NOISES) + hums(random, STEADY_NOISES)
        return Sounds(sets, load_noises(self._noise, part) + steady + music(random, MUSIC))
