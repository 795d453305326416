"""Sources: what a late listener leaves is dropped and counted, and an end is told after all that was heard."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest
import soundfile
import torch

from streamdrnn.apps.speaker_id.sources.file import FileSource
from streamdrnn.apps.speaker_id.sources.quiet import quiet_libraries
from streamdrnn.apps.speaker_id.sources.source import Chunk, Source, SourceError
from streamdrnn.audio.decoding import Raw
from tests.audio.signals import voice_like


def test_what_a_late_listener_leaves_is_dropped_and_counted() -> None:
    source = Source("test", 1000, capacity=0.1)
    for n in range(15):
        source.push(torch.full((10,), float(n)))
    assert source.dropped == 50
    assert source.depth == 0.1
    chunks = source.chunks()
    heard = [next(chunks) for _ in range(10)]
    assert [float(chunk.samples[0]) for chunk in heard] == list(range(10))
    source.push(torch.ones(10))
    assert next(chunks).lost == 50, "the next chunk tells"
    assert [chunk.lost for chunk in heard] == [0] * 10


def test_a_loss_at_the_very_end_is_told_too() -> None:
    source = Source("test", 1000, capacity=0.01)
    source.push(torch.ones(10))
    source.push(torch.ones(7), lost=2)
    source.end()
    assert [(len(chunk.samples), chunk.lost) for chunk in source.chunks()] == [(10, 0), (0, 9)]


def test_a_chunk_longer_than_the_queue_still_arrives() -> None:
    source = Source("test", 1000, capacity=0.01)
    assert source.push(torch.ones(500))
    source.end()
    assert [len(chunk.samples) for chunk in source.chunks()] == [500]


def test_an_error_comes_after_what_was_heard() -> None:
    source = Source("test", 1000)
    source.push(torch.ones(10))
    source.end(SourceError("unplugged"))
    source.end()  # the first end holds
    assert not source.push(torch.ones(10)), "it is closed"
    chunks = source.chunks()
    assert len(next(chunks).samples) == 10
    with pytest.raises(SourceError, match="unplugged"):
        next(chunks)


def test_a_capture_that_can_wait_drops_nothing() -> None:
    source = Source("test", 1000, capacity=0.02)

    def capture() -> None:
        for _ in range(50):
            source.push(torch.ones(10), wait=True)
        source.end()

    threading.Thread(target=capture, daemon=True).start()
    assert sum(len(chunk.samples) for chunk in source.chunks()) == 500
    assert source.dropped == 0


@pytest.mark.parametrize("rate", [0, 999, 400_000])
def test_rates_out_of_range_are_refused(rate: int) -> None:
    with pytest.raises(ValueError, match="sample rate: expected 1000 to 384000 Hz"):
        Source("test", rate)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", voice_like(8000)[:, None].expand(-1, 2).numpy(), 16000)
    return tmp_path / "a.wav"


def test_a_file_as_fast_as_it_is_listened_to(recording: Path) -> None:
    with FileSource(recording) as source:
        chunks = list(source.chunks())
    assert torch.allclose(torch.cat([chunk.samples for chunk in chunks]), voice_like(8000), atol=1e-4)
    assert {chunk.captured for chunk in chunks} == {None}


def test_a_file_at_the_pace_of_speech(recording: Path) -> None:
    started = time.monotonic()
    with FileSource(recording, realtime=True) as source:
        chunks = list(source.chunks())
    assert time.monotonic() - started >= 0.49
    assert source.dropped + sum(len(chunk.samples) for chunk in chunks) == 8000
    assert [len(chunk.samples) for chunk in chunks] == [800, 1600, 1600, 1600, 1600, 800], "blocks end after ticks"
    moments = [chunk.captured for chunk in chunks if chunk.captured is not None]
    assert moments[-1] - moments[0] == pytest.approx(0.45, abs=1e-3)


def test_a_late_listener_to_a_file_in_real_time_loses_what_is_counted(recording: Path) -> None:
    source = FileSource(recording, realtime=True)
    source._capacity = 1600
    with source:
        while not source._ended:
            time.sleep(0.01)
        chunks = list(source.chunks())
    assert sum(len(chunk.samples) for chunk in chunks) == 1600
    assert sum(chunk.lost for chunk in chunks) == source.dropped == 6400


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"a\.wav: damaged, or no audio file"):
        FileSource(tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError, match=r"gone\.wav: no such file"):
        FileSource(tmp_path / "gone.wav")


def test_raw_samples_from_a_pipe_in_any_pieces() -> None:
    reading, writing = os.pipe()
    samples = torch.arange(-500, 500, dtype=torch.int16)
    data = samples[:, None].expand(-1, 2).contiguous().numpy().tobytes()

    def write() -> None:
        with open(writing, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 333):
                pipe.write(data[start : start + 333])

    with open(reading, "rb") as pipe:
        threading.Thread(target=write, daemon=True).start()
        with FileSource(pipe, raw=Raw(16000, 2)) as source:
            chunks = list(source.chunks())
    heard = torch.cat([chunk.samples for chunk in chunks])
    assert None not in {chunk.captured for chunk in chunks}
    assert torch.equal(heard, samples / 32768)


def test_a_recording_from_a_pipe_is_no_raw_sound(recording: Path) -> None:
    with recording.open("rb") as pipe, FileSource(pipe, raw=Raw(8000, 1)) as source:
        assert source.sample_rate == 16000
        chunks = list(source.chunks())
    assert torch.allclose(torch.cat([chunk.samples for chunk in chunks]), voice_like(8000), atol=1e-4)


def test_a_recording_that_a_program_writes_to_a_pipe_comes_in_the_blocks_of_live_sound(recording: Path) -> None:
    reading, writing = os.pipe()
    assert os.write(writing, recording.read_bytes()) == recording.stat().st_size
    os.close(writing)
    with open(reading, "rb") as pipe, FileSource(pipe) as source:
        assert [len(chunk.samples) for chunk in source.chunks()] == [800, 1600, 1600, 1600, 1600, 800]


def test_a_damaged_end_is_told_after_what_was_heard(recording: Path) -> None:
    recording.write_bytes(recording.read_bytes()[:-400])
    chunks: list[Chunk] = []
    with FileSource(recording) as source, pytest.raises(ValueError, match="cut short"):
        chunks.extend(source.chunks())
    assert sum(len(chunk.samples) for chunk in chunks) == 7900


def test_libraries_are_kept_off_standard_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open(2, "w", closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with quiet_libraries():
            os.write(2, b"dequantization failed!\n")
            print("ours", file=sys.stderr)
        os.write(2, b"after\n")
        assert sys.stderr is stderr
    assert capfd.readouterr().err == "ours\nafter\n"


def test_channels_out_of_range_are_refused() -> None:
    with open(os.devnull, "rb") as pipe, pytest.raises(ValueError, match="channels: expected 1 to 64, got 0"):
        FileSource(pipe, raw=Raw(16000, 0))
