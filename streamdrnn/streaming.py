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

from streamdrnn import kernels
from streamdrnn.checks import check_active, check_lengths, check_like, check_positive, check_tensor
from streamdrnn.drnn_state import DRNNState
from streamdrnn.heads import Head
from streamdrnn.kernels.operators import traced
from streamdrnn.kernels.rings import steps_made
from streamdrnn.live import Watch, live_streams, put
from streamdrnn.model_state import ModelState
from streamdrnn.network import Network, check_network, like_parameters, parameter_of
from streamdrnn.state import Streams, batch_dim, check_fits, stream_indices

State = Union[DRNNState, ModelState]


class StreamingDRNN:
    """Runs a model step by step with the results that it gives in batch.

    It owns the states of B streams, which may be masked, reset, taken out and put back one by one. Inference only:
    no gradients, no dropout (the model is switched to ``eval()``; the user's own modules in it are so again for the
    duration of each call).

    A call that refuses its arguments leaves every stream as it was. Several threads may share one object: their calls
    are made one after the other. It can be copied and pickled, with its model and state.

    On the native kernels a step or a chunk is one call for the whole model, front-end and head included, on a copy of
    the weights; its bits do not depend on the chunks, on the other streams or on threads. If the weights change
    (an optimizer's step, ``load_state_dict``), the next call takes them anew and goes on from the same state; a
    :meth:`step` of a network without a head looks at one parameter in turn, so that a change of a single one may be
    noticed later by as many steps as there are parameters. Changes through ``.data``, of weights
    that were made in inference mode, and of attributes such as ``pool`` cannot be seen.

    A model with hooks or with a ``forward`` of its own is called as it is, for every step or chunk, and so are parts of
    the user's own. The front-end is then that which trains.

    Args:
        model: a :class:`DilatedRNN` or another network (:mod:`streamdrnn.network`), or a head: :class:`Classifier`,
            :class:`Tagger` or :class:`SpeakerEmbedder`.
        batch_size: B, the number of streams.
        weights: how those of the network's layers are held: ``"float32"``, as they are in the model; ``"bf16"`` or
            ``"int8"``, rounded (:data:`streamdrnn.kernels.HELD`), for networks that the native kernels compute.

    Attributes:
        weights: as it was given.

    Raises:
        TypeError: the model is none of these.
        ValueError: ``batch_size`` is below 1, or nobody here can hold the weights so.

    Example::

        stream = StreamingDRNN(model, batch_size=2)
        y = stream.step(x_t)                              # (B, I) -> (B, ...)
        y = stream.push(chunk, active=torch.tensor([True, False]))
        stream.reset(1)
    """

    def __init__(self, model: Union[Network, Head], batch_size: int = 1, weights: str = kernels.AS_THEY_ARE) -> None:
        if not isinstance(model, Head):
            check_network("model", model)
        assert isinstance(model, nn.Module)
        self.model: Any = model.eval()
        self.batch_size = check_positive("batch_size", batch_size)
        kernels.check_held(weights)
        self.weights = weights
        self._rnn: Any = model.rnn if isinstance(model, Head) else model
        self._frontend = model.frontend if isinstance(model, Head) else None
        self._batch_first = getattr(self._rnn, "batch_first", False)
        self._lock = RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        with torch.inference_mode(False), torch.no_grad():
            self._renew(self.model.zero_state(batch_size))

    def __getstate__(self) -> dict[str, Any]:
        own = {"model": self.model, "batch_size": self.batch_size, "weights": self.weights}
        return {**own, "state": self.snapshot()}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__init__(content["model"], content["batch_size"], content["weights"])  # type: ignore[misc]
        self.restore(content["state"])

    def __deepcopy__(self, memo: dict[int, Any]) -> "StreamingDRNN":
        other = StreamingDRNN(copy.deepcopy(self.model, memo), self.batch_size, self.weights)
        other.restore(self.snapshot())
        return other

    def _renew(self, state: Any) -> None:
        """Take the model's weights as they are now, and go on from a state.

        Raises:
            ValueError, TypeError: they fit neither one another nor the state; then all stays as it was.
        """
        watch = Watch(self.model)  # first: what is written while the weights are copied is a change
        live = live_streams(self.model, state, self.weights)
        self._live, self._watch = live, watch
        # A network's step that needs no conversion is made without any further look at it.
        weight = parameter_of(self._rnn)
        network = not isinstance(self.model, Head) and not live.sensitive()
        self._at_once = network and weight.dtype == torch.float32 and weight.is_cpu
        # It never changes: for where all weights are inference tensors.
        still = torch.empty(0, device="cpu", dtype=torch.float32)
        self._turns = cycle(self._watch.weights or [({"": still}, "", still, still._version, still.data_ptr())])
        self._before, self._after = self._rnn._forward_pre_hooks, self._rnn._forward_hooks
        self._own = self._rnn.__dict__

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """This object for one thread alone, with the model's present weights, for inference."""
        with self._lock, torch.inference_mode(False), torch.no_grad():
            if self._watch.changed():
                self._renew(self._live.state)
            training = [module for module in self._live.sensitive() if module.training]
            for module in training:
                module.training = False
            try:
                yield
            finally:
                for module in training:
                    module.training = True

    @property
    def state(self) -> State:
        """The streams' state as it is now; later steps write into it, so keep a :meth:`snapshot` instead."""
        return self._live.state  # type: ignore[no-any-return]

    @property
    def cursor(self) -> Tensor:
        """``(B,)`` int64, the network's steps that each stream has made since its beginning."""
        with self._lock:
            state = self._live.state
            return (state.rnn if isinstance(state, ModelState) else state).cursor.clone()

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
            self._acquire()  # a `with` takes twice as long
            try:
                own, name, weight, version, address = next(self._turns)
                if own.get(name) is weight and weight._version == version and weight.data_ptr() == address:
                    made = self._live.step(x_t, out)
                    if made is not None:
                        return made
            finally:
                self._release()
        if self._frontend is None:
            check_tensor("x_t", x_t, (self.batch_size, self._rnn.input_size), "(B, I)")
        else:
            check_tensor("x_t", x_t, (self.batch_size, self._frontend.hop_length), "(B, hop_length)")
        x_t = self._checked("x_t", x_t, active, stream_dim=0)
        if out is not None:
            self._check_out(out)
        with self._ready():
            y = self._advance("x_t", x_t[None] if self._frontend is None else x_t.t(), active, None, None)
            y_t = y[-1] if y.shape[0] else self._live.output_so_far()
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
        if active is None and lengths is None and streams is None:
            with self._lock:
                made = None if self._watch.changed() else self._live.push(chunk)
                if made is not None:
                    return made
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
        chunk = self._checked("chunk", chunk, active, stream_dim=0 if batch_first else 1)
        with self._ready():
            y = self._advance("chunk", chunk.transpose(0, 1) if batch_first else chunk, active, lengths, index)
            return y.transpose(0, 1) if batch_first else y

    def _distinct(self, streams: Streams) -> Tensor:
        """The streams asked for, as indices, each at most once."""
        index = stream_indices(streams, self.batch_size)
        asked = index.tolist()
        if len(set(asked)) != len(asked):
            raise ValueError(f"streams: got {asked}, expected each at most once")
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
            for tensor in self.state.tensors().values():
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
        if type(snapshot) is not type(self.state):
            expected, got = type(self.state).__name__, type(snapshot).__name__
            raise TypeError(f"snapshot: expected a {expected}, got {got}")
        check_fits("snapshot", snapshot, self.state, self.state.device, snapshot.batch_size)
        index = self._distinct(range(self.batch_size) if streams is None else streams)
        if snapshot.batch_size != len(index):
            raise ValueError(f"snapshot: holds {snapshot.batch_size} streams, expected {len(index)}")
        snapshot.check()
        if not all(bool(tensor.isfinite().all()) for tensor in snapshot.tensors().values()):
            raise ValueError("snapshot: expected finite values, got NaN or infinity")
        with self._lock, torch.inference_mode(False), torch.no_grad():
            put(self.state, snapshot, index)

    def _checked(self, name: str, x: Tensor, active: Optional[Tensor], stream_dim: int) -> Tensor:
        """Raise unless the input fits; give it, under autocast in the parameters' dtype."""
        if traced(x) or (isinstance(active, Tensor) and traced(active)):
            raise ValueError(
                f"{name}: a live stream cannot be traced or transformed; do that to its model, with a state"
            )
        if self._frontend is None:
            x = like_parameters(name, x, self._rnn)
        else:
            check_like(name, x, parameter_of(self._rnn), any_float=True)
        if active is not None:
            check_active(active, x.shape[stream_dim])
        return x

    def _advance(
        self,
        name: str,
        x: Tensor,
        active: Optional[Tensor],
        lengths: Optional[Tensor],
        streams: Optional[Tensor],
    ) -> Tensor:
        """A chunk with time first, of those streams that are active, or of each so much as ``lengths`` say.

        Raises:
            ValueError: the named input is not finite where it is a stream's own.
        """
        looks_itself = self._live.looks_itself
        if not looks_itself:
            x = self._finite(name, x, active, lengths)
        try:
            return self._live.advance(x, _lengths(active, x.shape[0]) if lengths is None else lengths, streams)
        except ValueError:
            if looks_itself:
                self._finite(name, x, active, lengths)
            raise

    def _finite(self, name: str, x: Tensor, active: Optional[Tensor], lengths: Optional[Tensor]) -> Tensor:
        """Raise unless the input is finite where it is a stream's own; give it with zeros where it is nobody's."""
        if lengths is not None:
            own = steps_made(x.shape[0], lengths)
            x = x.masked_fill(~(own if self._frontend is None else own[:, :, 0]), 0)
        # A NaN would stay in the stream's rings for ever. Looking for one on a GPU would stall it at every step. A sum
        # is finite only if all that it adds is, and takes a tenth of the time.
        if x.is_cpu and not torch.isfinite(x.sum()) and not torch.isfinite(x).all():
            heard = x if active is None else x[:, active]
            if not torch.isfinite(heard).all():
                raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        return x


def _lengths(active: Optional[Tensor], steps: int) -> Optional[Tensor]:
    return None if active is None else active.long() * steps
