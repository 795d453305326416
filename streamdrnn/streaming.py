"""Live streams: one model, B streams, memory that does not grow with time."""

from typing import Any, Optional, Union

import torch
from torch import Tensor

from streamdrnn.checks import check_active, check_lengths, check_like, check_positive, check_tensor
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.drnn_state import DRNNState
from streamdrnn.heads import Head
from streamdrnn.kernels import cpu
from streamdrnn.kernels.rings import steps_made
from streamdrnn.model_state import ModelState
from streamdrnn.state import Streams, batch_dim, stream_indices

State = Union[DRNNState, ModelState]


class StreamingDRNN:
    """Runs a model step by step with the results that it gives in batch.

    It owns the states of B streams, which may be masked, reset, taken out and put back one by one. Inference only:
    no gradients, no dropout (the model is switched to ``eval()``).

    A call that refuses its arguments leaves every stream as it was.

    On the native CPU kernels a step or a chunk is one foreign call for the whole network, on a copy of the weights
    that is made here: after changing the model's weights, make a new one and :meth:`restore` a :meth:`snapshot`.

    Args:
        model: a :class:`DilatedRNN`, :class:`Classifier`, :class:`Tagger` or :class:`SpeakerEmbedder`.
        batch_size: B, the number of streams.

    Raises:
        TypeError: the model is none of these.
        ValueError: ``batch_size`` is below 1.

    Example::

        stream = StreamingDRNN(model, batch_size=2)
        y = stream.step(x_t)                              # (B, I) -> (B, ...)
        y = stream.push(chunk, active=torch.tensor([True, False]))
        stream.reset(1)
    """

    def __init__(self, model: Union[DilatedRNN, Head], batch_size: int = 1) -> None:
        if not isinstance(model, DilatedRNN | Head):
            raise TypeError(f"model: expected a DilatedRNN or one of the heads, got {type(model).__name__}")
        self.model = model.eval()
        self.batch_size = check_positive("batch_size", batch_size)
        self._rnn = model.rnn if isinstance(model, Head) else model
        self._frontend = model.frontend if isinstance(model, Head) else None
        with torch.inference_mode():
            self._state: Any = model.zero_state(batch_size)  # of the model's own kind
            self._native = self._rnn.native_stream(self._rnn_state)
            if isinstance(model, Head):
                no_output_yet = model.output_so_far(model.zero_state(batch_size))
            else:
                no_output_yet = self._rnn_state.h[-1][0]
        # What a step on the native kernels takes as it is; everything else is checked, and if need be refused.
        self._step_shape = torch.Size([batch_size, self._rnn.input_size])
        self._output_shape = no_output_yet.shape
        self._plain = (
            isinstance(self._native, cpu.Stream)
            and model is self._rnn
            and self._rnn.weight_ih_l0.dtype == torch.float32
        )

    @property
    def state(self) -> State:
        """The streams' state as it is now; later steps write into it, so keep a :meth:`snapshot` instead."""
        state: State = self._state
        return state

    @property
    def cursor(self) -> Tensor:
        """``(B,)`` int64, the network's steps that each stream has made since its beginning."""
        return self._rnn_state.cursor.clone()

    @property
    def _rnn_state(self) -> DRNNState:
        state = self.state
        return state.rnn if isinstance(state, ModelState) else state

    def step(self, x_t: Tensor, active: Optional[Tensor] = None, out: Optional[Tensor] = None) -> Tensor:
        """One step.

        Args:
            x_t: ``(B, I)``; for a model with a front-end the next ``(B, hop_length)`` samples.
            active: ``(B,)`` bool, the streams that make it; None is all. The others stay as they are.
            out: where to write the output, no part of ``x_t``; None is a new tensor. With it a network's step on the
                native CPU kernels takes no memory.

        Returns:
            the output ``(B, ...)``. For streams that are not active it is zero from a :class:`DilatedRNN` or
            :class:`Tagger`, and the judgement so far from the other heads.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit, or an active stream's input is not finite.
        """
        if self._plain and active is None and _is_plain(x_t, self._step_shape):
            assert isinstance(self._native, cpu.Stream)
            if out is None:
                y_t = torch.empty(*self._output_shape)
                if self._native.step(x_t.data_ptr(), y_t.data_ptr()):
                    return y_t
            elif _is_plain(out, self._output_shape) and self._native.step(x_t.data_ptr(), out.data_ptr()):
                return out
        if self._frontend is None:
            check_tensor("x_t", x_t, (self.batch_size, self._rnn.input_size), "(B, I)")
        else:
            check_tensor("x_t", x_t, (self.batch_size, self._frontend.hop_length), "(B, hop_length)")
        self._check_input("x_t", x_t, active, stream_dim=0)
        if out is not None:
            check_tensor("out", out, tuple(self._output_shape), "(B, ...)")
            check_like("out", out, self._rnn.weight_ih_l0)
        with torch.inference_mode():
            y_t = self._step(x_t, active)
            return y_t if out is None else out.copy_(y_t)

    def _step(self, x_t: Tensor, active: Optional[Tensor]) -> Tensor:
        y_t: Tensor
        if self._native is not None:
            steps = 1 if self._frontend is None else x_t.shape[1]
            x = x_t[None] if self._frontend is None else x_t.t()
            y, self._state = self._run(x, self._state, _lengths(active, steps))
            if y.shape[0]:
                return y[-1]
            assert isinstance(self.model, Head)  # a step of a network is always one step
            return self.model.output_so_far(self._state)
        if self._frontend is None:
            y_t = self.model.step_(x_t, self._state, active)
        else:
            y_t, self._state = self.model.step(x_t, self._state, active)
        return y_t

    def push(
        self,
        chunk: Tensor,
        active: Optional[Tensor] = None,
        lengths: Optional[Tensor] = None,
        streams: Optional[Streams] = None,
    ) -> Tensor:
        """Several steps at once.

        Args:
            chunk: ``(T, B, I)``, T >= 0 (``(B, T, I)`` for a ``batch_first`` network); for a model with a
                front-end ``(N, B)`` samples, any N.
            active: as for :meth:`step`.
            lengths: ``(B,)`` int64, in place of ``active``: the steps (with a front-end: samples) from the chunk's
                beginning that are each stream's own, 0 to T (or N). What is beyond them is not looked at.
            streams: whose the chunk is, in its order: an index or several, none of them twice. B is then their
                number, here and in the result; the others stay as they are, and cost nothing. None is all.

        Returns:
            the outputs ``(T, B, ...)``; with a front-end T is the number of frames completed, by the stream
            with most of them (see :attr:`cursor`).

        Raises:
            ValueError, TypeError: as :meth:`step`; or both ``active`` and ``lengths`` are given; or an index is
                outside the batch or given twice.
        """
        batch_first = self._rnn.batch_first
        index = None if streams is None else self._distinct(streams)
        B = self.batch_size if index is None else len(index)
        if self._frontend is not None:
            check_tensor("chunk", chunk, (None, B), "(N, B)")
        elif batch_first:
            check_tensor("chunk", chunk, (B, None, self._rnn.input_size), "(B, T, I)")
        else:
            check_tensor("chunk", chunk, (None, B, self._rnn.input_size), "(T, B, I)")
        T = chunk.shape[1 if batch_first else 0]
        if lengths is not None:
            if active is not None:
                raise ValueError("active, lengths: got both, expected one of them")
            check_lengths(lengths, T, B)
            if bool((lengths == T).all()):
                lengths = None  # what most live streams send needs no masks
        if lengths is None:
            self._check_input("chunk", chunk, active, stream_dim=0 if batch_first else 1)
            lengths = _lengths(active, T)
        else:
            own = steps_made(T, lengths)  # (T, B, 1)
            own = own[:, :, 0] if self._frontend is not None else own.transpose(0, 1) if batch_first else own
            chunk = chunk.masked_fill(~own, 0)
            self._check_input("chunk", chunk, None, stream_dim=1)
        with torch.inference_mode():
            if index is None:
                y, self._state = self._chunk(chunk, self._state, lengths)
                return y
            y, after = self._chunk(chunk, self._state.select(index), lengths)
            self._put(after, index)
            return y

    def _chunk(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> tuple[Tensor, Any]:
        """A chunk, and the state after it; on the native kernels that is the given one, written in place."""
        y: Tensor
        if self._native is None:
            y, state = self.model(x, state, lengths)
            return y, state
        batch_first = self._rnn.batch_first
        y, state = self._run(x.transpose(0, 1) if batch_first else x, state, lengths)
        return y.transpose(0, 1) if batch_first else y, state

    def _run(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> tuple[Tensor, Any]:
        """:meth:`_chunk` on the native kernels, for x that has time first."""
        if not isinstance(self.model, Head):
            return self._advance(x, state, lengths).to(x.dtype), state
        x, lengths, audio = self.model.features(x, state.audio, lengths)
        before = state.rnn.cursor.clone()
        y = self._advance(x, state.rnn, lengths).to(x.dtype)
        out, pooled = self.model.read_out(y, state.pooled, before, state.rnn.cursor)
        return out, ModelState(audio, state.rnn, pooled)

    def _advance(self, x: Tensor, state: DRNNState, lengths: Optional[Tensor]) -> Tensor:
        """The network over a chunk ``(T, B, I)``, writing the state in place; y is ``(T, B, H)``."""
        assert self._native is not None
        bound = state is self._rnn_state
        if isinstance(self._native, cpu.Stream):
            if bound:
                return self._native.run(x, lengths)
            self._bind(state)
            try:
                return self._native.run(x, lengths)
            finally:
                self._bind(self._rnn_state)
        if x.shape[0] == 1 and bound:
            return self._native.step(x[0], None if lengths is None else lengths > 0)[None]
        # A GPU computes the phases of a chunk side by side; its steps are for what comes step by step.
        y, after = self._rnn.chunk(x, state, lengths)
        for name, tensor in state.tensors().items():
            tensor.copy_(after.tensors()[name])
        return y

    def _bind(self, state: DRNNState) -> None:
        if self._native is not None:
            self._native.bind(state.h, state.c, state.fusion, state.cursor)

    def _put(self, state: State, index: Tensor) -> None:
        """Write some streams' state over theirs."""
        written = state.tensors()
        for name, tensor in self._state.tensors().items():
            tensor.index_copy_(batch_dim(tensor), index.to(tensor.device), written[name])

    def _distinct(self, streams: Streams) -> Tensor:
        """The streams asked for, as indices, each at most once."""
        index = stream_indices(streams, self.batch_size)
        if len(index.unique()) != len(index):
            raise ValueError(f"streams: got {index.tolist()}, expected each at most once")
        return index

    def reset(self, streams: Optional[Streams] = None) -> None:
        """Put some streams (all by default) back at their beginning.

        Args:
            streams: an index, several, or a ``(B,)`` bool mask.

        Raises:
            ValueError: an index is outside the batch.
        """
        index = stream_indices(range(self.batch_size) if streams is None else streams, self.batch_size)
        with torch.inference_mode():
            for tensor in self._state.tensors().values():
                tensor.index_fill_(batch_dim(tensor), index.to(tensor.device), 0)

    def snapshot(self, streams: Optional[Streams] = None) -> State:
        """A copy of the streams' state; ``select``, ``stack`` and ``save`` work on it.

        Args:
            streams: as for :meth:`reset`; the copy holds them in the order asked for, and costs what they do.

        Raises:
            ValueError: an index is outside the batch.
        """
        return self.state.clone() if streams is None else self.state.select(streams)

    def restore(self, snapshot: State, streams: Optional[Streams] = None) -> None:
        """Continue from a snapshot, of this or another :class:`StreamingDRNN` of the same model.

        Args:
            snapshot: as many streams as are restored.
            streams: which, in the snapshot's order; an index or several, none of them twice. None is all, and the
                others stay as they are.

        Raises:
            TypeError: it is no state of this kind of model.
            ValueError: it is for other sizes, another dtype or device, or another number of streams, or not finite;
                or an index is outside the batch or given twice.
        """
        if type(snapshot) is not type(self._state):
            expected, got = type(self._state).__name__, type(snapshot).__name__
            raise TypeError(f"snapshot: expected a {expected}, got {got}")
        problem = self._state.mismatch(snapshot)
        if problem:
            raise ValueError(f"snapshot: of another model: {problem}")
        index = self._distinct(range(self.batch_size) if streams is None else streams)
        if snapshot.batch_size != len(index):
            raise ValueError(f"snapshot: holds {snapshot.batch_size} streams, expected {len(index)}")
        snapshot.check()
        if not all(bool(tensor.isfinite().all()) for tensor in snapshot.tensors().values()):
            raise ValueError("snapshot: expected finite values, got NaN or infinity")
        with torch.inference_mode():
            if streams is not None:
                self._put(snapshot, index)
                return
            self._state = snapshot.map(lambda t: t.resolve_neg().clone(memory_format=torch.contiguous_format))
            self._bind(self._rnn_state)

    def _check_input(self, name: str, x: Tensor, active: Optional[Tensor], stream_dim: int) -> None:
        check_like(name, x, self._rnn.weight_ih_l0, any_float=self._frontend is not None)
        if active is not None:
            check_active(active, x.shape[stream_dim])
        # A NaN would stay in the stream's rings for ever. Looking for one on a GPU would stall it at every step.
        if x.device.type == "cpu" and not torch.isfinite(x).all():
            heard = x if active is None else x.index_select(stream_dim, active.nonzero().flatten())
            if not torch.isfinite(heard).all():
                raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def _is_plain(tensor: Tensor, shape: torch.Size) -> bool:
    """Whether the native kernels can take a tensor as it is."""
    return (
        isinstance(tensor, Tensor)
        and tensor.shape == shape
        and tensor.dtype is torch.float32
        and tensor.is_cpu
        and tensor.is_contiguous()
        and not tensor.is_neg()
    )


def _lengths(active: Optional[Tensor], steps: int) -> Optional[Tensor]:
    return None if active is None else active.long() * steps
