"""Who speaks when, from a stream of samples, in constant memory.

The model runs once over every sample. The sum of its outputs, which its state holds, is noted every tick, silent
ticks left out; the difference of two notes is the mean output over the window between them, so one pass gives the
embedding of every window.
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamdrnn import ModelState, SpeakerEmbedder, StreamingDRNN
from streamdrnn.apps.speaker_id.turns import FixedLagViterbi, Segment, TurnBuilder

BLOCK_SECONDS = 0.02
TICK_BLOCKS = 5
TICK_SECONDS = BLOCK_SECONDS * TICK_BLOCKS
REACH_TICKS = 5
"""A moment is judged by the outputs from this long before it to this long after it."""
WINDOW_SECONDS = (2 * REACH_TICKS + 1) * TICK_SECONDS
LAG_TICKS = 8
SWITCH_COST = 0.6
SILENCE_DBFS = -50.0
SILENCE_TICKS = 5
"""A moment is silent if nothing so near to it is louder than that."""


def level_dbfs(samples: Tensor) -> float:
    """The level of some samples in dB relative to a full-scale square wave."""
    power = float(samples.square().mean()) if samples.numel() else 0.0
    return 10 * math.log10(max(power, 1e-12))


class _Note(NamedTuple):
    """What is known at the end of a tick."""

    total: Tensor  # the sum of the model's outputs so far, in ticks that were not silent
    frames: int  # how many those outputs are
    level: float  # the tick's level in dBFS


class Identifier:
    """Attributes a stream of samples to enrolled voices.

    A decision about a moment is made ``latency`` seconds after it, when what follows has been heard.

    Args:
        model: the embedder, with its front-end.
        profiles: the enrolled voices, name to embedding ``(E,)``.
        threshold: the cosine below which a voice is nobody's.

    Raises:
        ValueError: there are no profiles, or the model has no front-end.
    """

    latency = (REACH_TICKS + LAG_TICKS) * TICK_SECONDS

    def __init__(self, model: SpeakerEmbedder, profiles: dict[str, Tensor], threshold: float) -> None:
        if model.frontend is None:
            raise ValueError("model: expected one with a front-end, as it is given samples")
        if not profiles:
            raise ValueError("profiles: expected one or more, got none; enrol a voice first")
        self.model = model
        self.sample_rate: int = model.frontend.sample_rate
        self.threshold = threshold
        self.names = list(profiles)
        self._voices = torch.stack([profiles[name] for name in self.names])
        self._stream = StreamingDRNN(model)
        self._block = round(BLOCK_SECONDS * self.sample_rate)
        self._pending = torch.zeros(0)
        self._samples = 0
        self._levels: list[float] = []  # of the blocks of the tick that is under way
        start = _Note(torch.zeros(model.rnn.hidden_size, dtype=torch.float64), 0, -math.inf)
        self._total, self._frames = start.total, start.frames  # silent ticks included
        self._notes: deque[_Note] = deque([start], maxlen=2 * REACH_TICKS + 2)
        self._heard = 0  # ticks that have ended
        self._judged = 0  # ticks that have been scored
        self._path = FixedLagViterbi(1 + len(profiles), SWITCH_COST, LAG_TICKS)
        self._undecided: deque[Tensor | None] = deque()  # the cosines of scored ticks, None in silence
        self._turns = TurnBuilder(TICK_SECONDS)

    def push(self, samples: Tensor) -> list[Segment]:
        """Hear more samples.

        Args:
            samples: ``(N,)`` float32 at the model's sample rate, any N.

        Returns:
            the segments that have ended, in order of time.

        Raises:
            ValueError: a sample is NaN or infinite; nothing has been heard then.
        """
        if not torch.isfinite(samples).all():
            raise ValueError("samples: expected finite values, got NaN or infinity")
        self._samples += len(samples)
        pending = torch.cat([self._pending, samples])
        whole = len(pending) - len(pending) % self._block
        self._pending = pending[whole:].clone()
        ended: list[Segment] = []
        for start in range(0, whole, self._block):
            block = pending[start : start + self._block]
            self._stream.push(block[:, None])
            self._levels.append(level_dbfs(block))
            if len(self._levels) == TICK_BLOCKS:
                self._end_tick()
                if self._heard - self._judged > REACH_TICKS:
                    ended += self._judge()
        return ended

    def finish(self) -> list[Segment]:
        """The stream is over: the segments that are left."""
        if self._levels:
            self._end_tick()
        ended: list[Segment] = []
        while self._judged < self._heard:
            ended += self._judge()
        for state in self._path.finish():
            ended += self._decide(state)
        last = self._turns.finish(self._samples / self.sample_rate)
        return ended if last is None else [*ended, last]

    def _end_tick(self) -> None:
        state = self._stream.state
        assert isinstance(state, ModelState)
        total, frames, level = state.pooled[0, 0].clone(), int(state.rnn.cursor[0]), max(self._levels)
        note = self._notes[-1]._replace(level=level)
        if level >= SILENCE_DBFS:
            note = _Note(note.total + total - self._total, note.frames + frames - self._frames, level)
        self._notes.append(note)
        self._total, self._frames = total, frames
        self._levels.clear()
        self._heard += 1

    def _note(self, tick: int) -> _Note:
        """The note at the end of a tick, or the nearest there is."""
        oldest = self._heard - len(self._notes)
        return self._notes[min(max(tick - oldest, 0), len(self._notes) - 1)]

    def _judge(self) -> list[Segment]:
        """Score the next tick; give the segments that this decides."""
        tick = self._judged
        self._judged += 1
        first, last = self._note(tick - REACH_TICKS - 1), self._note(tick + REACH_TICKS)
        near = range(tick - SILENCE_TICKS, tick + SILENCE_TICKS + 1)
        silent = max(self._note(t).level for t in near) < SILENCE_DBFS or last.frames == first.frames
        scores = np.zeros(1 + len(self.names))  # 0 for nobody, and in silence for everybody
        cosines = None
        if not silent:
            mean = (last.total - first.total) / (last.frames - first.frames)
            with torch.inference_mode():
                cosines = self._voices @ self.model.embed(mean.float())
            scores[1:] = cosines.numpy() - self.threshold
        self._undecided.append(cosines)
        state = self._path.push(scores)
        return [] if state is None else self._decide(state)

    def _decide(self, state: int) -> list[Segment]:
        """Take the path's decision for the oldest undecided tick."""
        cosines = self._undecided.popleft()
        speaker, score = None, 0.0
        if cosines is not None:
            speaker = self.names[state - 1] if state else None
            score = float(cosines[state - 1] if state else cosines.max())
        ended = self._turns.push(speaker, score)
        return [] if ended is None else [ended]
