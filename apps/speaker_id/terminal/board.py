"""What the terminal shows, as it stands."""

from collections import deque
from typing import Optional, Union

from streamdrnn.apps.speaker_id.enrolment import Enrolled, Enrolling, NotEnrolled
from streamdrnn.apps.speaker_id.session import Event, Gap, Report, Summary
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.apps.speaker_id.ticks import level_dbfs
from streamdrnn.apps.speaker_id.timeline import Timeline
from streamdrnn.apps.speaker_id.turns import Segment

KEPT_SECONDS = 600.0
FALL_DECIBELS = 1.0


class Board:
    """A sink that is written where the sound is heard and read where it is shown.

    Attributes:
        level: of the loudest chunk just now, in dBFS; it falls slowly, so that it can be read.
        report: the last one.
        timeline: who spoke when.
        enrolling: the enrolment that is under way.
        news: what there is to tell once.
        summary: of the whole session, when it is over.
    """

    def __init__(self) -> None:
        self.level = -120.0
        self.report: Optional[Report] = None
        self.timeline = Timeline(KEPT_SECONDS)
        self.enrolling: Optional[Enrolling] = None
        self.news: deque[Union[Gap, Enrolled, NotEnrolled]] = deque()
        self.summary: Optional[Summary] = None
        self._events: deque[Event] = deque()

    def hear(self, chunk: Chunk) -> None:
        """Note how loud it is."""
        if len(chunk.samples):
            self.level = max(level_dbfs(chunk.samples), self.level - FALL_DECIBELS)

    def take(self, event: Event) -> None:
        """Keep an event until it is shown."""
        self._events.append(event)

    def finish(self, summary: Summary) -> None:
        """The session is over."""
        self.summary = summary

    def clear(self) -> None:
        """Forget what was shown; the clock goes on."""
        self.update()
        self.report = None
        self.timeline.clear()

    def update(self) -> None:
        """Take in the events that have come; to be called where they are shown."""
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Report):
                self.report = event
                self.timeline.report(event.now)
            elif isinstance(event, Segment):
                self.timeline.decide(event)
            elif isinstance(event, Enrolling):
                self.enrolling = event
            else:
                if not isinstance(event, Gap):
                    self.enrolling = None
                self.news.append(event)
