"""The ear: sound of any rate in, ticks out, through one resampler, one pass of each detector and one of the model."""

from statistics import fmean
from typing import Optional

import torch
from torch import Tensor

from streamdrnn import ModelState, SpeakerEmbedder, StreamingDRNN
from streamdrnn.apps.speaker_id.activity import SpeechDetector
from streamdrnn.apps.speaker_id.overlap import OverlapDetector
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, level_dbfs, tick_zero
from streamdrnn.audio import StreamingResampler

_TICK_BLOCKS = 5
_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.005


class Ear:
    """Turns a stream of samples into ticks, in constant memory.

    Everything that decides (:class:`Identifier`, :class:`Enrolment`) takes the ticks of one ear, so that a sample is
    heard once however many listen.

    Args:
        model: the embedder, with its front-end.
        sample_rate: samples per second of what it is given; the model's by default.

    Raises:
        ValueError: the model has no front-end.
    """

    def __init__(self, model: SpeakerEmbedder, sample_rate: Optional[int] = None) -> None:
        if model.frontend is None:
            raise ValueError("model: expected one with a front-end, as it is given samples")
        self._rate_out = model.frontend.sample_rate
        self._rate_in = sample_rate or self._rate_out
        self._resampler = StreamingResampler(self._rate_in, self._rate_out)
        self._stream = StreamingDRNN(model)
        self._speech_detector = SpeechDetector(self._rate_out)
        self._overlap_detector = OverlapDetector(self._rate_out)
        self._block = round(TICK_SECONDS / _TICK_BLOCKS * self._rate_out)
        self._samples_in = self._samples_out = 0  # heard or lost
        self._pending = torch.zeros(0)
        self._blocks: list[Tensor] = []  # of the tick that is under way
        self._passed_over = 0  # of these, before the last loss: the model does not hear them
        self._detected = 0  # of these, what the detectors have heard
        self._speech: list[float] = []  # what the detectors said in it
        self._overlap: list[float] = []
        self._last = tick_zero(model)
        self._total, self._frames = self._last.total, 0  # of the model, ticks without speech included

    @property
    def seconds(self) -> float:
        """How much sound has been heard or lost."""
        return self._samples_in / self._rate_in

    def hear(self, chunk: Chunk) -> list[Tick]:
        """The ticks that a source's chunk, and what was lost before it, complete.

        Raises:
            ValueError: a sample is NaN or infinite; none of them has been heard then.
        """
        return [*(self.skip(chunk.lost) if chunk.lost else ()), *self.push(chunk.samples)]

    def push(self, samples: Tensor) -> list[Tick]:
        """The ticks that these samples ``(N,)`` float32 complete.

        Raises:
            ValueError: a sample is NaN or infinite; none of them has been heard then.
        """
        if not torch.isfinite(samples).all():
            raise ValueError("samples: expected finite values, got NaN or infinity")
        self._samples_in += len(samples)
        return self._hear(self._resampler.push(samples))

    def flush(self) -> list[Tick]:
        """The ticks that are completed by what the resampler still holds; what follows is resampled afresh."""
        rest = self._resampler.flush()[: self._missing]
        self._resampler = StreamingResampler(self._rate_in, self._rate_out)
        return self._hear(rest)

    def skip(self, lost: int) -> list[Tick]:
        """Let the clock go on by samples that were lost, 0 or more; what follows is heard afresh.

        Returns:
            the ticks that the loss completes; in those without one sample nobody speaks.
        """
        ticks = self.flush()  # what the resampler holds belongs before the gap
        self._samples_in += lost
        samples = self._missing
        tick = self._block * _TICK_BLOCKS
        begun = len(self._blocks) * self._block + len(self._pending)
        rest = min(samples, tick - begun if begun else 0)
        ticks += self._hear(torch.zeros(rest))
        self._detect()
        self._stream.reset()
        self._passed_over = len(self._blocks)
        self._speech_detector.reset()
        self._overlap_detector.reset()
        self._total, self._frames = torch.zeros_like(self._total), 0
        whole, rest = divmod(samples - rest, tick)
        if whole:
            self._last = self._last._replace(speech=0.0, level=-120.0, clipped=False, overlap=0.0)
            ticks += [self._last] * whole
            self._samples_out += whole * tick
        return ticks + self._hear(torch.zeros(rest))

    def finish(self) -> list[Tick]:
        """The stream is over: what is left, the tick that is under way included."""
        ticks = self.flush()
        return [*ticks, self._end_tick()] if self._blocks else ticks

    @property
    def _missing(self) -> int:
        """The samples at the model's rate that it has not had yet, by the source's clock: roundings do not add up."""
        return max(0, round(self._samples_in * self._rate_out / self._rate_in) - self._samples_out)

    def _hear(self, samples: Tensor) -> list[Tick]:
        """The ticks that samples at the model's rate complete."""
        self._samples_out += len(samples)
        pending = torch.cat([self._pending, samples])
        whole = len(pending) - len(pending) % self._block
        self._pending = pending[whole:].clone()
        ticks = []
        for block in pending[:whole].split(self._block) if whole else ():
            self._blocks.append(block)
            if len(self._blocks) == _TICK_BLOCKS:
                ticks.append(self._end_tick())
        return ticks

    def _detect(self) -> None:
        """Let the detectors hear what they have not heard yet of the tick that is under way."""
        if unheard := self._blocks[self._detected :]:
            sound = torch.cat(unheard)
            self._speech += self._speech_detector.push(sound)
            self._overlap += self._overlap_detector.push(sound)
        self._detected = len(self._blocks)

    def _end_tick(self) -> Tick:
        # All blocks at once: what a call costs anyway is more than the computing for a block.
        self._detect()
        if unheard := self._blocks[self._passed_over :]:
            self._stream.push(torch.cat(unheard)[:, None])
        self._passed_over = self._detected = 0
        state = self._stream.state
        assert isinstance(state, ModelState)
        samples = torch.cat(self._blocks)
        total, frames = state.pooled[0, 0].clone(), int(state.rnn.cursor[0])
        speech = max(self._speech, default=self._last.speech)
        clipped = float((samples.abs() >= _FULL_SCALE).float().mean()) > _CLIPPED_SHARE
        overlap = fmean(self._overlap) if self._overlap else self._last.overlap
        tick = self._last._replace(speech=speech, level=level_dbfs(samples), clipped=clipped, overlap=overlap)
        if tick.has_speech:
            tick = tick._replace(
                total=tick.total + total - self._total,
                frames=tick.frames + frames - self._frames,
                spoken=tick.spoken + 1,
            )
        self._total, self._frames, self._last = total, frames, tick
        self._blocks.clear()
        self._speech.clear()
        self._overlap.clear()
        return tick
