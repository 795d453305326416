"""Reading audio files."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Optional, Self, Union

import torch
from torch import Tensor

from streamdrnn.audio.formats import AudioFileError, is_audio
from streamdrnn.audio.mixing import Mixer
from streamdrnn.audio.resample import StreamingResampler
from streamdrnn.checks import check_positive

if TYPE_CHECKING:  # libsndfile is loaded when there is something to read
    from streamdrnn.audio.decoding import Raw

__all__ = ["AudioFileError", "AudioReader", "is_audio", "load_audio", "stream_audio"]

_BLOCK_SECONDS = 1.0


class AudioReader:
    """A recording, decoded once from its beginning to its end, in constant memory; a context manager that closes it.

    libsndfile decodes it, or if that cannot, the program ffmpeg, if there is one. Only the content tells the format.

    Args:
        recording: a file or a named pipe; or a pipe, such as ``sys.stdin.buffer``, of which nothing has been read.
        channel: the one to take, from 1 on; None averages them, see :class:`~streamdrnn.audio.mixing.Mixer`.
        raw: the kind of samples that it has if it begins like no known format; None refuses such a recording.

    Attributes:
        name: for people.
        sample_rate: samples per second.
        seconds: the length; None if it is not known.
        live: it is a pipe, so that sound may come while it is made.

    Raises:
        FileNotFoundError: there is no such file.
        AudioFileError: it is no audio, damaged from the beginning, or empty, or it has no such channel.
    """

    def __init__(
        self,
        recording: Union[str, os.PathLike[str], BinaryIO],
        channel: Optional[int] = None,
        raw: "Optional[Raw]" = None,
    ) -> None:
        from streamdrnn.audio.decoding import open_decoder

        path: Optional[Path] = None
        with ExitStack() as stack:
            if not isinstance(recording, (str, os.PathLike)):
                file, self.name = recording.fileno(), "standard input"
            else:
                path = Path(recording)
                self.name = str(path)
                if not path.exists():
                    raise FileNotFoundError(f"{path}: no such file")
                if path.is_dir():
                    raise AudioFileError(f"{path}: not a file")
                file = stack.enter_context(path.open("rb", buffering=0)).fileno()
            self._decoder = open_decoder(file, path, self.name, raw, stack)
            self.sample_rate, self.seconds = self._decoder.sample_rate, self._decoder.seconds
            self._mixer = Mixer(self.name, self.sample_rate, self._decoder.channels, channel)
            self.live = path is None or not path.is_file()
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def blocks(self, seconds: float, first: Optional[float] = None) -> Iterator[Tensor]:
        """One channel of it, ``(N,)`` float32, full scale from -1 to 1, in blocks no longer than some seconds.

        Args:
            first: the seconds of the first block, if it is to be shorter or longer than the others.

        Raises:
            AudioFileError: it has no samples, one is NaN or infinite, or it is damaged or cut short; the blocks before
                that have been given. MP3 and OGG need not tell their length: one of those that is cut short is read as
                far as it goes.
        """
        length, empty = seconds if first is None else first, True
        while len(block := self._decoder.read(max(1, round(length * self.sample_rate)))):
            length, empty = seconds, False
            samples = self._mixer.mix(torch.from_numpy(block))
            if not torch.isfinite(samples).all():
                raise AudioFileError(f"{self.name}: has NaN or infinite samples")
            yield samples
        if empty:
            raise AudioFileError(f"{self.name}: has no samples, expected a recording")


def stream_audio(
    path: Union[str, os.PathLike[str]], sample_rate: int = 16000, channel: Optional[int] = None
) -> Iterator[Tensor]:
    """A recording as one channel at one sample rate, in pieces ``(N,)`` float32: :func:`load_audio` in constant memory.

    Raises:
        FileNotFoundError, AudioFileError, ValueError, TypeError: as :func:`load_audio`, after what can be heard.
    """
    check_positive("sample_rate", sample_rate)
    with AudioReader(path, channel) as reader:
        resampler = StreamingResampler(reader.sample_rate, sample_rate)
        count = 0
        for block in reader.blocks(_BLOCK_SECONDS):
            yield (samples := resampler.push(block))
            count += len(samples)
        yield (samples := resampler.flush())
        if not count + len(samples):  # it had so few that not one is left
            raise AudioFileError(f"{reader.name}: has no samples at {sample_rate} Hz, expected a recording")


def load_audio(path: Union[str, os.PathLike[str]], sample_rate: int = 16000, channel: Optional[int] = None) -> Tensor:
    """A recording as one channel at one sample rate.

    Args:
        path: a file that libsndfile reads (WAV, FLAC, OGG, MP3, AIFF and others), or if ffmpeg is installed any other
            with sound in it, such as MPEG-4.
        sample_rate: samples per second of the result; other rates are resampled (soxr, high quality).
        channel: the one to take, from 1 on; None averages them, or takes one if they cancel each other out.

    Returns:
        ``(N,)`` float32, N >= 1, full scale from -1 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        AudioFileError: it is no audio, damaged, cut short, empty, or holds NaN or infinite samples, or has no such
            channel. MP3 and OGG need not tell their length: one of those that is cut short is read as far as it goes.
        ValueError, TypeError: ``sample_rate`` is no positive int.
    """
    return torch.cat([*stream_audio(path, sample_rate, channel)])
