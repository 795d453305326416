"""Makes the demo's recordings from LibriSpeech: python -m streamdrnn.apps.training.demo_recording DATA FOLDER.

The enrolments are the readers' own recordings. The conversation is from later parts of them, heard through two other
microphones, in a room, and once over a telephone.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from streamdrnn.apps.training.labelled_speech import RATE, Samples, root_mean_square
from streamdrnn.apps.training.scenes import coloured_noises, in_a_room, over_a_telephone
from streamdrnn.apps.training.speaker_folders import find_utterances
from streamdrnn.audio import load_audio

READERS = {
    "Heather": ("198", "Heather Barnett"),
    "Paul": ("8770", "Paul Simonin"),
    "Deborah": ("6064", "Deborah Knight"),
    "Anders": ("3436", "Anders Lankford"),
    "Craig": ("3374", "Craig Campbell"),
}
"""Name in the demo, and LibriSpeech's speaker number and reader."""
GUEST = "Craig"
"""A voice that is heard and not enrolled."""
ENROLMENT_SECONDS = 7.0

# The response of each microphone: frequencies in Hz, and dB.
TABLE = ((60, -12), (120, -3), (250, 0), (1500, 0), (3500, 4), (6000, 1), (8000, -6))
LAPTOP = ((60, -40), (150, -18), (300, -4), (900, 0), (2500, 3), (4000, -3), (6000, -8), (8000, -14))
# Seeds of :func:`in_a_room`: reflections that fall by 60 dB in 0.28 and 0.46 s, 7 and 4 dB below the direct sound.
NEAR, FAR = 12, 1


def _microphone(response: tuple[tuple[int, int], ...], level: float, room: int) -> Callable[[Samples], Samples]:
    """From speech to what a microphone of that response makes of it, at a level in dBFS, in a room."""
    frequencies, gains = zip(*response, strict=True)

    def hear(samples: Samples) -> Samples:
        samples = in_a_room(np.random.default_rng(room), samples)
        octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE), 1))
        gain = 10 ** (np.interp(octaves, np.log2(frequencies), gains) / 20)
        return _at_level(np.fft.irfft(np.fft.rfft(samples) * gain, len(samples)), level)

    return hear


def _telephone(samples: Samples) -> Samples:
    return over_a_telephone(np.random.default_rng(0), _at_level(samples, -30))


HEARD = {
    "table": _microphone(TABLE, -28, NEAR),
    "laptop": _microphone(LAPTOP, -36, FAR),
    "telephone": _telephone,
}
"""What a turn may be heard through."""


class Turn(NamedTuple):
    """Who speaks, for about how many seconds, and how it is heard (a key of :data:`HEARD`)."""

    speaker: str
    seconds: float
    heard: str


TURNS = (
    Turn("Heather", 4.0, "table"),
    Turn("Paul", 4.0, "table"),
    Turn("Deborah", 3.6, "laptop"),
    Turn("Anders", 3.8, "laptop"),
    Turn("Craig", 4.0, "laptop"),
    Turn("Heather", 1.8, "laptop"),
    Turn("Deborah", 4.0, "table"),
    Turn("Paul", 4.0, "laptop"),
    Turn("Craig", 4.0, "table"),
    Turn("Anders", 1.6, "table"),
    Turn("Heather", 4.0, "telephone"),
    Turn("Anders", 4.0, "table"),
)
MUSIC_AFTER = 5
"""Music is heard in the pause after so many turns."""
PAUSE_SECONDS = 0.4
MUSIC_LEVEL, NOISE_LEVEL = -32.0, -74.0
CHORDS = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))
"""Of the music, in Hz: C major, A minor, F major, G major."""
CHORD_SECONDS = 0.75

_FRAME = RATE // 50


def make_demo(librispeech_folder: Path, folder: Path) -> None:
    """Write the conversation, the enrolments, and ``demo.json``, which says who really speaks when."""
    paths = {utterance.speaker: utterance.path for utterance in find_utterances(librispeech_folder)}
    left = {name: _fluent(load_audio(paths[number], RATE).numpy()) for name, (number, _) in READERS.items()}
    folder.mkdir(parents=True, exist_ok=True)
    voices = []
    for name in READERS:
        enrolment, left[name] = _cut(left[name], ENROLMENT_SECONDS)
        if name != GUEST:
            file = f"{name.lower()}.flac"
            _write(folder / file, enrolment)
            voices.append({"name": name, "file": file})

    pieces: list[Samples] = []
    turns: list[dict[str, object]] = []
    music: dict[str, float] = {}
    at = 0.0
    for number, turn in enumerate(TURNS, 1):
        said, left[turn.speaker] = _cut(left[turn.speaker], turn.seconds)
        said = _trim(said)
        speaker = None if turn.speaker == GUEST else turn.speaker
        end = at + len(said) / RATE
        turns.append({"start": round(at, 2), "end": round(end, 2), "speaker": speaker, "heard": turn.heard})
        # What follows the turn is heard with it, as a room goes on sounding.
        pieces.append(HEARD[turn.heard](np.pad(said, (0, round(PAUSE_SECONDS * RATE)))))
        if number == MUSIC_AFTER:
            pieces.append(_music())
            start = end + PAUSE_SECONDS
            music = {"start": round(start, 2), "end": round(start + CHORD_SECONDS * len(CHORDS), 2)}
            pieces.append(np.zeros(round(PAUSE_SECONDS * RATE), np.float32))
        at = _seconds(pieces)
    conversation = np.concatenate(pieces)
    [noise] = coloured_noises(np.random.default_rng(0), 1)
    _write(folder / "conversation.flac", conversation + 10 ** (NOISE_LEVEL / 20) * np.resize(noise, len(conversation)))

    script = {
        "source": "LibriSpeech ASR corpus, V. Panayotov, G. Chen, D. Povey, S. Khudanpur, 2015; openslr.org/12",
        "license": "CC BY 4.0, creativecommons.org/licenses/by/4.0",
        "changes": "cut, filtered, reverberated, and joined with pauses, noise and synthesised music",
        "readers": [f"{reader} ({paths[number].stem})" for number, reader in READERS.values()],
        "speakers": [number for number, _ in READERS.values()],
        "file": "conversation.flac",
        "voices": voices,
        "turns": turns,
        "music": music,
    }
    (folder / "demo.json").write_text(json.dumps(script, indent=2) + "\n", encoding="utf-8")


def _seconds(pieces: list[Samples]) -> float:
    return sum(map(len, pieces)) / RATE


def _levels(samples: Samples) -> Samples:
    """The root mean square of every 20 ms."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    levels: Samples = np.sqrt(np.square(frames).mean(1))
    return levels


def _cut(samples: Samples, seconds: float) -> tuple[Samples, Samples]:
    """The beginning of about so many seconds, and the rest; the cut is where it is quietest within 0.3 s.

    If there is not so much, it is all of it.
    """
    first = round((seconds - 0.3) * RATE)
    near = _levels(samples[first : first + round(0.6 * RATE)])
    at = first + (int(near.argmin()) * _FRAME + _FRAME // 2) if len(samples) > seconds * RATE else len(samples)
    return samples[:at], samples[at:]


def _loud(samples: Samples) -> NDArray[np.intp]:
    """Which of the frames of 20 ms are not silent."""
    return np.flatnonzero(_levels(samples) > 0.1 * root_mean_square(samples))


def _trim(samples: Samples) -> Samples:
    """Without the silence before and after speech."""
    loud = _loud(samples)
    return samples[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME]


def _fluent(samples: Samples) -> Samples:
    """Without what is more than 0.2 s from speech, so that no pause is longer than 0.4 s."""
    near = np.zeros(len(samples) // _FRAME, bool)
    for frame in _loud(samples):
        near[max(0, frame - 10) : frame + 11] = True
    return samples[: len(near) * _FRAME][near.repeat(_FRAME)]


def _at_level(samples: Samples, level: float) -> Samples:
    """Scaled so that what is not silent has that level in dBFS."""
    loud = _levels(samples)[_loud(samples)]
    return (samples * 10 ** (level / 20) / root_mean_square(loud)).astype(np.float32)


def _music() -> Samples:
    """A few chords, whose harmonics fade."""
    time = np.arange(round(CHORD_SECONDS * RATE)) / RATE
    harmonics = np.arange(1, 7)[:, None]
    fading = np.exp(-2 * harmonics * time) / harmonics
    chords = [sum((np.sin(2 * np.pi * harmonics * note * time) * fading).sum(0) for note in notes) for notes in CHORDS]
    return _at_level(np.concatenate(chords), MUSIC_LEVEL)


def _write(path: Path, samples: Samples) -> None:
    soundfile.write(path, samples, RATE, subtype="PCM_16", format="FLAC", compression_level=1.0)


if __name__ == "__main__":
    make_demo(Path(sys.argv[1]), Path(sys.argv[2]))
