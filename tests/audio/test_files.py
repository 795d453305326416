"""Audio files as people have them, good and bad."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from streamdrnn.audio import AudioFileError, AudioReader, load_audio
from streamdrnn.audio.mixing import Mixer
from tests.agreement import assert_close, rms
from tests.audio.signals import voice_like


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_16", 1e-3),
        ("a.wav", "PCM_24", 1e-5),
        ("a.wav", "PCM_U8", 0.1),
        ("a.wav", "FLOAT", 0.0),
        ("a.flac", "PCM_16", 1e-3),
        ("a.ogg", "VORBIS", 0.5),
        ("a.opus", "OPUS", 0.5),
        ("a.mp3", "MPEG_LAYER_III", 0.5),
        ("a.wav", "ULAW", 0.1),
        ("a.aiff", "PCM_16", 1e-3),
        ("a.caf", "PCM_16", 1e-3),
    ],
)
def test_formats_are_read(tmp_path: Path, name: str, subtype: str, error: float) -> None:
    y = voice_like(16000)
    container = "OGG" if subtype == "OPUS" else None  # soundfile knows no .opus
    soundfile.write(tmp_path / name, y.numpy(), 16000, subtype=subtype, format=container)
    got = load_audio(tmp_path / name)
    assert got.dtype == torch.float32
    assert got.shape == y.shape
    assert rms(got - y) <= error * rms(y)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = voice_like(1000, 0), voice_like(1000, 1)
    soundfile.write(tmp_path / "a.wav", torch.stack([left, right], 1).numpy(), 16000, subtype="FLOAT")
    assert_close(load_audio(tmp_path / "a.wav"), (left + right) / 2)


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    y = voice_like(96000)
    soundfile.write(tmp_path / "a.wav", y.numpy(), 96000, subtype="FLOAT")
    assert_close(load_audio(tmp_path / "a.wav"), torch.from_numpy(soxr.resample(y.numpy(), 96000, 16000)))


def test_a_wav_file_that_was_written_to_a_pipe_has_no_length(tmp_path: Path) -> None:
    y = voice_like(1000)
    soundfile.write(tmp_path / "a.wav", y.numpy(), 16000, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    want = load_audio(tmp_path / "a.wav")
    for whole, samples in ((0, 0), (36, 0), (0, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0xFFFFFFFF, 0xFFFFFFFF)):
        data[4:8] = whole.to_bytes(4, "little")
        data[40:44] = samples.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(data)
        assert torch.equal(load_audio(tmp_path / "a.wav"), want)


def test_an_mp3_is_decoded_in_blocks_without_seeking(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.mp3", voice_like(40000).numpy(), 16000)
    whole, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    capfd.readouterr()
    with AudioReader(tmp_path / "a.mp3") as reader:
        assert reader.seconds == len(whole) / 16000
        blocks = list(reader.blocks(0.02))
    assert {len(block) for block in blocks[:-1]} == {320}
    assert torch.allclose(torch.cat(blocks), torch.from_numpy(whole), atol=1e-6)
    assert not capfd.readouterr().err, "libmpg123 complains of frames that it lacks after a seek"


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.wav", "GSM610"), ("a.flac", "PCM_16")])
def test_a_named_pipe_brings_what_the_file_has(tmp_path: Path, name: str, subtype: str) -> None:
    soundfile.write(tmp_path / name, voice_like(20000).numpy(), 16000, subtype=subtype)
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / name).read_bytes())).start()
    assert torch.equal(load_audio(tmp_path / "pipe"), load_audio(tmp_path / name))


def test_a_wav_is_heard_while_it_comes_through_a_pipe(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice_like(20000).numpy(), 16000, subtype="PCM_16")
    data = (tmp_path / "a.wav").read_bytes()
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb", buffering=0) as rest:
        rest.write(data[:10000])
        with AudioReader(pipe) as reader:
            assert reader.live
            blocks = reader.blocks(0.02)
            heard = [next(blocks) for _ in range(10)]
            rest.write(data[10000:])
            rest.close()
            heard += blocks
    assert torch.equal(torch.cat(heard), load_audio(tmp_path / "a.wav"))


def test_a_wav_that_is_cut_short_is_heard_as_far_as_it_goes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice_like(1000).numpy(), 16000, subtype="PCM_16")
    want = load_audio(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-501])  # in the middle of a sample
    heard: list[torch.Tensor] = []
    with AudioReader(tmp_path / "a.wav") as reader, pytest.raises(AudioFileError, match="cut short, got 1543 bytes"):
        heard.extend(reader.blocks(1))
    assert torch.equal(torch.cat(heard), want[:749])


@pytest.mark.parametrize("cut", [2, 501, 1500])
def test_a_wav_that_is_cut_short_is_so_through_a_pipe_too(tmp_path: Path, cut: int) -> None:
    soundfile.write(tmp_path / "a.wav", voice_like(10_000).numpy(), 16000, subtype="PCM_16")
    want, data = load_audio(tmp_path / "a.wav"), (tmp_path / "a.wav").read_bytes()

    def heard(brought: bytes, problem: str = "") -> torch.Tensor:
        reading, writing = os.pipe()
        os.write(writing, brought)
        os.close(writing)
        blocks: list[torch.Tensor] = []
        told = pytest.raises(AudioFileError, match=problem) if problem else nullcontext()
        with open(reading, "rb") as pipe, AudioReader(pipe) as reader, told:
            blocks.extend(reader.blocks(0.01))
        return torch.cat(blocks)

    part = heard(data[:-cut], f"cut short, got {20_044 - cut} bytes, expected 20044$")
    assert torch.equal(part, want[: 10_000 - (cut + 1) // 2])
    assert torch.equal(heard(data), want)
    assert torch.equal(heard(data + b"LIST\4\0\0\0more"), want)
    length_unknown = data[:40] + b"\xff" * 4 + data[44:]
    assert torch.equal(heard(length_unknown[:-cut]), part)


def test_one_channel_can_be_chosen(tmp_path: Path) -> None:
    channels = torch.stack([voice_like(1000, seed) for seed in range(6)], 1)
    soundfile.write(tmp_path / "a.wav", channels.numpy(), 16000, subtype="FLOAT")
    assert_close(load_audio(tmp_path / "a.wav"), channels.mean(1))
    assert torch.equal(load_audio(tmp_path / "a.wav", channel=6), channels[:, 5])
    with pytest.raises(AudioFileError, match=r"a\.wav: channel: expected 1 to 6, got 7"):
        load_audio(tmp_path / "a.wav", channel=7)


@pytest.mark.parametrize("gain", [-1.0, -0.8])
def test_channels_that_cancel_each_other_are_noticed(
    tmp_path: Path, gain: float, caplog: pytest.LogCaptureFixture
) -> None:
    y = voice_like(80000)
    soundfile.write(tmp_path / "a.wav", torch.stack([gain * y, y], 1).numpy(), 16000, subtype="FLOAT")
    want = y if gain > -1 else -y
    assert torch.equal(load_audio(tmp_path / "a.wav"), want)
    (warning,) = caplog.messages
    assert warning.startswith(f"{tmp_path / 'a.wav'}: its channels cancel each other out, so channel ")
    assert torch.equal(load_audio(tmp_path / "a.wav", channel=2), y)


def test_a_silent_channel_and_unrelated_ones_cancel_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    y, other, silence = voice_like(80000), voice_like(80000, 1), torch.zeros(80000)
    for channels in ([y, silence], [y, other], [silence, silence], [silence, silence, y, silence, silence, silence]):
        soundfile.write(tmp_path / "a.wav", torch.stack(channels, 1).numpy(), 16000, subtype="FLOAT")
        assert_close(load_audio(tmp_path / "a.wav"), torch.stack(channels).mean(0))
    assert not caplog.messages


def test_channels_that_cancel_for_a_while_only_are_averaged_again() -> None:
    y = 0.1 * torch.randn(16000 * 8, generator=torch.Generator().manual_seed(0))
    left = torch.cat([-y[:16000], y[16000:]])
    mixer = Mixer("a", 16000, 2)
    mixed = torch.cat([mixer.mix(block) for block in torch.stack([left, y], 1).split(1600)])
    assert torch.equal(mixed[:16000].abs(), y[:16000].abs())
    assert torch.equal(mixed[-16000:], y[-16000:])


FakeFfmpeg = Callable[[str], Path]


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeFfmpeg:
    """Puts a script on the path in ffmpeg's place, which keeps its arguments in a file."""

    def install(script: str) -> Path:
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{tmp_path}/arguments'\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        return tmp_path / "arguments"

    return install


def mpeg4(path: Path) -> Path:
    path.write_bytes(b"\0\0\0\x1cftypM4A " + bytes(1000))
    return path


def test_what_libsndfile_cannot_decode_is_decoded_by_ffmpeg(tmp_path: Path, fake_ffmpeg: FakeFfmpeg) -> None:
    channels = torch.stack([voice_like(70000), voice_like(70000, 1)], 1)
    soundfile.write(tmp_path / "a.au", channels.numpy(), 44100, subtype="FLOAT", endian="BIG")
    arguments = fake_ffmpeg(f"/bin/cat '{tmp_path}/a.au'")
    with AudioReader(mpeg4(tmp_path / "-i.m4a")) as reader:
        assert (reader.sample_rate, reader.seconds) == (44100, None)
        assert torch.equal(torch.cat([*reader.blocks(0.1)]), channels.mean(1))
    words = arguments.read_text().splitlines()
    assert words[words.index("-i") + 1] == f"file:{tmp_path}/-i.m4a"
    assert words[words.index("-protocol_whitelist") + 1] == "file"


def test_what_ffmpeg_says_is_one_line(tmp_path: Path, fake_ffmpeg: FakeFfmpeg) -> None:
    fake_ffmpeg("echo 'moov atom not found' >&2; echo more >&2; exit 1")
    with pytest.raises(AudioFileError) as caught:
        load_audio(mpeg4(tmp_path / "a.m4a"))
    assert str(caught.value).endswith("a.m4a: damaged, or no audio file that can be read (ffmpeg: moov atom not found)")


def test_what_ffmpeg_decodes_before_it_fails_is_heard(tmp_path: Path, fake_ffmpeg: FakeFfmpeg) -> None:
    soundfile.write(tmp_path / "a.au", voice_like(1000).numpy(), 16000, subtype="FLOAT", endian="BIG")
    fake_ffmpeg(f"/bin/cat '{tmp_path}/a.au'; echo broken >&2; exit 1")
    heard: list[torch.Tensor] = []
    with AudioReader(mpeg4(tmp_path / "a.m4a")) as reader, pytest.raises(AudioFileError, match=r"ffmpeg: broken"):
        heard.extend(reader.blocks(0.02))
    assert torch.equal(torch.cat(heard), voice_like(1000))


def test_without_ffmpeg_its_formats_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioFileError, match=r"a\.mp3: MPEG-4 is decoded by ffmpeg, which is not installed \(apt,"):
        load_audio(mpeg4(tmp_path / "a.mp3"))  # by its content, not by its name


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.wma"])
def test_formats_are_decoded_by_the_real_ffmpeg(tmp_path: Path, name: str) -> None:
    y = voice_like(32000)
    soundfile.write(tmp_path / "a.wav", y.numpy(), 16000)
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", tmp_path / "a.wav", tmp_path / name], check=True)
    got = load_audio(tmp_path / name)
    assert abs(len(got) - len(y)) < 2500
    size = 1 << 16  # some codecs begin a little late
    match = torch.fft.irfft(torch.fft.rfft(got, size) * torch.fft.rfft(y, size).conj(), size).max()
    assert float(match) > 0.9 * float(got.norm() * y.norm())


@needs_ffmpeg
def test_ffmpeg_follows_no_playlist(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice_like(32000).numpy(), 16000)
    (tmp_path / "a.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{tmp_path}/a.wav\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "a.txt").write_text("ffconcat version 1.0\nfile a.wav\n")
    for name in ("a.m3u8", "a.txt"):
        with pytest.raises(AudioFileError, match="whitelist"):
            load_audio(tmp_path / name)


def test_the_byte_that_pads_a_wav_file_may_be_left_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice_like(1001).numpy(), 16000, subtype="PCM_U8")
    data = (tmp_path / "a.wav").read_bytes()
    want = load_audio(tmp_path / "a.wav")
    assert len(data) % 2 == 0
    (tmp_path / "a.wav").write_bytes(data[:-1])
    assert torch.equal(load_audio(tmp_path / "a.wav"), want)


def bad_files(folder: Path) -> dict[str, str]:
    """Unusable recordings, and what is said of each."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no sound\n" * 100)
    (folder / "text.raw").write_text("this is no sound\n" * 100)
    (folder / "folder.wav").mkdir()
    soundfile.write(folder / "silent.wav", np.zeros(0, np.float32), 16000)
    samples = voice_like(1000).numpy()
    samples[500] = np.nan
    soundfile.write(folder / "nan.wav", samples, 16000, subtype="FLOAT")
    samples[500] = np.inf
    soundfile.write(folder / "inf.wav", samples, 16000, subtype="FLOAT")
    soundfile.write(folder / "whole.flac", voice_like(16000).numpy(), 16000)
    data = (folder / "whole.flac").read_bytes()
    (folder / "head.flac").write_bytes(data[:30])
    (folder / "cut.flac").write_bytes(data[: len(data) // 2])
    soundfile.write(folder / "whole.wav", voice_like(1000).numpy(), 16000, subtype="PCM_16")
    (folder / "cut.wav").write_bytes((folder / "whole.wav").read_bytes()[:-2])
    soundfile.write(folder / "short.wav", voice_like(2).numpy(), 96000)
    return {
        "empty.wav": "an empty file",
        "text.wav": "damaged, or no audio file",
        "text.raw": "damaged, or no audio file",
        "folder.wav": "not a file",
        "silent.wav": "has no samples",
        "nan.wav": "has NaN or infinite samples",
        "inf.wav": "has NaN or infinite samples",
        "head.flac": "damaged, or no audio file",
        "cut.flac": "damaged, or no audio file",
        "cut.wav": "cut short, got 2042 bytes, expected 2044",
        "short.wav": "has no samples",
    }


def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path: Path) -> None:
    for name, problem in bad_files(tmp_path).items():
        with pytest.raises(AudioFileError) as caught:
            load_audio(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: {problem}"), message
        assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.wav: no such file"):
        load_audio(tmp_path / "gone.wav")


def test_a_wrong_sample_rate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sample_rate: expected 1 or more, got 0"):
        load_audio(tmp_path / "any.wav", 0)
