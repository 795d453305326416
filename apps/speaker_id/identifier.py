"""Who speaks when, and who speaks now, from a stream of ticks, in constant memory."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, mean_embedding, tick_zero
from streamdrnn.apps.speaker_id.turns import FixedLagViterbi, Segment, TurnBuilder
from streamdrnn.errors import InputError

REACH_TICKS = 5
"""A moment is judged by the outputs from this long before it to this long after it."""
WINDOW_SECONDS = (2 * REACH_TICKS + 1) * TICK_SECONDS
LAG_TICKS = 8
SWITCH_COST = 0.6
SILENCE_TICKS = 5
"""A moment is silent if nobody speaks so near to it."""
FORGET_TICKS = 30
"""Who speaks now is judged by the speech of the present turn that is no older than this."""
MIN_EVIDENCE_SECONDS = 1.5
"""With less speech than this nobody is named yet."""


class Now(NamedTuple):
    """Who speaks at the moment, as far as it can be told.

    Attributes:
        time: seconds from the stream's beginning.
        speaker: a profile's name; None where there is none to be told.
        label: the speaker for people, or "(unknown)", "(listening)" (too little evidence yet), "(silence)".
        scores: the cosine of each profile, and under "(unknown)" the one that it has to reach; empty without evidence.
        evidence: the seconds of speech that the scores rest on.
        level: the last tick's level in dBFS.
    """

    time: float
    speaker: Optional[str]
    label: str
    scores: dict[str, float]
    evidence: float
    level: float


class Identifier:
    """Attributes a stream of ticks to enrolled voices.

    A decision about a moment is made ``latency`` seconds after it, when what follows has been heard. :meth:`now` does
    not wait for that.

    Args:
        model: the embedder whose ticks they are.
        profiles: the enrolled voices, name to embedding ``(E,)``; without any, every voice is unknown.
        threshold: the cosine below which a voice is nobody's.

    Attributes:
        ticks: how many ticks have been heard.

    Raises:
        ValueError: a profile is of another size than the model's embeddings.
    """

    latency = (REACH_TICKS + LAG_TICKS) * TICK_SECONDS

    def __init__(self, model: SpeakerEmbedder, profiles: dict[str, Tensor], threshold: float) -> None:
        self.model = model
        self.threshold = threshold
        self._notes: deque[Tick] = deque([tick_zero(model)], maxlen=FORGET_TICKS + REACH_TICKS + 2)
        self.ticks = 0
        self._judged = 0  # ticks that have been scored
        self._undecided: deque[Tensor | None] = deque()  # the cosines of scored ticks, None in silence
        self._turns = TurnBuilder(TICK_SECONDS)
        self._use(profiles)

    def hear(self, ticks: Iterable[Tick]) -> list[Segment]:
        """The segments that have ended, by the ticks that follow, in order of time."""
        ended: list[Segment] = []
        for tick in ticks:
            self._notes.append(tick)
            self.ticks += 1
            if self.ticks - self._judged > REACH_TICKS:
                ended += self._judge()
        return ended

    def replace_voices(self, profiles: dict[str, Tensor]) -> list[Segment]:
        """Go on with other profiles; what is undecided is decided now, and returned as by :meth:`hear`."""
        ended = [segment for state in self._path.undecided() for segment in self._decide(state)]
        self._use(profiles)
        return ended

    def finish(self, seconds: float) -> list[Segment]:
        """The stream is over, after so many seconds: the segments that are left."""
        ended: list[Segment] = []
        while self._judged < self.ticks:
            ended += self._judge()
        for state in self._path.undecided():
            ended += self._decide(state)
        last = self._turns.finish(seconds)
        return ended if last is None else [*ended, last]

    def now(self) -> Now:
        """Who speaks now: by the running embedding of the present turn, the last three seconds of it."""
        last = self._notes[-1]
        first = self._note(max(self._turn_start(), self.ticks - FORGET_TICKS) - 1)
        evidence = round((last.spoken - first.spoken) * TICK_SECONDS, 3)
        scores: dict[str, float] = {}
        if last.frames > first.frames:
            cosines = self._voices @ mean_embedding(self.model, first, last)
            scores = dict(zip(self.names, cosines.tolist(), strict=True))
        speaker, label = None, "(listening)"
        if not any(self._note(tick).has_speech for tick in range(self.ticks - SILENCE_TICKS, self.ticks)):
            label = "(silence)"
        elif evidence >= MIN_EVIDENCE_SECONDS:
            best = max(scores, key=scores.__getitem__, default=None)
            speaker = best if best is not None and scores[best] >= self.threshold else None
            label = speaker or "(unknown)"
        if last.frames > first.frames:
            scores["(unknown)"] = self.threshold
        return Now(round(self.ticks * TICK_SECONDS, 3), speaker, label, scores, evidence, last.level)

    def _use(self, profiles: dict[str, Tensor]) -> None:
        self.names = list(profiles)
        size = self.model.embedding_size
        for name, voice in profiles.items():
            if tuple(voice.shape) != (size,):
                raise InputError(f"profile {name!r}: an embedding of shape {tuple(voice.shape)}, expected ({size},)")
        self._voices = torch.stack(list(profiles.values())) if profiles else torch.zeros(0, size)
        self._path = FixedLagViterbi(1 + len(profiles), SWITCH_COST, LAG_TICKS)
        self._decided_state, self._decided_start = 0, self._judged - len(self._undecided)

    def _note(self, tick: int) -> Tick:
        """The note at the end of a tick, or the nearest there is."""
        oldest = self.ticks - len(self._notes)
        return self._notes[min(max(tick - oldest, 0), len(self._notes) - 1)]

    def _turn_start(self) -> int:
        """The tick with which the present turn began, as it looks now."""
        states = [self._decided_state, *self._path.undecided()]
        start = self._judged
        while len(states) > 1 and states[-1] == states[-2]:
            states.pop()
            start -= 1
        return start - 1 if len(states) > 1 else self._decided_start

    def _judge(self) -> list[Segment]:
        """Score the next tick; give the segments that this decides."""
        tick = self._judged
        self._judged += 1
        first, last = self._note(tick - REACH_TICKS - 1), self._note(tick + REACH_TICKS)
        near = range(tick - SILENCE_TICKS, tick + SILENCE_TICKS + 1)
        silent = last.frames == first.frames or not any(self._note(t).has_speech for t in near)
        scores = np.zeros(1 + len(self.names))  # 0 for nobody, and in silence for everybody
        cosines = None
        if not silent:
            cosines = self._voices @ mean_embedding(self.model, first, last)
            scores[1:] = cosines.numpy() - self.threshold
        self._undecided.append(cosines)
        state = self._path.push(scores)
        return [] if state is None else self._decide(state)

    def _decide(self, state: int) -> list[Segment]:
        """Take the path's decision for the oldest undecided tick."""
        if state != self._decided_state:
            self._decided_state, self._decided_start = state, self._judged - len(self._undecided)
        cosines = self._undecided.popleft()
        speaker, score = None, 0.0
        if cosines is not None:
            speaker = self.names[state - 1] if state else None
            # With nobody enrolled the nearest voice is as far as can be; 0 would be silence.
            score = float(cosines[state - 1] if state else cosines.max() if len(cosines) else -1.0)
        ended = self._turns.push(speaker, score)
        return [] if ended is None else [ended]
