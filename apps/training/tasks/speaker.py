"""Speaker identification: which of N known speakers says this?

The paper's task on VCTK, by windows of half a second: from the raw waveform, or from 13 MFCCs of 25 ms every 5 ms (as
recalled; ``paper/tables.py`` has its six networks). We judge single windows, as it does, and whole utterances. The
sample rate and how recordings are divided are our choice: it does not say.

Where a speaker has three recordings or more, whole recordings are held back: 15 percent validate and 15 percent test,
chosen by a hash of their names (of FSDD index 0 to 4 test, which is its official split, and 5 to 9 validate). A
recording of a speaker with fewer is divided by time: the first 70 percent train, the next 15 validate, the last 15
test. No sample is in two parts.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.network import AudioInput, NetworkRecipe
from streamdrnn.apps.training.speaker_folders import FSDD_NAME, Utterance, find_utterances
from streamdrnn.apps.training.tasks.task import Batch, Recipe, Split, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.audio import MFCC, FrontEnd, RawWaveform, load_audio
from streamdrnn.errors import InputError

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
HELD_BACK = 0.15
EVALUATION_WINDOWS = 64
STANDARDISED_BY = 1000
"""The most recordings that mean and deviation are taken from."""


@dataclass
class SpeakerRecipe(Recipe):
    """Tell which of N known speakers says this, as in the paper; new voices are known by `train embedder`'s model.

    Attributes:
        dataset: the folder in the data folder: of VCTK, LibriSpeech or FSDD, or any with <speaker>/*.wav.
        features: what the network hears: the samples themselves, one per step, or 13 MFCCs, 200 times a second.
        sample_rate: samples per second; recordings with others are resampled.
        seconds: of the crops that train, and of the windows that are judged.
    """

    name: ClassVar[str] = "speaker"
    example: ClassVar[str] = "--dataset librispeech --features mfcc --dilations 1 2 4 8 --out runs/speaker"

    dataset: str = "vctk"
    features: Literal["raw", "mfcc"] = "raw"
    sample_rate: Literal[8000, 16000] = 8000
    seconds: float = 0.5
    network: NetworkRecipe = field(
        default_factory=lambda: NetworkRecipe(hidden_size=50, dilations=(32, 64, 128, 256, 512, 1024))
    )
    training: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(learning_rate=2e-3))

    def load(self, data_dir: Optional[Path]) -> "SpeakerTask":
        frontend = make_frontend(self.features, self.sample_rate)
        if not frontend.window <= self.seconds * self.sample_rate < np.inf:
            least = frontend.window / self.sample_rate
            raise InputError(f"seconds: expected {least:g} or more, one frame, got {self.seconds:g}")
        utterances = find_utterances(data_folder(data_dir, self.dataset))
        return SpeakerTask(divide(utterances, frontend), frontend, self.seconds, self.training)


def make_frontend(features: Literal["raw", "mfcc"], sample_rate: int) -> FrontEnd:
    """Single samples, or 13 MFCCs of 25 ms, 200 times a second."""
    if features == "raw":
        return RawWaveform(1, sample_rate)
    # The next power of two above 25 ms.
    n_fft = 512 if sample_rate == 16000 else 256
    return MFCC(sample_rate, n_fft, win_length=sample_rate // 40, hop_length=sample_rate // 200, n_mfcc=13)


class Voice(NamedTuple):
    """A speaker's samples, ``(N,)`` each, in what trains, validates and tests."""

    name: str
    train: list[Tensor]
    valid: list[Tensor]
    test: list[Tensor]


def divide(utterances: list[Utterance], frontend: FrontEnd) -> list[Voice]:
    """Every speaker's recordings, divided into what trains, validates and tests.

    Raises:
        OSError, ValueError: a recording cannot be read or is too short for a frame, or there is only one speaker.
    """
    recordings: dict[str, list[Path]] = defaultdict(list)
    for speaker, path in utterances:
        recordings[speaker].append(path)
    if len(recordings) < 2:
        raise InputError(f"{utterances[0].path.parent}: one speaker, expected two or more")
    return [_voice(name, paths, frontend) for name, paths in sorted(recordings.items())]


def _voice(name: str, paths: list[Path], frontend: FrontEnd) -> Voice:
    voice = Voice(name, [], [], [])
    by_time = len(paths) < 3
    part_of = {} if by_time else divide_recordings(paths)
    for path in paths:
        samples = load_audio(path, frontend.sample_rate)
        pieces = divide_by_time(samples) if by_time else {part_of[path]: samples}
        for part, piece in pieces.items():
            if len(piece) < frontend.window:
                length = f"{len(samples) / frontend.sample_rate:.3f} s long"
                raise InputError(f"{path}: {length}, too short{' to be divided' if by_time else ' for a frame'}")
            getattr(voice, part).append(piece)
    return voice


def divide_recordings(paths: list[Path]) -> dict[Path, Part]:
    """Which part each of a speaker's three or more recordings belongs to."""
    digits = [FSDD_NAME.fullmatch(path.name) for path in paths]
    if all(digits):
        fives: tuple[Part, ...] = ("test", "valid", "train")
        official = [fives[min(int(match["index"]) // 5, 2)] for match in digits if match]
        if set(official) == set(PARTS):
            return dict(zip(paths, official, strict=True))
    shuffled = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())
    held = max(1, round(HELD_BACK * len(paths)))
    return {
        path: "test" if place < held else "valid" if place < 2 * held else "train"
        for place, path in enumerate(shuffled)
    }


def divide_by_time(samples: Tensor) -> dict[Part, Tensor]:
    """The beginning, the middle and the end of a recording ``(N,)``."""
    held = round(HELD_BACK * len(samples))
    pieces = samples.split([len(samples) - 2 * held, held, held])
    return dict(zip(PARTS, pieces, strict=True))


class SpeakerTask(Task):
    """Crops of recordings, half a second long if nothing else is asked for.

    A crop of training is of a speaker, a recording and a place drawn at random. What validates and tests is cut into
    windows that follow one another; of a recording shorter than a window there is one, as long as the recording.

    Args:
        voices: of every speaker.
        frontend: what the network hears.
        seconds: of a crop and of a window.
        recipe: batch size and seed.
    """

    per_step = False
    metric = "accuracy"
    higher_is_better = True

    def __init__(self, voices: list[Voice], frontend: FrontEnd, seconds: float, recipe: TrainingRecipe) -> None:
        self.voices = voices
        self.num_outputs = len(voices)
        self.input_size = frontend.num_features
        self.audio_input = _audio_input(frontend, [samples for voice in voices for samples in voice.train])
        steps = 1 + (round(seconds * frontend.sample_rate) - frontend.window) // frontend.hop_length
        self.length = steps
        # Whole frames: further samples would be heard by none of them.
        self._samples = frontend.window + (steps - 1) * frontend.hop_length
        self._batch_size, self._seed = recipe.batch_size, recipe.seed
        self._windows: dict[Split, list[tuple[Tensor, int, int]]] = {
            "valid": self._cut([voice.valid for voice in voices]),
            "test": self._cut([voice.test for voice in voices]),
        }
        self.num_groups = 1 + max(group for windows in self._windows.values() for _, _, group in windows)

    @property
    def chance(self) -> dict[str, float]:
        return {"accuracy": 1 / self.num_outputs, "loss": float(np.log(self.num_outputs))}

    def notes(self) -> dict[str, str]:
        return {"speakers": json.dumps([voice.name for voice in self.voices])}

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng((self._seed, step))
        speakers = random.integers(len(self.voices), size=self._batch_size)
        crops = []
        for speaker in speakers:
            recordings = self.voices[speaker].train
            samples = recordings[random.integers(len(recordings))]
            start = random.integers(max(0, len(samples) - self._samples) + 1)
            crops.append(samples[start : start + self._samples])
        return _as_batch(crops, torch.from_numpy(speakers))

    def evaluation(self, split: Split) -> Iterator[Batch]:
        windows = self._windows[split]
        for start in range(0, len(windows), EVALUATION_WINDOWS):
            samples, speakers, groups = zip(*windows[start : start + EVALUATION_WINDOWS], strict=True)
            yield _as_batch(list(samples), torch.tensor(speakers))._replace(group=torch.tensor(groups))

    def _cut(self, voices: list[list[Tensor]]) -> list[tuple[Tensor, int, int]]:
        """The windows of recordings, with their speakers and the numbers of the recordings."""
        recordings = [(samples, speaker) for speaker, some in enumerate(voices) for samples in some]
        return [
            (samples[start : start + self._samples], speaker, number)
            for number, (samples, speaker) in enumerate(recordings)
            for start in range(0, max(1, len(samples) - self._samples + 1), self._samples)
        ]


def _as_batch(windows: list[Tensor], speakers: Tensor) -> Batch:
    lengths = torch.tensor([len(window) for window in windows])
    return Batch(pad_sequence(windows), speakers, lengths=lengths)


def _audio_input(frontend: FrontEnd, recordings: list[Tensor]) -> AudioInput:
    """Mean and deviation of the features of (at most a thousand, evenly chosen) recordings that train."""
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for samples in recordings[:: -(-len(recordings) // STANDARDISED_BY)]:
        features = frontend(samples[:, None])[0][:, 0].double()
        count, total, squares = count + len(features), total + features.sum(0), squares + features.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return AudioInput(frontend, mean.float(), torch.where(std > 0, std, 1.0).float())
