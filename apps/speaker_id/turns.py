"""From scores to turns: who speaks when, decided a fixed time late."""

from collections import deque
from typing import NamedTuple, Optional

import numpy as np


class Segment(NamedTuple):
    """A stretch of time with one decision.

    Attributes:
        start, end: seconds from the stream's beginning.
        speaker: a profile's name; None is silence, or a voice that nobody enrolled.
        score: the mean cosine of the decided speaker, or of the nearest one for a voice nobody enrolled; 0 in silence.
    """

    start: float
    end: float
    speaker: Optional[str]
    score: float

    @property
    def label(self) -> str:
        """Who speaks, for people."""
        return self.speaker or ("(unknown)" if self.score else "(silence)")


class FixedLagViterbi:
    """The most likely sequence of states, where staying is free and every change has a price.

    Args:
        switch_cost: by how much the summed scores of a change must win.
        lag: a state is decided this many steps after its own, when later evidence has been heard.
    """

    def __init__(self, num_states: int, switch_cost: float, lag: int) -> None:
        self.switch_cost = switch_cost
        self.lag = lag
        self._best = np.zeros(num_states)
        self._came_from: deque[np.ndarray] = deque(maxlen=lag + 1)

    def push(self, scores: np.ndarray) -> Optional[int]:
        """Take the scores of one step, ``(num_states,)``; give the state of ``lag`` steps ago once there is one."""
        change = int(self._best.argmax())
        stay = self._best >= self._best[change] - self.switch_cost
        self._came_from.append(np.where(stay, np.arange(len(scores)), change))
        self._best = scores + np.where(stay, self._best, self._best[change] - self.switch_cost)
        self._best -= self._best.max()  # only differences matter, and a long stream must not overflow them
        return self._path()[0] if len(self._came_from) > self.lag else None

    def undecided(self) -> list[int]:
        """The states of the last ``lag`` steps as they look now; later steps may change them."""
        return self._path()[-self.lag :] if self.lag else []

    def _path(self) -> list[int]:
        """The best states of the steps remembered, first to last."""
        path = [int(self._best.argmax())] if self._came_from else []
        for came_from in list(self._came_from)[:0:-1]:
            path.append(int(came_from[path[-1]]))
        return path[::-1]


class TurnBuilder:
    """Joins the decisions of single ticks into segments."""

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._speaker: Optional[str] = None
        self._start = self._ticks = 0
        self._score = 0.0

    def push(self, speaker: Optional[str], score: float) -> Optional[Segment]:
        """Take the decision for the next tick; give the segment that it ends, if it does."""
        ended = None
        # Silence and a voice that nobody enrolled are both nobody's, and yet two things.
        if self._ticks and (speaker, score == 0) != (self._speaker, self._score == 0):
            ended = self._segment(self._tick * (self._start + self._ticks))
            self._start, self._ticks, self._score = self._start + self._ticks, 0, 0.0
        self._speaker = speaker
        self._ticks += 1
        self._score += score
        return ended

    def finish(self, end: float) -> Optional[Segment]:
        """The last segment, up to the stream's end in seconds."""
        return self._segment(end) if self._ticks else None

    def _segment(self, end: float) -> Segment:
        mean = round(self._score / self._ticks, 4)
        return Segment(round(self._tick * self._start, 3), round(end, 3), self._speaker, mean)
