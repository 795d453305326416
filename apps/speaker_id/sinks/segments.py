"""Who spoke when, as the tools of others read it."""

import html
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TextIO

from streamdrnn.apps.speaker_id.identifier import ANOTHER
from streamdrnn.apps.speaker_id.timeline import SILENT
from streamdrnn.apps.speaker_id.turns import Segment


class Format(NamedTuple):
    """How segments are written.

    Attributes:
        write: from a segment, its number from 1 on, and the recording's name to the text, without a line's end.
        has_silence: whether it is written too where nobody speaks.
        names_recordings: whether a segment says of which recording it is, so that those of several can follow.
        head: what comes before the first.
    """

    write: Callable[[Segment, int, str], str]
    has_silence: bool = False
    names_recordings: bool = False
    head: str = ""


def _text(segment: Segment, number: int, recording: str) -> str:
    also = f"{ANOTHER} for {segment.overlap:.1f} s" if segment.overlap else ""
    return (
        f"{segment.start:8.1f} {segment.end:8.1f}  {segment.label:<24} {segment.probability:4.0%} {segment.score:6.2f}"
        f"{also}"
    )


def _json(segment: Segment, number: int, recording: str) -> str:
    return json.dumps({"file": recording, **segment.as_object()}, ensure_ascii=False)


def _rttm(segment: Segment, number: int, recording: str) -> str:
    """A SPEAKER line of NIST's Rich Transcription Time Marked files (RT-09 evaluation plan, appendix A).

    It has ten fields, parted by blanks: type, file, channel, beginning, duration, two of transcripts, name, confidence
    and lookahead.
    """
    file, name = ("_".join(words.split()) for words in (Path(recording).stem, segment.label))
    return f"SPEAKER {file} 1 {segment.start:.3f} {segment.end - segment.start:.3f} <NA> <NA> {name} <NA> <NA>"


def _srt(segment: Segment, number: int, recording: str) -> str:
    """A subtitle of SubRip."""
    times = " --> ".join(_clock(seconds, ",") for seconds in (segment.start, segment.end))
    return f"{number}\n{times}\n{_line(segment)}\n"


def _vtt(segment: Segment, number: int, recording: str) -> str:
    """A cue of WebVTT (w3.org/TR/webvtt1), whose voice tag names the speaker."""
    times = " --> ".join(_clock(seconds, ".") for seconds in (segment.start, segment.end))
    name = html.escape(_line(segment), quote=False)
    return f"{times}\n<v {name}>{name}</v>\n"


def _clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds."""
    total, milliseconds = divmod(round(1000 * seconds), 1000)
    return f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}{point}{milliseconds:03}"


def _line(segment: Segment) -> str:
    """Who speaks, in one line: an empty line ends a subtitle."""
    return " ".join(segment.label.split())


FORMATS = {
    "text": Format(_text, has_silence=True),
    "json": Format(_json, has_silence=True, names_recordings=True),
    "rttm": Format(_rttm, names_recordings=True),
    "srt": Format(_srt),
    "vtt": Format(_vtt, head="WEBVTT\n"),
}
"""Formats of segments by name."""


class Segments:
    """Writes segments, each at once.

    Args:
        out: where to write.
        kind: the format, of :data:`FORMATS`.
        recording: its name, which some formats tell.
    """

    def __init__(self, out: TextIO, kind: str, recording: str) -> None:
        self._out = out
        self._format = FORMATS[kind]
        self._recording = recording
        self._number = 0
        if self._format.head:
            print(self._format.head, file=out)

    def write(self, segments: Iterable[Segment]) -> None:
        """Write segments that follow."""
        for segment in segments:
            if self._format.has_silence or segment.label not in SILENT:
                self._number += 1
                print(self._format.write(segment, self._number, self._recording), file=self._out, flush=True)
