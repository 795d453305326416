"""One pass of the speaker model and the speech detector over a stream, noted every tenth of a second.

The model runs once over every sample. The sum of its outputs, which its state holds, is noted every tick, ticks
without speech left out; the difference of two notes is the mean output over the time between them, so one pass gives
the embedding of every window.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn import ModelState, SpeakerEmbedder, StreamingDRNN
from streamdrnn.apps.speaker_id.activity import SPEECH, SpeechDetector

BLOCK_SECONDS = 0.02
TICK_BLOCKS = 5
TICK_SECONDS = BLOCK_SECONDS * TICK_BLOCKS
_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.005


class Tick(NamedTuple):
    """What is known at the end of a tick.

    Attributes:
        total: the sum of the model's outputs so far, in ticks with speech.
        frames: how many those outputs are.
        spoken: how many ticks with speech there were so far.
        speech: the highest probability of speech in this tick.
        level: this tick's level in dBFS.
        clipped: whether more than a few of its samples are at full scale: it was too loud for the microphone.
    """

    total: Tensor
    frames: int
    spoken: int
    speech: float
    level: float
    clipped: bool

    @property
    def has_speech(self) -> bool:
        """Whether somebody speaks in this tick."""
        return self.speech >= SPEECH


def level_dbfs(samples: Tensor) -> float:
    """The level of some samples in dB relative to a full-scale square wave."""
    power = float(samples.square().mean()) if samples.numel() else 0.0
    return 10 * math.log10(max(power, 1e-12))


def mean_embedding(model: SpeakerEmbedder, first: Tick, last: Tick) -> Tensor:
    """The embedding ``(E,)`` of the speech between two ticks; there must be some."""
    mean = (last.total - first.total) / (last.frames - first.frames)
    with torch.inference_mode():
        return model.embed(mean.float())


class TickStream:
    """Turns a stream of samples into ticks, in constant memory.

    Args:
        model: the embedder, with its front-end.

    Attributes:
        start: the tick before the first.
        samples: how many samples have been heard or skipped.

    Raises:
        ValueError: the model has no front-end.
    """

    def __init__(self, model: SpeakerEmbedder) -> None:
        if model.frontend is None:
            raise ValueError("model: expected one with a front-end, as it is given samples")
        self.sample_rate: int = model.frontend.sample_rate
        self.start = Tick(torch.zeros(model.rnn.hidden_size, dtype=torch.float64), 0, 0, 0.0, -120.0, False)
        self.samples = 0
        self._stream = StreamingDRNN(model)
        self._detector = SpeechDetector(self.sample_rate)
        self._block = round(BLOCK_SECONDS * self.sample_rate)
        self._pending = torch.zeros(0)
        self._blocks: list[Tensor] = []  # of the tick that is under way
        self._passed_over = 0  # of these, before the last loss: the model does not hear them
        self._speech: list[float] = []  # what the detector said in it
        self._last = self.start
        self._total, self._frames = self.start.total, 0  # of the model, ticks without speech included

    def push(self, samples: Tensor) -> list[Tick]:
        """The ticks that these samples ``(N,)``, float32 at the model's rate, complete.

        Raises:
            ValueError: a sample is NaN or infinite; nothing has been heard then.
        """
        if not torch.isfinite(samples).all():
            raise ValueError("samples: expected finite values, got NaN or infinity")
        self.samples += len(samples)
        pending = torch.cat([self._pending, samples])
        whole = len(pending) - len(pending) % self._block
        self._pending = pending[whole:].clone()
        ticks = []
        for block in pending[:whole].split(self._block) if whole else ():
            self._speech += self._detector.push(block)
            self._blocks.append(block)
            if len(self._blocks) == TICK_BLOCKS:
                ticks.append(self._end_tick())
        return ticks

    def skip(self, samples: int) -> list[Tick]:
        """Let the clock go on by samples that were lost: what follows is heard afresh.

        Returns:
            the ticks that the loss completes; in those without one sample nobody speaks.
        """
        tick = self._block * TICK_BLOCKS
        begun = len(self._blocks) * self._block + len(self._pending)
        rest = min(samples, tick - begun if begun else 0)
        ticks = self.push(torch.zeros(rest))
        self._stream.reset()
        self._passed_over = len(self._blocks)
        self._detector.reset()
        self._total, self._frames = self.start.total, 0
        whole, rest = divmod(samples - rest, tick)
        if whole:
            self._last = self._last._replace(speech=0.0, level=-120.0, clipped=False)
            ticks += [self._last] * whole
            self.samples += whole * tick
        return ticks + self.push(torch.zeros(rest))

    def finish(self) -> list[Tick]:
        """The stream is over: the tick that is under way, if there is one."""
        return [self._end_tick()] if self._blocks else []

    def _end_tick(self) -> Tick:
        # All blocks at once: what a call costs anyway is more than the computing for a block.
        if unheard := self._blocks[self._passed_over :]:
            self._stream.push(torch.cat(unheard)[:, None])
        self._passed_over = 0
        state = self._stream.state
        assert isinstance(state, ModelState)
        samples = torch.cat(self._blocks)
        total, frames = state.pooled[0, 0].clone(), int(state.rnn.cursor[0])
        speech = max(self._speech, default=self._last.speech)
        clipped = float((samples.abs() >= _FULL_SCALE).float().mean()) > _CLIPPED_SHARE
        tick = self._last._replace(speech=speech, level=level_dbfs(samples), clipped=clipped)
        if tick.has_speech:
            tick = tick._replace(
                total=tick.total + total - self._total,
                frames=tick.frames + frames - self._frames,
                spoken=tick.spoken + 1,
            )
        self._total, self._frames, self._last = total, frames, tick
        self._blocks.clear()
        self._speech.clear()
        return tick
