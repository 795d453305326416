"""What rooms, microphones and distance do to a voice, imitated on its log-mel features.

Features are in dB, so a gain is an addition and a filter adds a curve over the bands. It is cheap enough for every
crop of every step.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

FRAME_SECONDS = 0.02
"""From one frame of features to the next."""
SPEEDS = ((1, 1), (10, 9), (9, 10))
"""Ratios of duration, before to after, at which every voice is heard."""


def at_other_speeds(voices: list[Tensor]) -> list[Tensor]:
    """Every voice ``(N,)`` as it is, faster and slower: as pitch and formants move along, these are other voices.

    More voices are what a model of few speakers lacks (Yamamoto, Lee, Okabe, Koshinaka 2019, "Speaker augmentation and
    bandwidth extension for deep speaker embedding").
    """
    import soxr

    return [
        samples if before == after else torch.from_numpy(soxr.resample(samples.numpy(), before, after))
        for before, after in SPEEDS
        for samples in voices
    ]


def augment(features: Tensor, mean: Tensor, generator: torch.Generator) -> Tensor:
    """A random room, band limits, gain, filter and noise for each crop, and bands and stretches of time hidden.

    Rooms and band limits are for some of the crops only, and most of the noise is faint: where everything was
    distorted as much as can be understood, a model of this size knew clean voices less well.

    Args:
        features: ``(T, B, M)`` log-mel in dB.
        mean: ``(M,)``, the mean features, which stand for what is hidden.

    Returns:
        ``(T, B, M)``.
    """
    T, B, M = features.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def curve(points: int, spread: float) -> Tensor:
        return interpolate(spread * normal(B, 1, points), size=M, mode="linear").view(1, B, M)

    power = _in_a_room(10 ** (features / 10), generator)
    features = 10 * torch.log10(power.clamp(min=1e-12)) + _band_limits(B, M, generator)
    features = features + 5 * normal(1, B, 1) + curve(points=5, spread=3.0)
    level = -95 + 40 * torch.rand(1, B, 1, generator=generator)
    noise = level + curve(points=4, spread=4.0) + 4 * normal(T, B, M)
    features = 10 * torch.log10(10 ** (features / 10) + 10 ** (noise / 10))
    # SpecAugment (Park et al. 2019): one block of bands and one stretch of time per crop.
    bands = _hidden(M, 6, B, generator)
    times = _hidden(T, max(1, T // 8), B, generator)
    return torch.where(times[:, :, None] | bands.T[None], mean, features)


def _in_a_room(power: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of the crops ``(T, B, M)`` with a tail that falls by 60 dB in 0.1 to 0.8 s, as late reflections do."""
    B = power.shape[1]
    frames = (0.1 + 0.7 * torch.rand(B, 1, generator=generator)) / FRAME_SECONDS
    decay = 10 ** (-6 / frames)
    # As loud, in all, as the direct sound, or down to a tenth of it.
    share = 10 ** -torch.rand(B, 1, generator=generator) * (torch.rand(B, 1, generator=generator) < 0.25)
    heard, tail = [], torch.zeros_like(power[0])
    for now in power:
        heard.append(now + tail)
        tail = decay * (tail + (1 - decay) * share * now)
    return torch.stack(heard)


def _band_limits(B: int, M: int, generator: torch.Generator) -> Tensor:
    """For a quarter of the crops what a telephone or a cheap microphone leaves out: ``(1, B, M)`` dB."""
    limited = torch.rand(B, 1, generator=generator) < 0.25
    lowest = M * 0.12 * torch.rand(B, 1, generator=generator)
    highest = M * (1 - 0.3 * torch.rand(B, 1, generator=generator))
    band = torch.arange(M)
    return (-60.0 * (limited & ((band < lowest) | (band >= highest))))[None]


def _hidden(size: int, longest: int, B: int, generator: torch.Generator) -> Tensor:
    """One random run per crop: ``(size, B)`` bool."""
    length = torch.randint(0, longest + 1, (B,), generator=generator)
    start = (torch.rand(B, generator=generator) * (size - length + 1)).long()
    place = torch.arange(size)[:, None]
    return (place >= start) & (place < start + length)
