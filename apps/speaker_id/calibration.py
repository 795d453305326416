"""How well voices of people whom one knows are told apart, and what that adds to the log likelihood ratios.

Every voice is enrolled on a part of its recordings; the windows of the rest are what :class:`Identifier` judges by.
A window that is not taken for its own voice is a false rejection, one that is taken for somebody else's a false
acceptance.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import MIN_SECONDS, Enrolment
from streamdrnn.apps.speaker_id.identifier import WINDOW_SECONDS
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.scores import Voices
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, mean_embedding, tick_zero
from streamdrnn.audio.files import is_audio, stream_audio
from streamdrnn.errors import InputError

ENROLMENT_SHARE = 0.7
FEWEST_WINDOWS = 20
"""Some eleven seconds of speech of all voices; fewer windows say nothing."""
HIGHEST_EER = 0.2
"""Voices that are confused more often say nothing of where to tell them apart."""
_WINDOW = round(WINDOW_SECONDS / TICK_SECONDS)
_LARGEST_OFFSET = 20.0
_RESAMPLED = 200


class Calibration(NamedTuple):
    """How well voices are told apart.

    Attributes:
        speakers: how many voices.
        windows: how many windows were tested, against every voice's profile each.
        offset: what, added to all log likelihood ratios, makes them right for these voices.
        low, high: between which it is with a probability of 90 %, by voices drawn anew from these.
        eer: the equal error rate: how frequent both kinds of error are where they are as frequent.
        thresholds: probabilities, ascending, of one voice against nobody, with the offset.
        far: at each of them, the share of false acceptances.
        frr: at each of them, the share of false rejections.
    """

    speakers: int
    windows: int
    offset: float
    low: float
    high: float
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
        model: the speaker model, without an earlier calibration.
        recordings: by speaker. The first seven tenths of their time are enrolled, the rest tests.

    Raises:
        ValueError: somebody's recordings are too short, or cannot be read.
    """
    heard = [_hear(model, speaker, paths) for speaker, paths in recordings.items()]
    voices = Voices(model.scorer, [profile for profile, _, _ in heard])
    ratios = [
        np.stack([scores.log_ratios for scores in voices.compare_all(windows, seconds)])
        for _, windows, seconds in heard
    ]
    return error_rates(
        [of_voice[:, owner] for owner, of_voice in enumerate(ratios)],
        [np.delete(of_voice, owner, axis=1).ravel() for owner, of_voice in enumerate(ratios)],
    )


def check_calibration(result: Calibration) -> None:
    """Raise ``ValueError`` if a calibration rests on too little, or on voices that are not told apart."""
    if result.windows < FEWEST_WINDOWS:
        least = FEWEST_WINDOWS * WINDOW_SECONDS / 2
        raise InputError(
            f"{result.windows} windows of speech to test with, expected {FEWEST_WINDOWS} or more "
            f"(the last three tenths of the recordings: {least:.0f} s of speech in all)"
        )
    if result.eer > HIGHEST_EER:
        raise InputError(
            f"equal error rate {result.eer:.1%}, expected {HIGHEST_EER:.0%} or less: the voices are not told apart; "
            "is each folder of one person?"
        )


def error_rates(own: list[np.ndarray], others: list[np.ndarray]) -> Calibration:
    """The errors at every threshold.

    Args:
        own: for each voice, the log likelihood ratios of its windows with its own profile.
        others: for each voice, those of its windows with the other profiles.
    """
    random = np.random.default_rng(0)
    offsets = []
    for _ in range(_RESAMPLED):
        drawn = random.integers(len(own), size=len(own))
        offsets.append(_offset(np.concatenate([own[i] for i in drawn]), np.concatenate([others[i] for i in drawn])))
    friends, strangers = np.sort(np.concatenate(own)), np.sort(np.concatenate(others))
    offset = _offset(friends, strangers)
    frr = np.arange(len(friends)) / len(friends)  # at each of their own ratios
    far = 1 - np.searchsorted(strangers, friends) / len(strangers)
    best = int(np.abs(frr - far).argmin())
    thresholds = np.round(np.arange(0.01, 1, 0.01), 2)
    ratios = np.log(thresholds / (1 - thresholds)) - offset
    return Calibration(
        len(own),
        len(friends),
        round(offset, 3),
        round(float(np.quantile(offsets, 0.05)), 3),
        round(float(np.quantile(offsets, 0.95)), 3),
        round(float((frr[best] + far[best]) / 2), 4),
        thresholds.tolist(),
        (1 - np.searchsorted(strangers, ratios) / len(strangers)).tolist(),
        (np.searchsorted(friends, ratios) / len(friends)).tolist(),
    )


def _offset(own: np.ndarray, others: np.ndarray) -> float:
    """The logistic regression of the offset alone, both kinds of ratios counting the same.

    Where there is a gap between them it lies inside: its ends push away with the same force.
    """
    low, high = -_LARGEST_OFFSET, _LARGEST_OFFSET
    for _ in range(50):  # what the ends pull with is monotonic
        offset = (low + high) / 2
        pull = _sigmoid(-(own + offset)).mean() - _sigmoid(others + offset).mean()
        low, high = (offset, high) if pull > 0 else (low, offset)
    return (low + high) / 2


def _sigmoid(values: np.ndarray) -> np.ndarray:
    half: np.ndarray = 0.5 + 0.5 * np.tanh(values / 2)
    return half


def _hear(model: SpeakerModel, speaker: str, paths: list[Path]) -> tuple[Recording, Tensor, Tensor]:
    """A voice's profile, and the embeddings ``(windows, E)`` of its tests with their seconds of speech."""
    # The place of the cut is known when all is decoded; so that is done twice, rather than to keep hours in memory.
    cut = int(ENROLMENT_SHARE * sum(len(piece) for path in paths for piece in stream_audio(path, model.sample_rate)))
    enrolled, tested = Ear(model.embedder), Ear(model.embedder)
    enrolment, notes = Enrolment(model), [tick_zero(model.embedder)]
    for piece in (piece for path in paths for piece in stream_audio(path, model.sample_rate)):
        enrolment.hear(enrolled.push(piece[:cut]))
        notes += tested.push(piece[cut:])
        cut = max(0, cut - len(piece))
    enrolment.hear(enrolled.finish())
    try:
        profile = enrolment.finish()
    except InputError as error:
        raise InputError(f"speaker {speaker!r}: {error}, in the part that is enrolled") from None
    # Overlapping by half; half of a window at least is speech.
    windows = [
        (mean_embedding(model.embedder, first, last), (last.spoken - first.spoken) * TICK_SECONDS)
        for first, last in zip(notes[:: _WINDOW // 2], notes[_WINDOW :: _WINDOW // 2], strict=False)
        if last.spoken - first.spoken > _WINDOW // 2
    ]
    if not windows:
        raise InputError(f"speaker {speaker!r}: no speech in the last part, expected {MIN_SECONDS:g} s or more")
    embeddings, seconds = zip(*windows, strict=True)
    return profile, torch.stack(embeddings), torch.tensor(seconds)
