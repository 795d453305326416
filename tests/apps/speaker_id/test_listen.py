"""`streamdrnn listen` and `enroll` by the real paths: a virtual microphone, a pipe, files, and being killed."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.identifier import Identifier
from streamdrnn.apps.speaker_id.model import asset, load_speaker_model
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.audio import load_audio
from tests.apps.test_cli import Run, run

__all__ = ["run"]

STREAMDRNN = [sys.executable, "-m", "streamdrnn.apps.cli"]
CONVERSATION = asset("conversation.flac")
NEEDED = ("pulseaudio", "pactl", "paplay")
MISSING = [program for program in NEEDED if shutil.which(program) is None]


def call(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [*STREAMDRNN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


def objects(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from streamdrnn.apps.speaker_id.enrolment import listen_to

    path = tmp_path_factory.mktemp("profiles") / "profiles.sqlite3"
    model = load_speaker_model()
    for name in ("heather", "paul"):
        ProfileStore(path).add(name.title(), model.id, [listen_to(asset(f"{name}.flac"), model)])
    return path


def test_a_file_at_full_speed_is_named_and_recorded(profiles: Path, tmp_path: Path) -> None:
    done = call("listen", CONVERSATION, "--json", "--profiles", profiles, "--record", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    events = objects(done.stdout)
    assert {"Heather", "Paul"} <= {event["speaker"] for event in events if event["event"] == "report"}
    assert events[-1]["event"] == "summary"
    assert events[-1]["seconds"] == pytest.approx(soundfile.info(CONVERSATION).duration)
    assert events[-1]["dropped"] == 0
    assert objects((tmp_path / "r" / "labels.jsonl").read_bytes()) == events
    assert soundfile.info(tmp_path / "r" / "audio.flac").frames == soundfile.info(CONVERSATION).frames


def test_a_pipe_gives_what_the_file_gives(profiles: Path) -> None:
    samples, _ = soundfile.read(CONVERSATION, dtype="int16")
    samples = samples[:80000]
    done = call("listen", "-", "--json", "--profiles", profiles, input=samples.tobytes())
    assert done.returncode == 0, done.stderr
    model = load_speaker_model()
    ear, identifier = (
        Ear(model.embedder),
        Identifier(model, ProfileStore(profiles).voices(model.id)),
    )
    ticks = [*ear.push(torch.from_numpy(samples / 32768).float()), *ear.finish()]
    wanted = identifier.hear(ticks) + identifier.finish(ear.seconds)
    segments = [event for event in objects(done.stdout) if event["event"] == "segment"]
    assert segments == [{"event": "segment", **segment.as_object()} for segment in wanted]


def test_a_file_at_the_pace_of_speech_tells_how_late_it_is(profiles: Path) -> None:
    done = call("listen", CONVERSATION, "--realtime", "--seconds", 2, "--profiles", profiles)
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode()
    assert "sound to label" in out
    assert "real-time factor" in out


def test_what_cannot_be_listened_to_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for problem, arguments in {
        "gone.wav: no such file": ("gone.wav",),
        "sample rate: expected": ("-", "--rate", 5),
        "channels: expected": ("-", "--channels", 0),
        "seconds: expected more than 0, got nan": ("-", "--seconds", "nan"),
        "port: expected 0 (any that is free) to 65535, got 65536": ("--web", "--port", 65536),
        "--web: a page has its own microphone": ("gone.wav", "--web"),
        "--local: expected --web with it": ("gone.wav", "--local"),
    }.items():
        with Path(os.devnull).open() as nothing:
            monkeypatch.setattr(sys, "stdin", nothing)
            run("listen", *arguments, "--profiles", tmp_path / "p").is_one_line_about(problem)


def test_a_killed_enrolment_loses_no_earlier_profile(profiles: Path, tmp_path: Path) -> None:
    mine = tmp_path / "profiles.sqlite3"
    shutil.copy(profiles, mine)
    before = ProfileStore(mine).profiles()
    # A writer that has written, and is killed before its transaction ends.
    script = (
        "import os, signal, sys, torch; from pathlib import Path\n"
        "from streamdrnn.apps.speaker_id import profiles as p\n"
        "with p.ProfileStore(Path(sys.argv[1]))._transaction() as db:\n"
        "    db.execute('PRAGMA cache_size = 5')\n"  # so that a part is in the file already
        "    p._insert(db, [p.StoredRecording('x', '0' * 16, p.Recording(1.0, torch.ones(200_000)))])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(mine)], capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert ProfileStore(mine).profiles() == before


def test_two_processes_enrol_at_once(tmp_path: Path) -> None:
    mine = tmp_path / "profiles.sqlite3"
    running = [
        subprocess.Popen(
            [*STREAMDRNN, "enroll", "Both", str(asset(f"{name}.flac")), "--profiles", str(mine)],
            stdout=subprocess.DEVNULL,
        )
        for name in ("heather", "paul")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    assert [(profile.name, profile.recordings) for profile in ProfileStore(mine).profiles()] == [("Both", 2)]


def stream(minutes: float) -> int:
    """Hear the conversation again and again; how many KiB the process has grown since the first time."""
    model = load_speaker_model()
    ear, identifier = Ear(model.embedder), Identifier(model, {})
    samples = load_audio(CONVERSATION, 16000)
    heard, first = 0, 0
    while heard < minutes * 60 * 16000:
        identifier.hear(ear.push(samples))
        heard += len(samples)
        first = first or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first


def test_memory_is_flat_over_a_long_stream() -> None:
    # HYPOTHESIS_PROFILE=full, as in `make check-full`, hears an hour.
    minutes = 60.0 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 3.0
    assert stream(minutes) < 8 << 10


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    if MISSING:
        pytest.skip(f"a virtual microphone needs {', '.join(MISSING)} (packages pulseaudio and pulseaudio-utils)")
    pytest.importorskip("sounddevice", reason="a microphone needs the extra live", exc_type=ImportError)
    socket = tmp_path / "native"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        patch.setenv("PULSE_SERVER", f"unix:{socket}")
        server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no"),
                *("--high-priority=no", "-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"),
                *("-L", "module-null-sink sink_name=fakesink rate=16000 channels=1 channel_map=mono"),
                *("-L", "module-remap-source source_name=fakemic master=fakesink.monitor"),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                if (
                    subprocess.run(
                        ["pactl", "set-default-source", "fakemic"], capture_output=True, check=False
                    ).returncode
                    == 0
                ):
                    break
                time.sleep(0.1)
            yield server
        finally:
            server.kill()
            server.wait()


def play(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["paplay", "--device=fakesink", str(path)])


def until_it_listens(process: subprocess.Popen[bytes], words: bytes) -> None:
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, "it ended before it listened"


def test_a_microphone_is_listened_to_until_it_is_lost(
    pulse: subprocess.Popen[bytes], profiles: Path, tmp_path: Path
) -> None:
    listening = subprocess.Popen(
        [
            *(*STREAMDRNN, "listen", "--device", "pulse", "--json", "--profiles", str(profiles)),
            *("--record", str(tmp_path / "r")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until_it_listens(listening, b"listening to")
        time.sleep(2)
        soundfile.write(tmp_path / "a.wav", load_audio(CONVERSATION, 16000)[:112000].numpy(), 16000)
        assert play(tmp_path / "a.wav").wait(30) == 0
        pulse.kill()  # the device is gone
        out, err = listening.communicate(timeout=30)
    finally:
        listening.kill()
    assert listening.returncode == 1
    complaints = [line for line in err.decode().splitlines() if line.startswith("streamdrnn: ")]
    assert len(complaints) == 1, err
    assert "was lost" in complaints[0]
    events = objects(out)
    # Of the two voices in it one is as good as certain, wherever in the sound the ticks begin.
    assert {"Paul", "probably Paul"} & {event["label"] for event in events if event["event"] == "report"}
    assert events[-1]["event"] == "summary"
    assert events[-1]["p50"] is not None
    assert (tmp_path / "r" / "audio.flac").stat().st_size > 10_000


def test_a_voice_is_enrolled_from_the_microphone(pulse: subprocess.Popen[bytes], tmp_path: Path) -> None:
    mine = tmp_path / "profiles.sqlite3"
    enrolling = subprocess.Popen(
        [*STREAMDRNN, "enroll", "Paul", "--device", "pulse", "--seconds", "2", "--profiles", str(mine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until_it_listens(enrolling, b"speak now")
        time.sleep(2)
        soundfile.write(tmp_path / "paul.wav", load_audio(asset("paul.flac"), 16000).numpy(), 16000)
        playing = play(tmp_path / "paul.wav")
        _, err = enrolling.communicate(timeout=60)
        playing.wait(30)
    finally:
        enrolling.kill()
    assert enrolling.returncode == 0, err
    assert b"that is enough" in err
    assert b"of 2 s of clear speech" in err
    (profile,) = ProfileStore(mine).profiles()
    assert profile.name == "Paul"
    assert 2 <= profile.seconds < 2.3, "with what was under way"


@pytest.mark.full
def test_an_enrolment_that_is_killed_while_it_listens_loses_no_profile(
    pulse: subprocess.Popen[bytes], profiles: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "profiles.sqlite3"
    shutil.copy(profiles, mine)
    before = ProfileStore(mine).recordings()
    enrolling = subprocess.Popen(
        [*STREAMDRNN, "enroll", "Paul", "--device", "pulse", "--profiles", str(mine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until_it_listens(enrolling, b"speak now")
        soundfile.write(tmp_path / "paul.wav", load_audio(asset("paul.flac"), 16000).numpy(), 16000)
        playing = play(tmp_path / "paul.wav")
        until_it_listens(enrolling, b"1.0 of 10 s of clear speech")
    finally:
        enrolling.kill()
        enrolling.communicate(timeout=30)
    playing.wait(30)
    after = ProfileStore(mine).recordings()
    assert [(one.name, one.recording.seconds) for one in after] == [(one.name, one.recording.seconds) for one in before]
    assert call("enroll", "Paul", asset("heather.flac"), "--profiles", mine).returncode == 0


def test_without_a_microphone_there_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PULSE_SERVER": f"unix:{tmp_path}/none", "XDG_RUNTIME_DIR": str(tmp_path)}
    done = call("listen", "--device", "no such device", "--profiles", tmp_path / "p", env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(b"streamdrnn: "), done.stderr
    assert done.stderr.count(b"\n") == 1
