"""How much of the demo's speech is attributed right."""

from typing import Any, NamedTuple

from streamdrnn.apps.speaker_id.identifier import SILENCE, UNKNOWN
from streamdrnn.apps.speaker_id.timeline import SILENT
from streamdrnn.apps.speaker_id.turns import Segment

EDGE_SECONDS = 0.3
"""A turn is not said to be in a segment that has no more of it than this."""


class Turn(NamedTuple):
    """A stretch of the conversation.

    Attributes:
        start, end: seconds.
        label: what should be said of it.
        who: who is really heard, for people.
        through: what it is heard through.
    """

    start: float
    end: float
    label: str
    who: str
    through: str

    def overlap(self, start: float, end: float) -> float:
        """The seconds that lie in a stretch of time."""
        return max(0.0, min(self.end, end) - max(self.start, start))


class Truth(NamedTuple):
    """Who is really heard in a segment, for people, and whether the segment says so."""

    who: str
    right: bool


class Score:
    """How much of the speech was attributed right, as decisions come in.

    Args:
        script: ``turns``, who really speaks: objects with ``start``, ``end`` (seconds), ``speaker``, where null is a
            voice that nobody enrolled, and ``heard``, through what; ``music``: the ``start`` and ``end`` of some.

    Attributes:
        turns: who speaks.
        music: where nobody does.
    """

    def __init__(self, script: dict[str, Any]) -> None:
        self.turns = [
            Turn(turn["start"], turn["end"], speaker or UNKNOWN, speaker or "a stranger", turn["heard"])
            for turn in script["turns"]
            for speaker in [turn["speaker"]]
        ]
        self.music = Turn(script["music"]["start"], script["music"]["end"], SILENCE, "nobody", "music")
        self._right = dict.fromkeys(self.turns, 0.0)  # seconds
        self._heard = 0.0

    def add(self, segment: Segment) -> list[Truth]:
        """Count a segment in; say what is true of it."""
        self._heard = segment.end
        label = SILENCE if segment.label in SILENT else segment.label
        for turn in self.turns:
            if turn.label == label:
                self._right[turn] += turn.overlap(segment.start, segment.end)
        inside = [turn for turn in (*self.turns, self.music) if turn.overlap(segment.start, segment.end) > EDGE_SECONDS]
        truths = [Truth(f"{turn.who} ({turn.through})", turn.label == label) for turn in sorted(inside)]
        return truths or [Truth("nobody", label == SILENCE)]

    @property
    def right(self) -> float:
        """The share of the speech so far that was attributed right, from 0 to 1."""
        spoken = sum(turn.overlap(0.0, self._heard) for turn in self.turns)
        return sum(self._right.values()) / spoken if spoken else 0.0

    @property
    def turns_right(self) -> int:
        """How many turns were attributed right for more than half of their time."""
        return sum(seconds > (turn.end - turn.start) / 2 for turn, seconds in self._right.items())
