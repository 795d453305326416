"""Microphones, with PortAudio imitated: what is chosen, what is lost, what is said when there is none."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import pytest

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import Enrolment, record
from streamdrnn.apps.speaker_id.sources.microphone import MicrophoneSource, devices
from streamdrnn.apps.speaker_id.sources.source import SourceError
from tests.apps.speaker_id.demo_voices import model, speech_of

BUILT_IN = {"name": "Built-in", "hostapi": 0, "max_input_channels": 2, "default_samplerate": 44100.0, "index": 0}
SPEAKERS = {"name": "Speakers", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 48000.0, "index": 1}
USB = {"name": "USB headset", "hostapi": 0, "max_input_channels": 1, "default_samplerate": 48000.0, "index": 2}


class FakeStream:
    """An ``InputStream`` whose blocks a test gives."""

    last: "FakeStream"

    def __init__(self, **options: Any) -> None:
        FakeStream.last = self
        self.options = options
        self.clock = 100.0

    def start(self) -> None:
        pass

    def close(self, ignore_errors: bool) -> None:
        self.options["finished_callback"]()

    def give(self, samples: np.ndarray, overflow: bool = False, missing: float = 0.0) -> None:
        """A block, after ``missing`` seconds that the system lost."""
        self.clock += missing
        moments = SimpleNamespace(inputBufferAdcTime=self.clock, currentTime=self.clock + 0.03)
        self.clock += len(samples) / self.options["samplerate"]
        block = samples.astype(np.float32)[:, None]
        self.options["callback"](block, len(samples), moments, SimpleNamespace(input_overflow=overflow))


class FakeSoundDevice:
    class PortAudioError(Exception):
        pass

    InputStream = FakeStream

    def __init__(self, found: list[dict[str, Any]]) -> None:
        self.found = found
        self.default = SimpleNamespace(device=[0, 1])

    def query_hostapis(self) -> list[dict[str, str]]:
        return [{"name": "ALSA"}]

    def query_devices(self, device: Any = None, kind: Optional[str] = None) -> Any:
        if kind is None:
            return self.found
        for number, one in enumerate(self.found):
            if one["max_input_channels"] and (
                device is None or device == number or (isinstance(device, str) and device in one["name"])
            ):
                return one
        raise ValueError(f"No input device matching {device!r}")


def plug(monkeypatch: pytest.MonkeyPatch, *found: dict[str, Any]) -> FakeSoundDevice:
    fake = FakeSoundDevice(list(found))
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def test_only_inputs_are_listed_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, BUILT_IN, SPEAKERS, USB)
    assert [(device.number, device.name, device.default) for device in devices()] == [
        (0, "Built-in", True),
        (2, "USB headset", False),
    ]


@pytest.mark.parametrize(("wanted", "rate"), [(None, 44100), (2, 48000), ("USB", 48000)])
def test_it_is_chosen_by_number_or_name_and_heard_at_its_own_rate(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, rate: int
) -> None:
    plug(monkeypatch, BUILT_IN, SPEAKERS, USB)
    source = MicrophoneSource(wanted)
    assert source.sample_rate == FakeStream.last.options["samplerate"] == rate


def test_no_microphone_and_no_such_one_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, SPEAKERS)
    assert devices() == []
    with pytest.raises(SourceError, match=r"^no microphone was found; see streamdrnn listen --list-devices$"):
        MicrophoneSource()
    plug(monkeypatch, BUILT_IN)
    with pytest.raises(SourceError, match=r"^no microphone 'desk' \(No input device matching 'desk'\)"):
        MicrophoneSource("desk")


@pytest.mark.parametrize("command", ["listen.Listen()", "enroll.Enroll('Anna', [])"])
def test_no_microphone_is_told_before_torch_is_loaded(command: str) -> None:
    script = f"""
import sys
from types import SimpleNamespace
from streamdrnn.apps.speaker_id.commands import enroll, listen
none = SimpleNamespace(query_devices=list, query_hostapis=list, default=SimpleNamespace(device=[-1, -1]))
sys.modules["sounddevice"] = none
try:
    {command}.run()
except OSError as error:
    print(error, "torch" in sys.modules, sep="; ")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "no microphone was found; see streamdrnn listen --list-devices; False\n"


def test_without_portaudio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SourceError, match=r"pip install '\.\[live\]'"):
        devices()


def test_what_the_system_loses_is_counted_by_the_time_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, USB)
    source = MicrophoneSource()
    with source:
        FakeStream.last.give(np.zeros(960))
        FakeStream.last.give(np.zeros(960), overflow=True, missing=0.5)
        FakeStream.last.give(np.zeros(960), overflow=True)  # it does not say how many: one at least
        chunks = source.chunks()
        lost = [next(chunks).lost for _ in range(3)]
    assert lost[0] == 0
    assert lost[1] == pytest.approx(24000, abs=2)
    assert lost[2] == 1
    assert source.overflows == 2
    assert source.dropped == lost[1] + lost[2]


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_each_block_completes_a_tick(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    plug(monkeypatch, {**USB, "default_samplerate": float(rate)})
    source, ear = MicrophoneSource(), Ear(model().embedder, rate)
    with source:
        blocks = FakeStream.last.options["blocksize"]
        assert blocks == rate / 10
        chunks = source.chunks()
        ticks = []
        for _ in range(30):
            FakeStream.last.give(np.zeros(blocks))
            ticks.append(len(ear.hear(next(chunks))))
    assert ticks == [0] + [1] * 29


def test_what_a_late_listener_leaves_is_dropped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, USB)
    source = MicrophoneSource()
    with source:
        for _ in range(150):  # 3 s, and nobody listens
            FakeStream.last.give(np.zeros(960))
        assert source.depth == pytest.approx(2.0)
        assert source.dropped == 48000
        chunks = source.chunks()
        for _ in range(100):
            assert next(chunks).lost == 0
        FakeStream.last.give(np.zeros(960))
        assert next(chunks).lost == 48000


def test_unplugged_in_mid_stream_what_was_heard_comes_before_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, USB)
    source = MicrophoneSource()
    with source:
        FakeStream.last.give(np.ones(960))
        FakeStream.last.options["finished_callback"]()
        chunks = source.chunks()
        assert len(next(chunks).samples) == 960
        with pytest.raises(SourceError, match="microphone 'USB headset' was lost"):
            next(chunks)


def test_an_enrolment_keeps_what_it_heard_of_a_microphone_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, {**USB, "default_samplerate": 16000.0})
    source = MicrophoneSource()
    enrolment = Enrolment(model())
    for block in speech_of(0, 1.9).split(320):
        FakeStream.last.give(block.numpy())
    FakeStream.last.options["finished_callback"]()
    with pytest.raises(SourceError, match="was lost"):
        record(source, model(), enrolment, 10.0, lambda progress: None)
    assert enrolment.finish().seconds > 1
