"""From recordings of one voice to what is kept of it."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple, Optional

from torch import Tensor

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording
from streamdrnn.apps.speaker_id.scores import Voices
from streamdrnn.apps.speaker_id.sources.source import Source
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, mean_embedding, tick_zero
from streamdrnn.audio.files import AudioFileError, stream_audio
from streamdrnn.errors import InputError

MIN_SECONDS = 1.0
"""Less clear speech than this is no enrolment."""
GOOD_SECONDS = 5.0
"""With less the user is warned, and also of the following."""
CLIPPED_SHARE, OVERLAPPED_SHARE, QUIET_DBFS, NOISY_DB = 0.1, 0.1, -50.0, 10.0
UNLIKE_SHARE = 0.25
"""Of the pairs of parts of a recording that do not sound like one voice."""
LIKE_LOG_RATIO = 3.0
"""From this on a new voice is said to be like another: one in twenty of those who differ, at most, is."""
_PART_TICKS, _FEWEST_PARTS, _MOST_PARTS = 20, 4, 64
_PAUSE_TICKS, _MOST_LEVELS = 10, 6000


class Progress(NamedTuple):
    """How far an enrolment is.

    Attributes:
        seconds: clear speech heard: speech of one voice by the detectors' judgement, not clipped.
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
    """A voice has been enrolled, or added to; the warnings are a line each, for people."""

    name: str
    seconds: float
    warnings: list[str]


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
        self._scorer = model.scorer
        self._last = self._clear = tick_zero(model.embedder)
        self._begun = not mid_stream
        self._parts = [self._clear]  # at every few seconds of clear speech
        self._clipped = self._overlapped = 0
        self._levels: tuple[list[float], list[float]] = ([], [])  # of ticks without speech, and with

    @property
    def progress(self) -> Progress:
        """How far it is."""
        seconds = round(self._clear.spoken * TICK_SECONDS, 1)
        return Progress(seconds, self._last.level, self._last.has_speech, self._last.clipped)

    def hear(self, ticks: Iterable[Tick]) -> None:
        """Take the ticks that follow."""
        for tick in ticks:
            self._clipped += tick.has_speech and tick.clipped
            self._overlapped += tick.has_speech and not tick.is_of_one_voice
            if len(levels := self._levels[tick.has_speech]) < _MOST_LEVELS:
                levels.append(tick.level)
            if self._begun and tick.is_of_one_voice and not tick.clipped:
                self._clear = self._clear._replace(
                    total=self._clear.total + tick.total - self._last.total,
                    frames=self._clear.frames + tick.frames - self._last.frames,
                    spoken=self._clear.spoken + 1,
                )
                if self._clear.spoken % _PART_TICKS == 0 and len(self._parts) < _MOST_PARTS:
                    self._parts.append(self._clear)
            self._begun, self._last = True, tick

    def finish(self) -> Recording:
        """What was heard of the voice.

        Raises:
            ValueError: too little clear speech.
        """
        seconds = self.progress.seconds
        if seconds < MIN_SECONDS:
            raise InputError(f"{seconds:.1f} s of clear speech, expected {MIN_SECONDS:g} s or more")
        embedding = mean_embedding(self._model, tick_zero(self._model), self._clear)
        return Recording(seconds, embedding, tuple(self._warnings(seconds)))

    def _warnings(self, seconds: float) -> Iterator[str]:
        if seconds < GOOD_SECONDS:
            yield f"{seconds:.1f} s of clear speech, {GOOD_SECONDS:g} s or more would be surer"
        if self._clipped > CLIPPED_SHARE * (self._clipped + self._clear.spoken):
            yield "parts are too loud for the microphone and were left out: turn it down, or move away"
        elif self._levels[True] and median(self._levels[True]) < QUIET_DBFS:
            yield f"the speech is quiet ({median(self._levels[True]):.0f} dB): turn the microphone up, or move nearer"
        if len(self._levels[False]) >= _PAUSE_TICKS:
            pauses = sorted(self._levels[False])
            above = median(self._levels[True]) - pauses[len(pauses) // 5]  # in others speech fades out
            if above < NOISY_DB:
                yield f"it is noisy: speech is {above:.0f} dB above the pauses, {NOISY_DB:g} dB or more would be surer"
        if self._overlapped > OVERLAPPED_SHARE * (self._overlapped + self._clear.spoken):
            yield "another voice speaks at the same time in parts, which were left out: enrol each person alone"
        if self._sounds_like_several():
            yield "it sounds like more than one person: enrol each alone"

    def _sounds_like_several(self) -> bool:
        """Whether many pairs of parts are more probably of two voices than of one."""
        pairs = list(pairwise(self._parts))
        if len(pairs) < _FEWEST_PARTS:
            return False
        seconds = _PART_TICKS * TICK_SECONDS
        parts = [Recording(seconds, mean_embedding(self._model, first, last)) for first, last in pairs]
        voices = Voices(self._scorer, parts)
        unlike = [
            ratio < 0
            for number, part in enumerate(parts)
            for ratio in voices.compare(part.embedding, seconds).log_ratios[:number]
        ]
        return bool(sum(unlike) > UNLIKE_SHARE * len(unlike))


def likenesses(model: SpeakerModel, name: str, recording: Recording, store: ProfileStore) -> list[str]:
    """What there is to warn of when a recording is enrolled beside the voices that are known: a line each."""
    known = store.voices(model.id)
    spelled = next((one for one in known if one.casefold() == name.casefold()), name)
    ratios = Voices(model.scorer, list(known.values())).compare(recording.embedding, recording.seconds).log_ratios
    found = []
    for (other, _), ratio in zip(known.items(), ratios, strict=True):
        if other == spelled and ratio < 0:
            found.append(f"it does not sound like the earlier recordings of {other}")
        elif other != spelled and ratio >= LIKE_LOG_RATIO:
            found.append(f"it sounds like {other}, who is enrolled already")
    return found


def listen_to(path: Path, model: SpeakerModel, channel: Optional[int] = None) -> Recording:
    """What a recording of one voice says of it.

    Args:
        path: the recording.
        model: what hears it.
        channel: the one to take, from 1 on; None averages them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or there is too little clear speech in it, or it has no such channel.
    """
    try:
        return enrol(stream_audio(path, model.sample_rate, channel), model)
    except AudioFileError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def enrol(samples: Iterable[Tensor], model: SpeakerModel) -> Recording:
    """What samples of one voice, pieces ``(N,)`` at the model's rate, say of it.

    Raises:
        ValueError: there is too little clear speech in them.
    """
    ear, enrolment = Ear(model.embedder), Enrolment(model)
    for piece in samples:
        enrolment.hear(ear.push(piece))
    enrolment.hear(ear.finish())
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
