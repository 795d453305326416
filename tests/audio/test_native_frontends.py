"""The front-ends of the native runtime against librosa.

Its features are seen where a stream keeps them for its deltas.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from streamdrnn import DilatedRNN, StreamingDRNN, Tagger
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.audio import MFCC, load_audio
from streamdrnn.live import LiveModel
from tests.audio.signals import voice_like
from tests.audio.uncompiled import librosa
from tests.kernels.cases import needs_native

pytestmark = needs_native


def native_frames(frontend: MFCC, y: Tensor, count: int) -> tuple[np.ndarray, int]:
    """The last frames before their deltas ``(count, n_mfcc)``, up to 8, and how many there were."""
    stream = StreamingDRNN(Tagger(DilatedRNN(frontend.num_features, 4, num_layers=1), 1, frontend))
    assert isinstance(stream._live, LiveModel)
    stream.push(y[:, None])
    audio = stream.snapshot().audio  # type: ignore[union-attr]
    assert audio is not None
    return audio.history[-count:, 0].numpy(), int(audio.frames[0])


def exact_mfcc(frontend: MFCC, y: Tensor) -> np.ndarray:
    """librosa's MFCC ``(frames, n_mfcc)``, computed in float64."""
    config = frontend.config()
    n_fft, rate = config["n_fft"], config["sample_rate"]
    spectrum = librosa.stft(
        y.double().numpy(),
        n_fft=n_fft,
        hop_length=config["hop_length"],
        win_length=config["win_length"],
        center=False,
        dtype=np.complex128,
    )
    bands = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=config["n_mels"], fmin=config["fmin"], fmax=config["fmax"], dtype=np.float64
    )
    decibels = librosa.power_to_db(bands @ np.abs(spectrum) ** 2, ref=1.0, amin=1e-10, top_db=None)
    return np.asarray(librosa.feature.mfcc(S=decibels, n_mfcc=config["n_mfcc"])).T


# Powers of two; products of 2, 3 and 5; primes and other lengths that are none; odd ones; the longest.
@pytest.mark.filterwarnings("ignore:Empty filters")  # of the shortest
@pytest.mark.parametrize("n_fft", [2, 8, 30, 101, 243, 400, 441, 512, 625, 882, 1009, 1024, 2018, 4096, 65536])
def test_any_window_gives_librosas_features(n_fft: int) -> None:
    n_mels = min(20, n_fft // 2)
    frontend = MFCC(
        n_fft=n_fft, win_length=n_fft - n_fft // 5, hop_length=n_fft // 2, n_mels=n_mels, n_mfcc=n_mels, deltas=1
    )
    y = voice_like(n_fft * 6)
    got, frames = native_frames(frontend, y, 4)
    want = exact_mfcc(frontend, y)
    assert frames == len(want)
    error = np.linalg.norm(got - want[-4:]) / np.linalg.norm(want[-4:])
    assert error < 1e-7  # float32's own rounding


@pytest.mark.parametrize("deltas", [1, 2])
def test_deltas_are_librosas_four_frames_late(deltas: int) -> None:
    """What a linear network makes of the features is a sum of all of them."""
    frontend = MFCC(n_mels=20, n_mfcc=5, hop_length=200, deltas=deltas)
    y = voice_like(16000)
    torch.manual_seed(0)
    model = Tagger(DilatedRNN(frontend.num_features, 30, num_layers=2), 4, frontend)
    model.feature_std.fill_(100.0)
    got = StreamingDRNN(model).push(y[:, None])[:, 0]
    base = exact_mfcc(frontend, y).T
    padded = np.concatenate([np.repeat(base[:, :1], 8, axis=1), base], axis=1)
    orders = [librosa.feature.delta(padded, order=order)[:, 4:-4] for order in range(1, deltas + 1)]
    features = torch.from_numpy(np.concatenate([base, *orders])).T
    with torch.no_grad():
        want = model.double().output(model.rnn(features[:, None] / 100)[0])[:, 0]
    assert float((got - want).norm() / want.norm()) < 1e-6


def test_speech_gives_librosas_features() -> None:
    frontend = MFCC(n_mels=40, n_mfcc=40, deltas=1)
    y = load_audio(asset("conversation.flac"), 16000)
    got, frames = native_frames(frontend, y, 8)
    want = exact_mfcc(frontend, y)
    assert frames == len(want)
    assert np.linalg.norm(got - want[-8:]) / np.linalg.norm(want[-8:]) < 1e-7
