"""The speech detector's training: what its teacher says, the scenes it hears, and how detectors are judged."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streamdrnn.apps.speaker_id.activity import SPEECH
from streamdrnn.apps.speaker_id.model import DetectorModel, asset, load_activity_model
from streamdrnn.apps.training import activity_scores, scene_scores, scenes
from streamdrnn.apps.training.labelled_speech import (
    PAUSE,
    RATE,
    SHORTEST_CUT,
    WINDOW,
    Piece,
    Samples,
    by_sample,
    cut,
    divide,
    judge,
    load_noises,
    load_speakers,
    root_mean_square,
)
from streamdrnn.apps.training.metrics import recall_and_threshold
from streamdrnn.apps.training.scenes import Conditions, Scene, draw_conditions, make_scene
from streamdrnn.apps.training.silero import Silero
from streamdrnn.apps.training.tasks import activity
from streamdrnn.apps.training.tasks.activity import ActivityRecipe
from streamdrnn.apps.training.tasks.scene_task import SceneTask
from streamdrnn.apps.training.tasks.task import FALSE_ALARMS, Batch
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from tests.apps.speaker_id.demo_voices import speech_of, voices
from tests.apps.test_cli import Run, run
from tests.training.noises import write_noises

__all__ = ["run"]

LENGTH = 2 * RATE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: the demo's four voices in two recordings each, and hiss as ESC-10's clips."""
    folder = tmp_path_factory.mktemp("data")
    for number, voice in enumerate(voices()):
        (folder / "demo" / voice.name).mkdir(parents=True)
        for half, samples in enumerate(speech_of(number, 5.0).chunk(2)):
            soundfile.write(folder / "demo" / voice.name / f"{half}.flac", samples.numpy(), RATE)
    write_noises(folder)
    return folder


@pytest.fixture(scope="module")
def small(data: Path) -> SceneTask:
    return load(data)


def load(data: Path, seed: int = 0) -> SceneTask:
    return replace(ActivityRecipe(sets=("demo",), seconds=1.0), training=TrainingRecipe(batch_size=4, seed=seed)).load(
        data
    )


def heather() -> Samples:
    """A second of silence, 3 s of speech, and a second of silence."""
    silence = torch.zeros(RATE)
    samples: Samples = torch.cat([silence, speech_of(0, 3.0), silence]).numpy()
    return samples


def test_the_teacher_says_where_speech_is() -> None:
    samples = heather()
    speech = by_sample(judge(samples, Silero()))
    assert len(speech) >= len(samples)
    assert (speech[:RATE] < SPEECH).all()
    assert (speech[round(1.3 * RATE) : round(3.5 * RATE)] >= SPEECH).mean() > 0.8
    assert (speech[-WINDOW:] < SPEECH).all()
    # What has not been heard cannot be known, nor can what is in a window that has not ended.
    changed = samples.copy()
    changed[2 * RATE :] = 0
    known = 2 * RATE // WINDOW * WINDOW + WINDOW - 1
    again = by_sample(judge(changed, Silero()))
    assert (speech[:known] == again[:known]).all()
    assert (speech[known : 3 * RATE] != again[known : 3 * RATE]).any()


def test_pieces_are_the_recording_cut_at_pauses() -> None:
    speech = np.full(400, 0.9, np.float32)
    speech[[100, 101, 300]] = PAUSE / 2
    samples = np.random.default_rng(0).normal(0, 0.1, 390 * WINDOW + 17).astype(np.float32)
    pieces = cut(samples, speech)
    assert [len(piece.samples) for piece in pieces] == [100 * WINDOW, 200 * WINDOW, 90 * WINDOW + 17]
    for piece, start in zip(pieces, (0, 100 * WINDOW, 300 * WINDOW), strict=True):
        there = samples[start : start + len(piece.samples)]
        assert np.allclose(piece.samples / piece.samples[0], there / there[0], rtol=1e-4)
        count = min(len(piece.samples), len(by_sample(piece.speech)))
        assert (by_sample(piece.speech)[:count] == by_sample(speech)[start : start + count]).all()
    assert len(pieces[-1].speech) == 400 - 300
    assert SHORTEST_CUT < 100


def test_the_level_of_a_piece_is_that_of_its_speech() -> None:
    (piece,) = cut(heather()[: 2 * RATE], judge(heather()[: 2 * RATE], Silero()))
    windows = piece.samples[: len(piece.samples) // WINDOW * WINDOW].reshape(-1, WINDOW)
    assert root_mean_square(windows[piece.speech[1 : 1 + len(windows)] >= SPEECH]) == pytest.approx(1, rel=1e-5)
    assert not cut(np.ones(RATE, np.float32), np.zeros(60, np.float32)), "no speech"


def test_no_speaker_and_no_noise_is_in_two_parts(data: Path) -> None:
    names = [f"speaker {number}" for number in range(50)]
    parts = divide(names)
    assert sorted(parts["train"] + parts["valid"] + parts["test"]) == sorted(names)
    assert [len(parts[part]) for part in ("train", "valid", "test")] == [35, 5, 10]
    assert divide(names[::-1]) == parts
    assert [len(load_speakers(data / "demo", part, 1.0)) for part in ("train", "valid", "test")] == [2, 1, 1]
    clips = {part: load_noises(data / "noise", part) for part in ("train", "valid", "test")}
    assert [len(some) for some in clips.values()] == [3, 1, 1]
    for part, folds in (("train", (1, 2, 3)), ("valid", (4,)), ("test", (5,))):
        for clip, fold in zip(clips[part], folds, strict=True):
            hiss = np.random.default_rng(fold).normal(0, 0.1, RATE)
            assert np.corrcoef(clip, hiss)[0, 1] > 0.99
            assert root_mean_square(clip) == pytest.approx(1, rel=1e-5)


def test_no_more_is_heard_of_a_speaker_than_was_asked_for(data: Path) -> None:
    def seconds(minutes: float) -> float:
        (speaker,) = load_speakers(data / "demo", "test", minutes)
        return sum(len(piece.samples) for piece in speaker) / RATE

    assert 2 < seconds(0.05) <= 3
    assert 4 < seconds(1.0) <= 5


TONE = Piece(np.full(RATE, 1.0, np.float32), np.ones(32, np.float32))
HISS = np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)


def scene(conditions: Conditions, seed: int = 0, length: int = LENGTH) -> Scene:
    return make_scene(np.random.default_rng(seed), [[[TONE]]], [HISS], length, conditions)


def test_conditions_change_nothing_in_what_is_said() -> None:
    for seed in range(5):
        first, *others = (
            scene(Conditions(has_room=room, has_telephone=telephone, snr=snr), seed)
            for room in (False, True)
            for telephone in (False, True)
            for snr in (None, 10.0)
        )
        assert all((first.speech == other.speech).all() for other in others)
        assert all((first.samples != other.samples).any() for other in others)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_levels_are_those_that_were_asked_for(snr: float) -> None:
    clean, noisy = (scene(Conditions(level=-40.0, snr=some), length=20 * RATE) for some in (None, snr))
    spoken = clean.samples[clean.speech >= SPEECH]
    level = 20 * np.log10(root_mean_square(spoken[spoken != 0]))
    assert level == pytest.approx(-40, abs=3), "speakers differ by 3 dB"
    noise = root_mean_square(noisy.samples - clean.samples)
    assert 20 * np.log10(noise) == pytest.approx(-40 - snr, abs=0.1)
    alone = scene(Conditions(level=-40.0, snr=snr, has_speech=False))
    assert 20 * np.log10(root_mean_square(alone.samples)) == pytest.approx(-40, abs=0.1)
    assert not alone.speech.any()


def test_silence_is_silence_and_what_is_too_loud_is_clipped() -> None:
    silence = scene(Conditions(has_speech=False))
    assert not silence.samples.any()
    loud = scene(Conditions(level=20.0, snr=0.0))
    assert np.abs(loud.samples).max() == 1
    assert (np.abs(loud.samples) == 1).mean() > 0.5
    faint = scene(Conditions(level=-60.0, snr=0.0))
    assert faint.samples * 32767 == pytest.approx(np.round(faint.samples * 32767), abs=1e-3)


def test_a_room_adds_what_comes_later() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    heard = scenes.in_a_room(np.random.default_rng(0), click)
    assert np.abs(heard[:100]).max() < 1e-6
    assert heard[100] == pytest.approx(1, abs=1e-5)
    assert np.abs(heard[101 : 100 + RATE // 500]).max() < 1e-6
    energy = [float(np.square(part).sum()) for part in np.split(heard[100 + RATE // 500 :][: 12 * 1000], 12)]
    assert 0 < sum(energy) < 2.1
    assert energy[-1] < 0.1 * energy[0]


def test_a_telephone_passes_its_band_in_eight_bits() -> None:
    time = np.arange(LENGTH) / RATE

    def through(frequency: float) -> float:
        tone = 0.1 * np.sin(2 * np.pi * frequency * time)
        return root_mean_square(scenes.over_a_telephone(np.random.default_rng(0), tone)) / root_mean_square(tone)

    assert through(1000) == pytest.approx(1, abs=0.02)
    assert through(50) < 0.05
    assert through(5000) < 0.05
    samples = np.linspace(-1, 1, 10001)
    coded = scenes.mu_law(samples)
    assert len(np.unique(coded)) <= 256
    assert np.abs(coded - samples).max() < 0.03
    assert np.abs(coded - samples)[np.abs(samples) < 0.01].max() < 0.0006, "what is faint is coded more finely"


def test_a_piece_may_begin_before_the_scene_and_end_after_it() -> None:
    piece = Piece(np.arange(1, 5 * WINDOW + 1, dtype=np.float32), np.arange(8, dtype=np.float32) / 8)
    for at in (-3 * WINDOW, -7, 0, 7 * WINDOW, 10 * WINDOW):
        samples, speech = np.zeros((2, 9 * WINDOW), np.float32)
        scenes._add(piece, at, 2.0, samples, speech)
        whole = np.zeros((2, 30 * WINDOW), np.float32)
        start = 10 * WINDOW + at
        whole[0, start : start + 5 * WINDOW] = 2 * piece.samples
        # It is known at a window's last sample what the teacher says of the window.
        whole[1, start : start + 8 * WINDOW - 1] = (1 + np.arange(8 * WINDOW - 1)) // WINDOW / 8
        assert (samples == whole[0, 10 * WINDOW : 19 * WINDOW]).all()
        assert (speech == whole[1, 10 * WINDOW : 19 * WINDOW]).all()


def test_speakers_take_turns() -> None:
    whole = scene(Conditions(), length=40 * RATE)
    assert 0.3 < (whole.speech == 1).mean() < 0.95
    assert (whole.samples[whole.speech == 1] != 0).mean() > 0.9
    starts = np.flatnonzero((whole.samples[1:] != 0) & (whole.samples[:-1] == 0))
    assert len({round(float(whole.samples[start + 1]), 3) for start in starts}) > 3, "of several loudnesses"


def test_scenes_differ_as_microphones_do() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_conditions(random) for _ in range(1000)]
    assert {some.has_speech for some in drawn} == {True, False}
    assert {some.has_room for some in drawn} == {True, False}
    assert {some.has_telephone for some in drawn} == {True, False}
    levels, ratios = [some.level for some in drawn], [some.snr for some in drawn if some.snr is not None]
    assert min(levels) < -60
    assert max(levels) > -6
    assert min(ratios) < -4
    assert max(ratios) > 45
    assert 0.05 < 1 - len(ratios) / len(drawn) < 0.15


def test_coloured_noise_falls_towards_high_frequencies() -> None:
    tilts = []
    for clip in scenes.coloured_noises(np.random.default_rng(0), 20):
        assert root_mean_square(clip) == pytest.approx(1, rel=1e-5)
        power = np.square(np.abs(np.fft.rfft(clip)))
        # Two octaves, from around 700 Hz to around 2800 Hz; bins are 0.2 Hz wide.
        tilts.append(float(10 * np.log10(power[2500:5000].mean() / power[10000:20000].mean()) / 2))
    assert -0.5 < min(tilts) < 2
    assert 7 < max(tilts) < 9.5


def test_a_hum_is_the_harmonics_of_one_pitch() -> None:
    for clip in scenes.hums(np.random.default_rng(0), 20):
        assert root_mean_square(clip) == pytest.approx(1, rel=1e-5)
        power = np.square(np.abs(np.fft.rfft(clip * np.hanning(len(clip)))))
        peaks = np.flatnonzero(
            (power[1:-1] > power[:-2]) & (power[1:-1] > power[2:]) & (power[1:-1] > 1e-6 * power.max())
        )
        pitch = (peaks[0] + 1) / 5
        assert 39 < pitch < 1001
        assert len(peaks) <= 20
        assert (peaks + 1) / 5 == pytest.approx(pitch * np.round((peaks + 1) / 5 / pitch), abs=5)


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.x, b.x) and torch.equal(a.target, b.target)


def test_a_batch_depends_on_step_and_seed_alone(small: SceneTask, data: Path) -> None:
    first, second, third = (small.batch(step) for step in range(3))
    assert same(small.batch(1), second)
    assert not same(first, second)
    assert not same(second, third)
    other = load(data, seed=1)
    assert not same(other.batch(1), second)
    for split in ("valid", "test"):
        batches = list(small.evaluation(split))
        assert all(same(a, b) for a, b in zip(batches, other.evaluation(split), strict=True))
        assert not same(batches[0], batches[1])
    assert not same(next(small.evaluation("valid")), next(small.evaluation("test")))


def test_a_frame_is_judged_when_its_last_sample_has_been_heard(
    small: SceneTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = np.arange(100_000, dtype=np.float32)
    monkeypatch.setattr(
        activity,
        "make_scene",
        lambda random, sets, noises, length, conditions: Scene(counted[:length], counted[None, :length]),
    )
    batch = small.batch(0)
    assert batch.target.shape == (small.length, 4)
    assert batch.target[:, 0].tolist() == [511 + 320 * frame for frame in range(small.length)]
    assert len(batch.x) == 512 + 320 * (small.length - 1) <= RATE < len(batch.x) + 320


def test_recall_is_counted_above_the_threshold_of_few_false_alarms() -> None:
    speech = torch.arange(1000.0)
    none = torch.arange(200.0) + 700.5
    outputs = torch.cat([none, speech])[torch.randperm(1200, generator=torch.Generator().manual_seed(0))]
    recall, threshold = recall_and_threshold(outputs, outputs == outputs.round())
    # Two of 200 may be above the threshold: 898.5 and 899.5.
    assert float(threshold) == 897.5
    assert float(recall) == pytest.approx(102 / 1000)
    assert (none > threshold).double().mean() <= FALSE_ALARMS
    equal, _ = recall_and_threshold(torch.zeros(200), torch.arange(200) < 100)
    assert float(equal) == 0, "an output that says nothing finds nothing"


QUICK = ("--sets", "demo", "--seconds", "0.5", "--steps", "2", "--batch-size", "4", "--hidden-size", "4")


def test_a_run_gives_a_detector_with_its_threshold(run: Run, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    outcome = run("train", "activity", *QUICK, "--dilations", "1", "2", "--data-dir", data, "--out", folder, "--json")
    assert outcome.code == 0, outcome.err
    (results,) = outcome.objects()
    model = load_activity_model(folder / "model.safetensors")
    assert model.threshold == pytest.approx(results["valid"]["threshold"], abs=1e-4)  # type: ignore[index]
    assert model.tagger.rnn.hidden_size == 4
    for way in ((), ("--stream",)):
        (scores,) = run("evaluate", folder, *way, "--data-dir", data, "--json").objects()
        assert scores == pytest.approx(results["test"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--seconds", "0.03"), "seconds: expected 0.032 or more, one frame, got 0.03"),
        (("--minutes", "0"), "minutes: expected more than 0, got 0"),
        (("--sets",), "sets: expected one folder or more"),
        (("--sets", "nobody"), "nobody: no such folder"),
    ],
)
def test_options_that_train_nothing_are_refused(
    run: Run, data: Path, tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    outcome = run("train", "activity", *options, "--data-dir", data, "--out", tmp_path / "run")
    outcome.is_one_line_about(problem)
    assert not (tmp_path / "run").exists()


def test_data_without_speech_or_noise_are_refused(data: Path, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / "mute" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "mute" / name / "0.wav", np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match="mute: no speech by speakers of the part valid"):
        load_speakers(tmp_path / "mute", "valid", 1.0)
    with pytest.raises(FileNotFoundError, match="no <fold>-<source>-<take> of the part test"):
        load_noises(data / "demo", "test")


def test_silero_is_compared_with_itself_where_there_is_no_noise(
    small: SceneTask, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_scores, "SCENES", 2)
    monkeypatch.setattr(scene_scores, "SECONDS", 20)
    monkeypatch.setattr(activity_scores, "CONDITIONS", {"clean": Conditions(), "loud": Conditions(snr=-10)})
    speakers, noises = load_speakers(data / "demo", "test", 1.0), load_noises(data / "noise", "test")
    clean = activity_scores.judgements(load_activity_model(), [speakers], noises, Conditions())
    # Decisions, not the recall at 1 % false alarms: of so short a scene eight frames at its cuts decide that one.
    assert ((clean.silero >= SPEECH) == clean.truth).double().mean() > 0.95
    scores = activity_scores.compare(load_activity_model(), data, ["demo"])
    assert scores["demo"]["loud"]["silero"] < scores["demo"]["clean"]["silero"]
    own = scores["at own threshold"]
    assert own["speech"]["silero"] > own["no speech"]["silero"]
    assert isinstance(load_activity_model(), DetectorModel)


@pytest.mark.full
def test_the_shipped_detector_scores_what_its_card_says(data_dir: Path) -> None:
    card = asset("activity.md").read_text(encoding="utf-8")
    column = re.split(r" *\| *", re.findall(r"\| set .*", card)[0]).index("10 dB")
    rows = re.findall(r"\| `arabic_sc` .*\n\| \| Silero .*", card)[0].splitlines()
    ours, silero = (float(re.split(r" *\| *", row)[column]) for row in rows)
    sets = [load_speakers(data_dir / "voices" / "arabic_sc", "test", scene_scores.MINUTES)]
    noises = load_noises(data_dir / "noise", "test")
    judgements = activity_scores.judgements(load_activity_model(), sets, noises, activity_scores.CONDITIONS["10 dB"])
    recall = judgements.recall()
    assert 100 * recall["ours"] == pytest.approx(ours, abs=0.3)
    assert 100 * recall["silero"] == pytest.approx(silero, abs=0.3)
    assert recall["ours"] > 0.88
