"""The training of the detector of overlapped speech: its scenes, and how it is judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.random import Generator

from streamdrnn import load_model
from streamdrnn.apps.speaker_id.model import DetectorModel, asset, load_overlap_model
from streamdrnn.apps.training import overlap_scores, scene_scores, scenes
from streamdrnn.apps.training.labelled_speech import (
    RATE,
    Piece,
    Samples,
    Speaker,
    divide,
    load_noises,
    load_speakers,
)
from streamdrnn.apps.training.metrics import recall_and_threshold
from streamdrnn.apps.training.overlap_scores import Judgements, of_events, of_frames
from streamdrnn.apps.training.scenes import Conditions, Scene, make_scene
from streamdrnn.apps.training.tasks import overlap
from streamdrnn.apps.training.tasks.overlap import SCENES, OverlapRecipe, in_turns
from streamdrnn.apps.training.tasks.scene_task import SceneTask, Sounds
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.apps.training.voices import demo_readers
from tests.apps.speaker_id.demo_voices import speech_of, voices
from tests.apps.test_cli import Run, run
from tests.training.noises import write_noises

__all__ = ["run"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: the demo's four voices at four speeds, as sixteen speakers, and hiss as ESC-10's clips."""
    folder = tmp_path_factory.mktemp("data")
    for number, voice in enumerate(voices()):
        samples = speech_of(number, 3.0).numpy()
        for speed in (0.85, 1.0, 1.1, 1.25):
            places = np.arange(0, len(samples) - 1, speed)
            (folder / "demo" / f"{voice.name}{speed}").mkdir(parents=True)
            faster = np.interp(places, np.arange(len(samples)), samples)
            soundfile.write(folder / "demo" / f"{voice.name}{speed}" / "0.flac", faster, RATE)
    write_noises(folder)
    return folder


@pytest.fixture(scope="module")
def small(data: Path) -> SceneTask:
    return replace(OverlapRecipe(sets=("demo",), seconds=2.0), training=TrainingRecipe(batch_size=4)).load(data)


def tone(value: float) -> Speaker:
    """A speaker who says nothing but one value for a second."""
    return [Piece(np.full(RATE, value, np.float32), np.ones(32, np.float32))]


HISS = np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
SPEAKERS = [tone(4.0**number) for number in range(6)]


def scene(tracks: int, seed: int = 0) -> Scene:
    conditions = in_turns(SCENES[tracks - 1], Conditions())
    return make_scene(np.random.default_rng(seed), [SPEAKERS], [HISS], 60 * RATE, conditions)


def test_two_tracks_are_added_and_speak_at_once_where_both_speak() -> None:
    found = scene(2)
    assert found.tracks.shape == (2, len(found.samples))
    assert (found.speech == found.tracks.max(0)).all()
    assert (found.overlap == found.tracks.min(0)).all()
    one, two = found.tracks >= 0.5
    assert 0.05 < (one & two).mean() < 0.5
    assert (one ^ two).mean() > 0.2
    assert not scene(1).overlap.any()
    assert scene(1).speech.any()


def test_no_speaker_is_in_both_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[set[float]] = []

    def turns(random: Generator, sets: list[list[Speaker]], length: int, conditions: Conditions) -> tuple[Samples, ...]:
        heard.append({float(speaker[0].samples[0]) for speakers in sets for speaker in speakers})
        return np.zeros(length, np.float32), np.zeros(length, np.float32)

    monkeypatch.setattr(scenes, "_turns", turns)
    for seed in range(20):
        scene(2, seed)
    everybody = {4.0**number for number in range(6)}
    for one, two in zip(heard[::2], heard[1::2], strict=True):
        assert len(one) == len(two) == 3
        assert one | two == everybody
    assert len({frozenset(one) for one in heard}) > 5, "which are together differs"


def test_turns_begin_as_often_in_scenes_of_one_voice() -> None:
    """Else the number of seams, rather than two voices, would say which kind a scene is."""

    def begun(tracks: int) -> int:
        found = [scene(tracks, seed).tracks for seed in range(10)]
        return sum(int(((one[:, 1:] >= 0.5) & (one[:, :-1] < 0.5)).sum()) for one in found)

    assert 0.6 < begun(1) / begun(2) < 1.6


def scenes_drawn(count: int, *sets: list[Speaker]) -> list[Scene]:
    random, sounds = np.random.default_rng(0), Sounds(list(sets) or [SPEAKERS], [HISS])
    return [OverlapRecipe().scene(random, sounds, 4 * RATE) for _ in range(count)]


def test_a_scene_is_of_one_set_and_no_speaker_is_rarer_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[list[Speaker]]] = []
    made = scene(1)

    def make(random: Generator, sets: list[list[Speaker]], *others: object) -> Scene:
        heard.append(sets)
        return made

    monkeypatch.setattr(overlap, "make_scene", make)
    scenes_drawn(400, SPEAKERS, [tone(9.0), tone(10.0)])
    assert {len(sets) for sets in heard} == {1}
    assert 60 < sum(len(sets[0]) == 2 for sets in heard) < 140, "a quarter of the speakers"


def test_half_of_the_scenes_have_one_voice_and_none_tells_by_its_level(small: SceneTask) -> None:
    drawn = scenes_drawn(200)
    assert 70 < sum(len(one.tracks) == 1 for one in drawn) < 130
    loudest = {tracks: [np.abs(one.samples).max() for one in drawn if len(one.tracks) == tracks] for tracks in (1, 2)}
    assert np.median(loudest[1]) == pytest.approx(np.median(loudest[2]), rel=0.5), "a factor of 400 lies between scenes"
    assert all(one.speech.any() for one in drawn)
    target = small.batch(0).target
    assert target.shape == (small.length, 4)
    assert target.dtype == torch.float32


def test_the_readers_of_the_demo_train_nothing(data: Path) -> None:
    assert set(OverlapRecipe().left_out()) == demo_readers()
    assert len(demo_readers()) == 5
    names = divide([folder.name for folder in (data / "demo").iterdir()])["valid"]
    (first, second), (alone,) = (load_speakers(data / "demo", "valid", 1.0, without) for without in ((), names[:1]))
    assert [len(piece.samples) for piece in alone] == [len(piece.samples) for piece in second]
    assert (alone[0].samples == second[0].samples).all()
    assert len(first[0].samples) != len(alone[0].samples)


QUICK = ("--sets", "demo", "--seconds", "0.5", "--steps", "2", "--batch-size", "4", "--hidden-size", "4")


def test_a_run_gives_a_detector_in_16_bits_with_its_threshold(run: Run, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    outcome = run("train", "overlap", *QUICK, "--dilations", "1", "2", "--data-dir", data, "--out", folder, "--json")
    assert outcome.code == 0, outcome.err
    (results,) = outcome.objects()
    kept = load_model(folder / "model.safetensors")
    assert {parameter.dtype for parameter in kept.parameters()} == {torch.float16}
    model = load_overlap_model(folder / "model.safetensors")
    assert {parameter.dtype for parameter in model.tagger.parameters()} == {torch.float32}
    assert model.threshold == pytest.approx(results["valid"]["threshold"], abs=1e-4)  # type: ignore[index]
    (scores,) = run("evaluate", folder, "--stream", "--data-dir", data, "--json").objects()
    assert scores == pytest.approx(results["test"], rel=1e-4)


def test_a_set_with_one_speaker_in_a_split_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / "few" / str(number)
        folder.mkdir(parents=True)
        soundfile.write(folder / "0.flac", speech_of(number, 3.0).numpy(), RATE)
    (tmp_path / "noise").symlink_to(data / "noise")
    outcome = run("train", "overlap", "--sets", "few", "--data-dir", tmp_path, "--out", tmp_path / "run", *QUICK[4:])
    outcome.is_one_line_about("few: 1 speakers of the part valid, expected 2 or more")


def test_frames_are_counted_where_somebody_speaks() -> None:
    voices_there = torch.tensor([[0, 1], [1, 2], [2, 1]])
    outputs = torch.tensor([[9.0, 0.0], [1.0, 3.0], [2.0, -1.0]])
    said, is_there = Judgements(voices_there, outputs).joined()
    assert said.tolist() == [0.0, 1.0, 3.0, 2.0, -1.0]
    assert is_there.tolist() == [False, False, True, True, False]
    found = of_frames(said, is_there, 0.5)
    assert found["area under the curve"] == 1
    assert found["recall"] == 1
    assert found["false alarms"] == pytest.approx(1 / 3)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["F1"] == pytest.approx(0.8)
    assert of_frames(-said, is_there, 0.5)["area under the curve"] == 0


def test_events_are_overlaps_of_half_a_second_and_more() -> None:
    voices_there = torch.ones(1000, 1, dtype=torch.int32)
    voices_there[100:150] = voices_there[400:460] = 2  # 1 s, and 1.2 s
    voices_there[700:715] = 2  # too short
    outputs = torch.full((1000, 1), -8.0)
    outputs[110:160] = 8  # found
    outputs[800:850] = 8  # where one voice speaks
    found = of_events([Judgements(voices_there, outputs)], 0.0)
    assert found["recall"] == 0.5
    assert found["false per minute"] == pytest.approx(1 / ((1000 - 125) * 0.02 / 60), rel=0.01)


def test_the_scores_are_of_unknown_speakers_in_all_conditions(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_scores, "SCENES", 2)
    monkeypatch.setattr(scene_scores, "SECONDS", 10)
    monkeypatch.setattr(overlap_scores, "CONDITIONS", {"clean": Conditions(), "loud": Conditions(snr=-10)})
    model = load_overlap_model()
    scores = overlap_scores.measure(model, data, ["demo"])
    assert scores["demo"]["loud"] < scores["demo"]["clean"]
    assert 0.5 < scores["frames"]["area under the curve"] <= 1
    assert isinstance(model, DetectorModel)


@pytest.mark.full
def test_the_shipped_detector_scores_what_its_card_says(data_dir: Path) -> None:
    (row,) = (
        line for line in asset("overlap.md").read_text(encoding="utf-8").splitlines() if "`arabic_sc`" in line[:16]
    )
    wanted = float(row.split("|")[2])
    sets = [load_speakers(data_dir / "voices" / "arabic_sc", "test", scene_scores.MINUTES)]
    noises = load_noises(data_dir / "noise", "test")
    judged = overlap_scores.judgements(load_overlap_model(), sets, noises, overlap_scores.CONDITIONS["no noise"])
    found, _ = recall_and_threshold(*judged.joined())
    assert 100 * float(found) == pytest.approx(wanted, abs=0.3)
