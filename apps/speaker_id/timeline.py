"""Who spoke when, for a picture."""

from collections import Counter, deque

from streamdrnn.apps.speaker_id.identifier import Now
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS
from streamdrnn.apps.speaker_id.turns import Segment

SILENT = ("", "(silence)", "(no speech)", "(listening)")
"""Labels of moments that nobody's voice is known to fill."""


class Timeline:
    """The last part of a stream: what was reported, and where it has been decided, what was decided.

    Args:
        seconds: how much is kept.
    """

    def __init__(self, seconds: float) -> None:
        self._labels: deque[str] = deque(maxlen=round(seconds / TICK_SECONDS))
        self._end = 0  # ticks since the beginning
        self._label = ""

    def report(self, now: Now) -> None:
        """Take a report; what the last one said has held until now."""
        end = round(now.time / TICK_SECONDS)
        self._grow(end - 1, self._label)
        self._label = now.mark
        self._grow(end, self._label)

    def decide(self, segment: Segment) -> None:
        """Take a decision in the place of what was reported."""
        start, end = round(segment.start / TICK_SECONDS), round(segment.end / TICK_SECONDS)
        self._grow(end, segment.label)
        oldest = self._end - len(self._labels)
        for tick in range(max(start, oldest), end):
            self._labels[tick - oldest] = segment.label

    def clear(self) -> None:
        """Forget everything but what time it is."""
        self._labels.clear()
        self._label = ""

    def columns(self, count: int, seconds: float) -> list[str]:
        """The labels of the last ``count`` columns of so many seconds each, the oldest first.

        Columns begin at multiples of their length, so that a picture moves on by whole columns. Of the labels in one
        column the most frequent is given, a voice before silence; "" where there was nothing yet.
        """
        ticks = round(seconds / TICK_SECONDS)
        last = -(-self._end // ticks)
        oldest = self._end - len(self._labels)
        labels = list(self._labels)
        columns = []
        for column in range(last - count, last):
            inside = labels[max(column * ticks - oldest, 0) : max((column + 1) * ticks - oldest, 0)]
            voices = [label for label in inside if label not in SILENT]
            columns.append(Counter(voices or inside or [""]).most_common(1)[0][0])
        return columns

    def _grow(self, end: int, label: str) -> None:
        while self._end < end:
            self._labels.append(label)
            self._end += 1
