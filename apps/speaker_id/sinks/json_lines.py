"""Results for programs: one JSON object a line."""

import json
from typing import Any, TextIO

from streamdrnn.apps.speaker_id.enrolment import Enrolled, Enrolling, NotEnrolled
from streamdrnn.apps.speaker_id.session import Event, Gap, Report, Summary
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.apps.speaker_id.turns import Segment

_NAMES = {Gap: "gap", Segment: "segment", Enrolled: "enrolled", NotEnrolled: "not enrolled"}


def as_object(event: Event) -> dict[str, Any]:
    """An event as a JSON object; ``event`` says which kind it is. Times are in seconds."""
    if isinstance(event, Report):
        now = event.now
        scores, probability = (
            {name: round(value, 4) for name, value in values.items()} for values in (now.scores, now.probability)
        )
        latency = None if event.latency is None else round(event.latency, 4)
        rounded = {"scores": scores, "level": round(now.level, 1), "probability": probability, "latency": latency}
        return {"event": "report", **now._asdict(), **rounded}
    if isinstance(event, Enrolling):
        return {"event": "enrolling", "name": event.name, **event.progress._asdict(), "enough": event.enough}
    values = event.as_object() if isinstance(event, Segment) else event._asdict()
    return {"event": _NAMES[type(event)], **values}


class JsonLines:
    """Writes every event, and the summary, at once.

    Args:
        out: where to write.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def hear(self, chunk: Chunk) -> None:
        """The samples are not written."""

    def take(self, event: Event) -> None:
        """Write an event."""
        self._write(as_object(event))

    def finish(self, summary: Summary) -> None:
        """Write the summary."""
        self._write({"event": "summary", **summary._asdict()})

    def _write(self, value: dict[str, Any]) -> None:
        print(json.dumps(value, ensure_ascii=False), file=self._out, flush=True)
