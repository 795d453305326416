"""The shipped detectors: small, the same in any chunks, and right about speech, noise and silence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamdrnn import Classifier, DilatedRNN, StreamingDRNN, Tagger, save_model
from streamdrnn.apps.speaker_id.activity import SPEECH
from streamdrnn.apps.speaker_id.model import DetectorModel, asset, load_activity_model, load_overlap_model
from streamdrnn.apps.training.music import music
from streamdrnn.apps.training.silero import Silero
from streamdrnn.audio import LogMel, load_audio
from tests.agreement import assert_close
from tests.apps.speaker_id.demo_voices import CONVERSATION

MODEL = load_activity_model()
MODELS = {"activity": MODEL, "overlap": load_overlap_model()}
RATE = 16000


def outputs(samples: Tensor, model: DetectorModel = MODEL) -> Tensor:
    """A detector's ``(F,)`` for samples ``(N,)``."""
    with torch.inference_mode():
        out: Tensor = model.tagger(samples[:, None])[0][:, 0, 0]
    return out


def test_it_is_small_enough_for_a_page() -> None:
    assert asset("activity.safetensors").stat().st_size < 100_000


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [160, 1600, 4801])
def test_chunks_do_not_matter(length: int, name: str) -> None:
    samples = load_audio(CONVERSATION)[: 4 * RATE]
    stream = StreamingDRNN(MODELS[name].tagger)
    pushed = torch.cat([stream.push(chunk[:, None]) for chunk in samples.split(length)])
    assert_close(pushed[:, 0, 0], outputs(samples, MODELS[name]))


def test_it_hears_speech_as_its_teacher_does() -> None:
    """Of near and clean voices; in rooms and music the two differ more, as its card says."""
    samples = torch.cat([load_audio(asset(f"{name}.flac")) for name in ("heather", "paul", "deborah", "anders")])
    said = outputs(samples) > MODEL.threshold
    detector = Silero()
    probabilities = torch.tensor(detector.push(samples))
    # A frame of 32 ms ends every 20 ms; the latest of the teacher's windows of 32 ms ended before it or with it.
    ends = 512 + 320 * torch.arange(len(said))
    wanted = probabilities[ends // 512 - 1] >= SPEECH
    assert (said == wanted).double().mean() > 0.88
    assert said[wanted].double().mean() > 0.85
    ticks, wanted_ticks = (flags[: len(flags) // 5 * 5].view(-1, 5).any(1) for flags in (said, wanted))
    assert (ticks == wanted_ticks).double().mean() > 0.9


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["white", "brown", "hum"])
@pytest.mark.parametrize("name", MODELS)
def test_nobody_speaks_in_silence_and_noise(name: str, kind: str, level: float) -> None:
    white = torch.randn(20 * RATE, generator=torch.Generator().manual_seed(0))
    time = torch.arange(len(white)) / RATE
    noise = {
        "white": white,
        "brown": white.cumsum(0) - torch.linspace(0, float(white.sum()), len(white)),
        "hum": sum((torch.sin(2 * torch.pi * 50 * k * time) / k for k in (1, 2, 3, 5)), torch.zeros(len(white))),
    }[kind]
    noise = level * noise / noise.square().mean().sqrt()
    assert (outputs(noise.clamp(-1, 1), MODELS[name]) > MODELS[name].threshold).double().mean() < 0.01


def test_hardly_any_music_is_taken_for_speech() -> None:
    """Of pieces that trained nothing."""
    pieces = [torch.from_numpy(0.05 * piece) for piece in music(np.random.default_rng(99), 20)]
    shares = [float((outputs(piece) > MODEL.threshold).double().mean()) for piece in pieces]
    assert sum(shares) / len(shares) < 0.02


def test_other_models_are_refused(tmp_path: Path) -> None:
    frontend = LogMel(n_mels=8)
    path = tmp_path / "model.safetensors"
    for model in (
        Classifier(DilatedRNN(8, 4, 1), 2, frontend=frontend),
        Tagger(DilatedRNN(8, 4, 1), 1),
        Tagger(DilatedRNN(8, 4, 1), 2, frontend),
    ):
        save_model(model, path, {"threshold": "0"})
        with pytest.raises(ValueError, match="expected a Tagger with a front-end and one output"):
            load_activity_model(path)
    save_model(Tagger(DilatedRNN(8, 4, 1), 1, frontend), path)
    with pytest.raises(ValueError, match="has no calibrated threshold in its notes"):
        load_activity_model(path)
