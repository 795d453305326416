"""Reading audio files."""

import os
from pathlib import Path
from typing import Union

import torch
from torch import Tensor


class AudioFileError(ValueError):
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
        AudioFileError: it is no audio, damaged, empty, or holds NaN or infinite samples.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise AudioFileError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise AudioFileError(f"{path}: an empty file, expected a recording")
    import soundfile

    try:
        with path.open("rb") as file:
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioFileError(f"{path}: damaged, or no audio file that can be read ({error})") from None
    mono = torch.from_numpy(samples).mean(1)
    if not len(mono):
        raise AudioFileError(f"{path}: has no samples, expected a recording")
    if not torch.isfinite(mono).all():
        raise AudioFileError(f"{path}: has NaN or infinite samples")
    if rate != sample_rate:
        import soxr

        mono = torch.from_numpy(soxr.resample(mono.numpy(), rate, sample_rate))
    return mono
