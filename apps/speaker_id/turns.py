"""From scores to turns: who speaks when, decided a fixed time late."""

from collections import deque
from typing import Any, NamedTuple, Optional

import numpy as np

CRUMB_SECONDS = 0.5
"""What is decided for less than this is no segment of its own."""


class Segment(NamedTuple):
    """A stretch of time with one decision.

    Attributes:
        start, end: seconds from the stream's beginning.
        speaker: a profile's name; None where nobody speaks, or nobody who is enrolled.
        score: the mean cosine of the decided speaker, or of the nearest one for a voice nobody enrolled; 0 where nobody
            speaks.
        probability: how probable it was on average that the decision is right; 0 where nobody speaks.
        nobody: the label where the speaker is None, such as "(unknown)" or "(silence)".
        overlap: seconds of it in which another voice speaks at the same time.
    """

    start: float
    end: float
    speaker: Optional[str]
    score: float
    probability: float = 0.0
    nobody: str = "(unknown)"
    overlap: float = 0.0

    @property
    def label(self) -> str:
        """Who speaks, for people."""
        return self.speaker or self.nobody

    def as_object(self) -> dict[str, Any]:
        """The segment as JSON has it."""
        return {
            "start": self.start,
            "end": self.end,
            "speaker": self.speaker,
            "score": self.score,
            "probability": self.probability,
            "label": self.label,
            "overlap": self.overlap,
        }


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

    def split_first_state(self) -> None:
        """One more state: where the first is the best now, and was so all along, it is the new one instead."""
        new = len(self._best)
        self._best = np.append(self._best, self._best[0])
        self._best[0] -= self.switch_cost
        steps = [np.append(step, new if step[0] == 0 else step[0]) for step in self._came_from]
        self._came_from = deque(steps, maxlen=self.lag + 1)

    def _path(self) -> list[int]:
        """The best states of the steps remembered, first to last."""
        path = [int(self._best.argmax())] if self._came_from else []
        for came_from in list(self._came_from)[:0:-1]:
            path.append(int(came_from[path[-1]]))
        return path[::-1]


class Decision(NamedTuple):
    """What was decided about a tick; ``overlap`` is whether another voice speaks at the same time.

    The other attributes are as those of :class:`Segment`.
    """

    speaker: Optional[str]
    nobody: str
    score: float = 0.0
    probability: float = 0.0
    overlap: bool = False

    @property
    def label(self) -> str:
        """Who speaks, for people."""
        return self.speaker or self.nobody


class _Run:
    """Ticks of one decision: since which tick, how many, and the sums of their scores and probabilities.

    Another voice speaks in so many ticks (``overlap``), those of crumbs included.
    """

    def __init__(self, decision: Decision, start: int) -> None:
        self.decision = decision
        self.start = start
        self.ticks = 0
        self.sums = np.zeros(2)
        self.overlap = 0


class TurnBuilder:
    """Joins the decisions of single ticks into segments.

    A decision that holds for less than :data:`CRUMB_SECONDS` makes no segment: its time goes to the segment before it,
    or at a stream's beginning to the one after it.

    Args:
        tick: seconds.
    """

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._enough = round(CRUMB_SECONDS / tick)
        self._ticks = 0
        self._turn: Optional[_Run] = None  # the segment under way
        self._newest: Optional[_Run] = None  # the same, or what may come after it

    def push(self, decision: Decision) -> Optional[Segment]:
        """Take the decision for the next tick; give the segment that it ends, if it does."""
        newest, turn = self._newest, self._turn
        if newest is None or decision.label != newest.decision.label:
            crumb = newest
            if turn is not None and decision.label == turn.decision.label:
                newest = turn
            else:
                newest = _Run(decision, 0 if turn is None else self._ticks)
            if crumb is not None and crumb is not turn:
                (turn or newest).overlap += crumb.overlap
            self._newest = newest
        newest.ticks += 1
        newest.sums += (decision.score, decision.probability)
        newest.overlap += decision.overlap
        self._ticks += 1
        if newest is turn or newest.ticks < self._enough:
            return None
        self._turn = newest
        return None if turn is None else self._segment(turn, self._tick * newest.start)

    def relabel(self, label: str, speaker: Optional[str], nobody: str) -> None:
        """From now on, what is under way with a label is this speaker's, or (None) nobody's with another label."""
        for run in (self._turn, self._newest):
            if run is not None and run.decision.label == label:
                run.decision = run.decision._replace(speaker=speaker, nobody=nobody)

    def finish(self, end: float) -> Optional[Segment]:
        """The last segment, up to the stream's end in seconds."""
        newest = self._newest
        if newest is None:
            return None
        last = self._turn or newest
        if newest is not last:
            last.overlap += newest.overlap
        return self._segment(last, end)

    def _segment(self, run: _Run, end: float) -> Segment:
        score, probability = (round(float(mean), 4) for mean in run.sums / run.ticks)
        speaker, nobody, *_ = run.decision
        start, overlap = round(self._tick * run.start, 3), round(self._tick * run.overlap, 3)
        return Segment(start, round(end, 3), speaker, score, probability, nobody, overlap)
