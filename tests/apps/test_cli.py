"""The command line as its users call it, wrongly too."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch

import streamdrnn
from streamdrnn import DilatedRNN, Tagger, model_notes, save_model
from streamdrnn.apps.cli import COMMANDS, main
from streamdrnn.apps.info import Info
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.sources.source import SourceError
from streamdrnn.apps.training.network import KINDS, NetworkRecipe, build
from streamdrnn.audio import AudioFileError, load_audio
from streamdrnn.baselines import MinGRU
from streamdrnn.errors import InputError
from streamdrnn.kernels import cpu
from tests.audio.signals import voice_like
from tests.audio.test_files import bad_files

CONVERSATION = str(asset("conversation.flac"))


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def is_one_line_about(self, problem: str) -> None:
        assert self.code == 1, self
        assert self.err.startswith("streamdrnn: "), self
        assert self.err.count("\n") == 1, self
        assert problem in self.err, self


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    return tmp_path / "profiles.sqlite3"


def streamdrnn_command(*arguments: object) -> Outcome:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "streamdrnn.apps.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert f"Example: streamdrnn {command}" in " ".join(outcome.out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_overview_says_of_a_command_what_its_own_help_begins_with(run: Run, command: str) -> None:
    summary = COMMANDS[command].summary
    assert summary in " ".join(run("--help").out.split())
    assert " ".join(run(command, "--help").out.partition("]")[2].split()).find(summary) >= 0


def modules_loaded_by(*arguments: str) -> set[str]:
    command = [sys.executable, "-X", "importtime", "-m", "streamdrnn.apps.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_the_overview_loads_no_command(arguments: tuple[str, ...]) -> None:
    loaded = modules_loaded_by(*arguments)
    assert "argparse" not in loaded, "tyro loads it"
    ours = {name for name in loaded if name.startswith("streamdrnn")}
    assert ours == {"streamdrnn", "streamdrnn.apps", "streamdrnn.errors"}


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"train"}))
def test_help_loads_nothing_that_is_slow_to_load(command: str) -> None:
    loaded = modules_loaded_by(command, "--help")
    assert "tyro" in loaded
    assert not loaded & {"torch", "numpy", "librosa", "matplotlib"}


def test_version(run: Run) -> None:
    assert run("--version") == Outcome(0, f"streamdrnn {streamdrnn.__version__}\n", "")


def test_an_unknown_command_gets_one_line_with_the_nearest(run: Run) -> None:
    assert run("identfy", "a.wav").err == "streamdrnn: no command 'identfy', perhaps identify; see streamdrnn --help\n"
    assert run("fly").err == "streamdrnn: no command 'fly'; see streamdrnn --help\n"
    assert run("--fly").err == "streamdrnn: no option '--fly'; see streamdrnn --help\n"


def info_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Info) -> None:
        raise error

    monkeypatch.setattr(Info, "run", fail)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("not aligned"),
        TypeError("not aligned"),
        RuntimeError("not aligned"),
        KeyError("not aligned"),
        OSError("not aligned"),
    ],
    ids=repr,
)
def test_a_bug_is_no_mistake_of_the_users(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    info_raises(error, monkeypatch)
    outcome = run("info")
    assert outcome.code == 1
    first, *_, cause, last = outcome.err.splitlines()
    assert first.startswith("Traceback")
    assert cause.startswith(f"{type(error).__name__}: ")
    assert last == "streamdrnn: this looks like a bug of streamdrnn; please report it with the lines above"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("x: expected\n 1, got 2"), "x: expected 1, got 2"),
        (AudioFileError("a.wav: damaged"), "a.wav: damaged"),
        (FileNotFoundError("a.wav: no such file"), "a.wav: no such file"),
        (PermissionError(13, "Permission denied", "a.wav"), "a.wav: permission denied"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (SourceError("no microphone was found"), "no microphone was found"),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=repr,
)
def test_what_a_user_can_put_right_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    info_raises(error, monkeypatch)
    assert run("info") == Outcome(1, "", f"streamdrnn: {line}\n")


@pytest.mark.parametrize("arguments", [("--debug", "info"), ("info", "--debug")], ids=" ".join)
def test_debug_shows_tracebacks_and_logs(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "text").write_text("no model")
    problem = f"{tmp_path / 'text'}: damaged or not a safetensors file"
    run("info", tmp_path / "text").is_one_line_about(problem)
    outcome = streamdrnn_command(*arguments, tmp_path / "text")
    assert outcome.code == 1
    first, second, third, *_, last = outcome.err.splitlines()
    assert first.startswith("DEBUG streamdrnn: version ")
    assert second == f"DEBUG streamdrnn.storage: reading {tmp_path / 'text'}"
    assert third == "Traceback (most recent call last):"
    assert last.startswith(f"streamdrnn: {problem}")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("identify",),
        ("identify", "a.wav", "--threshold", "high"),
        ("identify", "a.wav", "--no-such-option"),
        ("enroll",),
        ("train", "juggling", "--out", "x"),
        ("train", "embedder"),
        ("export", "speaker", "--format", "tflite", "--out", "x"),
        ("export", "speaker", "--format", "onnx"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert not outcome.out
    assert "Traceback" not in outcome.err


def test_the_installed_command_says_what_went_wrong_in_one_line(tmp_path: Path) -> None:
    streamdrnn_command("identify", "gone.wav", "--profiles", tmp_path / "p").is_one_line_about("nobody is enrolled")


def test_enrol_identify_list_remove(run: Run, profiles: Path) -> None:
    for name in ("heather", "paul"):
        outcome = run("enroll", name.title(), asset(f"{name}.flac"), "--profiles", profiles, "--json")
        profile = outcome.objects()[0]
        assert (profile["name"], profile["recordings"]) == (name.title(), 1)
        assert 5.0 < float(str(profile["seconds"])) <= 7.3, "of clear speech"
    outcome = run("identify", CONVERSATION, "--profiles", profiles, "--json")
    assert outcome.code == 0
    segments = outcome.objects()
    names = ["file", "start", "end", "speaker", "score", "probability", "label", "overlap"]
    assert all(list(segment) == names for segment in segments)
    assert {"Heather", "Paul"} <= {segment["speaker"] for segment in segments}
    middle_of_heathers_first_turn = next(s for s in segments if s["end"] > 3)  # type: ignore[operator]
    assert middle_of_heathers_first_turn["speaker"] == "Heather"
    assert len(run("identify", CONVERSATION, "--profiles", profiles).out.splitlines()) == len(segments)

    assert [profile["name"] for profile in run("profiles", "--profiles", profiles, "--json").objects()] == [
        "Heather",
        "Paul",
    ]
    assert "Heather" not in run("profiles", "--profiles", profiles, "--remove", "Heather").out
    run("profiles", "--profiles", profiles, "--remove", "Heather").is_one_line_about("no profile 'Heather'")
    assert "nobody is enrolled" in run("profiles", "--profiles", profiles, "--remove", "Paul").out


def test_voices_are_exported_into_no_other_file(run: Run, profiles: Path, tmp_path: Path) -> None:
    run("enroll", "Paul", asset("paul.flac"), "--profiles", profiles)
    before = profiles.read_bytes()
    (tmp_path / "voice.wav").write_bytes(b"a recording")
    for target in (profiles, tmp_path / "voice.wav", tmp_path):
        outcome = run("profiles", "--profiles", profiles, "--export", target)
        outcome.is_one_line_about("is there already and holds no exported profiles, expected another name")
    run("profiles", "--profiles", profiles, "--export", tmp_path / "no" / "v.json").is_one_line_about("no such folder")
    assert (tmp_path / "voice.wav").read_bytes() == b"a recording"
    for _ in range(2):  # the second takes the place of the first
        assert run("profiles", "--profiles", profiles, "--export", tmp_path / "voices.json").code == 0
    together = run("profiles", "--profiles", profiles, "--remove", "Paul", "--export", tmp_path / "voices.json")
    together.is_one_line_about("--remove, --export: expected one of them at a time")
    assert profiles.read_bytes() == before
    run("profiles", "--profiles", tmp_path / "other", "--import", tmp_path / "voices.json")
    assert "Paul" in run("profiles", "--profiles", tmp_path / "other").out


def test_what_is_refused_leaves_nothing(run: Run, profiles: Path, tmp_path: Path) -> None:
    identify, keep = ("identify", asset("paul.flac")), ("--profiles", profiles, "--unknown", "keep")
    run(*identify, tmp_path / "gone.wav", *keep).is_one_line_about("gone.wav: no such file")
    run(*identify, *keep, "--json", "--format", "srt").is_one_line_about("--json: expected without --format srt")
    assert "nobody is enrolled" in run("profiles", "--profiles", profiles).out
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    recorded = run("listen", tmp_path / "empty.wav", "--profiles", profiles, "--record", tmp_path / "r")
    assert "empty.wav: has no samples" in recorded.err.splitlines()[-1]
    assert not list((tmp_path / "r").iterdir())
    save_model(Tagger(MinGRU(3, 4, 1), 2), tmp_path / "model")
    export = ("export", tmp_path / "model", "--format", "c", "--out")
    run(*export, tmp_path / "a" / "b").is_one_line_about("the library computes a DilatedRNN only")
    assert not (tmp_path / "a").exists()
    run(*export, tmp_path / "model", "--overwrite").is_one_line_about("is a file, expected a folder")


def test_profiles_are_the_users_own_unless_they_say_otherwise(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    run("enroll", "Paul", asset("paul.flac"))
    assert (tmp_path / "streamdrnn" / "profiles.sqlite3").is_file()
    assert "Paul" in run("profiles").out


def test_a_voice_below_the_threshold_is_nobodys(run: Run, profiles: Path) -> None:
    run("enroll", "Paul", asset("paul.flac"), "--profiles", profiles)
    outcome = run("identify", CONVERSATION, "--profiles", profiles, "--threshold", 0.9999, "--json")
    assert {segment["speaker"] for segment in outcome.objects()} == {None}


def test_bad_recordings_get_one_line_and_change_no_profile(run: Run, profiles: Path, tmp_path: Path) -> None:
    run("enroll", "Paul", asset("paul.flac"), "--profiles", profiles)
    before = profiles.read_bytes()
    soundfile.write(tmp_path / "brief.wav", voice_like(8000).numpy(), 16000)
    soundfile.write(tmp_path / "quiet.wav", 1e-4 * voice_like(32000).numpy(), 16000)
    bad = bad_files(tmp_path)
    for name, problem in bad.items():
        run("identify", tmp_path / name, "--profiles", profiles).is_one_line_about(problem)
    bad |= {
        "brief.wav": "s of clear speech, expected 1 s",
        "quiet.wav": "s of clear speech",
        "gone.wav": "no such file",
    }
    for name, problem in bad.items():
        outcome = run("enroll", "Paul", asset("paul.flac"), tmp_path / name, "--profiles", profiles)
        outcome.is_one_line_about(problem)
        assert not outcome.out
    run("enroll", "two\nlines", asset("paul.flac"), "--profiles", profiles).is_one_line_about("name: expected")
    assert profiles.read_bytes() == before


def test_several_recordings_and_standard_input_are_identified(
    run: Run, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paul, heather = str(asset("paul.flac")), str(asset("heather.flac"))
    run("enroll", "Paul", paul, "--profiles", profiles)
    outcome = run("identify", paul, heather, "--profiles", profiles, "--json")
    assert [(one["file"], one["speaker"]) for one in outcome.objects()] == [(paul, "Paul"), (heather, None)]
    assert run("identify", paul, heather, "--profiles", profiles).out.startswith(f"{paul}:\n")
    samples = load_audio(paul)
    soundfile.write(tmp_path / "a.wav", samples.numpy(), 16000, subtype="PCM_16")
    (tmp_path / "raw").write_bytes((32768 * samples).short().numpy().tobytes())
    for name in ("a.wav", "raw"):
        with (tmp_path / name).open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            (segment,) = run("identify", "-", "--profiles", profiles, "--json").objects()
            assert (segment["file"], segment["speaker"]) == ("standard input", "Paul")
    monkeypatch.setattr(sys, "stdin", None)
    run("identify", "-", "--profiles", profiles).is_one_line_about("standard input is closed")


def test_strangers_of_several_recordings_are_kept_apart(run: Run, profiles: Path) -> None:
    paul, heather = (str(asset(f"{name}.flac")) for name in ("paul", "heather"))
    assert run("identify", paul, heather, paul, "--profiles", profiles, "--unknown", "keep").code == 0
    seconds = {one["name"]: one["seconds"] for one in run("profiles", "--profiles", profiles, "--json").objects()}
    assert list(seconds) == ["Speaker 1", "Speaker 2"], "the third recording's voice is known from the first"
    assert max(seconds.values()) < 7  # type: ignore[type-var,operator]


def test_profiles_learn_from_what_is_theirs_beyond_doubt(run: Run, profiles: Path, tmp_path: Path) -> None:
    heather, paul = str(asset("heather.flac")), tmp_path / "twice.wav"
    assert run("enroll", "Paul", asset("paul.flac"), "--profiles", profiles).code == 0
    samples, rate = soundfile.read(asset("paul.flac"))
    soundfile.write(paul, np.concatenate([samples, samples]), rate)

    def seconds() -> float:
        (one,) = run("profiles", "--profiles", profiles, "--json").objects()
        return float(one["seconds"])  # type: ignore[arg-type]

    enrolled = seconds()
    assert run("identify", heather, paul, "--profiles", profiles).code == 0
    assert seconds() == enrolled, "only if asked"
    outcome = run("identify", heather, paul, "--learn", "--profiles", profiles)
    assert outcome.code == 0
    assert "learned " in outcome.err
    assert outcome.err.count("Paul") == 1, "of his own recording"
    assert enrolled + 5 <= seconds() <= 2 * enrolled


def test_what_is_heard_before_a_damaged_end_is_told(run: Run, profiles: Path, tmp_path: Path) -> None:
    run("enroll", "Paul", asset("paul.flac"), "--profiles", profiles)
    samples = load_audio(asset("paul.flac"))
    soundfile.write(tmp_path / "a.wav", samples.numpy(), 16000, subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1601])
    outcome = run("identify", tmp_path / "a.wav", "--profiles", profiles, "--json")
    outcome.is_one_line_about("a.wav: cut short")
    assert [(one["speaker"], one["end"]) for one in outcome.objects()] == [
        ("Paul", pytest.approx((len(samples) - 801) / 16000, abs=0.006))
    ]


def test_one_channel_is_heard(run: Run, profiles: Path, tmp_path: Path) -> None:
    channels = [load_audio(asset(f"{name}.flac"))[: 6 * 16000] for name in ("paul", "heather")]
    soundfile.write(tmp_path / "a.wav", torch.stack(channels, 1).numpy(), 16000)
    for channel, name in enumerate(("Paul", "Heather"), 1):
        run("enroll", name, tmp_path / "a.wav", "--channel", channel, "--profiles", profiles)
    for channel, name in enumerate(("Paul", "Heather"), 1):
        outcome = run("identify", tmp_path / "a.wav", "--channel", channel, "--profiles", profiles, "--json")
        assert {one["speaker"] for one in outcome.objects()} == {name}


def test_options_that_do_not_fit_the_source_are_refused(run: Run) -> None:
    run("listen", CONVERSATION, "--device", 3).is_one_line_about("--device: expected without a recording")
    run("listen", CONVERSATION, "--rate", 8000).is_one_line_about("--rate, --channels: expected with - (standard")
    run("listen", "--channel", 2).is_one_line_about("--channel: expected with a recording, not with a microphone")
    run("enroll", "Paul", CONVERSATION, "--device", 3).is_one_line_about("--device: expected without recordings")
    run("enroll", "Paul", "--channel", 1).is_one_line_about("--channel: expected with recordings")


@pytest.mark.parametrize(("rate", "channels", "subtype"), [(16000, 1, "PCM_U8"), (96000, 2, "PCM_16")])
def test_unusual_recordings_are_fine(
    run: Run, profiles: Path, tmp_path: Path, rate: int, channels: int, subtype: str
) -> None:
    samples = load_audio(asset("paul.flac"), rate)[: 3 * rate, None].expand(-1, channels).numpy()
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype=subtype)
    assert run("enroll", "a", tmp_path / "a.wav", "--profiles", profiles).code == 0
    assert run("identify", tmp_path / "a.wav", "--profiles", profiles).code == 0


def test_bad_models_get_one_line(run: Run, profiles: Path, tmp_path: Path) -> None:
    whole = asset("speaker.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:1000])
    (tmp_path / "text.safetensors").write_text("no model")
    for name, problem in {"cut": "damaged", "text": "damaged", "gone": "no such file"}.items():
        model = tmp_path / f"{name}.safetensors"
        enrol = ("enroll", "Paul", asset("paul.flac"), "--profiles", profiles, "--model", model)
        run(*enrol).is_one_line_about(problem)
        run("info", model).is_one_line_about(problem)
    assert not profiles.exists()


def test_profiles_of_another_model_are_noticed(run: Run, profiles: Path) -> None:
    run("enroll", "Paul", asset("paul.flac"), "--profiles", profiles)
    store = ProfileStore(profiles)
    with store._transaction() as db:
        db.execute("UPDATE recordings SET model = 'another'")
    run("identify", CONVERSATION, "--profiles", profiles).is_one_line_about("enrolled with another model")


def test_info(run: Run) -> None:
    facts = run("info", "--json").objects()[0]
    assert facts["backend torch"] == "usable"
    assert facts["backend cpu"] == (cpu.why_not() or "usable")
    facts = run("info", asset("speaker.safetensors"), "--json").objects()[0]
    assert facts["kind"] == "SpeakerEmbedder"
    assert {"cohort", "calibration"} <= facts.keys()
    assert "SpeakerEmbedder" in run("info", asset("speaker.safetensors")).out


def test_without_data_training_says_where_it_looked(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMDRNN_DATA", raising=False)
    out = tmp_path / "voices"
    run("train", "embedder", "--out", out).is_one_line_about("no data folder: give --data-dir, or set STREAMDRNN_DATA")
    run("train", "embedder", "--out", out, "--data-dir", tmp_path).is_one_line_about("expected the data set 'noise'")
    (tmp_path / "librispeech").mkdir()
    run("evaluate", "embedder", "--data-dir", tmp_path).is_one_line_about("no recordings of librispeech")


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"set -o pipefail; {sys.executable} -m streamdrnn.apps.cli demo | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "loading the models\n"
    assert not done.stderr


@pytest.mark.filterwarnings(r"ignore:`torch.jit.\w+` is deprecated:DeprecationWarning")
def test_export_writes_what_it_says(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "voice.pt"
    outcome = run("export", "speaker", "--format", "torchscript", "--out", out)
    assert outcome.code == 0
    assert outcome.out.count("\n") == 1
    assert outcome.out.startswith(f"wrote {out} (")
    assert "SpeakerEmbedder, step (batch, 640) -> (batch, 192), chunk (steps, batch, 640)" in outcome.out
    assert not outcome.err
    run("export", "speaker", "--format", "torchscript", "--out", out).is_one_line_about("voice.pt: is there already")
    (described,) = run("export", "speaker", "--format", "torchscript", "--out", out, "--overwrite", "--json").objects()
    assert described["files"] == [str(out)]
    assert described["sample_rate"] == 16000
    assert described["notes"] == model_notes(asset("speaker.safetensors"))
    extra = {"streamdrnn.json": ""}
    torch.jit.load(out, _extra_files=extra)
    del described["files"]
    assert json.loads(extra["streamdrnn.json"]) == described


def test_a_model_in_c_is_a_folder(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "voice"
    outcome = run("export", "speaker", "--format", "c", "--out", out)
    assert outcome.out.startswith(f"wrote {out} (")
    assert outcome.out.endswith(" MB): SpeakerEmbedder, push (samples, batch) -> (steps, batch, 192)\n")
    assert (out / "Makefile").exists()
    run("export", "speaker", "--format", "c", "--out", out).is_one_line_about("voice: is there already")


@pytest.mark.filterwarnings(r"ignore:`torch.jit.\w+` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "network",
    # TorchScript takes the first two. Of the others, which torch traces for seconds, one stands for all.
    [pytest.param(kind, marks=[] if kind in ("dilated", "stacked", "cnn") else pytest.mark.full) for kind in KINDS],
)
def test_every_network_that_trains_is_exported(run: Run, tmp_path: Path, network: str) -> None:
    recipe = NetworkRecipe(network=network, hidden_size=4, dilations=(1, 2))
    model = build(recipe, 1, 3, per_step=False)
    save_model(model, tmp_path / "model.safetensors")
    format, name, written = ("pt2", "x.pt2", "x.step.pt2")
    if isinstance(model.rnn, DilatedRNN):
        format, name, written = ("torchscript", "x.pt", "x.pt")
    outcome = run("export", tmp_path, "--format", format, "--out", tmp_path / name)
    assert outcome.code == 0, outcome
    assert (tmp_path / written).exists()


def test_what_cannot_be_exported_gets_one_line(run: Run, tmp_path: Path) -> None:
    for model, out, problem in (
        (tmp_path / "gone.safetensors", "x.pt", "gone.safetensors: no such file"),
        (tmp_path, "x.pt", "model.safetensors: no such file"),
        (asset("demo.json"), "x.pt", "damaged or not a safetensors file"),
        ("speaker", "x.onnx", "x.onnx: expected a name that ends in .pt"),
    ):
        run("export", model, "--format", "torchscript", "--out", tmp_path / out).is_one_line_about(problem)
    assert list(tmp_path.iterdir()) == []
