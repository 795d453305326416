"""What rooms, microphones, noise and telephones do to recordings, imitated on many of them at once, on any device."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

RATE = 16000
_TAIL = round(0.8 * RATE)
_CURVE_POINTS = 9
"""Of a microphone's random frequency response, evenly spaced on a scale of octaves from 60 Hz."""


class Chances(NamedTuple):
    """How often each happens to a recording."""

    room: float = 0.5
    response: float = 0.8
    noise: float = 0.7
    codec: float = 0.2
    telephone: float = 0.3
    clipping: float = 0.1
    hum: float = 0.15
    offset: float = 0.15


MILD = Chances(room=0.15, response=0.5, noise=0.3, codec=0.1, telephone=0.15, clipping=0.03, hum=0.05, offset=0.05)
"""As most recordings are."""


def distort(samples: Tensor, noises: Tensor, generator: Generator, chances: Chances) -> Tensor:
    """Put each recording into a room, before a microphone, among noise, through a codec, over a telephone.

    The level becomes any. Each step is computed for the recordings alone that it happens to.

    Args:
        samples: ``(B, N)``, from -1 to 1.
        noises: ``(K, L)`` clips, L >= N; other recordings of the batch, a babble, are noise too.
        generator: of everything random, on the device of the samples.

    Returns:
        ``(B, N)``, rounded to 16 bits.
    """
    random = _Random(torch.arange(len(samples), device=samples.device), generator)
    voices = samples / _level(samples)
    # A voice is -45 to -15 dB of full scale on average, and its peaks are about 15 dB above; clipping cuts into it.
    heard = _happened(random, voices.clone(), chances.room, _in_a_room)
    heard = _happened(random, heard, chances.response, _through_a_microphone)
    heard = _happened(random, heard, chances.noise, partial(_among_noise, noises=noises, voices=voices))
    heard = _happened(random, heard, chances.hum, _with_hum)
    heard = _happened(random, heard, chances.codec, _coded)
    heard = _happened(random, heard, chances.telephone, _over_a_telephone)
    heard = heard / _level(heard) * 10 ** (random.uniform(-45, -15) / 20)
    heard = _happened(random, heard, chances.clipping, _clipped)
    heard = _happened(random, heard, chances.offset, _offset)
    return (heard.clamp(-1, 1) * 32767).round() / 32767


class _Random:
    """Numbers ``(B, 1)``, one for each of some recordings.

    Attributes:
        rows: ``(B,)``, where in the batch they are.
    """

    def __init__(self, rows: Tensor, generator: Generator) -> None:
        self.rows = rows
        self.generator, self.device = generator, rows.device

    def uniform(self, low: float, high: float, size: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(len(self.rows), size, generator=self.generator, device=self.device)

    def normal(self, size: int) -> Tensor:
        return torch.randn(len(self.rows), size, generator=self.generator, device=self.device)

    def happens(self, chance: float) -> Tensor:
        return self.uniform(0, 1) < chance

    def choice(self, count: int) -> Tensor:
        return torch.randint(count, self.rows.shape, generator=self.generator, device=self.device)


def _happened(random: _Random, heard: Tensor, chance: float, imitation: Callable[[_Random, Tensor], Tensor]) -> Tensor:
    """Recordings ``(B, N)``, those of them written to which an imitation of ``(B', N)`` happens."""
    rows = random.happens(chance)[:, 0].nonzero()[:, 0]
    if len(rows):
        heard[rows] = imitation(_Random(rows, random.generator), heard[rows])
    return heard


def _level(samples: Tensor) -> Tensor:
    """The root mean square ``(B, 1)``, which silence has too."""
    return samples.square().mean(1, keepdim=True).sqrt().clamp(min=1e-4)


def _in_a_room(random: _Random, samples: Tensor) -> Tensor:
    size = _transform_size(samples.shape[1])
    return _filtered(samples, torch.fft.rfft(_reflections(random), size))


def _through_a_microphone(random: _Random, samples: Tensor) -> Tensor:
    return _filtered(samples, _response(random, _transform_size(samples.shape[1])))


def _filtered(samples: Tensor, response: Tensor) -> Tensor:
    """Recordings ``(B, N)`` through responses ``(B, size / 2 + 1)``, of :func:`_transform_size`."""
    N = samples.shape[1]
    size = _transform_size(N)
    heard: Tensor = torch.fft.irfft(torch.fft.rfft(samples, size) * response, size)[:, :N]
    return heard


def _transform_size(length: int) -> int:
    """Enough for a recording and a room's tail, and without large prime factors, which make transforms slow."""
    return -(-(length + _TAIL) // 4096) * 4096


def _reflections(random: _Random) -> Tensor:
    """The direct sound and noise that follows, falls by 60 dB in 0.1 to 0.8 s, and has -15 to 3 dB of its energy."""
    time = torch.arange(_TAIL, device=random.device) / RATE
    tail: Tensor = random.normal(_TAIL) * 10 ** (-3 * time / random.uniform(0.1, 0.8))
    tail = tail * (time > random.uniform(0.001, 0.02))  # the first reflection has gone 0.3 m to 7 m farther
    tail = tail * 10 ** (random.uniform(-15, 3) / 20) / tail.norm(dim=1, keepdim=True)
    tail[:, 0] = 1
    return tail


def _response(random: _Random, size: int) -> Tensor:
    """A smooth curve, 4 dB (standard deviation) around 0, with a low and a high cut for some."""
    hertz = torch.fft.rfftfreq(size, 1 / RATE, device=random.device)
    at = (hertz.clamp(min=60) / 60).log2() * (_CURVE_POINTS - 1) / 7.06  # 8 kHz is 7.06 octaves above 60 Hz
    left = at.long().clamp(max=_CURVE_POINTS - 2)
    points, share = 4 * random.normal(_CURVE_POINTS), at - left
    curve = points[:, left] * (1 - share) + points[:, left + 1] * share
    low = torch.where(random.happens(0.3), random.uniform(50, 300), 1)
    high = torch.where(random.happens(0.3), random.uniform(3000, 8000), 1e5)
    falls = 10 * torch.log10(1 + (low / hertz.clamp(min=1)) ** 4) + 10 * torch.log10(1 + (hertz / high) ** 8)
    gain: Tensor = 10 ** ((curve - falls) / 20)
    return gain


def _among_noise(random: _Random, samples: Tensor, noises: Tensor, voices: Tensor) -> Tensor:
    """A clip, or a babble of the batch's other voices, at 0 to 25 dB below a mean square of 1."""
    N = samples.shape[1]
    start = int(torch.randint(noises.shape[1] - N + 1, (), generator=random.generator, device=random.device))
    clip = noises[random.choice(len(noises)), start : start + N]
    babble = sum(voices[(random.rows + shift) % len(voices)] for shift in (1, 3, 4, 7))
    noise = torch.where(random.happens(0.25), babble, clip)
    return samples + noise / _level(noise) * 10 ** (-random.uniform(0, 25) / 20)


def _with_hum(random: _Random, samples: Tensor) -> Tensor:
    """Mains: 50 or 60 Hz with harmonics, at 5 to 30 dB below a mean square of 1."""
    time = torch.arange(samples.shape[1], device=random.device) / RATE
    pitch = torch.where(random.happens(0.5), 50.0, 60.0)
    phases = random.uniform(0, 6.3, 5)
    waves = [(6.2832 * k * pitch * time + phases[:, k - 1 : k]).sin() / k for k in range(1, 6)]
    return samples + torch.stack(waves).sum(0) * 10 ** (-random.uniform(5, 30) / 20)


def _coded(random: _Random, samples: Tensor) -> Tensor:
    """What lossy codecs do: in every 32 ms what is 25 to 50 dB below the loudest is lost, and the rest is coarse."""
    window = torch.hann_window(512, device=random.device)
    spectrum = torch.stft(samples, 512, 256, window=window, return_complex=True)
    size = spectrum.abs().clamp(min=1e-6)
    decibels = 20 * size.log10()
    step = random.uniform(1, 6)[..., None]
    kept = decibels >= decibels.amax(1, keepdim=True) - random.uniform(25, 50)[..., None]
    gain = torch.where(kept, 10 ** (((decibels / step).round() * step - decibels) / 20), 0)
    return torch.istft(spectrum * gain, 512, 256, window=window, length=samples.shape[1])


def _over_a_telephone(random: _Random, samples: Tensor) -> Tensor:
    """Between 100 to 350 and 3200 to 3900 Hz, sampled at 8 kHz in the 8 bits of ITU-T G.711's curve.

    So nothing at all is left above 4 kHz, not even the noise of the coding.
    """
    N = samples.shape[1]
    hertz = torch.fft.rfftfreq(N, 1 / RATE, device=random.device)[: N // 4 + 1]
    band = (hertz >= random.uniform(100, 350)) & (hertz <= random.uniform(3200, 3900))
    narrow = torch.fft.irfft(torch.fft.rfft(samples)[:, : len(hertz)] * band, N // 2)
    narrow = narrow / narrow.abs().amax(1, keepdim=True).clamp(min=1e-4) * 10 ** (-random.uniform(0, 30) / 20)
    code = (127 * torch.log1p(255 * narrow.abs()) / 5.5452).round()
    coded = torch.copysign(torch.expm1(code / 127 * 5.5452) / 255, narrow)
    heard: Tensor = torch.fft.irfft(torch.fft.rfft(coded), N)
    return heard


def _clipped(random: _Random, samples: Tensor) -> Tensor:
    bound = samples.abs().amax(1, keepdim=True) * random.uniform(0.1, 0.6)
    return torch.maximum(torch.minimum(samples, bound), -bound)


def _offset(random: _Random, samples: Tensor) -> Tensor:
    return samples + 10 ** random.uniform(-3.5, -1.5)
