"""The paper's speaker task: folders are read by their layout, no audio is in two parts, and models take samples."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from streamdrnn import Classifier, StreamingDRNN, load_model, model_notes
from streamdrnn.apps.training import network
from streamdrnn.apps.training.evaluation import evaluate
from streamdrnn.apps.training.metrics import UtteranceAccuracy
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.prediction import predict
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.runs import load_run
from streamdrnn.apps.training.speaker_folders import Utterance, find_utterances
from streamdrnn.apps.training.tasks.speaker import SpeakerRecipe, SpeakerTask, Voice, make_frontend
from streamdrnn.apps.training.trainer import Trainer
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.audio import load_audio
from tests.apps.test_cli import Run, run

__all__ = ["run"]

Features = Literal["raw", "mfcc"]
QUICK = ("--batch-size", "32", "--hidden-size", "24")


def librispeech_clips(data_dir: Path, count: int) -> list[Path]:
    return sorted((data_dir / "librispeech").rglob("*.flac"))[:count]


def vctk(data_dir: Path, folder: Path, trimmed: bool) -> Path:
    """Three speakers of VCTK's layout, with four pieces of a real clip each."""
    for number, clip in enumerate(librispeech_clips(data_dir, 3)):
        samples, rate = soundfile.read(clip, dtype="float32")
        for piece in range(4):
            speaker = f"p{225 + number}"
            if trimmed:
                names = [f"wav48_silence_trimmed/{speaker}/{speaker}_{piece + 1:03d}_mic{m}.flac" for m in (1, 2)]
            else:
                names = [f"wav48/{speaker}/{speaker}_{piece + 1:03d}.wav"]
            for name in names:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples[piece * rate : (piece + 1) * rate], rate)
    return folder


@pytest.mark.parametrize("trimmed", [False, True])
def test_vctk_folders_are_read(data_dir: Path, tmp_path: Path, trimmed: bool) -> None:
    folder = vctk(data_dir, tmp_path / "vctk", trimmed)
    (folder / "speaker-info.txt").write_text("ID AGE")
    utterances = find_utterances(folder)
    assert [utterance.speaker for utterance in utterances] == ["p225"] * 4 + ["p226"] * 4 + ["p227"] * 4
    assert all("mic2" not in utterance.path.name for utterance in utterances)


def test_librispeech_and_fsdd_folders_are_read_at_any_depth(data_dir: Path, tmp_path: Path) -> None:
    clip = librispeech_clips(data_dir, 1)[0]
    deep = tmp_path / "libri" / "a" / "b"
    deep.mkdir(parents=True)
    shutil.copy(clip, deep / clip.name)
    assert find_utterances(tmp_path / "libri") == [Utterance(clip.name.split("-")[0], deep / clip.name)]
    digits = tmp_path / "fsdd" / "recordings"
    digits.mkdir(parents=True)
    for name in ("3_theo_11.wav", "3_anna_0.wav"):
        shutil.copy(data_dir / "fsdd" / "3_theo_11.wav", digits / name)
    assert [utterance.speaker for utterance in find_utterances(tmp_path / "fsdd")] == ["anna", "theo"]


def test_other_folders_have_a_folder_for_every_speaker(tmp_path: Path) -> None:
    # Also where some recordings are named as a data set would.
    for name in (
        "anna/hello.wav",
        "anna/84-1-1.flac",
        "bo b/x.MP3",
        "bo b/y.ogg",
        "bo b/z.opus",
        "notes.txt",
        "anna/notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert find_utterances(tmp_path) == [
        Utterance("anna", tmp_path / "anna/84-1-1.flac"),
        Utterance("anna", tmp_path / "anna/hello.wav"),
        Utterance("bo b", tmp_path / "bo b/x.MP3"),
        Utterance("bo b", tmp_path / "bo b/y.ogg"),
        Utterance("bo b", tmp_path / "bo b/z.opus"),
    ]


def counting(folder: Path, lengths: dict[str, list[int]]) -> Path:
    """Recordings at 8 kHz whose samples are 1, 2, 3, ... over all of a speaker's, so that each can be told."""
    for speaker, counts in lengths.items():
        (folder / speaker).mkdir(parents=True)
        first = 1
        for number, count in enumerate(counts):
            samples = np.arange(first, first + count) / 2**23
            soundfile.write(folder / speaker / f"{number}.flac", samples, 8000, subtype="PCM_24")
            first += count
    return folder


def task(folder: Path, seconds: float = 0.05, features: Features = "raw", **options: int) -> SpeakerTask:
    training = TrainingRecipe(**{"batch_size": 16, **options})  # type: ignore[arg-type]
    recipe = SpeakerRecipe(dataset=folder.name, seconds=seconds, features=features, training=training)
    return recipe.load(folder.parent)


def numbers(samples: list[torch.Tensor]) -> list[int]:
    return [round(float(sample) * 2**23) for some in samples for sample in some]


def test_one_recording_is_divided_by_time_and_several_are_held_back_whole(tmp_path: Path) -> None:
    lengths = {"once": [4000], "twice": [2000, 1000], "often": [700 + n for n in range(20)]}
    often, once, twice = task(counting(tmp_path / "data", lengths)).voices
    for voice in (often, once, twice):
        everything = numbers([*voice.train, *voice.valid, *voice.test])
        assert sorted(everything) == list(range(1, sum(lengths[voice.name]) + 1)), "every sample is in one part"
    assert numbers(once.train) == list(range(1, 2801))
    assert numbers(once.valid) == list(range(2801, 3401))
    assert [len(part) for part in twice.train] == [1400, 700]
    assert [len(part) for part in (often.train, often.valid, often.test)] == [14, 3, 3]


def test_three_recordings_are_one_for_each_part_and_names_alone_decide(tmp_path: Path) -> None:
    voices = task(counting(tmp_path / "data", {"a": [900, 800, 700], "b": [500, 600, 700]})).voices
    assert all(len(part) == 1 for voice in voices for part in voice[1:])
    order = [[len(recordings[0]) for recordings in voice[1:]] for voice in voices]
    assert [900 - length for length in order[0]] == [length - 500 for length in order[1]]


def test_the_official_split_of_fsdd_is_kept(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fsdd"
    folder.mkdir()
    for speaker in ("theo", "george"):
        for index in (0, 4, 5, 9, 10, 49):
            shutil.copy(data_dir / "fsdd" / f"7_{speaker}_{index}.wav", folder)
    for voice in task(folder).voices:
        for part, indices in ((voice.test, (0, 4)), (voice.valid, (5, 9)), (voice.train, (10, 49))):
            wanted = [load_audio(folder / f"7_{voice.name}_{index}.wav", 8000) for index in sorted(indices, key=str)]
            assert all(torch.equal(a, b) for a, b in zip(part, wanted, strict=True))


def test_windows_follow_one_another_and_a_short_recording_is_one_window(tmp_path: Path) -> None:
    some = task(counting(tmp_path / "data", {"a": [4000], "b": [1500]}))  # windows of 400; 600 and 225 validate
    (batch,) = some.evaluation("valid")
    assert batch.lengths is not None
    assert batch.group is not None
    assert batch.lengths.tolist() == [400, 225]
    assert batch.target.tolist() == batch.group.tolist() == [0, 1]
    assert numbers([batch.x[:225, 1]]) == list(range(1051, 1276))
    assert torch.equal(batch.x[225:, 1], torch.zeros(175))
    several = task(tmp_path / "data", seconds=0.01)
    (batch,) = several.evaluation("test")
    assert batch.group is not None
    assert batch.group.tolist() == [0] * 7 + [1] * 2
    assert numbers(list(batch.x.T[:7])) == list(range(3401, 3401 + 560))


def test_crops_are_of_what_trains_and_of_step_and_seed_alone(tmp_path: Path) -> None:
    folder = counting(tmp_path / "data", {"a": [4000], "b": [500]})
    some = task(folder)
    seen = set()
    for step in range(200):
        batch = some.batch(step)
        assert batch.lengths is not None
        assert batch.lengths.tolist() == [400 if speaker == 0 else 350 for speaker in batch.target.tolist()]
        for samples, length in zip(batch.x.T, batch.lengths.tolist(), strict=True):
            crop = numbers([samples[:length]])
            assert crop == list(range(crop[0], crop[0] + length))
            seen.add(crop[0])
            assert crop[-1] <= 2800
    assert min(seen) == 1
    assert max(seen) > 2350
    batch, again, other = some.batch(5), task(folder).batch(5), task(folder, seed=1).batch(5)
    assert torch.equal(batch.x, again.x)
    assert not torch.equal(batch.x, other.x)


@pytest.mark.parametrize("features", ["raw", "mfcc"])
def test_what_the_network_hears_is_standardised_by_what_trains(data_dir: Path, features: Features) -> None:
    frontend = make_frontend(features, 8000)
    clips = [load_audio(clip, 8000)[:16000] for clip in librispeech_clips(data_dir, 3)]
    voices = [Voice(str(n), [clip[:9000]], [100 * clip[9000:12000]], [clip[12000:]]) for n, clip in enumerate(clips)]
    some = SpeakerTask(voices, frontend, 0.5, TrainingRecipe(batch_size=4))
    model = network.seeded(NetworkRecipe(dilations=(2, 4)), 0, some.input_size, 3, False, some.audio_input)
    heard = torch.cat([model.features(clip[:9000, None], None, None)[0][:, 0] for clip in clips])
    assert heard.mean(0).tolist() == pytest.approx([0.0] * some.input_size, abs=1e-3)
    assert heard.std(0, correction=0).tolist() == pytest.approx([1.0] * some.input_size, rel=1e-3)
    assert predict(model, some.batch(0), None, per_step=False)[0].shape == (4, 3)
    assert (some.length, some.input_size) == ((4000, 1) if features == "raw" else (1 + (4000 - 256) // 40, 13))


@pytest.mark.parametrize("features", ["raw", "mfcc"])
@pytest.mark.parametrize("kind", ["dilated", "stacked"])
def test_what_is_measured_by_streaming_is_what_is_measured_in_batch(
    tmp_path: Path, data_dir: Path, kind: Any, features: Features
) -> None:
    clips = [load_audio(clip, 8000) for clip in librispeech_clips(data_dir, 3)]
    # Windows of different lengths, which end within a frame.
    voices = [Voice(str(n), [c[:8000]], [c[:900]], [c[8000:9000], c[9000 : 9700 + n]]) for n, c in enumerate(clips)]
    some = SpeakerTask(voices, make_frontend(features, 8000), 0.1, TrainingRecipe())
    recipe = NetworkRecipe(network=kind, hidden_size=5, dilations=(2, 4))
    model = network.seeded(recipe, 1, some.input_size, 3, False, some.audio_input)
    in_batch, as_stream = evaluate(model, some, "test"), evaluate(model, some, "test", as_stream=True)
    assert in_batch.keys() == as_stream.keys() == {"loss", "accuracy", "utterance_accuracy"}
    for name, value in in_batch.items():
        assert as_stream[name] == pytest.approx(value, rel=1e-5), name


def test_utterances_are_judged_by_their_windows_together() -> None:
    metric = UtteranceAccuracy(num_groups=4, num_classes=2)
    # Utterance 0: one window is sure and right, two are nearly undecided and wrong. 2 is the other way round.
    metric.update(torch.tensor([[9.0, 0], [0, 0.1], [0, 9.0]]), torch.tensor([0, 0, 0]), torch.tensor([0, 0, 2]))
    metric.update(torch.tensor([[0, 0.1], [0.1, 0]]), torch.tensor([0, 0]), torch.tensor([0, 2]))
    assert float(metric.compute()) == 0.5
    metric.update(torch.tensor([[0, 0.1]]), torch.tensor([1]), torch.tensor([3]))
    assert float(metric.compute()) == pytest.approx(2 / 3)
    # Logits are no probabilities: adding a constant to those of a window changes nothing.
    metric = UtteranceAccuracy(1, 2)
    metric.update(torch.tensor([[50.0, 50.0], [0, 1.0]]), torch.tensor([1, 1]), torch.tensor([0, 0]))
    assert float(metric.compute()) == 1


SMOKE: dict[str, tuple[str, ...]] = {
    "mfcc": ("--dataset", "fsdd", "--features", "mfcc", "--dilations", "1", "2", "4", "--steps", "60"),
    # Short crops and long dilations, so that it takes seconds.
    "raw": ("--dataset", "fsdd", "--seconds", "0.05", "--dilations", "16", "32", "64", "--steps", "100"),
}


@pytest.mark.parametrize("features", SMOKE)
def test_speakers_are_learned_and_their_model_streams_samples(
    run: Run, tmp_path: Path, data_dir: Path, features: str
) -> None:
    (tmp_path / "fsdd").mkdir()
    for pattern in ("[01]_*_?.wav", "[01]_*_[12]?.wav"):
        for path in (data_dir / "fsdd").glob(pattern):
            (tmp_path / "fsdd" / path.name).symlink_to(path)
    data = ("--data-dir", tmp_path)
    options = (*SMOKE[features], *QUICK, "--learning-rate", "0.01", *data)
    outcome = run("train", "speaker", *options, "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    results: Any = outcome.objects()[0]
    assert results["test"]["loss"] < 0.85 * results["chance"]["loss"]
    assert results["test"]["accuracy"] > 2 * results["chance"]["accuracy"]
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert isinstance(model, Classifier)
    names = json.loads(model_notes(tmp_path / "run" / "model.safetensors")["speakers"])
    assert names == ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    recipe_model, some = load_run(RunFolder(tmp_path / "run"), tmp_path)
    batch = next(some.evaluation("test"))
    assert batch.lengths is not None
    for number in (0, 40):
        samples = batch.x[: int(batch.lengths[number]), number : number + 1]
        with torch.no_grad():
            wanted = predict(recipe_model, batch, None, per_step=False)[0][number]
        stream = StreamingDRNN(model)
        pushed = [stream.push(chunk) for chunk in samples.split(300)]
        assert torch.allclose(torch.cat(pushed)[-1, 0], wanted, atol=1e-4)


def test_an_interrupted_run_goes_on_to_the_same_numbers(data_dir: Path, tmp_path: Path) -> None:
    recipe = SpeakerRecipe(
        dataset="vctk",
        features="mfcc",
        seconds=0.3,
        network=NetworkRecipe(hidden_size=5, dilations=(1, 2), dropout=0.3),
        training=TrainingRecipe(steps=12, batch_size=8, validate_every=4, checkpoint_every=4),
    )
    vctk(data_dir, tmp_path / "vctk", trimmed=True)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    def train(name: str, resume: bool = False) -> object:
        return Trainer(recipe, recipe.load(tmp_path), RunFolder(tmp_path / name), resume).run(lambda *at: None)["test"]

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        Trainer(recipe, recipe.load(tmp_path), RunFolder(tmp_path / "cut"), resume=False).run(interrupt)
    assert train("cut", resume=True) == whole
    ours, theirs = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("kind", ["skip", "cnn"])
def test_baselines_hear_samples_too(data_dir: Path, tmp_path: Path, kind: Any) -> None:
    recipe = SpeakerRecipe(
        dataset="vctk",
        seconds=0.02,
        network=NetworkRecipe(network=kind, hidden_size=5, dilations=(1, 2)),
        training=TrainingRecipe(steps=2, batch_size=4),
    )
    vctk(data_dir, tmp_path / "vctk", trimmed=False)
    results = Trainer(recipe, recipe.load(tmp_path), RunFolder(tmp_path / "run"), False).run(lambda *at: None)
    model, some = load_run(RunFolder(tmp_path / "run"), tmp_path)
    assert evaluate(model, some, "test") == results["test"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--dataset", "gone"), "expected the data set 'gone'"),
        (("--dataset", "empty"), "empty: no recordings; expected the layout of VCTK, LibriSpeech or FSDD, or"),
        (("--dataset", "alone"), "one speaker, expected two or more"),
        (("--dataset", "short"), "0.flac: 0.000 s long, too short to be divided"),
        (("--dataset", "short", "--features", "mfcc"), "too short to be divided"),
        (("--dataset", "broken"), "x.wav: damaged, or no audio file"),
        (("--dataset", "good", "--seconds", "0"), "seconds: expected 0.000125 or more, one frame, got 0"),
        (("--dataset", "good", "--seconds", "nan"), "seconds: expected"),
        (("--dataset", "good", "--features", "mfcc", "--seconds", "0.03"), "seconds: expected 0.032 or more"),
        (("--dataset", "good", "--seconds", "0.1"), "dilations: the longest is 1024, expected less than the 800 steps"),
        (
            ("--dataset", "good", "--features", "mfcc"),
            "the longest is 1024, expected less than the 94 steps",
        ),
    ],
)
def test_what_cannot_be_trained_on_gets_one_line(
    run: Run, tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "empty").mkdir()
    counting(tmp_path / "alone", {"a": [4000]})
    counting(tmp_path / "short", {"a": [3], "b": [3]})
    counting(tmp_path / "good", {"a": [9000], "b": [9000]})
    (tmp_path / "broken" / "a").mkdir(parents=True)
    (tmp_path / "broken" / "a" / "x.wav").write_text("no sound")
    (tmp_path / "broken" / "b").mkdir(parents=True)
    (tmp_path / "broken" / "b" / "y.wav").write_text("no sound")
    out = ("--data-dir", tmp_path, "--out", tmp_path / "run")
    run("train", "speaker", *out, *options).is_one_line_about(problem)
    assert not (tmp_path / "run").exists()


def test_the_raw_model_of_the_docs_scores_live_what_they_say(run: Run, data_dir: Path) -> None:
    folder = Path(__file__).parents[2] / "docs" / "results" / "fsdd-raw"
    outcome = run("evaluate", folder, "--data-dir", data_dir, "--stream", "--json")
    assert outcome.code == 0, outcome.err
    claimed = json.loads((folder / "results.json").read_text())["test"]
    assert outcome.objects() == [pytest.approx(claimed, abs=1e-6)]
    said = (folder.parents[1] / "training.md").read_text()
    assert f"| test | {claimed['accuracy']:.1%} | {claimed['utterance_accuracy']:.1%} |".replace("%", " %") in said
