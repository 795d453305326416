"""Audio files as people have them, good and bad."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from streamdrnn.audio import AudioFileError, load_audio
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
    for length in (0, 0x7FFFF024, 0xFFFFFFFF):
        data[4:8] = length.to_bytes(4, "little")
        data[40:44] = (0xFFFFFFFF).to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(data)
        assert torch.equal(load_audio(tmp_path / "a.wav"), want)


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
        "short.wav": "has no samples at 16000 Hz",
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
