"""From recordings of one voice to what is kept of it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.sources.source import Source
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, TickStream, mean_embedding
from streamdrnn.audio import StreamingResampler, load_audio

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


class Enrolment:
    """Listens to one voice until enough clear speech has been heard.

    Args:
        model: the speaker model.
    """

    def __init__(self, model: SpeakerModel) -> None:
        self._model = model.embedder
        self._stream = TickStream(model.embedder)
        self._last = self._clear = self._stream.start

    @property
    def progress(self) -> Progress:
        """How far it is."""
        seconds = round(self._clear.spoken * TICK_SECONDS, 1)
        return Progress(seconds, self._last.level, self._last.has_speech, self._last.clipped)

    def push(self, samples: Tensor) -> None:
        """Hear more samples ``(N,)``, float32 at the model's rate.

        Raises:
            ValueError: a sample is NaN or infinite; nothing has been heard then.
        """
        self._hear(self._stream.push(samples))

    def skip(self, samples: int) -> None:
        """Let the clock go on by samples that were lost."""
        self._hear(self._stream.skip(samples))

    def finish(self) -> Recording:
        """What was heard of the voice.

        Raises:
            ValueError: too little clear speech.
        """
        self._hear(self._stream.finish())
        seconds = self.progress.seconds
        if seconds < MIN_SECONDS:
            raise ValueError(f"{seconds:.1f} s of clear speech, expected {MIN_SECONDS:g} s or more")
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
        enrolment.push(second)
    try:
        return enrolment.finish()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def record(
    source: Source, enrolment: Enrolment, sample_rate: int, enough: float, show: Callable[[Progress], None]
) -> None:
    """Listen to a source until enough clear speech has been heard, or its end.

    Args:
        source: the sound.
        enrolment: what hears it.
        sample_rate: the model's.
        enough: seconds of clear speech.
        show: is told how far it is, some ten times a second.

    Raises:
        SourceError: sound stopped coming.
    """
    resampler = StreamingResampler(source.sample_rate, sample_rate)
    with source:
        for chunk in source.chunks():
            if chunk.lost:
                enrolment.push(resampler.flush())
                resampler = StreamingResampler(source.sample_rate, sample_rate)
                enrolment.skip(round(chunk.lost * sample_rate / source.sample_rate))
            enrolment.push(resampler.push(chunk.samples))
            show(enrolment.progress)
            if enrolment.progress.seconds >= enough:
                return
        enrolment.push(resampler.flush())
