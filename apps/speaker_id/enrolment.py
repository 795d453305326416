"""From recordings of one voice to what is kept of it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.sources.source import Source
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, mean_embedding, tick_zero
from streamdrnn.audio import load_audio
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
        mid_stream: it begins while a tick may be under way: the first one, in part from before, is left out.
    """

    def __init__(self, model: SpeakerModel, mid_stream: bool = False) -> None:
        self._model = model.embedder
        self._last = self._clear = tick_zero(model.embedder)
        self._begun = not mid_stream

    @property
    def progress(self) -> Progress:
        """How far it is."""
        seconds = round(self._clear.spoken * TICK_SECONDS, 1)
        return Progress(seconds, self._last.level, self._last.has_speech, self._last.clipped)

    def hear(self, ticks: Iterable[Tick]) -> None:
        """Take the ticks that follow."""
        for tick in ticks:
            if self._begun and tick.has_speech and not tick.clipped:
                self._clear = self._clear._replace(
                    total=self._clear.total + tick.total - self._last.total,
                    frames=self._clear.frames + tick.frames - self._last.frames,
                    spoken=self._clear.spoken + 1,
                )
            self._begun, self._last = True, tick

    def finish(self) -> Recording:
        """What was heard of the voice.

        Raises:
            ValueError: too little clear speech.
        """
        seconds = self.progress.seconds
        if seconds < MIN_SECONDS:
            raise InputError(f"{seconds:.1f} s of clear speech, expected {MIN_SECONDS:g} s or more")
        return Recording(seconds, mean_embedding(self._model, tick_zero(self._model), self._clear))


def listen_to(path: Path, model: SpeakerModel) -> Recording:
    """What a recording of one voice says of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or there is too little clear speech in it.
    """
    samples = load_audio(path, model.sample_rate)
    try:
        return enrol(samples, model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def enrol(samples: Tensor, model: SpeakerModel) -> Recording:
    """What samples ``(N,)`` of one voice, at the model's rate, say of it.

    Raises:
        ValueError: there is too little clear speech in them.
    """
    ear, enrolment = Ear(model.embedder), Enrolment(model)
    enrolment.hear([*ear.push(samples), *ear.finish()])
    return enrolment.finish()


def record(
    source: Source, model: SpeakerModel, enrolment: Enrolment, enough: float, show: Callable[[Progress], None]
) -> None:
    """Listen to a source until enough clear speech has been heard, or its end; the enrolment gets all there is.

    Args:
        source: the sound.
        model: what hears it.
        enrolment: what takes its ticks.
        enough: seconds of clear speech.
        show: is told how far it is, some ten times a second.

    Raises:
        SourceError: sound stopped coming.
    """
    ear = Ear(model.embedder, source.sample_rate)
    try:
        with source:
            for chunk in source.chunks():
                enrolment.hear(ear.hear(chunk))
                show(enrolment.progress)
                if enrolment.progress.seconds >= enough:
                    return
    finally:
        enrolment.hear(ear.finish())
