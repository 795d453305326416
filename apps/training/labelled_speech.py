"""Recordings of known speakers, with a teacher's judgement of where there is speech, and recordings of noise.

The teacher is Silero, as :class:`streamdrnn.apps.training.silero.Silero` runs it. It hears each recording
alone, between two stretches of silence.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from streamdrnn.apps.speaker_id.activity import SPEECH
from streamdrnn.apps.training.silero import Silero
from streamdrnn.apps.training.speaker_folders import find_utterances
from streamdrnn.audio import load_audio
from streamdrnn.audio.files import is_audio
from streamdrnn.errors import InputError

RATE = 16000
WINDOW = 512
"""Samples that the teacher hears at a time."""
SILENCE = 16
"""Windows of silence before and after a recording: half a second."""
PAUSE = 0.1
"""Where the probability of speech is lower a recording may be cut."""
SHORTEST_CUT = 2 * RATE // WINDOW
"""Windows after which a recording is cut at the next pause."""
TEST_SHARE, VALID_SHARE = 0.2, 0.1

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
Samples = NDArray[np.floating]


class Piece(NamedTuple):
    """A recording, or a part of one between two pauses.

    Attributes:
        samples: ``(N,)``, with a mean square of 1 where there is speech.
        speech: ``(W,)``, the teacher's probabilities, from that of the silence before the samples to that of the
            silence after them; see :func:`by_sample`.
    """

    samples: Samples
    speech: Samples


Speaker = list[Piece]


def load_speakers(folder: Path, part: Part, minutes: float, without: Collection[str] = ()) -> list[Speaker]:
    """The speakers of one part of a data set, at most some minutes of each; as :func:`recordings_of`.

    Raises:
        OSError, ValueError: recordings are missing or cannot be read, or there is no speech in them.
    """
    teacher = Silero()
    speakers = [_load(paths, minutes, teacher) for paths in recordings_of(folder, part, without).values()]
    if not any(speakers):
        raise InputError(f"{folder}: no speech by speakers of the part {part}")
    return [speaker for speaker in speakers if speaker]


def recordings_of(folder: Path, part: Part, without: Collection[str] = ()) -> dict[str, list[Path]]:
    """The recordings of the speakers of one part of a data set, without those of some names.

    A hash of their names chooses the speakers who test, a fifth of them, and who validate, a tenth.

    Raises:
        FileNotFoundError: there are none.
    """
    recordings: dict[str, list[Path]] = defaultdict(list)
    for speaker, path in find_utterances(folder):
        recordings[speaker].append(path)
    return {name: recordings[name] for name in divide(list(recordings))[part] if name not in without}


def divide(speakers: list[str]) -> dict[Part, list[str]]:
    """Which speakers train, validate and test."""
    ranked = sorted(speakers, key=lambda name: hashlib.sha256(name.encode()).digest())
    test, valid = (max(1, round(share * len(ranked))) for share in (TEST_SHARE, VALID_SHARE))
    return {"test": ranked[:test], "valid": ranked[test : test + valid], "train": ranked[test + valid :]}


def _load(paths: list[Path], minutes: float, teacher: Silero) -> Speaker:
    speaker: Speaker = []
    left = round(minutes * 60 * RATE)
    for path in paths:
        samples = load_audio(path, RATE)[:left].numpy()
        speaker += cut(samples, judge(samples, teacher))
        left -= len(samples)
        if left <= 0:
            break
    return speaker


def judge(samples: Samples, teacher: Silero) -> Samples:
    """The teacher's probabilities ``(W,)`` for samples ``(N,)``, as :class:`Piece` has them."""
    silence = torch.zeros(SILENCE * WINDOW)
    teacher.reset()
    heard = teacher.push(torch.cat([silence, torch.from_numpy(samples), torch.zeros(-len(samples) % WINDOW), silence]))
    return np.array(heard[SILENCE - 1 :], np.float32)


def by_sample(speech: Samples) -> Samples:
    """The teacher's latest probability when each sample has been heard, for its probabilities ``(W,)``."""
    return speech.repeat(WINDOW)[1:]


def cut(samples: Samples, speech: Samples) -> list[Piece]:
    """The pieces with speech in them of a recording ``(N,)`` with the teacher's probabilities ``(W,)``."""
    pieces = []
    start, windows = 0, len(samples) // WINDOW
    while start < windows:
        end = start + SHORTEST_CUT
        while end < windows and speech[end] >= PAUSE:
            end += 1
        last = end >= windows
        piece = samples[start * WINDOW : None if last else end * WINDOW]
        judged = speech[start : None if last else end + 1]
        start = end
        # The judgement of a window stands after it.
        whole = piece[: len(piece) // WINDOW * WINDOW].reshape(-1, WINDOW)
        spoken = whole[judged[1 : 1 + len(whole)] >= SPEECH]
        if spoken.any():
            pieces.append(Piece(piece / root_mean_square(spoken), judged))
    return pieces


_ESC = re.compile(r"(?P<fold>[1-5])-.+")
_PARTS: dict[str, Part] = {"1": "train", "2": "train", "3": "train", "4": "valid", "5": "test"}


def load_noises(folder: Path, part: Part) -> list[Samples]:
    """The clips ``(N,)`` of one part of ESC-10, each with a mean square of 1.

    Its first three folds train, the fourth validates and the last tests: all clips of one source are in one fold.

    Raises:
        OSError, ValueError: there are none, or they cannot be read.
    """
    named = [(path, _ESC.fullmatch(path.name)) for path in sorted(folder.rglob("*")) if is_audio(path)]
    paths = [path for path, match in named if match and _PARTS[match["fold"]] == part]
    if not paths:
        raise FileNotFoundError(f"{folder}: no <fold>-<source>-<take> of the part {part}, expected the clips of ESC-10")
    clips = [load_audio(path, RATE).numpy() for path in paths]
    return [clip / root_mean_square(clip) for clip in clips if clip.any()]


def root_mean_square(samples: Samples) -> float:
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
