"""Heads turn a network's outputs into results: one label per sequence, one per step, or a voice's embedding.

Every head maps a sequence to a sequence, so that it streams as the network below it does. Those that judge a
whole sequence give their judgement so far at every step: the last output is that of the sequence, also where
``lengths`` end some streams early. With a front-end a head takes audio.
"""

from typing import Any, Optional, Tuple

import torch
from torch import Tensor, nn

from streamdrnn import kernels
from streamdrnn.audio.frontends import FrontEnd
from streamdrnn.audio.state import AudioState
from streamdrnn.checks import check_positive, check_tensor
from streamdrnn.kernels.rings import steps_made
from streamdrnn.model_state import ModelState
from streamdrnn.network import Network, check_chunk, check_network, check_state, check_step, is_plain, parameter_of
from streamdrnn.pooling import running_last, running_mean
from streamdrnn.state import carried_dtype, traceable


def like(network: Any) -> dict[str, Any]:
    """The device and dtype of a network's parameters, as constructors take them."""
    parameter = parameter_of(network)
    return {"device": parameter.device, "dtype": parameter.dtype}


HEADS: dict[str, type["Head"]] = {}
"""The kinds of heads by name, as model files have it."""


class Head(nn.Module):
    """A front-end (or none), a network, and what is read out of its top layer, all of one dtype on one device.

    Args:
        rnn: the network: a :class:`DilatedRNN`, time first, or one of another kind, see :mod:`streamdrnn.network`.
        frontend: what turns samples into the network's inputs; without one the inputs are given.
        pool_slots: 1 if the head carries a summary of the sequence, else 0.

    Attributes:
        feature_mean: ``(I,)``, subtracted from the front-end's features; 0 at first.
        feature_std: ``(I,)``, by which they are then divided; 1 at first.

    Raises:
        ValueError: the network's inputs are not the front-end's features, or it is ``batch_first``.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init_subclass__(cls) -> None:
        HEADS.setdefault(cls.__name__, cls)

    def __init__(self, rnn: Network, frontend: Optional[FrontEnd] = None, pool_slots: int = 1) -> None:
        super().__init__()
        check_network("rnn", rnn)
        if getattr(rnn, "batch_first", False):
            raise ValueError("rnn: heads are time first, expected batch_first=False")
        if frontend is not None and frontend.num_features != rnn.input_size:
            raise ValueError(
                f"rnn: input_size is {rnn.input_size}, expected the front-end's {frontend.num_features} features"
            )
        self.rnn: Any = rnn
        self.frontend = frontend
        self.input_size = rnn.input_size
        self._pool_slots = pool_slots
        self.register_buffer("feature_mean", torch.zeros(rnn.input_size, **like(rnn)))
        self.register_buffer("feature_std", torch.ones(rnn.input_size, **like(rnn)))

    def config(self) -> dict[str, object]:
        """The constructor's arguments, the parts as their own configurations."""
        frontend = self.frontend
        described = None if frontend is None else {"kind": type(frontend).__name__, **frontend.config()}
        return {"rnn": {"kind": type(self.rnn).__name__, **self.rnn.config()}, "frontend": described}

    @torch.jit.export
    def zero_state(
        self,
        batch_size: int,
        device: Optional[torch.device] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> ModelState:
        """The state of ``batch_size`` streams before their first step; arguments as for :class:`DilatedRNN`."""
        rnn = self.rnn.zero_state(batch_size, device, dtype)
        pooled = torch.zeros(
            self._pool_slots, batch_size, self.rnn.hidden_size, dtype=torch.float64, device=rnn.cursor.device
        )
        if self.frontend is not None:
            kind = carried_dtype(self.feature_mean.dtype if dtype is None else dtype)
            return ModelState(self.frontend.zero_state(batch_size, rnn.cursor.device, kind), rnn, pooled)
        return ModelState(None, rnn, pooled)

    def forward(
        self, x: Tensor, state: Optional[ModelState] = None, lengths: Optional[Tensor] = None
    ) -> Tuple[Tensor, ModelState]:
        """A chunk of B sequences.

        Args:
            x: ``(T, B, I)``; with a front-end ``(N, B)`` samples of any floating point dtype.
            state: where the sequences stand; None is their beginning. It is not written.
            lengths: ``(B,)`` int64, the steps (with a front-end: samples) that are each stream's own, if not all.

        Returns:
            one output per step and stream, ``(T, B, ...)``, and the state after the chunk. With a front-end T is
            the number of frames that the stream with most of them completed; ``state.rnn.cursor`` counts each's.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        if not torch.jit.is_scripting():
            x = self._checked(x, state, lengths)
        if state is None:
            state = self.zero_state(x.shape[1], x.device, self.feature_mean.dtype)
        x, lengths, audio = self.features(x, state.audio, lengths)
        y, rnn = self.rnn(x, state.rnn, lengths)
        out, pooled = self.read_out(y, state.pooled, state.rnn.cursor, rnn.cursor)
        state = ModelState(audio, rnn, pooled)
        if not torch.jit.is_scripting():
            state = traceable(state)
        return out, state

    def features(
        self, x: Tensor, audio: Optional[AudioState], lengths: Optional[Tensor]
    ) -> Tuple[Tensor, Optional[Tensor], Optional[AudioState]]:
        """The network's inputs for the arguments of :meth:`forward`: x itself where there is no front-end.

        Returns:
            the network's x ``(T, B, I)``, its lengths, and the front-end's state after the chunk.
        """
        if self.frontend is not None:
            if x.is_floating_point():
                x = x.to(carried_dtype(self.feature_mean.dtype))
            x, lengths, audio = self.frontend(x, audio, lengths)
            x = self.standardised(x)
        return x, lengths, audio

    def standardised(self, features: Tensor) -> Tensor:
        """A front-end's features as the network takes them."""
        return ((features - self.feature_mean) / self.feature_std).to(self.feature_mean.dtype)

    @torch.jit.export
    def step(self, x_t: Tensor, state: ModelState, active: Optional[Tensor] = None) -> Tuple[Tensor, ModelState]:
        """One step of B sequences; the given state is not written.

        Args:
            x_t: ``(B, I)``; with a front-end the next ``(B, hop_length)`` samples.
            state: where the sequences stand.
            active: ``(B,)`` bool, the streams that make the step; None is all.

        Returns:
            the output ``(B, ...)`` and the state after the step. While a front-end has not heard its first whole
            window it is the output before any step.
        """
        if self.frontend is None:
            if not torch.jit.is_scripting():
                check_state(self, state, x_t.shape[0])
                x_t = check_step(self.rnn, x_t, state.rnn, active)
            y, rnn = self.rnn.step(x_t, state.rnn, active)
            out, pooled = self.read_out(y[None], state.pooled, state.rnn.cursor, rnn.cursor)
            return out[0], ModelState(None, rnn, pooled)
        lengths: Optional[Tensor] = None
        if active is not None:
            lengths = active.long() * x_t.shape[1]
        y, state = self.forward(x_t.t(), state, lengths)
        if y.shape[0] == 0:
            return self.output_so_far(state), state
        return y[-1], state

    @torch.jit.export
    def output_so_far(self, state: ModelState) -> Tensor:
        """The output ``(B, ...)`` that the steps made so far lead to; what a stream would hear without a new step."""
        none = torch.zeros_like(state.rnn.cursor)
        top = torch.zeros(1, none.shape[0], self.rnn.hidden_size, dtype=self.feature_mean.dtype, device=none.device)
        return self.read_out(top, state.pooled, state.rnn.cursor, state.rnn.cursor)[0][0]

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        """The outputs for the network's ``y`` ``(T, B, H)``, and the new summary, between two cursors."""
        raise NotImplementedError

    @torch.jit.unused
    def _output(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A layer above the network. One that is a linear map and no more is computed as the network's products are."""
        if type(layer) is nn.Linear and is_plain(layer, nn.Linear, "forward"):
            return kernels.resolve(self.rnn.backend, x).linear(x, layer.weight, layer.bias)
        y: Tensor = layer(x)
        return y

    @torch.jit.unused
    def _checked(self, x: Tensor, state: Optional[ModelState], lengths: Optional[Tensor]) -> Tensor:
        if state is not None:
            check_state(self, state, x.shape[1])
        if self.frontend is None:
            return check_chunk(self.rnn, x, None, lengths)
        check_tensor("x", x, (None, None), "(N, B)")
        return x


class Tagger(Head):
    """One output per step: ``(T, B, I) -> (T, B, num_outputs)``, zero where a stream made no step.

    Args:
        rnn, frontend: see :class:`Head`.
        num_outputs: the size of each output, for instance the number of classes.
    """

    def __init__(self, rnn: Network, num_outputs: int, frontend: Optional[FrontEnd] = None) -> None:
        super().__init__(rnn, frontend, pool_slots=0)
        self.num_outputs = check_positive("num_outputs", num_outputs)
        self.output = nn.Linear(rnn.hidden_size, num_outputs, **like(rnn))

    def config(self) -> dict[str, object]:
        return {**super().config(), "num_outputs": self.num_outputs}

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        out = self.output(y) if torch.jit.is_scripting() else self._output(self.output, y)
        return torch.where(steps_made(y.shape[0], after - before), out, 0.0), pooled


class Classifier(Head):
    """One label per sequence: ``(T, B, I) -> (T, B, num_classes)`` logits, each judging the steps so far.

    Args:
        rnn, frontend: see :class:`Head`.
        num_classes: the number of labels.
        pool: ``"last"`` judges by the latest output of the network, ``"mean"`` by the mean of all so far.

    Raises:
        ValueError: ``pool`` is neither.
    """

    def __init__(self, rnn: Network, num_classes: int, pool: str = "last", frontend: Optional[FrontEnd] = None) -> None:
        super().__init__(rnn, frontend)
        if pool not in ("last", "mean"):
            raise ValueError(f"pool: got {pool!r}, expected 'last' or 'mean'")
        self.num_classes = check_positive("num_classes", num_classes)
        self.pool = pool
        self.output = nn.Linear(rnn.hidden_size, num_classes, **like(rnn))

    def config(self) -> dict[str, object]:
        return {**super().config(), "num_classes": self.num_classes, "pool": self.pool}

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        if self.pool == "mean":
            summary, pooled = running_mean(y, pooled, before, after)
        else:
            summary, pooled = running_last(y, pooled, before, after)
        if torch.jit.is_scripting():
            return self.output(summary), pooled
        else:
            return self._output(self.output, summary), pooled


def unit_length(x: Tensor) -> Tensor:
    """Vectors ``(..., M)`` divided by their lengths.

    The squares are added one after the other, in float64: the native runtime adds them in the same way.
    """
    wide = x.double()
    squares = wide.square().cumsum(-1)[..., -1:]
    return (wide / squares.clamp(min=1e-24).sqrt()).to(x.dtype)


class SpeakerEmbedder(Head):
    """A voice as a point on the unit sphere: ``(T, B, I) -> (T, B, embedding_size)``, from the mean output so far.

    Voices are compared by the cosine of their embeddings, which is their dot product.

    Args:
        rnn, frontend: see :class:`Head`.
        embedding_size: the dimensions of the sphere's space.
    """

    def __init__(self, rnn: Network, embedding_size: int, frontend: Optional[FrontEnd] = None) -> None:
        super().__init__(rnn, frontend)
        self.embedding_size = check_positive("embedding_size", embedding_size)
        self.projection = nn.Linear(rnn.hidden_size, embedding_size, **like(rnn))

    def config(self) -> dict[str, object]:
        return {**super().config(), "embedding_size": self.embedding_size}

    @torch.jit.export
    def embed(self, mean: Tensor) -> Tensor:
        """The embedding ``(..., embedding_size)`` of a mean top output ``(..., H)``."""
        if torch.jit.is_scripting():
            return unit_length(self.projection(mean))
        else:
            return unit_length(self._output(self.projection, mean))

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        mean, pooled = running_mean(y, pooled, before, after)
        return self.embed(mean), pooled
