"""What is exported: a model's step and chunk, with all of its state as tensors that go in and come out by name.

The names are those of :meth:`streamdrnn.state.StreamState.tensors`, so that a stream can go on in an exported program
where a :class:`streamdrnn.StreamingDRNN` left it, and the other way round. What has no slots in a model, such as the
fusion's ring where nothing is fused, is left out.

TorchScript compiles these modules; the other exporters trace them. A loop over time that is traced would have as many
turns as the example has steps, so it is torch's ``scan`` there, one operator that takes any length.
"""

from typing import Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from streamdrnn.audio.state import AudioState
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.drnn_state import DRNNState
from streamdrnn.heads import Head
from streamdrnn.model_state import ModelState


class NetworkProgram(nn.Module):
    """A :class:`DilatedRNN`; what it takes and gives is time first, whatever its ``batch_first``.

    Args:
        model: the network, computed by backend ``torch``.

    Attributes:
        step_size: I, the features of a step.
    """

    def __init__(self, model: DilatedRNN) -> None:
        super().__init__()
        self.model = model
        self.step_size = model.input_size

    @torch.jit.export
    def initial_state(self, batch_size: int) -> Dict[str, Tensor]:
        """The state of ``batch_size`` streams before their first step."""
        return network_tensors(self.model.zero_state(batch_size), "")

    @torch.jit.export
    def step(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """``(B, I)`` to ``(B, H)``, and the state after it; the given one is not written."""
        new = self.model.copy_of(network_state(state, "", self.model.cell, self.model.num_layers))
        y = self.model.step_(x, new)
        return y, network_tensors(new, "")

    @torch.jit.export
    def chunk(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """``(T, B, I)`` to ``(T, B, H)``, T >= 1."""
        before = network_state(state, "", self.model.cell, self.model.num_layers)
        if torch.jit.is_scripting():
            y, new = self.model.chunk(x, before, None)
        else:
            y, new = scanned(self.model, x, before, None)
        return y, network_tensors(new, "")


class HeadProgram(nn.Module):
    """A :class:`Classifier`, :class:`Tagger` or :class:`SpeakerEmbedder`, with its front-end if it has one.

    Args:
        model: the head, computed by backend ``torch``.

    Attributes:
        step_size: I, the features of a step; with a front-end the samples of one, its ``hop_length``.
    """

    def __init__(self, model: Head) -> None:
        super().__init__()
        self.model = model
        self.step_size: int = model.input_size if model.frontend is None else model.frontend.hop_length

    @torch.jit.export
    def initial_state(self, batch_size: int) -> Dict[str, Tensor]:
        """The state of ``batch_size`` streams before their first step."""
        return model_tensors(self.model.zero_state(batch_size))

    @torch.jit.export
    def step(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """``(B, I)``, or with a front-end the next samples ``(B, hop_length)``, to ``(B, ...)``."""
        before = self._state(state)
        audio: Optional[AudioState] = None
        active: Optional[Tensor] = None
        if self.model.frontend is not None:
            features, counts, audio = self._features(x[None], before.audio)
            x, active = features[0], counts > 0
        rnn = self.model.rnn.copy_of(before.rnn)
        y = self.model.rnn.step_(x, rnn, active)
        out, pooled = self.model.read_out(y[None], before.pooled, before.rnn.cursor, rnn.cursor)
        return out[0], model_tensors(ModelState(audio, rnn, pooled))

    @torch.jit.export
    def chunk(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """``(T, B, I)`` to ``(T, B, ...)``, T >= 1; with a front-end the samples are ``(T, B, hop_length)``.

        The outputs are those of T steps, but for where a front-end has not heard its first whole window: a stream's own
        frames come first, and what is left has no new one.
        """
        before = self._state(state)
        audio: Optional[AudioState] = None
        lengths: Optional[Tensor] = None
        if self.model.frontend is not None:
            x, lengths, audio = self._features(x, before.audio)
        if torch.jit.is_scripting():
            y, rnn = self.model.rnn.chunk(x, before.rnn, lengths)
        else:
            y, rnn = scanned(self.model.rnn, x, before.rnn, lengths)
        out, pooled = self.model.read_out(y, before.pooled, before.rnn.cursor, rnn.cursor)
        return out, model_tensors(ModelState(audio, rnn, pooled))

    def _features(self, x: Tensor, state: Optional[AudioState]) -> Tuple[Tensor, Tensor, AudioState]:
        """The network's inputs ``(T, B, I)`` for samples ``(T, B, hop_length)``, and how many are each stream's own."""
        frontend = self.model.frontend
        assert frontend is not None
        assert state is not None
        samples = x.transpose(1, 2).flatten(0, 1)
        every = torch.full_like(state.filled, samples.shape[0])
        features, counts, state = frontend.chunk(samples, state, every, padded=True)
        return self.model.standardised(features), counts, state

    def _state(self, tensors: Dict[str, Tensor]) -> ModelState:
        audio: Optional[AudioState] = None
        if self.model.frontend is not None:
            audio = audio_state(tensors, self.model.rnn.input_size)
        rnn = network_state(tensors, "rnn.", self.model.rnn.cell, self.model.rnn.num_layers)
        pooled = rnn.h[-1][:0].double()
        return ModelState(audio, rnn, tensors.get("pooled", pooled))


Program = Union[NetworkProgram, HeadProgram]


def scanned(rnn: DilatedRNN, x: Tensor, state: DRNNState, lengths: Optional[Tensor]) -> Tuple[Tensor, DRNNState]:
    """:meth:`DilatedRNN.chunk` as a ``scan`` of its step."""

    def step(carried: Dict[str, Tensor], xs: List[Tensor]) -> Tuple[Dict[str, Tensor], Tensor]:
        after = rnn.copy_of(network_state(carried, "", rnn.cell, rnn.num_layers))
        y_t = rnn.step_(xs[0], after, xs[1] if len(xs) > 1 else None)
        return network_tensors(after, ""), y_t

    xs = [x]
    if lengths is not None:
        xs.append(torch.arange(x.shape[0], device=x.device)[:, None] < lengths)
    carried, y = scan(step, network_tensors(state, ""), xs)
    return y, network_state(carried, "", rnn.cell, rnn.num_layers)


def network_tensors(state: DRNNState, prefix: str) -> Dict[str, Tensor]:
    """A network's state by name."""
    tensors: Dict[str, Tensor] = {}
    for layer, ring in enumerate(state.h):
        tensors[f"{prefix}h.{layer}"] = ring
    for layer, ring in enumerate(state.c):
        tensors[f"{prefix}c.{layer}"] = ring
    if state.fusion.shape[0] > 0:
        tensors[prefix + "fusion"] = state.fusion
    tensors[prefix + "cursor"] = state.cursor
    return tensors


def network_state(tensors: Dict[str, Tensor], prefix: str, cell: str, num_layers: int) -> DRNNState:
    """What :func:`network_tensors` named."""
    h: List[Tensor] = []
    c: List[Tensor] = []
    for layer in range(num_layers):
        h.append(tensors[f"{prefix}h.{layer}"])
        if cell == "lstm":
            c.append(tensors[f"{prefix}c.{layer}"])
    fusion = tensors.get(prefix + "fusion", h[-1][:0])
    return DRNNState(cell, h, c, fusion, tensors[prefix + "cursor"])


def model_tensors(state: ModelState) -> Dict[str, Tensor]:
    """A whole model's state by name."""
    tensors: Dict[str, Tensor] = {}
    audio = state.audio
    if audio is not None:
        tensors["audio.tail"], tensors["audio.filled"] = audio.tail, audio.filled
        if audio.history.shape[0] > 0:
            tensors["audio.history"] = audio.history
        tensors["audio.frames"] = audio.frames
    tensors.update(network_tensors(state.rnn, "rnn."))
    if state.pooled.shape[0] > 0:
        tensors["pooled"] = state.pooled
    return tensors


def audio_state(tensors: Dict[str, Tensor], num_features: int) -> AudioState:
    """The front-end's part of what :func:`model_tensors` named."""
    tail, filled, frames = tensors["audio.tail"], tensors["audio.filled"], tensors["audio.frames"]
    history = torch.zeros(0, tail.shape[1], num_features, dtype=tail.dtype, device=tail.device)
    return AudioState(tail, filled, tensors.get("audio.history", history), frames)
