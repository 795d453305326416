"""Folders of recordings of known speakers, in the layouts that data sets have."""

import re
from pathlib import Path
from typing import NamedTuple

from streamdrnn.audio.files import is_audio

_LIBRISPEECH = re.compile(r"(?P<speaker>\d+)-\d+-\d+\.flac")
FSDD_NAME = re.compile(r"\d_(?P<speaker>[A-Za-z]+)_(?P<index>\d+)\.wav")


class Utterance(NamedTuple):
    """One recording and who speaks in it."""

    speaker: str
    path: Path


def find_utterances(folder: Path) -> list[Utterance]:
    """The recordings in a folder, by speaker and path; which layout it has is found by looking.

    VCTK: ``wav48_silence_trimmed/p225/p225_001_mic1.flac`` (the first microphone) or ``wav48/p225/p225_001.wav``.
    LibriSpeech: ``<speaker>-<chapter>-<number>.flac`` at any depth. Free Spoken Digit Dataset:
    ``<digit>_<speaker>_<index>.wav`` at any depth. Any other: ``<speaker>/*.wav``, ``.flac``, ``.ogg``, ``.opus`` or
    ``.mp3``.

    Raises:
        FileNotFoundError: there are no recordings in any of these layouts.
    """
    found = _vctk(folder) or _named(folder, _LIBRISPEECH) or _named(folder, FSDD_NAME) or _by_folder(folder)
    if not found:
        raise FileNotFoundError(
            f"{folder}: no recordings; expected the layout of VCTK, LibriSpeech or FSDD, or <speaker>/*.wav, .flac, "
            ".ogg, .opus or .mp3"
        )
    return sorted(found)


def _vctk(folder: Path) -> list[Utterance]:
    trimmed = (folder / "wav48_silence_trimmed").glob("*/*_mic1.flac")
    return [Utterance(path.parent.name, path) for path in trimmed] or [
        Utterance(path.parent.name, path) for path in (folder / "wav48").glob("*/*.wav")
    ]


def _named(folder: Path, name: re.Pattern[str]) -> list[Utterance]:
    """Recordings whose names say who speaks, if those of all recordings do."""
    paths = [path for path in folder.rglob("*") if is_audio(path)]
    matches = [name.fullmatch(path.name) for path in paths]
    if not all(matches):
        return []
    return [Utterance(match["speaker"], path) for match, path in zip(matches, paths, strict=True) if match]


def _by_folder(folder: Path) -> list[Utterance]:
    return [Utterance(path.parent.name, path) for path in folder.glob("*/*") if is_audio(path)]
