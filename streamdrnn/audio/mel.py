"""The mel scale's filters, as librosa's ``filters.mel`` gives them; librosa itself takes seconds to import."""

import numpy as np
from numpy.typing import NDArray

# Slaney's Auditory Toolbox (1998): mel are linear up to 1 kHz, and logarithmic from there on.
_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0


def mel_filters(sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> NDArray[np.float64]:
    """Triangles that are evenly spaced in mel, each of constant energy: ``(n_mels, 1 + n_fft // 2)``.

    Args:
        sample_rate: in Hz.
        n_fft: the length of the spectrum's window.
        n_mels: how many.
        fmin, fmax: the first one's beginning and the last one's end, in Hz.
    """
    edges = _to_hz(np.linspace(_to_mel(fmin), _to_mel(fmax), n_mels + 2))
    widths = np.diff(edges)[:, None]
    ramps = edges[:, None] - np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    triangles = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    return triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]


def _to_mel(hz: float) -> float:
    mel = hz / _HZ_PER_MEL
    return mel if hz < _BREAK_HZ else _BREAK_HZ / _HZ_PER_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    first = _BREAK_HZ / _HZ_PER_MEL
    return np.where(mel < first, _HZ_PER_MEL * mel, _BREAK_HZ * np.exp(_LOG_STEP * (mel - first)))
