"""Live streams: one model, B streams, memory that does not grow with time."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from threading import RLock
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from streamdrnn.checks import check_active, check_lengths, check_like, check_positive, check_tensor
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.drnn_state import DRNNState
from streamdrnn.heads import Head
from streamdrnn.kernels import Stream
from streamdrnn.kernels.operators import traced
from streamdrnn.kernels.rings import steps_made
from streamdrnn.model_state import ModelState
from streamdrnn.network import Network, check_network, is_plain, like_parameters, parameter_of
from streamdrnn.state import Streams, StreamState, batch_dim, carried_dtype, check_fits, stream_indices

State = Union[DRNNState, ModelState]


class StreamingDRNN:
    """Runs a model step by step with the results that it gives in batch.

    It owns the states of B streams, which may be masked, reset, taken out and put back one by one. Inference only:
    no gradients, no dropout (the model is switched to ``eval()``; the user's own modules in it are so again for the
    duration of each call).

    A call that refuses its arguments leaves every stream as it was. Several threads may share one object: their calls
    are made one after the other. It can be copied and pickled, with its model and state.

    On the native kernels a step or a chunk is one call for the whole network, on a copy of the weights. If these change
    (an optimizer's step, ``load_state_dict``), the next call takes them anew and goes on from the same state; a
    :meth:`step` of a network without a head looks at one parameter in turn, so that a change of a single one may be
    noticed later by as many steps as there are parameters. Changes through ``.data``, and of weights
    that were made in inference mode, cannot be seen.

    A model with hooks or with a ``forward`` of its own is called as it is, for every step or chunk.

    Args:
        model: a :class:`DilatedRNN` or another network (:mod:`streamdrnn.network`), or a head: :class:`Classifier`,
            :class:`Tagger` or :class:`SpeakerEmbedder`.
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

    def __init__(self, model: Union[Network, Head], batch_size: int = 1) -> None:
        if not isinstance(model, Head):
            check_network("model", model)
        assert isinstance(model, nn.Module)
        self.model: Any = model.eval()
        self.batch_size = check_positive("batch_size", batch_size)
        self._rnn: Any = model.rnn if isinstance(model, Head) else model
        self._frontend = model.frontend if isinstance(model, Head) else None
        self._batch_first = getattr(self._rnn, "batch_first", False)
        self._lock = RLock()
        with torch.inference_mode(False), torch.no_grad():
            self._state: Any = self.model.zero_state(batch_size)  # of the model's own kind
            self._renew()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"model": self.model, "batch_size": self.batch_size, "state": self._state}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__init__(content["model"], content["batch_size"])  # type: ignore[misc]
        self.restore(content["state"])

    def __deepcopy__(self, memo: dict[int, Any]) -> "StreamingDRNN":
        other = StreamingDRNN(copy.deepcopy(self.model, memo), self.batch_size)
        other.restore(self.snapshot())
        return other

    def _renew(self) -> None:
        """Take the network's weights as they are now.

        Raises:
            ValueError, TypeError: they fit neither one another nor the state; then all stays as it was.
        """
        rnn, plain = self._rnn, self._is_plain()
        weight = parameter_of(rnn)
        carried = next(t.dtype for t in self._rnn_state.tensors().values() if t.is_floating_point())
        if carried_dtype(weight.dtype) != carried:
            raise ValueError(f"model: its dtype is {weight.dtype} now, and the streams' {carried}; make a new stream")
        stream: Stream = rnn.stream(self.batch_size) if plain else _CalledStream(rnn)
        stream.bind(self._rnn_state)
        self._stream, self._plain = stream, plain
        self._parts = list(rnn.modules())
        self._ids = self._identities()
        self._weights = [
            (own, name, t, t._version, t.data_ptr())
            for part in self._parts
            for own in (part._parameters, part._buffers)
            for name, t in own.items()
            if t is not None and not t.is_inference()
        ]
        # A network's step that needs no conversion is made without any further look at it.
        self._at_once = plain and rnn is self.model and weight.dtype == torch.float32 and weight.is_cpu
        # It never changes: for where all weights are inference tensors.
        still = torch.empty(0, device="cpu", dtype=torch.float32)
        self._turns = cycle(self._weights or [({"": still}, "", still, still._version, still.data_ptr())])
        self._before, self._after, self._own = rnn._forward_pre_hooks, rnn._forward_hooks, rnn.__dict__

    def _changed(self) -> bool:
        """Whether the network is another one than that of the copied weights."""
        return (
            any(t._version != version or t.data_ptr() != at for _, _, t, version, at in self._weights)
            or self._identities() != self._ids
            or self._is_plain() != self._plain
        )

    def _is_plain(self) -> bool:
        """Whether the network may be computed without calling it."""
        return is_plain(self._rnn, DilatedRNN, "forward", "chunk")

    def _identities(self) -> list[int]:
        """The identities of the parameters and buffers."""
        return [id(t) for part in self._parts for some in (part._parameters, part._buffers) for t in some.values()]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """This object for one thread alone, with the model's present weights, for inference."""
        with self._lock, torch.inference_mode(False), torch.no_grad():
            if self._changed():
                self._renew()
            training = [module for module in self._sensitive() if module.training]
            for module in training:
                module.training = False
            try:
                yield
            finally:
                for module in training:
                    module.training = True

    def _sensitive(self) -> Iterator[nn.Module]:
        """The modules that a call runs and that may compute otherwise in training; our own heads and streams do not."""
        if not self._plain:
            yield from self._parts
        for part in self.model.children() if isinstance(self.model, Head) else ():
            if part is not self._rnn and part is not self._frontend and type(part) is not nn.Linear:
                yield from part.modules()

    @property
    def state(self) -> State:
        """The streams' state as it is now; later steps write into it, so keep a :meth:`snapshot` instead."""
        return self._state  # type: ignore[no-any-return]

    @property
    def cursor(self) -> Tensor:
        """``(B,)`` int64, the network's steps that each stream has made since its beginning."""
        with self._lock:
            return self._rnn_state.cursor.clone()  # type: ignore[no-any-return]

    @property
    def _rnn_state(self) -> Any:
        return self._state.rnn if isinstance(self._state, ModelState) else self._state

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
        if (
            self._at_once
            and active is None
            and not (
                self._before
                or self._after
                or "forward" in self._own
                or _global_forward_pre_hooks
                or _global_forward_hooks
            )
        ):
            with self._lock:
                own, name, weight, version, address = next(self._turns)
                if own.get(name) is weight and weight._version == version and weight.data_ptr() == address:
                    made = self._stream.step(x_t, out)
                    if made is not None:
                        return made
        if self._frontend is None:
            check_tensor("x_t", x_t, (self.batch_size, self._rnn.input_size), "(B, I)")
        else:
            check_tensor("x_t", x_t, (self.batch_size, self._frontend.hop_length), "(B, hop_length)")
        x_t = self._checked("x_t", x_t, active, stream_dim=0)
        if out is not None:
            self._check_out(out)
        with self._ready():
            x = x_t[None] if self._frontend is None else x_t.t()
            y, self._state = self._run(x, self._state, _lengths(active, x.shape[0]))
            y_t = y[-1] if y.shape[0] else self.model.output_so_far(self._state)
        if out is None:
            return y_t
        with torch.no_grad():
            return out.copy_(y_t)

    def _check_out(self, out: Tensor) -> None:
        """Raise unless an output can be written to ``out``, before a step is made."""
        if isinstance(self.model, Head):
            with torch.no_grad():
                shape = self.model.output_so_far(self.model.zero_state(self.batch_size)).shape
        else:
            shape = torch.Size([self.batch_size, self._rnn.hidden_size])
        check_tensor("out", out, tuple(shape), "(B, ...)")
        check_like("out", out, parameter_of(self._rnn))
        if out.requires_grad or any(stride == 0 and size > 1 for stride, size in zip(out.stride(), shape, strict=True)):
            raise ValueError("out: expected memory of its own for every number, and no gradients")
        if out.is_inference() and not torch.is_inference_mode_enabled():
            raise ValueError("out: a tensor that was made in inference mode can be written there only")

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
                beginning that are each stream's own, 0 to T (or N). The rest is not looked at.
            streams: whose the chunk is, in its order: an index or several, none of them twice. B is then their
                number, here and in the result; the others stay as they are, and cost nothing. None is all.

        Returns:
            the outputs ``(T, B, ...)``; with a front-end T is the number of frames completed, by the stream
            with most of them (see :attr:`cursor`).

        Raises:
            ValueError, TypeError: as :meth:`step`; or both ``active`` and ``lengths`` are given; or an index is
                outside the batch or given twice.
        """
        batch_first = self._batch_first
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
            chunk = self._checked("chunk", chunk, active, stream_dim=0 if batch_first else 1)
            lengths = _lengths(active, T)
        else:
            own = steps_made(T, lengths)  # (T, B, 1)
            own = own[:, :, 0] if self._frontend is not None else own.transpose(0, 1) if batch_first else own
            chunk = chunk.masked_fill(~own, 0)
            chunk = self._checked("chunk", chunk, None, stream_dim=1)
        with self._ready():
            x = chunk.transpose(0, 1) if batch_first else chunk
            if index is None:
                y, self._state = self._run(x, self._state, lengths)
            else:
                y, after = self._run(x, self._state.select(index), lengths)
                self._put(after, index)
            return y.transpose(0, 1) if batch_first else y

    def _run(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> tuple[Tensor, Any]:
        """A chunk with time first, and the state after it; tensors of the given one are written."""
        if not isinstance(self.model, Head):
            return self._advance(x, state, lengths), state
        if not is_plain(self.model, Head, "forward"):
            y, after = self.model(x, state, lengths)
            _write(state.rnn, after.rnn)
            return y, after._replace(rnn=state.rnn)
        x, lengths, audio = self.model.features(x, state.audio, lengths)
        before = state.rnn.clone() if self._has_own_output() else state.rnn
        cursor = state.rnn.cursor.clone()
        y = self._advance(x, state.rnn, lengths)
        try:
            out, pooled = self.model.read_out(y, state.pooled, cursor, state.rnn.cursor)
        except BaseException:
            _write(state.rnn, before)
            raise
        return out, ModelState(audio, state.rnn, pooled)

    def _has_own_output(self) -> bool:
        """Whether code that is not of this package is between the network and the output: it may fail."""
        parts = [part for part in self.model.children() if part is not self._rnn and part is not self._frontend]
        known = all(type(part) is nn.Linear and is_plain(part, nn.Linear, "forward") for part in parts)
        return not (known and is_plain(self.model, type(self.model), "read_out"))

    def _advance(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> Tensor:
        """The network over a chunk ``(T, B, I)``, writing the state in place; y is ``(T, B, H)``."""
        return self._stream.run(x, lengths, None if state is self._rnn_state else state).to(x.dtype)

    def _put(self, state: StreamState, index: Tensor) -> None:
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
        with self._lock, torch.inference_mode(False), torch.no_grad():
            for tensor in self._state.tensors().values():
                tensor.index_fill_(batch_dim(tensor), index.to(tensor.device), 0)

    def snapshot(self, streams: Optional[Streams] = None) -> State:
        """A copy of the streams' state; ``select``, ``stack`` and ``save`` work on it.

        Args:
            streams: as for :meth:`reset`; the copy holds them in the order asked for, and costs what they do.

        Raises:
            ValueError: an index is outside the batch.
        """
        with self._lock, torch.inference_mode(False), torch.no_grad():
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
        check_fits("snapshot", snapshot, self._state, self._state.device, snapshot.batch_size)
        index = self._distinct(range(self.batch_size) if streams is None else streams)
        if snapshot.batch_size != len(index):
            raise ValueError(f"snapshot: holds {snapshot.batch_size} streams, expected {len(index)}")
        snapshot.check()
        if not all(bool(tensor.isfinite().all()) for tensor in snapshot.tensors().values()):
            raise ValueError("snapshot: expected finite values, got NaN or infinity")
        with self._lock, torch.inference_mode(False), torch.no_grad():
            if streams is not None:
                self._put(snapshot, index)
                return
            self._state = snapshot.map(lambda t: t.resolve_neg().clone(memory_format=torch.contiguous_format))
            self._stream.bind(self._rnn_state)

    def _checked(self, name: str, x: Tensor, active: Optional[Tensor], stream_dim: int) -> Tensor:
        """Raise unless the input fits; give it, under autocast in the parameters' dtype."""
        if traced(x):
            raise ValueError(
                f"{name}: a live stream cannot be traced or transformed; do that to its model, with a state"
            )
        if self._frontend is None:
            x = like_parameters(name, x, self._rnn)
        else:
            check_like(name, x, parameter_of(self._rnn), any_float=True)
        if active is not None:
            check_active(active, x.shape[stream_dim])
        # A NaN would stay in the stream's rings for ever. Looking for one on a GPU would stall it at every step.
        if x.is_cpu and not torch.isfinite(x).all():
            heard = x if active is None else x.index_select(stream_dim, active.nonzero().flatten())
            if not torch.isfinite(heard).all():
                raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        return x


class _CalledStream:
    """A :class:`streamdrnn.kernels.Stream` of a network that is called as it is."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def bind(self, state: Any) -> None:
        self._state = state

    def run(self, x: Tensor, lengths: Optional[Tensor], state: Any = None) -> Tensor:
        state = self._state if state is None else state
        dim = 1 if getattr(self._network, "batch_first", False) else 0
        y, after = self._network(x.movedim(0, dim), state, lengths)
        _write(state, after)
        return y.movedim(dim, 0)  # type: ignore[no-any-return]

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        return None


def _write(state: StreamState, after: StreamState) -> None:
    """Write a state's numbers over those of another one of the same shapes."""
    written = after.tensors()
    for name, tensor in state.tensors().items():
        tensor.copy_(written[name])


def _lengths(active: Optional[Tensor], steps: int) -> Optional[Tensor]:
    return None if active is None else active.long() * steps
