"""Formats of segments: each line is as its specification has it, and other people's tools read it."""

import io
import json
from pathlib import Path
from typing import get_args

import pytest
from pyannote.database.util import load_rttm

from streamdrnn.apps.speaker_id.commands.options import SegmentFormat
from streamdrnn.apps.speaker_id.sinks.segments import FORMATS, Segments
from streamdrnn.apps.speaker_id.turns import Segment

SEGMENTS = [
    Segment(0.0, 1.5, "Anna Maria", 0.71234, 0.97),
    Segment(1.5, 2.5, None, 0.0, nobody="(silence)"),
    Segment(2.5, 61.25, None, 0.2, 0.5, overlap=1.5),
    Segment(61.25, 3661.5, "<Bob> & Söhne", 0.5),
]


def written(kind: str, recording: str = "a meeting") -> str:
    out = io.StringIO()
    Segments(out, kind, recording).write(SEGMENTS)
    return out.getvalue()


def test_the_options_are_the_registrys_formats() -> None:
    assert get_args(get_args(SegmentFormat)[0]) == tuple(FORMATS)


def test_text_and_json_tell_silence_too() -> None:
    assert written("text").splitlines()[1:3] == [
        "     1.5      2.5  (silence)                  0%   0.00",
        "     2.5     61.2  (unknown)                 50%   0.20 + another voice for 1.5 s",
    ]
    assert [json.loads(line) for line in written("json").splitlines()] == [
        {"file": "a meeting", **one.as_object()} for one in SEGMENTS
    ]


def test_rttm_has_ten_fields_parted_by_blanks() -> None:
    assert written("rttm").splitlines() == [
        "SPEAKER a_meeting 1 0.000 1.500 <NA> <NA> Anna_Maria <NA> <NA>",
        "SPEAKER a_meeting 1 2.500 58.750 <NA> <NA> (unknown) <NA> <NA>",
        "SPEAKER a_meeting 1 61.250 3600.250 <NA> <NA> <Bob>_&_Söhne <NA> <NA>",
    ]


def test_rttm_is_read_by_pyannote(tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text(written("rttm"), encoding="utf-8")
    tracks = load_rttm(tmp_path / "a.rttm")["a_meeting"].itertracks(yield_label=True)
    read = [(stretch.start, stretch.end, name) for stretch, _, name in tracks]
    assert read == [(0.0, 1.5, "Anna_Maria"), (2.5, 61.25, "(unknown)"), (61.25, 3661.5, "<Bob>_&_Söhne")]


def test_srt_numbers_subtitles_and_writes_a_comma() -> None:
    assert written("srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\nAnna Maria\n\n"
        "2\n00:00:02,500 --> 00:01:01,250\n(unknown)\n\n"
        "3\n00:01:01,250 --> 01:01:01,500\n<Bob> & Söhne\n\n"
    )


def test_vtt_has_a_head_and_escaped_voices() -> None:
    assert written("vtt") == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\n<v Anna Maria>Anna Maria</v>\n\n"
        "00:00:02.500 --> 00:01:01.250\n<v (unknown)>(unknown)</v>\n\n"
        "00:01:01.250 --> 01:01:01.500\n<v &lt;Bob&gt; &amp; Söhne>&lt;Bob&gt; &amp; Söhne</v>\n\n"
    )


@pytest.mark.parametrize(("seconds", "clock"), [(59.9996, "00:01:00.000"), (3599.9994, "00:59:59.999")])
def test_times_are_rounded_before_they_are_divided(seconds: float, clock: str) -> None:
    out = io.StringIO()
    Segments(out, "vtt", "").write([Segment(0.0, seconds, "Anna", 0.5)])
    assert clock in out.getvalue()
