"""`streamdrnn identify`: who speaks when in recordings."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

from streamdrnn.apps.speaker_id.commands.options import (
    Channel,
    Channels,
    Json,
    Learn,
    ModelFile,
    ProfileFile,
    Rate,
    SegmentFormat,
    Threshold,
    Unknown,
    chosen_threshold,
    keep_heard,
    profile_store,
    recording,
    speaker_model,
)
from streamdrnn.apps.speaker_id.sources.quiet import quiet_libraries
from streamdrnn.errors import InputError

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.ear import Ear
    from streamdrnn.apps.speaker_id.identifier import Identifier
    from streamdrnn.apps.speaker_id.sinks.segments import Segments
    from streamdrnn.apps.speaker_id.sources.file import FileSource
    from streamdrnn.apps.speaker_id.turns import Segment


@dataclass
class Identify:
    """Say who speaks when in a recording, by the voices that are enrolled.

    A line says from when to when (seconds), who, how probable that is, and how alike the voices are (cosine); unknown
    is a voice that nobody enrolled. Lines come while the recording is read. With several recordings, each one's lines
    follow its name. The other formats are for programs: RTTM for diarisation tools, SRT and VTT for players.

    Example: streamdrnn identify meeting.wav --format srt > meeting.srt
    """

    file: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            metavar="FILE",
            help="A recording; - is standard input: a recording, or raw samples (signed 16-bit, little-endian).",
        ),
    ]
    more: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[FILE...]", help="The same.")] = ()
    rate: Rate = None
    channels: Channels = None
    channel: Channel = None
    profiles: ProfileFile = None
    model: ModelFile = None
    threshold: Threshold = None
    unknown: Unknown = "one"
    learn: Learn = False
    format: SegmentFormat = "text"
    json: Json = False

    @quiet_libraries()
    def run(self) -> None:
        from streamdrnn.apps.speaker_id.ear import Ear
        from streamdrnn.apps.speaker_id.identifier import Identifier
        from streamdrnn.apps.speaker_id.model import use_one_thread
        from streamdrnn.apps.speaker_id.sinks.segments import FORMATS, Segments

        use_one_thread()
        store = profile_store(self.profiles)
        model = speaker_model(self.model, store)
        if not store.voices(model.id) and self.unknown == "one":
            raise InputError(f"{store.path}: nobody is enrolled; first run: streamdrnn enroll NAME FILE")
        threshold = chosen_threshold(self.threshold)
        if self.json and self.format not in ("text", "json"):
            raise InputError(f"--json: expected without --format {self.format}")
        kind = "json" if self.json else self.format
        if self.more and not FORMATS[kind].names_recordings and kind != "text":
            raise InputError(f"--format {kind}: of one recording, got {1 + len(self.more)}")
        for file in self.more:  # before anything is told or kept of the first
            if file != "-" and not Path(file).exists():
                raise FileNotFoundError(f"{file}: no such file")
        for file in (self.file, *self.more):
            source = recording(file, self.rate, self.channels, self.channel)
            if self.more and kind == "text":
                print(f"{source.name}:", flush=True)
            voices = store.voices(model.id)  # with what was kept of the recordings before it
            ear = Ear(model.embedder, source.sample_rate)
            identifier = Identifier(model, voices, threshold, self.unknown != "one", self.learn)
            _identify(source, ear, identifier, Segments(sys.stdout, kind, source.name))
            keep_heard(identifier, store, model, self.unknown)


def _identify(source: "FileSource", ear: "Ear", identifier: "Identifier", out: "Segments") -> None:
    """Tell a recording's segments as they end."""
    progress = _Progress(source.seconds)

    def tell(segments: "list[Segment]") -> None:
        if segments:
            progress.clear()
            out.write(segments)

    try:
        with source:
            for chunk in source.chunks():
                tell(identifier.hear(ear.hear(chunk)))
                progress.show(ear.seconds)
    finally:  # whatever ends it, all that was heard is told
        ended = identifier.hear(ear.finish())
        tell(ended + identifier.finish(ear.seconds))
        progress.clear()
    if not identifier.ticks:
        raise InputError(f"{source.name}: has no samples that can be judged, expected 0.02 s or more")


class _Progress:
    """Shows on a terminal how far it is, in the line below the results."""

    _EVERY_SECONDS = 0.5

    def __init__(self, seconds: Optional[float]) -> None:
        self._whole = "" if seconds is None else f" of {_clock(seconds)}"
        self._next = time.monotonic() if sys.stderr.isatty() else float("inf")
        self._shown = False

    def show(self, seconds: float) -> None:
        """Show how much has been heard."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._EVERY_SECONDS
            self._shown = True
            print(f"\r{_clock(seconds)}{self._whole}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
