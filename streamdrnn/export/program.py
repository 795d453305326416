"""Programs for export: a model's step and chunk, with all of its state as tensors that go in and come out by name.

The names are those of :meth:`streamdrnn.state.StreamState.tensors`, so that a stream can go on in an exported program
where a :class:`streamdrnn.StreamingDRNN` left it, and the other way round. Tensors without slots, such as the ring of a
model without fusion, are left out.

TorchScript compiles these modules, if the network is a :class:`DilatedRNN`; the other exporters trace them. A loop over
time that is traced would have as many turns as the example has steps, so it is torch's ``scan`` there, one operator
that takes any length.
"""

from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from streamdrnn.audio.state import AudioState
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.drnn_state import DRNNState
from streamdrnn.heads import Head
from streamdrnn.model_state import ModelState
from streamdrnn.state import tensors_of


class TracedNetwork(nn.Module):
    """A network of any kind, as it is traced.

    Args:
        rnn: the network.
        prefix: of its tensors' names.
    """

    def __init__(self, rnn: Any, prefix: str) -> None:
        super().__init__()
        self.rnn = rnn
        self.prefix = prefix

    def tensors(self, state: Any) -> Dict[str, Tensor]:
        """A state's tensors by name."""
        return {self.prefix + name: tensor for name, tensor in tensors_of(state).items() if _has_slots(tensor)}

    def state(self, tensors: Dict[str, Tensor]) -> Any:
        """The state of which :meth:`tensors` gave the tensors."""
        zero = self.rnn.zero_state(tensors[self.prefix + "cursor"].shape[0])
        values = iter([tensors.get(self.prefix + name, none) for name, none in tensors_of(zero).items()])
        return zero.map(lambda _: next(values))

    def step(self, x: Tensor, state: Any, active: Optional[Tensor]) -> Tuple[Tensor, Any]:
        """``(B, I)`` to ``(B, H)`` of the streams that are active, and the state after it; the given one is not
        written."""
        y, after = self.rnn.chunk(x[None], state, None if active is None else active.long())
        return y[0], after

    def chunk(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> Tuple[Tensor, Any]:
        """``(T, B, I)`` to ``(T, B, H)``, T >= 1, as a ``scan`` of the step."""

        def step(carried: Dict[str, Tensor], xs: List[Tensor]) -> Tuple[Dict[str, Tensor], Tensor]:
            y_t, after = self.step(xs[0], self.state(carried), xs[1] if len(xs) > 1 else None)
            return self.tensors(after), y_t

        xs = [x]
        if lengths is not None:
            xs.append(torch.arange(x.shape[0], device=x.device)[:, None] < lengths)
        carried, y = scan(step, self.tensors(state), xs)
        return y, self.state(carried)


class DilatedNetwork(TracedNetwork):
    """A :class:`DilatedRNN`, as it is traced or compiled by TorchScript."""

    def tensors(self, state: DRNNState) -> Dict[str, Tensor]:
        tensors: Dict[str, Tensor] = {}
        for layer, ring in enumerate(state.h):
            tensors[f"{self.prefix}h.{layer}"] = ring
        for layer, ring in enumerate(state.c):
            tensors[f"{self.prefix}c.{layer}"] = ring
        if state.fusion.shape[0] > 0:
            tensors[self.prefix + "fusion"] = state.fusion
        tensors[self.prefix + "cursor"] = state.cursor
        return tensors

    def state(self, tensors: Dict[str, Tensor]) -> DRNNState:
        zero = self.rnn.zero_state(tensors[self.prefix + "cursor"].shape[0])
        h: List[Tensor] = [tensors[f"{self.prefix}h.{layer}"] for layer in range(len(zero.h))]
        c: List[Tensor] = [tensors[f"{self.prefix}c.{layer}"] for layer in range(len(zero.c))]
        fusion = tensors.get(self.prefix + "fusion", zero.fusion)
        return DRNNState(h, c, fusion, tensors[self.prefix + "cursor"], zero.mark)

    def step(self, x: Tensor, state: DRNNState, active: Optional[Tensor]) -> Tuple[Tensor, DRNNState]:
        after = self.rnn.copy_of(state)
        return self.rnn.step_(x, after, active), after

    def chunk(self, x: Tensor, state: DRNNState, lengths: Optional[Tensor]) -> Tuple[Tensor, DRNNState]:
        if torch.jit.is_scripting():
            y, after = self.rnn.chunk(x, state, lengths)
        else:
            y, after = super().chunk(x, state, lengths)
        return y, after


def _network(rnn: Any, prefix: str) -> TracedNetwork:
    return DilatedNetwork(rnn, prefix) if isinstance(rnn, DilatedRNN) else TracedNetwork(rnn, prefix)


class NetworkProgram(nn.Module):
    """A network; what it takes and gives is time first, whatever its ``batch_first``.

    Args:
        model: the network, computed by backend ``torch``.

    Attributes:
        step_size: I, the features of a step.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.network = _network(model, "")
        self.step_size: int = model.input_size

    @torch.jit.export
    def initial_state(self, batch_size: int) -> Dict[str, Tensor]:
        """The state of ``batch_size`` streams before their first step."""
        return self.network.tensors(self.model.zero_state(batch_size))

    @torch.jit.export
    def step(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """``(B, I)`` to ``(B, H)``, and the state after it; the given one is not written."""
        y, after = self.network.step(x, self.network.state(state), None)
        return y, self.network.tensors(after)

    @torch.jit.export
    def chunk(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """``(T, B, I)`` to ``(T, B, H)``, T >= 1."""
        y, after = self.network.chunk(x, self.network.state(state), None)
        return y, self.network.tensors(after)


class HeadProgram(nn.Module):
    """A head, with its front-end if it has one.

    Args:
        model: the head, computed by backend ``torch``.

    Attributes:
        step_size: I, the features of a step; with a front-end the samples of one, its ``hop_length``.
    """

    def __init__(self, model: Head) -> None:
        super().__init__()
        self.model = model
        self.network = _network(model.rnn, "rnn.")
        self.step_size: int = model.input_size if model.frontend is None else model.frontend.hop_length

    @torch.jit.export
    def initial_state(self, batch_size: int) -> Dict[str, Tensor]:
        """The state of ``batch_size`` streams before their first step."""
        return self._tensors(self.model.zero_state(batch_size))

    @torch.jit.export
    def step(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """``(B, I)``, or with a front-end the next samples ``(B, hop_length)``, to ``(B, ...)``."""
        before = self._state(state)
        audio: Optional[AudioState] = None
        active: Optional[Tensor] = None
        if self.model.frontend is not None:
            features, counts, audio = self._features(x[None], before.audio)
            x, active = features[0], counts > 0
        y, rnn = self.network.step(x, before.rnn, active)
        out, pooled = self.model.read_out(y[None], before.pooled, before.rnn.cursor, rnn.cursor)
        return out[0], self._tensors(ModelState(audio, rnn, pooled))

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
        y, rnn = self.network.chunk(x, before.rnn, lengths)
        out, pooled = self.model.read_out(y, before.pooled, before.rnn.cursor, rnn.cursor)
        return out, self._tensors(ModelState(audio, rnn, pooled))

    def _features(self, x: Tensor, state: Optional[AudioState]) -> Tuple[Tensor, Tensor, AudioState]:
        """The network's inputs ``(T, B, I)`` for samples ``(T, B, hop_length)``, and how many are each stream's own."""
        frontend = self.model.frontend
        assert frontend is not None
        assert state is not None
        samples = x.transpose(1, 2).flatten(0, 1)
        every = torch.full_like(state.filled, samples.shape[0])
        features, counts, state = frontend.chunk(samples, state, every, padded=True)
        return self.model.standardised(features), counts, state

    def _tensors(self, state: ModelState) -> Dict[str, Tensor]:
        tensors: Dict[str, Tensor] = {}
        audio = state.audio
        if audio is not None:
            tensors["audio.tail"], tensors["audio.filled"] = audio.tail, audio.filled
            if audio.history.shape[0] > 0:
                tensors["audio.history"] = audio.history
            tensors["audio.frames"] = audio.frames
        tensors.update(self.network.tensors(state.rnn))
        if state.pooled.shape[0] > 0:
            tensors["pooled"] = state.pooled
        return tensors

    def _state(self, tensors: Dict[str, Tensor]) -> ModelState:
        zero = self.model.zero_state(tensors["rnn.cursor"].shape[0])
        audio = zero.audio
        if audio is not None:
            history = tensors.get("audio.history", audio.history)
            audio = AudioState(tensors["audio.tail"], tensors["audio.filled"], history, tensors["audio.frames"])
        return ModelState(audio, self.network.state(tensors), tensors.get("pooled", zero.pooled))


Program = Union[NetworkProgram, HeadProgram]


def _has_slots(tensor: Tensor) -> bool:
    return tensor.dim() == 1 or 0 not in (tensor.shape[0], *tensor.shape[2:])
