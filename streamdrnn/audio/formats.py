"""The formats of recordings: how a file is recognised, by its name or by how it begins."""

import re
from pathlib import Path
from typing import NamedTuple, Optional

from streamdrnn.errors import InputError


class AudioFileError(InputError):
    """A file that is no usable recording; the message is one line that begins with its path."""


class Format(NamedTuple):
    """A format of files.

    Attributes:
        name: for people.
        endings: of the files' names.
        beginning: what the first bytes match.
        demuxer: ffmpeg's name of it.
        needs_ffmpeg: libsndfile does not read it.
    """

    name: str
    endings: tuple[str, ...]
    beginning: bytes
    demuxer: str
    needs_ffmpeg: bool = False


FORMATS = (
    Format("WAV", (".wav",), rb"(RIFF|RIFX|RF64)....WAVE", "wav"),
    Format("FLAC", (".flac",), rb"fLaC", "flac"),
    Format("Ogg", (".ogg", ".oga", ".opus"), rb"OggS", "ogg"),
    # Without a tag: the first frame of layer III, protected or not; -1025 would be a strange first sample.
    Format("MP3", (".mp3",), rb"ID3|\xff[\xfa\xfb\xf2\xf3\xe2\xe3]", "mp3"),
    Format("AIFF", (".aiff", ".aif", ".aifc"), rb"FORM....AIF[FC]", "aiff"),
    Format("AU", (".au", ".snd"), rb"\.snd", "au"),
    Format("CAF", (".caf",), rb"caff", "caf"),
    Format("Wave64", (".w64",), rb"riff\x2e\x91\xcf\x11", "w64"),
    Format("MPEG-4", (".m4a", ".m4b", ".mp4", ".mov", ".3gp"), rb"....ftyp", "mov", True),
    Format("Matroska or WebM", (".webm", ".mka", ".mkv"), rb"\x1aE\xdf\xa3", "matroska", True),
    Format("Windows Media", (".wma", ".wmv", ".asf"), rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf", True),
    Format("AAC", (".aac",), rb"\xff[\xf0\xf1\xf8\xf9]", "aac", True),
    Format("AMR", (".amr",), rb"#!AMR", "amr", True),
    Format("AC-3", (".ac3",), rb"\x0b\x77", "ac3", True),
    Format("WavPack", (".wv",), rb"wvpk", "wv", True),
    Format("Flash video", (".flv",), rb"FLV\x01", "flv", True),
    Format("MPEG video", (".mpg", ".mpeg"), rb"\x00\x00\x01\xba", "mpeg", True),
    Format("AVI", (".avi",), rb"RIFF....AVI ", "avi", True),
)
HEAD_BYTES = 12
"""So many bytes tell one format from another."""


def format_of(head: bytes) -> Optional[Format]:
    """The format of a file that begins like this, None if it is none of those known."""
    return next((one for one in FORMATS if re.match(one.beginning, head, re.DOTALL)), None)


def is_audio(path: Path) -> bool:
    """Whether a file in a folder of recordings is one, by its name."""
    return any(path.suffix.lower() in one.endings for one in FORMATS)
