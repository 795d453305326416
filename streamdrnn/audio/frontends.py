"""Front-ends: from samples to the features that a network reads, causal and streaming.

Pushed in any chunks they give what librosa gives for the whole signal with ``center=False``.
"""

from collections.abc import Callable
from typing import Any, Optional, Self, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from streamdrnn.audio.deltas import HISTORY, delta_weights, with_deltas
from streamdrnn.audio.framing import next_frames
from streamdrnn.audio.mel import mel_filters
from streamdrnn.audio.state import AudioState
from streamdrnn.checks import check_lengths, check_positive, check_tensor
from streamdrnn.errors import InputError
from streamdrnn.kernels import without_autocast
from streamdrnn.kernels.rings import steps_made

_MAX_WINDOW = 65536
_MAX_FILTERS = 2**24  # n_fft times n_mels: 64 MB of float64, as only half of the spectrum has a weight


FRONTENDS: dict[str, type["FrontEnd"]] = {}
"""The kinds of front-ends by name, as model files have it."""


class FrontEnd(nn.Module):
    """Samples in, frames of features out.

    Args:
        sample_rate: samples per second.
        window: samples that one frame is made from.
        hop_length: samples from one frame to the next.
        num_features: M, the features of a frame.
        history: past frames that a frame's features need.

    Attributes:
        sample_rate: as given.
        window: as given.
        hop_length: as given.
        num_features: as given.
    """

    def __init_subclass__(cls) -> None:
        FRONTENDS.setdefault(cls.__name__, cls)

    def __init__(self, sample_rate: int, window: int, hop_length: int, num_features: int, history: int = 0) -> None:
        super().__init__()
        self.sample_rate = check_positive("sample_rate", sample_rate)
        self.window = window
        self.hop_length = hop_length
        self.num_features = num_features
        self._history = history

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError

    @torch.jit.export
    def zero_state(
        self,
        batch_size: int,
        device: Optional[torch.device] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> AudioState:
        """The state of ``batch_size`` streams before their first sample; float32 on the CPU by default."""
        kind = torch.float32 if dtype is None else dtype
        count = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return AudioState(
            torch.zeros(self.window - 1, batch_size, dtype=kind, device=device),
            count,
            torch.zeros(self._history, batch_size, self._base_features(), dtype=kind, device=device),
            count.clone(),
        )

    def forward(
        self, audio: Tensor, state: Optional[AudioState] = None, lengths: Optional[Tensor] = None
    ) -> Tuple[Tensor, Tensor, AudioState]:
        """The features of a chunk.

        Args:
            audio: ``(N, B)`` samples, N >= 0, float32 or float64.
            state: where the streams stand; None is their beginning. It is not written.
            lengths: ``(B,)`` int64 from 0 to N, the samples that are each stream's own, if not all.

        Returns:
            the features ``(F, B, M)`` of the frames that were completed, F by the stream with most, zero beyond a
            stream's own; ``(B,)`` int64, how many are each stream's own; the state after the chunk.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        if not torch.jit.is_scripting():
            self._check(audio, state, lengths)
        if state is None:
            state = self.zero_state(audio.shape[1], audio.device, audio.dtype)
        if lengths is None:
            lengths = torch.full_like(state.filled, audio.shape[0])
        return self.chunk(audio, state, lengths)

    def chunk(
        self, audio: Tensor, state: AudioState, lengths: Tensor, padded: bool = False
    ) -> Tuple[Tensor, Tensor, AudioState]:
        """:meth:`forward` without its checks; ``padded`` as in :func:`streamdrnn.audio.framing.next_frames`."""
        frames, counts, tail, filled = next_frames(
            audio, lengths, state.tail, state.filled, self.window, self.hop_length, padded
        )
        if frames.shape[0] == 0:  # an FFT of nothing is an error
            nothing = audio.new_zeros(0, audio.shape[1], self.num_features)
            return nothing, counts, AudioState(tail, filled, state.history, state.frames)
        real = steps_made(frames.shape[0], counts)
        if torch.jit.is_scripting():
            features = self._features(frames)
        else:
            with without_autocast(audio):  # it would take the products to 16 bits
                features = self._features(frames)
        features = torch.where(real, features, 0.0)
        history = state.history
        if self._history > 0:
            features, history = self._with_history(features, history, state.frames, counts)
            features = torch.where(real, features, 0.0)
        return features, counts, AudioState(tail, filled, history, state.frames + counts)

    @torch.jit.unused
    def has_own_constants(self) -> bool:
        """Whether its windows, filters and other constants are those that its configuration gives."""
        return True

    def _base_features(self) -> int:
        return self.num_features

    def _features(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    def _with_history(self, features: Tensor, history: Tensor, before: Tensor, counts: Tensor) -> Tuple[Tensor, Tensor]:
        raise NotImplementedError

    @torch.jit.unused
    def _check(self, audio: Tensor, state: Optional[AudioState], lengths: Optional[Tensor]) -> None:
        check_tensor("audio", audio, (None, None), "(N, B)")
        if audio.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"audio: expected dtype torch.float32 or torch.float64, got {audio.dtype}")
        for constant in self.buffers():
            if constant.device != audio.device:
                raise ValueError(f"audio: expected the front-end's device {constant.device}, got {audio.device}")
        N, B = audio.shape
        if state is not None:
            if not isinstance(state, AudioState):
                raise TypeError(f"state: expected an AudioState, got {type(state).__name__}")
            self._check_field("tail", state.tail, (self.window - 1, B), audio.dtype, audio.device)
            self._check_field("filled", state.filled, (B,), torch.int64, audio.device)
            history = (self._history, B, self._base_features())
            self._check_field("history", state.history, history, audio.dtype, audio.device)
            self._check_field("frames", state.frames, (B,), torch.int64, audio.device)
        if lengths is not None:
            check_lengths(lengths, N, B)

    @torch.jit.unused
    def _check_field(
        self, name: str, value: Tensor, shape: Tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        if (tuple(value.shape), value.dtype, value.device) != (shape, dtype, device):
            raise ValueError(
                f"state.{name}: expected shape {shape}, {dtype} on {device}, "
                f"got {tuple(value.shape)}, {value.dtype} on {value.device}"
            )


class RawWaveform(FrontEnd):
    """The samples themselves, ``frame_length`` of them a step.

    Args:
        frame_length: samples per step, the number of features.
        sample_rate: samples per second.
    """

    def __init__(self, frame_length: int = 1, sample_rate: int = 16000) -> None:
        _check_range("frame_length", frame_length, 1, _MAX_WINDOW)
        super().__init__(sample_rate, frame_length, frame_length, frame_length)

    def config(self) -> dict[str, Any]:
        return {"frame_length": self.window, "sample_rate": self.sample_rate}

    def _features(self, frames: Tensor) -> Tensor:
        return frames


class LogMel(FrontEnd):
    """Log-mel spectrogram in dB, as ``librosa.power_to_db(librosa.feature.melspectrogram(...), top_db=None)``.

    Args:
        sample_rate: samples per second.
        n_fft: samples per frame.
        win_length: length of the Hann window, centred in the frame.
        hop_length: samples from one frame to the next.
        n_mels: number of mel bands (Slaney's scale and norm, librosa's defaults); times n_fft at most 2**24.
        fmin, fmax: lowest and highest frequency in Hz; None is half the sample rate.

    Raises:
        ValueError, TypeError: an argument is out of its range, or of the wrong type.
    """

    hann: Tensor
    mel: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        n_mels: int = 40,
        fmin: float = 20.0,
        fmax: Optional[float] = None,
    ) -> None:
        _check_range("n_fft", n_fft, 2, _MAX_WINDOW)
        _check_range("win_length", win_length, 1, n_fft)
        _check_range("hop_length", hop_length, 1, n_fft)
        _check_range("n_mels", n_mels, 1, min(n_fft, _MAX_FILTERS // n_fft))
        super().__init__(sample_rate, n_fft, hop_length, n_mels)
        self._exact = dict[str, np.ndarray]()  # an annotation on an attribute would be TorchScript's to read
        self.win_length = win_length
        _check_hertz("fmin", fmin)
        if fmax is not None:
            _check_hertz("fmax", fmax)
        self.fmin = float(fmin)
        self.fmax = sample_rate / 2 if fmax is None else float(fmax)
        if not 0 <= self.fmin < self.fmax <= sample_rate / 2:
            raise InputError(f"fmin, fmax: expected 0 <= fmin < fmax <= {sample_rate / 2:g} Hz, got {fmin}, {fmax}")
        periodic_hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
        before = (n_fft - win_length) // 2
        self._constant("hann", np.pad(periodic_hann, (before, n_fft - win_length - before)))
        self._constant("mel", mel_filters(sample_rate, n_fft, n_mels, self.fmin, self.fmax).T)

    def config(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "n_fft": self.window,
            "win_length": self.win_length,
            "hop_length": self.hop_length,
            "n_mels": self.mel.shape[1],
            "fmin": self.fmin,
            "fmax": self.fmax,
        }

    def _constant(self, name: str, values: np.ndarray) -> None:
        """Keep an array with the module but out of its state_dict: the configuration gives it again."""
        self._exact[name] = np.ascontiguousarray(values, np.float64)
        self.register_buffer(name, torch.from_numpy(self._exact[name].astype(np.float32)), persistent=False)

    @torch.jit.unused
    def has_own_constants(self) -> bool:
        return all(
            torch.equal(self.get_buffer(name), torch.from_numpy(values).to(self.get_buffer(name)))
            for name, values in self._exact.items()
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Take the constants along to another device or to float64, unrounded; in a 16 bit model they stay float32."""
        super()._apply(fn, recurse)
        for name, values in self._exact.items():
            moved = self.get_buffer(name)
            dtype = torch.float64 if moved.dtype == torch.float64 else torch.float32
            self._buffers[name] = torch.from_numpy(values).to(moved.device, dtype, copy=True)
        return self

    def _features(self, frames: Tensor) -> Tensor:
        return self._log_mel(frames)

    def _log_mel(self, frames: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames * self.hann.to(frames.dtype))
        power = spectrum.real.square() + spectrum.imag.square()
        return 10 * torch.log10((power @ self.mel.to(frames.dtype)).clamp(min=1e-10))


class MFCC(LogMel):
    """Mel-frequency cepstral coefficients, as ``librosa.feature.mfcc`` of a :class:`LogMel`, with deltas if wanted.

    Args:
        sample_rate, n_fft, win_length, hop_length, n_mels, fmin, fmax: see :class:`LogMel`.
        n_mfcc: number of coefficients.
        deltas: 0, 1 or 2: how many orders of differences over time follow the coefficients; see
            :func:`streamdrnn.audio.deltas.with_deltas`.
    """

    dct: Tensor
    delta_weights: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        n_mels: int = 40,
        fmin: float = 20.0,
        fmax: Optional[float] = None,
        n_mfcc: int = 20,
        deltas: int = 0,
    ) -> None:
        super().__init__(sample_rate, n_fft, win_length, hop_length, n_mels, fmin, fmax)
        _check_range("n_mfcc", n_mfcc, 1, n_mels)
        _check_range("deltas", deltas, 0, 2)
        self.n_mfcc = n_mfcc
        self.deltas = deltas
        self.num_features = n_mfcc * (1 + deltas)
        self._history = HISTORY if deltas else 0
        # The orthonormal DCT-II.
        angle = np.pi / n_mels * np.outer(np.arange(n_mels) + 0.5, np.arange(n_mfcc))
        dct = np.cos(angle) * np.sqrt(2 / n_mels)
        dct[:, 0] /= np.sqrt(2)
        self._constant("dct", dct)
        self._constant("delta_weights", delta_weights(deltas))

    def config(self) -> dict[str, Any]:
        return {**super().config(), "n_mfcc": self.n_mfcc, "deltas": self.deltas}

    def _base_features(self) -> int:
        return self.n_mfcc

    def _features(self, frames: Tensor) -> Tensor:
        return self._log_mel(frames) @ self.dct.to(frames.dtype)

    def _with_history(self, features: Tensor, history: Tensor, before: Tensor, counts: Tensor) -> Tuple[Tensor, Tensor]:
        return with_deltas(features, history, before, counts, self.delta_weights.to(features.dtype))


def _check_hertz(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name}: expected a frequency in Hz, got {value!r}")


def _check_range(name: str, value: int, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if not lowest <= value <= highest:
        raise InputError(f"{name}: expected {lowest} to {highest}, got {value}")
