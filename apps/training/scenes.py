"""Scenes: speakers who take turns and pause, among noise, in a room, far from a microphone or over a telephone.

What is true of a scene is what the teacher heard in the clean recordings (:mod:`labelled_speech`).
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional, TypeVar

import numpy as np
from numpy.random import Generator

from streamdrnn.apps.training.labelled_speech import RATE, Piece, Samples, Speaker, by_sample, root_mean_square

_FAST = 4096
"""An FFT is fast for multiples of a power of two."""

_STEADY = 5 * RATE


class Conditions(NamedTuple):
    """What becomes of the speech.

    Attributes:
        level: of the speech, or of the noise where there is no speech, in dB of its mean square to full scale. What
            is beyond full scale is clipped.
        snr: the mean power of speech, where there is some, to that of noise, in dB; None is no noise.
        has_speech: else there is noise alone, or silence.
        has_room: whether a room's reflections follow the speech.
        has_telephone: whether all is heard through a telephone: 300 to 3400 Hz or so, in 8 bits (mu-law).
        tracks: in each of them speakers take turns, and no speaker is in two. So in two tracks two speak at once at
            times.
        pieces: the most that a speaker says in a turn.
        pause: seconds from one turn of a track to the next, on average.
    """

    level: float = -25.0
    snr: Optional[float] = None
    has_speech: bool = True
    has_room: bool = False
    has_telephone: bool = False
    tracks: int = 1
    pieces: int = 4
    pause: float = 1.0


class Scene(NamedTuple):
    """What is heard, and what is true of it.

    Attributes:
        samples: ``(N,)``.
        tracks: ``(K, N)``, for each sample the latest probability of speech in each track when it has been heard.
    """

    samples: Samples
    tracks: Samples

    @property
    def speech(self) -> Samples:
        """The probability ``(N,)`` that somebody speaks."""
        highest: Samples = self.tracks.max(0)
        return highest

    @property
    def overlap(self) -> Samples:
        """The probability ``(N,)`` that two speak at once, of one or two tracks."""
        lowest: Samples = self.tracks.min(0) if len(self.tracks) > 1 else np.zeros_like(self.samples)
        return lowest


def draw_conditions(random: Generator, worst_snr: float = -5.0) -> Conditions:
    """Those of a scene that trains: everything that a microphone may hear, evenly."""
    kind = random.random()
    snr = None if kind < 0.1 else random.uniform(20, 50) if kind < 0.3 else random.uniform(worst_snr, 20)
    return Conditions(
        random.triangular(-65, -20, 3),
        snr,
        random.random() < 0.85,
        random.random() < 0.3,
        random.random() < 0.15,
    )


def make_scene(
    random: Generator,
    sets: Sequence[Sequence[Speaker]],
    noises: Sequence[Samples],
    length: int,
    conditions: Conditions,
) -> Scene:
    """A scene.

    Args:
        random: of it all. Under other conditions of sound the same speakers say the same.
        sets: the speakers, by data set: each set is heard as often as any other. For two tracks each has two or more.
        noises: clips ``(N,)`` with a mean square of 1.
        length: N, an even number of samples.
    """
    turns = [_turns(random, cast, length, conditions) for cast in _casts(random, sets, conditions.tracks)]
    samples, tracks = np.sum([said for said, _ in turns], 0), np.stack([speech for _, speech in turns])
    noise = _in_a_row(random, noises, length)
    if not conditions.has_speech:
        samples, tracks = np.zeros_like(samples), np.zeros_like(tracks)
    elif conditions.has_room:
        samples = in_a_room(random, samples)
    if conditions.snr is not None:
        samples = samples + noise * 10 ** (-conditions.snr / 20 if conditions.has_speech else 0)
    samples = samples * 10 ** (conditions.level / 20)
    if conditions.has_telephone:
        samples = over_a_telephone(random, samples)
    # As converters do: whatever is above full scale is clipped, and the rest is rounded to 16 bits.
    samples = np.round(samples.clip(-1, 1) * 32767) / 32767
    return Scene(samples.astype(np.float32), tracks)


T = TypeVar("T")


def one_of(random: Generator, items: Sequence[T]) -> T:
    """One at random, each as likely as any other."""
    return items[int(random.integers(len(items)))]


def _casts(random: Generator, sets: Sequence[Sequence[Speaker]], tracks: int) -> list[Sequence[Sequence[Speaker]]]:
    """The speakers of each track, by data set."""
    if tracks == 1:
        return [sets]
    orders = [random.permutation(len(speakers)) for speakers in sets]
    return [
        [[speakers[place] for place in order[track::tracks]] for speakers, order in zip(sets, orders, strict=True)]
        for track in range(tracks)
    ]


def _turns(
    random: Generator, sets: Sequence[Sequence[Speaker]], length: int, conditions: Conditions
) -> tuple[Samples, Samples]:
    samples, speech = np.zeros((2, length), np.float32)
    # Somebody may be in mid-speech where the scene begins.
    at = round(random.uniform(-2, 1.5) * RATE)
    while at < length:
        speaker = one_of(random, one_of(random, sets))
        gain = 10 ** (random.normal(0, 3) / 20)
        for _ in range(random.integers(1, 1 + conditions.pieces)):
            piece = one_of(random, speaker)
            _add(piece, at, gain, samples, speech)
            at += len(piece.samples) + round(random.uniform(0, 0.4) * RATE)
        at += round(random.exponential(conditions.pause) * RATE)
    return samples, speech


def _add(piece: Piece, at: int, gain: float, samples: Samples, speech: Samples) -> None:
    """Let a piece begin at a sample, which may be before or after the scene."""
    for values, into, add in ((gain * piece.samples, samples, np.add), (by_sample(piece.speech), speech, np.maximum)):
        values = values[max(0, -at) : max(0, len(into) - at)]
        there = into[max(0, at) : max(0, at) + len(values)]
        add(there, values, out=there)


def _in_a_row(random: Generator, clips: Sequence[Samples], length: int) -> Samples:
    """Clips, one after the other, the first from somewhere within it on, with a mean square of 1."""
    row: list[Samples] = []
    while sum(map(len, row)) < length:
        clip = one_of(random, clips)
        row.append(clip if row else clip[random.integers(len(clip) // 2) :])
    noise = np.concatenate(row)[:length]
    return noise / max(root_mean_square(noise), 1e-3)


def coloured_noises(random: Generator, count: int) -> list[Samples]:
    """Clips of 5 s, steady, with a spectrum that falls by 0 to 9 dB per octave: what wind, fans and amplifiers make."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(_STEADY, 1 / RATE), 50))
    spectra = np.fft.rfft(random.standard_normal((count, _STEADY), np.float32))
    shaped = np.fft.irfft(spectra * 10 ** (-random.uniform(0, 9, (count, 1)) * octaves / 20)).astype(np.float32)
    return [clip / root_mean_square(clip) for clip in shaped]


def hums(random: Generator, count: int) -> list[Samples]:
    """Clips of 5 s, steady, of 1 to 20 harmonics of 40 to 1000 Hz: what mains, motors and instruments make."""
    time = np.arange(_STEADY) / RATE
    clips = []
    for _ in range(count):
        pitch = 40 * 25 ** random.random()
        harmonics = 1 + np.arange(min(int(random.integers(1, 21)), int(RATE / 2 / pitch)))[:, None]
        cycles = pitch * harmonics * time + random.random(harmonics.shape)
        clip = (np.sin(2 * np.pi * cycles) * harmonics ** -random.uniform(0.5, 2.0)).sum(0)
        clips.append((clip / root_mean_square(clip)).astype(np.float32))
    return clips


def in_a_room(random: Generator, samples: Samples) -> Samples:
    """Speech and its reflections, which begin after 2 ms and fall by 60 dB in 0.1 to 0.8 s.

    In all they are 12 dB below what comes directly, to 3 dB above it.
    """
    count = round(random.uniform(0.1, 0.8) * RATE)
    tail = random.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: RATE // 500] = 0
    tail *= 10 ** (random.uniform(-12, 3) / 20) / np.linalg.norm(tail)
    tail[0] = 1
    size = -(-(len(samples) + count) // _FAST) * _FAST
    heard = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail.astype(np.float32), size), size)
    return heard[: len(samples)].astype(np.float32)


def over_a_telephone(random: Generator, samples: Samples) -> Samples:
    """What is left of sound between 100 to 300 and 3200 to 3800 Hz, sampled at 8 kHz and coded in 8 bits (mu-law)."""
    length = len(samples)
    frequencies = np.fft.rfftfreq(length, 1 / RATE)[: length // 4 + 1]
    band = (frequencies >= random.uniform(100, 300)) & (frequencies <= random.uniform(3200, 3800))
    coded = mu_law(np.fft.irfft(np.fft.rfft(samples)[: len(band)] * band, length // 2) / 2)
    return 2 * np.fft.irfft(np.fft.rfft(coded), length).astype(np.float32)


def mu_law(samples: Samples) -> Samples:
    """What is left of samples in the 8 bits of ITU-T G.711's curve."""
    code = np.round(127 * np.log1p(255 * np.abs(samples).clip(max=1)) / np.log(256))
    decoded: Samples = np.copysign(np.expm1(code / 127 * np.log(256)) / 255, samples)
    return decoded
