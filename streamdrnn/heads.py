"""What a network's outputs are used for: one label per sequence, one per step, or a voice's embedding.

Every head maps a sequence to a sequence, so that it streams as the network below it does. Those that judge a
whole sequence give their judgement so far at every step: the last output is that of the sequence, also where
``lengths`` end some streams early. With a front-end a head takes audio.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdrnn import kernels
from streamdrnn.audio.frontends import FrontEnd
from streamdrnn.audio.state import AudioState
from streamdrnn.checks import check_like, check_positive, check_tensor
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.kernels.rings import steps_made
from streamdrnn.model_state import ModelState
from streamdrnn.pooling import running_last, running_mean


class Head(nn.Module):
    """A front-end (or none), a :class:`DilatedRNN`, and what is read out of its top layer.

    Args:
        rnn: the network, time first.
        frontend: what turns samples into the network's inputs; without one the inputs are given.
        pool_slots: 1 if the head carries a summary of the sequence, else 0.

    Attributes:
        feature_mean, feature_std: ``(I,)``, by which the front-end's features are standardised; 0 and 1 at first.

    Raises:
        ValueError: the network's inputs are not the front-end's features, or it is ``batch_first``.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, rnn: DilatedRNN, frontend: Optional[FrontEnd] = None, pool_slots: int = 1) -> None:
        super().__init__()
        if not isinstance(rnn, DilatedRNN):
            raise TypeError(f"rnn: expected a DilatedRNN, got {type(rnn).__name__}")
        if rnn.batch_first:
            raise ValueError("rnn: heads are time first, expected batch_first=False")
        if frontend is not None and frontend.num_features != rnn.input_size:
            raise ValueError(
                f"rnn: input_size is {rnn.input_size}, expected the front-end's {frontend.num_features} features"
            )
        self.rnn = rnn
        self.frontend = frontend
        self.input_size = rnn.input_size
        self._pool_slots = pool_slots
        self.register_buffer("feature_mean", torch.zeros(rnn.input_size))
        self.register_buffer("feature_std", torch.ones(rnn.input_size))

    def config(self) -> dict[str, object]:
        """The constructor's arguments, the parts as their own configurations."""
        frontend = self.frontend
        described = None if frontend is None else {"kind": type(frontend).__name__, **frontend.config()}
        return {"rnn": self.rnn.config(), "frontend": described}

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
            return ModelState(self.frontend.zero_state(batch_size, rnn.cursor.device, rnn.fusion.dtype), rnn, pooled)
        return ModelState(None, rnn, pooled)

    def forward(
        self, x: Tensor, state: Optional[ModelState] = None, lengths: Optional[Tensor] = None
    ) -> Tuple[Tensor, ModelState]:
        """A chunk of B sequences.

        Args:
            x: ``(T, B, I)``; with a front-end ``(N, B)`` samples.
            state: where the sequences stand; None is their beginning. It is not written.
            lengths: ``(B,)`` int64, the steps (with a front-end: samples) that are each stream's own, if not all.

        Returns:
            one output per step and stream, ``(T, B, ...)``, and the state after the chunk. With a front-end T is
            the number of frames that the stream with most of them completed; ``state.rnn.cursor`` counts each's.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        if not torch.jit.is_scripting():
            self._check_chunk(x, state, lengths)
        if state is None:
            state = self.zero_state(x.shape[1], x.device, self.feature_mean.dtype)
        x, lengths, audio = self.features(x, state.audio, lengths)
        y, rnn = self.rnn(x, state.rnn, lengths)
        out, pooled = self.read_out(y, state.pooled, state.rnn.cursor, rnn.cursor)
        return out, ModelState(audio, rnn, pooled)

    def features(
        self, x: Tensor, audio: Optional[AudioState], lengths: Optional[Tensor]
    ) -> Tuple[Tensor, Optional[Tensor], Optional[AudioState]]:
        """What the network is given, for the arguments of :meth:`forward`: x itself where there is no front-end.

        Returns:
            the network's x ``(T, B, I)``, its lengths, and the front-end's state after the chunk.
        """
        if self.frontend is not None:
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
                check_tensor("x_t", x_t, (None, self.input_size), "(B, I)")
                self._check_state(state, x_t.shape[0])
                self.rnn.check_step(x_t, state.rnn, active)
            rnn = self.rnn.copy_of(state.rnn)
            state = ModelState(None, rnn, state.pooled.clone())
            return self.step_(x_t, state, active), state
        lengths: Optional[Tensor] = None
        if active is not None:
            lengths = active.long() * x_t.shape[1]
        y, state = self.forward(x_t.t(), state, lengths)
        if y.shape[0] == 0:
            return self.output_so_far(state), state
        return y[-1], state

    @torch.jit.export
    def step_(self, x_t: Tensor, state: ModelState, active: Optional[Tensor] = None) -> Tensor:
        """:meth:`step` of a head without a front-end, without checks and copies: ``state`` is written in place."""
        y, h, c, top = self.rnn.next_states(x_t, state.rnn, active)
        before = state.rnn.cursor
        after = before + 1 if active is None else before + active.long()
        out, pooled = self.read_out(y[None], state.pooled, before, after)
        self.rnn.write_states(state.rnn, h, c, top, active)
        state.pooled.copy_(pooled)
        return out[0]

    @torch.jit.export
    def output_so_far(self, state: ModelState) -> Tensor:
        """The output ``(B, ...)`` that the steps made so far lead to; what a stream would hear without a new step."""
        none = torch.zeros_like(state.rnn.cursor)
        top = torch.zeros(1, none.shape[0], self.rnn.hidden_size, dtype=self.feature_mean.dtype, device=none.device)
        return self.read_out(top, state.pooled, state.rnn.cursor, state.rnn.cursor)[0][0]

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        """The outputs for the network's ``y`` ``(T, B, H)``, and the new summary, between two cursors."""
        raise NotImplementedError

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return functional.linear(x, weight, bias)
        else:
            return kernels.linear(x, weight, bias, self.rnn.backend)

    @torch.jit.unused
    def _check_chunk(self, x: Tensor, state: Optional[ModelState], lengths: Optional[Tensor]) -> None:
        if self.frontend is None:
            self.rnn.check_chunk(x, None, lengths)
        else:
            check_tensor("x", x, (None, None), "(N, B)")
        if state is not None:
            self._check_state(state, x.shape[1])

    @torch.jit.unused
    def _check_state(self, state: ModelState, batch_size: int) -> None:
        # Not only a ModelState: what TorchScript returns is a named tuple of a type of its own.
        if not hasattr(state, "pooled"):
            raise TypeError(f"state: expected a ModelState, got {type(state).__name__}")
        self.rnn.check_state(state.rnn, batch_size)
        pooled = (self._pool_slots, batch_size, self.rnn.hidden_size)
        check_tensor("state.pooled", state.pooled, pooled, "(slots, B, H)")
        check_like("state.pooled", state.pooled, state.rnn.fusion, any_float=True)
        if (state.audio is None) != (self.frontend is None):
            expected = "None" if self.frontend is None else "the front-end's"
            raise ValueError(f"state.audio: expected {expected}, got {type(state.audio).__name__}")


class Tagger(Head):
    """One output per step: ``(T, B, I) -> (T, B, num_outputs)``, zero where a stream made no step.

    Args:
        rnn, frontend: see :class:`Head`.
        num_outputs: the size of each output, for instance the number of classes.
    """

    def __init__(self, rnn: DilatedRNN, num_outputs: int, frontend: Optional[FrontEnd] = None) -> None:
        super().__init__(rnn, frontend, pool_slots=0)
        self.num_outputs = check_positive("num_outputs", num_outputs)
        self.output = nn.Linear(rnn.hidden_size, num_outputs)

    def config(self) -> dict[str, object]:
        return {**super().config(), "num_outputs": self.num_outputs}

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        return torch.where(
            steps_made(y.shape[0], after - before), self._linear(y, self.output.weight, self.output.bias), 0.0
        ), pooled


class Classifier(Head):
    """One label per sequence: ``(T, B, I) -> (T, B, num_classes)`` logits, each judging the steps so far.

    Args:
        rnn, frontend: see :class:`Head`.
        num_classes: the number of labels.
        pool: ``"last"`` judges by the latest output of the network, ``"mean"`` by the mean of all so far.

    Raises:
        ValueError: ``pool`` is neither.
    """

    def __init__(
        self, rnn: DilatedRNN, num_classes: int, pool: str = "last", frontend: Optional[FrontEnd] = None
    ) -> None:
        super().__init__(rnn, frontend)
        if pool not in ("last", "mean"):
            raise ValueError(f"pool: got {pool!r}, expected 'last' or 'mean'")
        self.num_classes = check_positive("num_classes", num_classes)
        self.pool = pool
        self.output = nn.Linear(rnn.hidden_size, num_classes)

    def config(self) -> dict[str, object]:
        return {**super().config(), "num_classes": self.num_classes, "pool": self.pool}

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        if self.pool == "mean":
            summary, pooled = running_mean(y, pooled, before, after)
        else:
            summary, pooled = running_last(y, pooled, before, after)
        return self._linear(summary, self.output.weight, self.output.bias), pooled


class SpeakerEmbedder(Head):
    """A voice as a point on the unit sphere: ``(T, B, I) -> (T, B, embedding_size)``, from the mean output so far.

    Voices are compared by the cosine of their embeddings, which is their dot product.

    Args:
        rnn, frontend: see :class:`Head`.
        embedding_size: the dimensions of the sphere's space.
    """

    def __init__(self, rnn: DilatedRNN, embedding_size: int, frontend: Optional[FrontEnd] = None) -> None:
        super().__init__(rnn, frontend)
        self.embedding_size = check_positive("embedding_size", embedding_size)
        self.projection = nn.Linear(rnn.hidden_size, embedding_size)

    def config(self) -> dict[str, object]:
        return {**super().config(), "embedding_size": self.embedding_size}

    @torch.jit.export
    def embed(self, mean: Tensor) -> Tensor:
        """The embedding ``(..., embedding_size)`` of a mean top output ``(..., H)``."""
        return functional.normalize(self._linear(mean, self.projection.weight, self.projection.bias), dim=-1)

    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> Tuple[Tensor, Tensor]:
        mean, pooled = running_mean(y, pooled, before, after)
        return self.embed(mean), pooled
