"""The threshold below which a voice is nobody's, from recordings of people whom one knows.

Every voice is enrolled on a part of its recordings; the windows of the rest are what :class:`Identifier` judges by.
A window that its own voice's profile does not reach is a false rejection, one that reaches somebody else's a false
acceptance.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import MIN_SECONDS, enrol
from streamdrnn.apps.speaker_id.identifier import WINDOW_SECONDS
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, mean_embedding, tick_zero
from streamdrnn.audio import load_audio
from streamdrnn.audio.files import is_audio
from streamdrnn.errors import InputError

ENROLMENT_SHARE = 0.7
_WINDOW = round(WINDOW_SECONDS / TICK_SECONDS)


class Calibration(NamedTuple):
    """How well voices are told apart.

    Attributes:
        speakers: how many voices.
        windows: how many windows were tested, against every voice's profile each.
        threshold: where both kinds of error are as frequent.
        eer: how frequent they are there, the equal error rate.
        thresholds: cosines, ascending.
        far: at each of them, the share of false acceptances.
        frr: at each of them, the share of false rejections.
    """

    speakers: int
    windows: int
    threshold: float
    eer: float
    thresholds: list[float]
    far: list[float]
    frr: list[float]


def recordings_by_speaker(folder: Path) -> dict[str, list[Path]]:
    """Whose recordings there are: ``speaker/*.wav`` (any depth), or LibriSpeech's ``speaker-chapter-number.flac``.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are not two speakers in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if is_audio(path) and path.is_file():
            parts = path.stem.split("-")
            if len(parts) == 3 and all(part.isdecimal() for part in parts):
                found.setdefault(parts[0], []).append(path)
            elif path.parent != folder:
                found.setdefault(path.relative_to(folder).parts[0], []).append(path)
    if len(found) < 2:
        raise InputError(f"{folder}: recordings of {len(found)} speakers, expected two or more, each in a folder")
    return found


def calibrate(model: SpeakerModel, recordings: dict[str, list[Path]]) -> Calibration:
    """Measure how well the model tells these voices apart.

    Args:
        model: the speaker model.
        recordings: by speaker. The first seven tenths of their time are enrolled, the rest tests.

    Raises:
        ValueError: somebody's recordings are too short, or cannot be read.
    """
    profiles, tests = [], []
    for speaker, paths in recordings.items():
        profile, windows = _hear(model, speaker, paths)
        profiles.append(profile)
        tests.append(windows)
    own, others = [], []
    for owner, windows in enumerate(tests):
        cosines = windows @ torch.stack(profiles).T
        own.append(cosines[:, owner])
        others.append(torch.cat([cosines[:, :owner], cosines[:, owner + 1 :]], 1).flatten())
    return error_rates(len(profiles), torch.cat(own).numpy(), torch.cat(others).numpy())


def error_rates(speakers: int, own: np.ndarray, others: np.ndarray) -> Calibration:
    """The errors at every threshold.

    Args:
        speakers: how many voices.
        own: the cosines of windows with their own voice's profile.
        others: those with somebody else's.
    """
    own, others = np.sort(own), np.sort(others)
    frr = np.arange(len(own)) / len(own)  # at each of their own cosines
    far = 1 - np.searchsorted(others, own) / len(others)
    best = int(np.abs(frr - far).argmin())
    thresholds = np.round(np.arange(-1, 1.0001, 0.01), 2)
    return Calibration(
        speakers,
        len(own),
        round(float(own[best]), 4),
        round(float((frr[best] + far[best]) / 2), 4),
        thresholds.tolist(),
        (1 - np.searchsorted(others, thresholds) / len(others)).tolist(),
        (np.searchsorted(own, thresholds) / len(own)).tolist(),
    )


def _hear(model: SpeakerModel, speaker: str, paths: list[Path]) -> tuple[Tensor, Tensor]:
    """A voice's profile ``(E,)``, and the embeddings ``(windows, E)`` of its tests."""
    samples = torch.cat([load_audio(path, model.sample_rate) for path in paths])
    cut = int(ENROLMENT_SHARE * len(samples))
    try:
        profile = enrol(samples[:cut], model).embedding
    except InputError as error:
        raise InputError(f"speaker {speaker!r}: {error}, in the part that is enrolled") from None
    notes = [tick_zero(model.embedder), *Ear(model.embedder).push(samples[cut:])]
    # Overlapping by half; half of a window at least is speech.
    windows = [
        mean_embedding(model.embedder, first, last)
        for first, last in zip(notes[:: _WINDOW // 2], notes[_WINDOW :: _WINDOW // 2], strict=False)
        if last.spoken - first.spoken > _WINDOW // 2
    ]
    if not windows:
        raise InputError(f"speaker {speaker!r}: no speech in the last part, expected {MIN_SECONDS:g} s or more")
    return profile, torch.stack(windows)
