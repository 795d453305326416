"""From bytes to samples: by libsndfile, else by ffmpeg; once, from the beginning to the end.

Plain WAV is decoded while it comes through a pipe. The other formats are read as a whole: what a pipe brings of them is
put in a temporary file first.
"""

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Optional, Protocol

import numpy as np
import soundfile

from streamdrnn.audio.formats import FORMATS, HEAD_BYTES, AudioFileError, format_of
from streamdrnn.errors import InputError

MAX_CHANNELS = 64
_WAV_HEAD_BYTES = 4096
_NO_LENGTH = 0x7FFFF000
"""From here up a length in a WAV header stands for "not known": programs that write to a pipe put such values there."""
_PLAIN_WAV = {1, 3, 6, 7, 0xFFFE}
"""The tags of PCM, float, A-law, mu-law and the extensible header: the codings that can be read from a pipe."""
_AU_HEADER_BYTES = 24
_UNREADABLE = "damaged, or no audio file that can be read"


class Decoder(Protocol):
    """Samples, from the first to the last.

    Attributes:
        sample_rate: frames per second.
        channels: samples per frame.
        seconds: the length; None if it is not known.
    """

    sample_rate: int
    channels: int
    seconds: Optional[float]

    def read(self, frames: int) -> np.ndarray:
        """The frames that follow, ``(n, channels)`` float32; n is at most ``frames``, and 0 at the end.

        Raises:
            AudioFileError: the file is damaged or cut short; all before that has been given.
        """


class Raw(NamedTuple):
    """The kind of samples that come without a header: signed 16-bit, little-endian, channels interleaved."""

    sample_rate: int
    channels: int


def open_decoder(file: int, path: Optional[Path], name: str, raw: Optional[Raw], stack: ExitStack) -> Decoder:
    """What decodes a file.

    Args:
        file: its descriptor, at its beginning.
        path: where it is; None if that is not known.
        name: of it, for people.
        raw: the kind of samples it has if it begins like no known format; None refuses such a file.
        stack: closes at the end what is opened here.

    Raises:
        AudioFileError: it cannot be decoded.
        ValueError: ``raw`` has a number of channels out of range.
    """
    if raw is not None and not 1 <= raw.channels <= MAX_CHANNELS:
        raise InputError(f"channels: expected 1 to {MAX_CHANNELS}, got {raw.channels}")
    head = _read(file, HEAD_BYTES)
    form = format_of(head)
    if raw is not None and form is None:
        return _RawDecoder(file, raw, head)
    if not head:
        raise AudioFileError(f"{name}: an empty file, expected a recording")
    head += _read(file, _WAV_HEAD_BYTES - len(head))
    status = os.fstat(file)
    regular = path if stat.S_ISREG(status.st_mode) else None
    if regular is None and not _is_plain_wav(head):
        whole = stack.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115
        with open(file, "rb", closefd=False) as rest:
            whole.write(head)
            shutil.copyfileobj(rest, whole)
        whole.seek(0)  # flushes it, too
        return open_decoder(whole.fileno(), Path(whole.name), name, None, stack)
    size, told = status.st_size, _wav_length(head)
    endless = _without_end(head)
    try:
        if regular is None or (endless != head and told != size):
            relay = _Relay(endless, file, stack)
            return _SndfileDecoder(relay.reading, name, stack, _samples_end(endless), lambda: relay.bytes)
        os.lseek(file, 0, os.SEEK_SET)
        decoder = _SndfileDecoder(file, name, stack, told, lambda: size)
    except soundfile.LibsndfileError as error:
        if regular is not None and (ffmpeg := shutil.which("ffmpeg")) is not None:
            return _FfmpegDecoder(ffmpeg, regular, name, stack)
        if form is not None and form.needs_ffmpeg:
            raise AudioFileError(
                f"{name}: {form.name} is decoded by ffmpeg, which is not installed (apt, brew or winget install ffmpeg)"
            ) from None
        raise AudioFileError(f"{name}: {_UNREADABLE} ({error.error_string})") from None
    decoder.seconds = decoder.frames / decoder.sample_rate
    return decoder


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is not sought in: soundfile seeks after every read where it can, and MP3 decodes wrongly then."""

    def seekable(self) -> bool:
        return False


class _SndfileDecoder:
    """By libsndfile. It is given no name: by that it would take any bytes in a file named .raw for samples.

    Args:
        told: how many bytes there should be; libsndfile says nothing if there are fewer.
        got: how many there have been, once all are read.
    """

    def __init__(self, file: int, name: str, stack: ExitStack, told: int, got: Callable[[], int]) -> None:
        self._file = stack.enter_context(_Sequential(file, closefd=False))
        self._name = name
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.frames: int = self._file.frames
        self.seconds: Optional[float] = None
        self._told, self._got = told, got

    def read(self, frames: int) -> np.ndarray:
        try:
            block: np.ndarray = self._file.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioFileError(f"{self._name}: {_UNREADABLE} ({error.error_string})") from None
        # Some programs count the byte that pads an odd length, and leave it out.
        if not len(block) and self._told > self._got() + 1:
            raise AudioFileError(f"{self._name}: cut short, got {self._got()} bytes, expected {self._told}")
        return block


class _FfmpegDecoder:
    """By ffmpeg, which writes float samples to a pipe; the 24 bytes of an AU header before them tell of which kind."""

    seconds: Optional[float] = None

    def __init__(self, program: str, path: Path, name: str, stack: ExitStack) -> None:
        self._name = name
        self._complaints = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._process = stack.enter_context(
            subprocess.Popen(
                [
                    *(program, "-nostdin", "-loglevel", "error"),
                    # Only this file: no playlist, and nothing that a file refers to. Nor can its name be an option.
                    *("-protocol_whitelist", "file", "-format_whitelist", ",".join(one.demuxer for one in FORMATS)),
                    *("-i", f"file:{path.absolute()}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
            )
        )
        stack.callback(self._process.kill)
        assert self._process.stdout is not None
        self._samples = self._process.stdout
        header = self._samples.read(_AU_HEADER_BYTES)
        if len(header) < _AU_HEADER_BYTES:
            raise self._failure()
        _, start, _, _, self.sample_rate, self.channels = np.frombuffer(header, ">u4").tolist()
        self._samples.read(start - _AU_HEADER_BYTES)

    def read(self, frames: int) -> np.ndarray:
        frame = 4 * self.channels
        data = self._samples.read(frame * frames)
        if not data and self._process.wait():
            raise self._failure()
        return np.frombuffer(data[: len(data) - len(data) % frame], ">f4").astype(np.float32).reshape(-1, self.channels)

    def _failure(self) -> AudioFileError:
        self._process.wait()
        self._complaints.seek(0)
        first = self._complaints.readline().decode(errors="replace").strip()
        return AudioFileError(f"{self._name}: {_UNREADABLE} (ffmpeg: {first})")


class _RawDecoder:
    """Samples without a header."""

    seconds: Optional[float] = None

    def __init__(self, file: int, raw: Raw, head: bytes) -> None:
        self._file = file
        self.sample_rate, self.channels = raw
        self._rest = head

    def read(self, frames: int) -> np.ndarray:
        frame = 2 * self.channels
        # As much as there is: to wait for all of it would make what has come late.
        while len(self._rest) < frame and (data := os.read(self._file, frame * frames)):
            self._rest += data
        whole = min(len(self._rest) - len(self._rest) % frame, frame * frames)
        data, self._rest = self._rest[:whole], self._rest[whole:]
        return np.frombuffer(data, "<i2").astype(np.float32).reshape(-1, self.channels) / 32768


def _read(file: int, most: int) -> bytes:
    """So many bytes, or all there are."""
    found = b""
    while data := os.read(file, most - len(found)):
        found += data
    return found


class _Relay:
    """A pipe that brings the head, and then what follows it in the file.

    Attributes:
        reading: its descriptor.
        bytes: how many it has been given.
    """

    def __init__(self, head: bytes, file: int, stack: ExitStack) -> None:
        self.reading, writing = os.pipe()
        stack.callback(os.close, self.reading)
        self.bytes = len(head)
        threading.Thread(target=self._copy, args=(head, os.dup(file), writing), name="relay", daemon=True).start()

    def _copy(self, data: bytes, source: int, writing: int) -> None:
        try:
            while data:
                data = data[os.write(writing, data) :]
                if not data:
                    data = os.read(source, 1 << 16)
                    self.bytes += len(data)
        except BrokenPipeError:  # nobody listens any more
            pass
        finally:
            os.close(source)
            os.close(writing)


def _wav_length(head: bytes) -> int:
    """The length in bytes that a WAV file says it has, 0 if it says none; libsndfile reads a shorter one silently."""
    length = int.from_bytes(head[4:8], "little")
    return 8 + length if head[:4] == b"RIFF" and length < _NO_LENGTH else 0


def _chunks(head: bytes) -> dict[bytes, int]:
    """Where the chunks of a WAV file begin, after their lengths, up to the samples."""
    found: dict[bytes, int] = {}
    start = 12
    while head[:4] == b"RIFF" and start + 8 <= len(head) and b"data" not in found:
        length = int.from_bytes(head[start + 4 : start + 8], "little")
        found[head[start : start + 4]] = start + 8
        start += 8 + length + length % 2
    return found


def _samples_end(head: bytes) -> int:
    """Where a WAV file says that its samples end, 0 if it says it nowhere."""
    start = _chunks(head).get(b"data", 0)
    length = int.from_bytes(head[start - 4 : start], "little") if start else _NO_LENGTH
    return start + length if length < _NO_LENGTH else 0


def _is_plain_wav(head: bytes) -> bool:
    start = _chunks(head).get(b"fmt ", len(head))
    return int.from_bytes(head[start : start + 2], "little") in _PLAIN_WAV


def _without_end(head: bytes) -> bytes:
    """The same, but samples of length 0 go on to the end: a program that could not go back to write it left it so."""
    start = _chunks(head).get(b"data")
    if start is None or any(head[start - 4 : start]):
        return head
    return head[: start - 4] + b"\xff" * 4 + head[start:]
