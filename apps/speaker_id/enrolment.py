"""From recordings of one voice to what is kept of it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.sources.source import Chunk, Source
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, TickStream, mean_embedding
from streamdrnn.audio import StreamingResampler, load_audio
from streamdrnn.errors import InputError

MIN_SECONDS = 1.0
"""Less clear speech than this is no enrolment."""


class Progress(NamedTuple):
    """How far an enrolment is.

    Attributes:
        seconds: clear speech heard: speech by the detector's judgement, not clipped.
        level: the last tick's level in dBFS.
        speaking: whether somebody spoke in it.
        clipped: whether it was too loud for the microphone.
    """

    seconds: float
    level: float
    speaking: bool
    clipped: bool


class Enrolling(NamedTuple):
    """An enrolment is under way.

    Attributes:
        name: whose.
        progress: how far it is.
        enough: the seconds of clear speech that it waits for.
    """

    name: str
    progress: Progress
    enough: float


class Enrolled(NamedTuple):
    """A voice has been enrolled, or added to."""

    name: str
    seconds: float


class NotEnrolled(NamedTuple):
    """An enrolment came to nothing; the reason is one line for people."""

    name: str
    reason: str


class Enrolment:
    """Listens to one voice until enough clear speech has been heard.

    Args:
        model: the speaker model.
        sample_rate: of the sound; the model's by default.
    """

    def __init__(self, model: SpeakerModel, sample_rate: Optional[int] = None) -> None:
        self._model = model.embedder
        self._rate_in, self._rate_out = sample_rate or model.sample_rate, model.sample_rate
        self._resampler = StreamingResampler(self._rate_in, self._rate_out)
        self._stream = TickStream(model.embedder)
        self._last = self._clear = self._stream.start

    @property
    def progress(self) -> Progress:
        """How far it is."""
        seconds = round(self._clear.spoken * TICK_SECONDS, 1)
        return Progress(seconds, self._last.level, self._last.has_speech, self._last.clipped)

    def hear(self, chunk: Chunk) -> None:
        """Hear a chunk of a source, and what was lost before it.

        Raises:
            ValueError: a sample is NaN or infinite.
        """
        if chunk.lost:
            # What the resampler holds belongs before the gap.
            self._hear(self._stream.push(self._resampler.flush()))
            self._resampler = StreamingResampler(self._rate_in, self._rate_out)
            self._hear(self._stream.skip(round(chunk.lost * self._rate_out / self._rate_in)))
        self._hear(self._stream.push(self._resampler.push(chunk.samples)))

    def finish(self) -> Recording:
        """What was heard of the voice.

        Raises:
            ValueError: too little clear speech.
        """
        self._hear([*self._stream.push(self._resampler.flush()), *self._stream.finish()])
        seconds = self.progress.seconds
        if seconds < MIN_SECONDS:
            raise InputError(f"{seconds:.1f} s of clear speech, expected {MIN_SECONDS:g} s or more")
        return Recording(seconds, mean_embedding(self._model, self._stream.start, self._clear))

    def _hear(self, ticks: list[Tick]) -> None:
        for tick in ticks:
            if tick.has_speech and not tick.clipped:
                self._clear = self._clear._replace(
                    total=self._clear.total + tick.total - self._last.total,
                    frames=self._clear.frames + tick.frames - self._last.frames,
                    spoken=self._clear.spoken + 1,
                )
            self._last = tick


def listen_to(path: Path, model: SpeakerModel) -> Recording:
    """What a recording of one voice says of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or there is too little clear speech in it.
    """
    enrolment = Enrolment(model)
    for second in load_audio(path, model.sample_rate).split(model.sample_rate):
        enrolment.hear(Chunk(second, 0, None))
    try:
        return enrolment.finish()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def record(source: Source, enrolment: Enrolment, enough: float, show: Callable[[Progress], None]) -> None:
    """Listen to a source until enough clear speech has been heard, or its end.

    Args:
        source: the sound.
        enrolment: what hears it.
        enough: seconds of clear speech.
        show: is told how far it is, some ten times a second.

    Raises:
        SourceError: sound stopped coming.
    """
    with source:
        for chunk in source.chunks():
            enrolment.hear(chunk)
            show(enrolment.progress)
            if enrolment.progress.seconds >= enough:
                return
