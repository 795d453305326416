"""Training learns, scores are what they say, and the shipped model is as good as its card claims."""

import re
from itertools import combinations
from pathlib import Path

import pytest
import soundfile
import torch

from streamdrnn import SpeakerEmbedder, load_model, model_notes
from streamdrnn.apps.speaker_id.model import asset, load_speaker_model
from streamdrnn.apps.training.augmentation import _band_limits, _in_a_room, augment
from streamdrnn.apps.training.data import Utterance, data_folder, librispeech
from streamdrnn.apps.training.embedder import fit, load_speakers
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe
from streamdrnn.apps.training.embedder_scores import (
    closed_set_accuracy,
    cosines,
    cut,
    equal_error,
    friends_and_strangers,
    identification_rate,
)
from tests.apps.test_cli import Run, run
from tests.audio.signals import voice_like

__all__ = ["run"]

SMALL = (
    "--folds",
    "2",
    "--epochs",
    "16",
    "--hidden-size",
    "24",
    "--layers",
    "2",
    "--embedding-size",
    "16",
    "--batch-seconds",
    "24",
)


@pytest.fixture
def twenty_speakers(data_dir: Path, tmp_path: Path) -> Path:
    """A data folder with twenty of the speakers, 13 s or more of each."""
    folder = tmp_path / "data" / "librispeech"
    folder.mkdir(parents=True)
    long = [path for _, path in librispeech(data_dir / "librispeech") if soundfile.info(path).duration >= 13]
    for path in long[:20]:
        (folder / path.name).symlink_to(path)
    return tmp_path / "data"


def test_training_learns_and_its_model_is_used(run: Run, twenty_speakers: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "voices.v2"
    outcome = run("train", "embedder", "--data-dir", twenty_speakers, "--out", out, *SMALL, "--json")
    assert outcome.code == 0, outcome.err
    (scores,) = outcome.objects()
    assert scores["accuracy"] >= 0.5, "chance is 0.05"  # type: ignore[operator]
    model = load_model(f"{out}.safetensors")
    assert isinstance(model, SpeakerEmbedder)
    assert scores["voices"] == 20
    assert scores["among_ten"] > 0.2, "chance is 0.1"  # type: ignore[operator]
    assert 0 < scores["eer_3s"] < 0.5  # type: ignore[operator]
    card = Path(f"{out}.md").read_text()
    for name in ("accuracy", "among_ten", "eer", "eer_3s"):
        assert f"{scores[name]:.1%}" in card
    assert float(model_notes(f"{out}.safetensors")["threshold"]) == pytest.approx(scores["threshold"], abs=1e-4)
    again = run("evaluate", "embedder", "--data-dir", twenty_speakers, "--model", f"{out}.safetensors", "--json")
    assert again.objects()[0]["accuracy"] == scores["accuracy"]


def test_the_same_seed_gives_the_same_model_and_the_loss_falls(twenty_speakers: Path) -> None:
    voices = [parts.enrolment for parts in load_speakers(twenty_speakers / "librispeech")[:3]]
    recipe = EmbedderRecipe(epochs=30, hidden_size=16, layers=1, embedding_size=8, batch_seconds=12)
    losses: list[float] = []
    first = fit(voices, recipe, lambda step, steps, loss: losses.append(loss))
    second = fit(voices, recipe, lambda step, steps, loss: None)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    third = len(losses) // 3
    assert sum(losses[-third:]) < sum(losses[:third])


def test_the_shipped_model_scores_what_its_card_says(data_dir: Path) -> None:
    card = asset("speaker.md").read_text(encoding="utf-8")
    claimed = re.search(r"whole, against all 251 .* \| ([\d.]+)% \|", card)
    assert claimed, card
    speakers = load_speakers(data_folder(data_dir, "librispeech"))
    accuracy = closed_set_accuracy(*cosines(load_speaker_model().embedder, speakers))
    assert accuracy * 100 == pytest.approx(float(claimed[1]), abs=0.45), "one speaker in 251 is 0.4 %"
    assert accuracy >= 0.9


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (("--epochs", "0"), "epochs: expected more than 0, got 0"),
        (("--batch-seconds", "0"), "batch_seconds: expected more than 0, got 0.0"),
        (("--layers", "-1"), "layers: expected more than 0, got -1"),
        (("--folds", "1"), "folds: expected 2 or more, got 1"),
        (("--dropout", "1"), "dropout: expected 0 to below 1, got 1.0"),
    ],
)
def test_a_recipe_that_trains_nothing_is_refused_first(
    run: Run, tmp_path: Path, option: tuple[str, str], problem: str
) -> None:
    run("train", "embedder", "--data-dir", tmp_path, "--out", tmp_path / "x", *option).is_one_line_about(problem)


def write_utterances(folder: Path, names: list[str], seconds: float) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        soundfile.write(folder / f"{name}.flac", voice_like(round(seconds * 16000)).numpy(), 16000)


def test_all_utterances_of_a_speaker_are_one_voice(tmp_path: Path) -> None:
    write_utterances(tmp_path / "librispeech", [f"{speaker}-1-{n}" for speaker in range(20) for n in range(2)], 2.0)
    speakers = load_speakers(tmp_path / "librispeech")
    assert [len(part) for part in speakers[0]] == [2 * 22400, 2 * 9600]
    assert len(speakers) == 20


@pytest.mark.parametrize(
    ("speakers", "seconds", "problem"),
    [
        (19, 2.0, "19 speakers, expected 20"),
        (20, 1.0, "1.00 s long"),
        (20, 2.0, "0 of 10 voices left out of a fold have 13 s, expected 10 or more"),
    ],
)
def test_data_that_train_nothing_are_refused(
    run: Run, tmp_path: Path, speakers: int, seconds: float, problem: str
) -> None:
    write_utterances(tmp_path / "librispeech", [f"{speaker}-1-1" for speaker in range(speakers)], seconds)
    run("train", "embedder", "--data-dir", tmp_path, "--out", tmp_path / "x", *SMALL).is_one_line_about(problem)


def test_the_shipped_model_is_small() -> None:
    assert asset("speaker.safetensors").stat().st_size <= 4e6
    assert asset("conversation.flac").stat().st_size <= 1e6


def test_librispeech_folders_are_read_by_name(tmp_path: Path) -> None:
    for name in ("19/198/19-198-0001.flac", "103-1240-0000.flac", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert librispeech(tmp_path) == [
        Utterance("103", tmp_path / "103-1240-0000.flac"),
        Utterance("19", tmp_path / "19/198/19-198-0001.flac"),
    ]


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


def test_identification_among_some_is_the_mean_over_all_draws() -> None:
    torch.manual_seed(0)
    scores, owners = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    right = [
        all(scores[test, owner] > scores[test, other] for other in others)
        for test, owner in enumerate(owners.tolist())
        for others in combinations([voice for voice in range(5) if voice != owner], 2)
    ]
    assert identification_rate(scores, owners, among=3) == pytest.approx(sum(right) / len(right))
    assert identification_rate(scores, owners, among=5) == pytest.approx(closed_set_accuracy(scores, owners))
    assert identification_rate(scores, owners, among=1) == 1


def test_a_room_only_adds_and_only_later() -> None:
    power = torch.zeros(60, 400, 3)
    power[10] = 1.0
    heard = _in_a_room(power, torch.Generator().manual_seed(0))
    assert torch.equal(heard[:11], power[:11])
    tails = heard[11:30, :, 0]
    echoing = tails[0] > 0
    assert 0.15 < echoing.double().mean() < 0.35
    assert (tails[1:, echoing] < tails[:-1, echoing]).all()
    assert (tails.sum(0) <= 1.0001).all(), "no louder than what is reflected"


def test_band_limits_leave_out_the_lowest_and_the_highest_of_a_quarter() -> None:
    limits = _band_limits(400, 64, torch.Generator().manual_seed(0))[0]
    limited = (limits < 0).any(1)
    assert 0.15 < limited.double().mean() < 0.35
    assert set(limits.unique().tolist()) == {-60.0, 0.0}
    assert (limits[:, 8:44] == 0).all(), "the middle is always heard"


def test_augmentation_hides_one_run_of_bands_and_one_of_time() -> None:
    hidden = torch.full((40,), 1000.0)
    changed = augment(torch.randn(50, 30, 40), hidden, torch.Generator().manual_seed(0)) == 1000
    bands, times = changed.all(0), changed.all(2)
    assert torch.equal(changed, bands[None] | times[:, :, None])
    assert 1 <= bands.sum(1).max() <= 6
    assert 1 <= times.sum(0).max() <= 50 // 8


def test_augmentation_changes_every_crop_and_keeps_its_size() -> None:
    features = torch.randn(50, 4, 40)
    changed = augment(features, torch.zeros(40), torch.Generator().manual_seed(0))
    assert changed.shape == features.shape
    assert changed.isfinite().all()
    assert ((changed - features).abs() > 0.1).float().mean() > 0.5
    assert torch.equal(changed, augment(features, torch.zeros(40), torch.Generator().manual_seed(0)))
