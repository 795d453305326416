"""Music without voices, synthesised: melodies over chords and a beat, on instruments that are drawn at random.

Detectors of speech hear it as noise: it has pitch, harmonics and onsets, as voices do.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from streamdrnn.apps.training.labelled_speech import RATE, Samples, root_mean_square

SECONDS = 5
MAJOR, MINOR, PENTATONIC = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10)
SCALES = (MAJOR, MINOR, PENTATONIC)
"""In semitones above the key."""
_LENGTH = SECONDS * RATE
_LOWEST, _OCTAVES = 40.0, 4
"""Keys begin in the octave above, in Hz; melodies lie up to so many octaves higher."""


class Instrument(NamedTuple):
    """What a note sounds like.

    Attributes:
        partials: ``(P,)``, the amplitude of each harmonic.
        stretch: how much sharper than a multiple of the pitch the harmonics become, as those of strings and bells are.
        attack: seconds until a note is at its loudest.
        decay: by which a second later a held note has faded, in nepers; higher harmonics fade faster.
        vibrato: the depth, as a share of the pitch, of a swing of ``swing`` Hz.
    """

    partials: Samples
    stretch: float
    attack: float
    decay: float
    vibrato: float
    swing: float


def music(random: Generator, count: int) -> list[Samples]:
    """Clips of 5 s with a mean square of 1."""
    clips = [_clip(random) for _ in range(count)]
    return [(clip / root_mean_square(clip)).astype(np.float32) for clip in clips]


def _clip(random: Generator) -> Samples:
    beat = random.uniform(0.15, 0.8)
    scale, key = SCALES[random.integers(len(SCALES))], _LOWEST * 2 ** random.random()
    clip = np.zeros(_LENGTH)
    for part in (_chords, _melody, _drums):
        if random.random() < 0.7:
            clip += random.uniform(0.3, 1) * part(random, scale, key, beat)
    return clip if clip.any() else _chords(random, scale, key, beat)


def _pitch(scale: tuple[int, ...], key: float, degree: int) -> float:
    """The frequency in Hz of a degree of a scale, from 0 on, in any octave."""
    octave, step = divmod(degree, len(scale))
    return float(key * 2 ** (octave + scale[step] / 12))


def _chords(random: Generator, scale: tuple[int, ...], key: float, beat: float) -> Samples:
    """Every other degree from a root on, held for some beats, together or one after the other."""
    instrument, held = _instrument(random), beat * random.integers(1, 5)
    spread = beat / 4 if random.random() < 0.3 else 0.0
    heard = np.zeros(_LENGTH)
    for start in np.arange(0, SECONDS, held):
        root = int(random.integers(2 * len(scale)))
        for place in range(random.integers(2, 5)):
            _play(heard, instrument, _pitch(scale, key, root + 2 * place), start + place * spread, held)
    return heard / max(root_mean_square(heard), 1e-6)


def _melody(random: Generator, scale: tuple[int, ...], key: float, beat: float) -> Samples:
    """A walk over the scale, with rests."""
    instrument = _instrument(random)
    degree, heard, at = int(random.integers(len(scale), _OCTAVES * len(scale))), np.zeros(_LENGTH), 0.0
    while at < SECONDS:
        held = beat * random.choice((0.5, 1, 1, 2))
        if random.random() < 0.85:
            _play(heard, instrument, _pitch(scale, key, degree), at, held)
        degree = int(np.clip(degree + random.integers(-3, 4), 0, _OCTAVES * len(scale)))
        at += held
    return heard / max(root_mean_square(heard), 1e-6)


def _drums(random: Generator, scale: tuple[int, ...], key: float, beat: float) -> Samples:
    """Hisses and thuds on beats and between them."""
    heard = np.zeros(_LENGTH)
    fades = random.uniform(8, 60, 2)
    for at in np.arange(0, SECONDS, beat / 2):
        time = np.arange(min(round(beat * RATE), _LENGTH - round(at * RATE))) / RATE
        into = heard[round(at * RATE) :][: len(time)]
        if random.random() < 0.6:
            into += random.standard_normal(len(time)) * np.exp(-fades[0] * time) * random.uniform(0.1, 0.5)
        if random.random() < 0.4:
            into += np.sin(2 * np.pi * (50 * time + 4 * (1 - np.exp(-25 * time)))) * np.exp(-fades[1] / 4 * time)
    return heard / max(root_mean_square(heard), 1e-6)


def _instrument(random: Generator) -> Instrument:
    numbers = np.arange(1, 1 + random.integers(1, 25))
    partials = numbers ** -random.uniform(0.3, 2.5) * random.uniform(0.2, 1, len(numbers))
    if random.random() < 0.3:  # as of clarinets
        partials[1::2] *= 0.1
    return Instrument(
        partials,
        random.uniform(0, 5e-4),
        10 ** random.uniform(-2.7, -0.9),
        random.uniform(0, 1) if random.random() < 0.4 else 10 ** random.uniform(0, 1.2),
        random.uniform(0, 0.015) if random.random() < 0.4 else 0.0,
        random.uniform(4, 7),
    )


def _play(into: Samples, instrument: Instrument, pitch: float, start: float, held: float) -> None:
    """Add a note of so many Hz that is held so many seconds; what lies beyond the clip is left out."""
    first = round(start * RATE)
    time = np.arange(min(round(held * RATE), len(into) - first)) / RATE
    if not len(time):
        return
    numbers = np.arange(1, 1 + len(instrument.partials))
    hertz = pitch * numbers * np.sqrt(1 + instrument.stretch * numbers**2)
    audible = hertz < 0.45 * RATE
    swing = instrument.vibrato * np.sin(2 * np.pi * instrument.swing * time) / (2 * np.pi * instrument.swing)
    cycles = hertz[audible, None] * (time + swing)
    fading = np.exp(-instrument.decay * numbers[audible, None] ** 0.5 * time)
    note = (instrument.partials[audible, None] * fading * np.sin(2 * np.pi * cycles)).sum(0)
    release = np.minimum(1, (held - time) / 0.02)  # without a click
    into[first : first + len(time)] += note * np.minimum(1, time / instrument.attack) * release
