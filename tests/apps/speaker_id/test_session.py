"""A session: whatever ends it, the sinks get all there is; losses are told where they were."""

import io
import json
import time
from pathlib import Path

import pytest
import soundfile
import torch

from streamdrnn.apps.speaker_id.enrolment import listen_to
from streamdrnn.apps.speaker_id.identifier import Now
from streamdrnn.apps.speaker_id.latency import Latency
from streamdrnn.apps.speaker_id.model import asset, load_speaker_model
from streamdrnn.apps.speaker_id.scores import THRESHOLD
from streamdrnn.apps.speaker_id.session import Event, Gap, Report, Session, Summary, listen
from streamdrnn.apps.speaker_id.sinks.json_lines import JsonLines
from streamdrnn.apps.speaker_id.sinks.lines import Lines
from streamdrnn.apps.speaker_id.sinks.recorder import Recorder
from streamdrnn.apps.speaker_id.sources.source import Chunk, Source, SourceError
from streamdrnn.apps.speaker_id.turns import Segment
from streamdrnn.audio import load_audio
from tests.apps.speaker_id.demo_voices import conversation_samples, script

MODEL = load_speaker_model()
VOICES = {name: listen_to(asset(f"{name}.flac"), MODEL) for name in ("heather", "paul")}
HEARD = load_audio(asset("conversation.flac"))[:80000]


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.samples = 0
        self.events: list[Event] = []
        self.summary: Summary | None = None

    def hear(self, chunk: Chunk) -> None:
        self.samples += chunk.lost + len(chunk.samples)

    def take(self, event: Event) -> None:
        self.events.append(event)

    def finish(self, summary: Summary) -> None:
        self.summary = summary


class Full(Kept):
    """A sink that cannot write."""

    def take(self, event: Event) -> None:
        raise OSError("disk full")


def session() -> Session:
    return Session(MODEL, VOICES, THRESHOLD, 16000)


def source_of(samples: torch.Tensor, error: Exception | None = None) -> Source:
    source = Source("test", 16000, capacity=10)
    for block in samples.split(1000):
        source.push(block)
    source.end(error)
    return source


def test_a_report_every_second_and_at_every_change_with_a_score_for_all() -> None:
    kept = Kept()
    first, second = script()["turns"][:2]
    listen(source_of(conversation_samples(second["end"])), session(), [kept])
    reports = [event for event in kept.events if isinstance(event, Report)]
    assert {1.0, 2.0, 3.0, 4.0, 5.0} <= {report.now.time for report in reports}
    heard = [report for report in reports if report.now.evidence]
    assert all(set(report.now.scores) == {"heather", "paul"} for report in heard)
    assert all(sum(report.now.probability.values()) == pytest.approx(1) for report in heard)
    assert all(report.latency is None for report in reports), "it was not heard live"
    named = [(report.now.time, report.now.speaker) for report in reports if report.now.speaker]
    assert first["speaker"] == "Heather"
    # When Paul has begun, within about a second Heather is named no more.
    assert all(time <= second["start"] + 1.1 for time, name in named if name == "heather")
    assert "paul" in dict(named).values()
    assert kept.summary is not None
    assert kept.summary.seconds == pytest.approx(second["end"])
    assert kept.summary.p50 is None
    assert kept.summary.dropped == 0


def test_an_unplugged_device_is_told_and_the_results_are_kept(tmp_path: Path) -> None:
    kept = Kept()
    with pytest.raises(SourceError, match="unplugged"):
        listen(source_of(HEARD, SourceError("unplugged")), session(), [Recorder(tmp_path / "r", 16000), kept])
    assert kept.summary is not None
    segments = [event for event in kept.events if isinstance(event, Segment)]
    assert segments[-1].end == 5.0
    assert soundfile.info(tmp_path / "r" / "audio.flac").frames == 80000


def test_a_sink_that_cannot_write_takes_nothing_from_the_others() -> None:
    kept, full = Kept(), Full()
    with pytest.raises(OSError, match="disk full"):
        listen(source_of(HEARD), session(), [kept, full])
    assert kept.summary is not None
    assert full.summary is not None


def test_it_stops_after_some_seconds() -> None:
    kept = Kept()
    listen(source_of(HEARD), session(), [kept], seconds=1.0)
    assert kept.samples == 16000


def test_a_loss_is_counted_and_the_clock_goes_on() -> None:
    one = session()
    events = one.push(Chunk(HEARD[:16000], 0, None))
    events += one.push(Chunk(HEARD[:16000], 8000, None)) + one.finish()
    assert [event for event in events if isinstance(event, Gap)] == [Gap(1.0, 0.5)]
    assert one.summary.dropped == 0.5
    assert one.summary.gaps == 1
    assert one.summary.seconds == 2.5
    assert [event.end for event in events if isinstance(event, Segment)][-1] == 2.5


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_any_rate_is_resampled_while_it_comes(rate: int) -> None:
    one = Session(MODEL, VOICES, THRESHOLD, rate)
    events: list[Event] = []
    for _ in range(10):
        events += one.push(Chunk(torch.zeros(rate // 10), 0, None))
    events += one.finish()
    (segment,) = (event for event in events if isinstance(event, Segment))
    assert segment.label == "(silence)"
    assert segment.end == pytest.approx(1.0, abs=0.01)


def test_latency_is_from_the_first_sample_of_a_tick() -> None:
    one = session()
    for block in HEARD[:16000].split(320):
        one.push(Chunk(block, 0, time.monotonic() - 0.2), waiting=0.04)
    # The first of a tick's five blocks is older than the last, if only by the time that computing took here.
    assert one.summary.p50 is not None
    assert one.summary.p50 >= 0.2
    assert one.summary.deepest == 0.04


def test_percentiles() -> None:
    latency = Latency()
    assert latency.percentile(50) is None
    for milliseconds in range(1, 101):
        latency.add(milliseconds / 1000)
    assert [latency.percentile(p) for p in (50, 95, 99)] == [0.05, 0.095, 0.099]
    latency.add(1e6)
    assert latency.percentile(100) == 10.0
    latency.add(-1.0)


NOW = Now(1.5, "Anna", "Anna", {"Anna": 0.71234}, 1.5, -23.456, {"Anna": 0.98765, "(unknown)": 0.01236})
SUMMARY = Summary(61.0, 0.12, 0.15, None, 0.5, 0.25, 1, 0.05)


def test_json_lines() -> None:
    out = io.StringIO()
    sink = JsonLines(out)
    for event in (Report(NOW, 0.123456), Segment(0.0, 1.5, "Anna", 0.7, 0.9), Gap(1.5, 0.25)):
        sink.take(event)
    sink.finish(SUMMARY)
    report, segment, gap, summary = (json.loads(line) for line in out.getvalue().splitlines())
    assert [one["event"] for one in (report, segment, gap, summary)] == ["report", "segment", "gap", "summary"]
    assert report["scores"] == {"Anna": 0.7123}
    assert report["probability"] == {"Anna": 0.9877, "(unknown)": 0.0124}
    assert (segment["label"], segment["probability"]) == ("Anna", 0.9)
    assert (report["level"], report["latency"], report["speaker"]) == (-23.5, 0.1235, "Anna")
    assert (gap["time"], gap["seconds"], summary["dropped"]) == (1.5, 0.25, 0.25)


def test_plain_lines() -> None:
    out = io.StringIO()
    sink = Lines(out)
    for event in (Report(NOW, 0.1), Segment(0.0, 1.5, "Anna", 0.7, 0.9), Gap(1.5, 0.25)):
        sink.take(event)
    sink.finish(SUMMARY)
    report, gap, *summary = out.getvalue().splitlines()
    assert report.split() == ["1.5", "s", "Anna", "-23", "dB", "1.5", "s:", "Anna", "99%", "(0.71)"]
    assert "lost 0.25 s" in gap
    both = NOW._replace(overlap=True)
    assert [one.text for one in (both, both._replace(label="(listening)"), NOW)] == [
        "Anna + another voice",
        "(listening)",
        "Anna",
    ]
    out.truncate(0)
    sink.take(Report(both, 0.1))
    assert "Anna + another voice" in out.getvalue()
    assert any("120 ms p50, 150 ms p95, - p99" in line for line in summary)
    assert any("0.25 s in 1 places" in line for line in summary)


def test_the_recorder_keeps_sound_and_labels_and_losses_are_silent(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "monday", 16000)
    recorder.hear(Chunk(HEARD[:8000], 0, None))
    recorder.hear(Chunk(HEARD[8000:9000], 4000, None))
    recorder.take(Gap(0.5, 0.25))
    recorder.finish(SUMMARY)
    audio, rate = soundfile.read(tmp_path / "monday" / "audio.flac", dtype="float32")
    assert rate == 16000
    wanted = torch.cat([HEARD[:8000], torch.zeros(4000), HEARD[8000:9000]])
    assert torch.allclose(torch.from_numpy(audio), wanted, atol=1e-4)
    lines = (tmp_path / "monday" / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["gap", "summary"]
    with pytest.raises(FileExistsError, match="holds a recording already"):
        Recorder(tmp_path / "monday", 16000)
