"""One session of listening: source -> ear -> decisions -> sinks."""

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Optional, Protocol, Union

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import Enrolled, Enrolling, Enrolment, NotEnrolled
from streamdrnn.apps.speaker_id.identifier import Identifier, Now
from streamdrnn.apps.speaker_id.latency import Latency
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.sources.source import Chunk, Source
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick
from streamdrnn.apps.speaker_id.turns import Segment

REPORT_TICKS = 10


class Report(NamedTuple):
    """Who speaks now, and how late that is known.

    Attributes:
        now: the judgement.
        latency: seconds from the first sample of the last tick being heard to this; None if not heard live.
    """

    now: Now
    latency: Optional[float]


class Gap(NamedTuple):
    """Samples that were lost: where, in seconds from the beginning, and for how long."""

    time: float
    seconds: float


Event = Union[Report, Segment, Gap, Enrolling, Enrolled, NotEnrolled]


class Summary(NamedTuple):
    """What a session was like.

    Attributes:
        seconds: how much sound was heard, losses included.
        p50, p95, p99: seconds from sound to label; None if it was not heard live.
        deepest: the most seconds of sound that ever waited in the queue.
        dropped: seconds that were lost.
        gaps: in how many places.
        real_time_factor: seconds of computing per second of sound.
    """

    seconds: float
    p50: Optional[float]
    p95: Optional[float]
    p99: Optional[float]
    deepest: float
    dropped: float
    gaps: int
    real_time_factor: float


class Sink(Protocol):
    """Where the results go. A chunk is given before the events that it leads to."""

    def hear(self, chunk: Chunk) -> None: ...
    def take(self, event: Event) -> None: ...
    def finish(self, summary: Summary) -> None: ...


class Hearer(Protocol):
    """What :func:`listen` gives the sound to: a :class:`Session`, or what steers one."""

    def push(self, chunk: Chunk, waiting: float = 0.0) -> list[Event]: ...
    def finish(self) -> list[Event]: ...
    @property
    def summary(self) -> Summary: ...


class Session:
    """Hears chunks of any rate and gives events.

    A report comes with every second, and at once when the label changes, or whether another voice speaks too.

    Args:
        model: the speaker model.
        voices: who is enrolled, by name.
        threshold: the probability from which a voice is named.
        sample_rate: of the chunks.
        number_strangers, learn: as for :class:`Identifier`.

    Attributes:
        identifier: what decides; its :meth:`~Identifier.now` can be asked at any time.
        enrolment: what takes the same ticks, while somebody is enrolled.
    """

    def __init__(
        self,
        model: SpeakerModel,
        voices: dict[str, Recording],
        threshold: float,
        sample_rate: int,
        number_strangers: bool = False,
        learn: bool = False,
    ) -> None:
        self.identifier = Identifier(model, voices, threshold, number_strangers, learn)
        self.enrolment: Optional[Enrolment] = None
        self._ear = Ear(model.embedder, sample_rate)
        self._sample_rate = sample_rate
        self._samples_lost = self._gaps = 0
        self._captures: deque[tuple[float, float]] = deque()  # where chunks end, and when that was heard
        self._told = ("", False)  # of the last report, the label and whether another voice speaks too
        self._computing = self._deepest = 0.0
        self._latency = Latency()

    def push(self, chunk: Chunk, waiting: float = 0.0) -> list[Event]:
        """Hear a chunk.

        Args:
            chunk: the samples.
            waiting: the seconds of sound that wait behind it.
        """
        started = time.perf_counter()
        self._deepest = max(self._deepest, waiting)
        events: list[Event] = []
        if chunk.lost:
            events += self._skip(chunk.lost)
        if chunk.captured is not None:
            self._captures.append((self._ear.seconds + len(chunk.samples) / self._sample_rate, chunk.captured))
        events += self._report(self._ear.push(chunk.samples))
        self._computing += time.perf_counter() - started
        return events

    def replace_voices(self, voices: dict[str, Recording]) -> list[Event]:
        """Go on with other voices."""
        return list(self.identifier.replace_voices(voices))

    def restart(self, voices: dict[str, Recording]) -> list[Event]:
        """Hear what follows afresh, and forget how late things were; the clock goes on."""
        events = [*self._report(self._ear.flush()), *self.identifier.replace_voices(voices)]
        events += self._decide(self._ear.skip(0))
        self._latency = Latency()
        return events

    def finish(self) -> list[Event]:
        """The sound is over: what is left."""
        events = [*self._report(self._ear.flush()), *self._decide(self._ear.finish())]
        return [*events, *self.identifier.finish(self._ear.seconds)]

    @property
    def summary(self) -> Summary:
        """What it was like so far."""
        seconds = self._ear.seconds
        return Summary(
            seconds,
            self._latency.percentile(50),
            self._latency.percentile(95),
            self._latency.percentile(99),
            self._deepest,
            self._samples_lost / self._sample_rate,
            self._gaps,
            self._computing / seconds if seconds else 0.0,
        )

    def _skip(self, lost: int) -> list[Event]:
        before = self._report(self._ear.flush())
        gap = Gap(self._ear.seconds, lost / self._sample_rate)
        self._samples_lost += lost
        self._gaps += 1
        return [*before, gap, *self._decide(self._ear.skip(lost))]

    def _decide(self, ticks: list[Tick]) -> list[Event]:
        """Give ticks to whatever decides."""
        if self.enrolment is not None:
            self.enrolment.hear(ticks)
        return list(self.identifier.hear(ticks))

    def _report(self, ticks: list[Tick]) -> list[Event]:
        """The same for ticks of what was heard just now: who speaks is told beside."""
        events: list[Event] = []
        for tick in ticks:
            events += self._decide([tick])
            now = self.identifier.now()
            latency = self._since_heard(now.time)
            if latency is not None:
                self._latency.add(latency)
            if (now.label, now.overlap) != self._told or self.identifier.ticks % REPORT_TICKS == 0:
                self._told = (now.label, now.overlap)
                events.append(Report(now, latency))
        return events

    def _since_heard(self, end: float) -> Optional[float]:
        """How long ago the tick was heard that ends there, from its first sample on."""
        begin = end - TICK_SECONDS
        while len(self._captures) > 1 and self._captures[0][0] < begin:
            self._captures.popleft()
        if not self._captures:
            return None
        chunk_end, captured = self._captures[0]
        return time.monotonic() - (captured - max(0.0, chunk_end - begin))


def listen(source: Source, session: Hearer, sinks: Iterable[Sink], seconds: Optional[float] = None) -> None:
    """Listen to the end of a source, or for some seconds; whatever ends it, the sinks get all there is.

    Raises:
        SourceError: sound stopped coming.
        KeyboardInterrupt: the user stopped it.
    """
    sinks = list(sinks)
    try:
        with source:
            heard = 0
            for chunk in source.chunks():
                for sink in sinks:
                    sink.hear(chunk)
                _give(session.push(chunk, source.depth), sinks)
                heard += chunk.lost + len(chunk.samples)
                if seconds is not None and heard >= seconds * source.sample_rate:
                    break
    finally:
        with contextlib.ExitStack() as ends:
            # Every sink comes to its end, even if another one cannot write any more.
            for sink in reversed(sinks):
                ends.callback(_finish, sink, session)
            _give(session.finish(), sinks)


def _finish(sink: Sink, session: Hearer) -> None:
    sink.finish(session.summary)


def _give(events: Iterable[Event], sinks: Iterable[Sink]) -> None:
    for event in events:
        for sink in sinks:
            sink.take(event)
