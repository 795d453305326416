"""A speaker model's projection, trained last and alone; and the telephone that it hears."""

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from streamdrnn import DilatedRNN, SpeakerEmbedder
from streamdrnn.apps.training.distortion import Chances, distort
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe
from streamdrnn.apps.training.projection import CONDITIONS, SEGMENTS, WINDOWS, Means, hear, tune_projection
from streamdrnn.apps.training.voices import RATE, Voice
from streamdrnn.audio import LogMel

NEVER = Chances(room=0, response=0, noise=0, codec=0, telephone=0, clipping=0, hum=0, offset=0)
NOISES = torch.randn(3, 5 * RATE, generator=Generator().manual_seed(0))


def embedder() -> SpeakerEmbedder:
    torch.manual_seed(0)
    return SpeakerEmbedder(DilatedRNN(16, 12, 2), 8, LogMel(RATE, hop_length=320, n_mels=16)).eval()


def said(segments: int) -> Tensor:
    return torch.randint(-8000, 8000, (segments, 4 * RATE), dtype=torch.int16, generator=Generator().manual_seed(1))


def test_every_condition_and_window_of_a_voice_is_an_example() -> None:
    voices = [Voice("librispeech", "a", {}), Voice("wuw2", "b", {}), Voice("librispeech", "c", {})]
    means = hear(embedder(), voices, [said(2), said(3), said(SEGMENTS + 5)], NOISES, seed=0)
    each = len(CONDITIONS) * len(WINDOWS)
    calls = (len(CONDITIONS) - 1) * len(WINDOWS)  # a telephone is heard over no other telephone
    assert means.owner.bincount().tolist() == [2 * each, 3 * calls, SEGMENTS * each]
    assert means.outputs.shape == (len(means.owner), 12)
    weights = [float(means.weight[means.owner == number].sum()) for number in range(3)]
    assert weights[0] == pytest.approx(weights[2]), "however much a voice says"
    shares = [share for share, _ in CONDITIONS]
    assert weights[1] / weights[0] == pytest.approx(2**0.25 * sum(shares[:-1]) / sum(shares))


def test_the_first_examples_are_the_models_own_means() -> None:
    model, samples = embedder(), said(1)
    means = hear(model, [Voice("librispeech", "a", {})], [samples], NOISES, seed=0)
    with torch.inference_mode():
        heard, _ = model(samples.T / 32768)
    assert torch.allclose(model.embed(means.outputs[2]), heard[-1, 0], atol=1e-5)


def outputs_with_a_shift() -> Means:
    """Ten voices whose outputs differ in some directions, and through a microphone by far more in another one."""
    generator = Generator().manual_seed(0)
    owner = torch.arange(10).repeat_interleave(40)
    voices = torch.randn(10, 12, generator=generator)
    shift = 3 * torch.randn(12, generator=generator)
    through = (torch.arange(400) % 2)[:, None]
    outputs = voices[owner] + through * shift + 0.1 * torch.randn(400, 12, generator=generator)
    return Means(outputs, owner, torch.ones(400))


def confused(model: SpeakerEmbedder, means: Means) -> float:
    """The share of examples that are nearer to another voice's mean than to their own's."""
    with torch.inference_mode():
        embedded = model.embed(means.outputs)
    centres = torch.stack([embedded[means.owner == number].mean(0) for number in range(10)])
    return float(((embedded @ normalize(centres, dim=1).T).argmax(1) != means.owner).double().mean())


def test_it_learns_to_overhear_what_does_not_tell_voices() -> None:
    means, model = outputs_with_a_shift(), embedder()
    before, network = confused(model, means), [p.clone() for p in model.rnn.parameters()]
    tune_projection(model, means, EmbedderRecipe(projection=1000))
    assert before > 0.3
    assert confused(model, means) < 0.5 * before
    assert all(torch.equal(*pair) for pair in zip(model.rnn.parameters(), network, strict=True))


def test_the_same_seed_gives_the_same_projection_and_no_steps_change_nothing() -> None:
    means, models = outputs_with_a_shift(), [embedder() for _ in range(3)]
    for model, recipe in zip(models, (EmbedderRecipe(), EmbedderRecipe(), EmbedderRecipe(projection=0)), strict=True):
        tune_projection(model, means, recipe)
    assert torch.equal(models[0].projection.weight, models[1].projection.weight)
    assert torch.allclose(models[2].projection.weight, embedder().projection.weight, atol=1e-6)
    assert torch.allclose(models[2].projection.bias, embedder().projection.bias, atol=1e-5)


@pytest.mark.parametrize("length", [4 * RATE, 4 * RATE + 1])
def test_nothing_is_heard_above_4_khz_over_a_telephone(length: int) -> None:
    samples = 0.1 * torch.randn(3, length, generator=Generator().manual_seed(0))
    heard = distort(samples, NOISES, Generator().manual_seed(0), NEVER._replace(telephone=1.0))
    assert heard.shape == samples.shape
    power = np.square(np.abs(np.fft.rfft(heard.numpy())))
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    above, inside = power[:, hertz > 4010].mean(1), power[:, (hertz > 500) & (hertz < 3000)].mean(1)
    # What is left is the rounding to 16 bits.
    assert (above < 1e-5 * inside).all()
