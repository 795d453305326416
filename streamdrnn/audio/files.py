"""Reading audio files."""

import io
import os
from pathlib import Path
from typing import Union

import torch
from torch import Tensor

from streamdrnn.checks import check_positive
from streamdrnn.errors import InputError

_NO_LENGTH = 0x7FFFF000
"""From here up a length in a WAV header stands for "not known": programs that write to a pipe put such values there."""


_ENDINGS = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


def is_audio(path: Path) -> bool:
    """Whether a file in a folder of recordings is one, by its name."""
    return path.suffix.lower() in _ENDINGS


class AudioFileError(InputError):
    """A file that is no usable recording; the message is one line that begins with its path."""


def load_audio(path: Union[str, os.PathLike[str]], sample_rate: int = 16000) -> Tensor:
    """A recording as one channel at one sample rate.

    Args:
        path: a WAV, FLAC, OGG or MP3 file, or another that libsndfile reads. Channels are averaged.
        sample_rate: samples per second of the result; other rates are resampled (soxr, high quality).

    Returns:
        ``(N,)`` float32, N >= 1, full scale from -1 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        AudioFileError: it is no audio, damaged, cut short, empty, or holds NaN or infinite samples. MP3 and OGG need
            not tell their length: one of those that is cut short is read as far as it goes.
        ValueError, TypeError: ``sample_rate`` is no positive int.
    """
    check_positive("sample_rate", sample_rate)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise AudioFileError(f"{path}: not a file")
    data = path.read_bytes()
    if not data:
        raise AudioFileError(f"{path}: an empty file, expected a recording")
    if _wav_length(data) > len(data) + 1:  # some programs count the byte that pads an odd length, and leave it out
        raise AudioFileError(f"{path}: cut short, got {len(data)} bytes, expected {_wav_length(data)}")
    import soundfile

    try:
        # Not by its name: libsndfile would take any bytes in a file named .raw for samples.
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioFileError(f"{path}: damaged, or no audio file that can be read ({error.error_string})") from None
    mono = torch.from_numpy(samples).mean(1)
    if not torch.isfinite(mono).all():
        raise AudioFileError(f"{path}: has NaN or infinite samples")
    if rate != sample_rate:
        import soxr

        mono = torch.from_numpy(soxr.resample(mono.numpy(), rate, sample_rate))
    if not len(mono):  # either it had none, or so few that not one is left
        raise AudioFileError(f"{path}: has no samples at {sample_rate} Hz, expected a recording")
    return mono


def _wav_length(data: bytes) -> int:
    """The length in bytes that a WAV file says it has, 0 if it says none; libsndfile reads a shorter one silently."""
    length = int.from_bytes(data[4:8], "little")
    return 8 + length if data[:4] == b"RIFF" and length < _NO_LENGTH else 0
