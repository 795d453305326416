"""How live streams are computed: a model as one object of native code, or its parts one after the other.

Either way the state of the streams is advanced in place, and a call that fails leaves it as it was.
"""

from itertools import chain
from operator import attrgetter
from typing import Any, Optional, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from streamdrnn import kernels
from streamdrnn.checkpoint import model_content
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.heads import Classifier, Head, SpeakerEmbedder, Tagger
from streamdrnn.kernels.autocast import autocasts
from streamdrnn.model_state import ModelState
from streamdrnn.network import is_plain, parameter_of
from streamdrnn.state import StreamState, batch_dim, carried_dtype

_HEADS = (Classifier, Tagger, SpeakerEmbedder)


class Live(Protocol):
    """The streams of a model.

    Attributes:
        state: where they stand, in the memory that is written.
        looks_itself: whether ``advance`` raises ``ValueError``, and writes nothing, where a stream's own input is not
            finite, and does not read what is beyond the ``lengths``.
    """

    state: Any
    looks_itself: bool

    def advance(self, x: Tensor, lengths: Optional[Tensor], streams: Optional[Tensor]) -> Tensor:
        """A chunk with time first, as the model takes it; gives the outputs.

        Args:
            lengths: ``(B,)`` int64, the steps or samples that are each stream's own; None is all.
            streams: ``(B,)`` int64, whose the chunk is; None is all.
        """

    def output_so_far(self) -> Tensor:
        """The outputs ``(B, ...)`` that the steps made so far lead to, of a head."""

    def sensitive(self) -> list[nn.Module]:
        """The modules that a call runs and that may compute otherwise in training."""

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        """:meth:`streamdrnn.kernels.Stream.step` of a network without a head; None if there is no such short way."""

    def push(self, x: Tensor) -> Optional[Tensor]:
        """A chunk of all streams, if that is possible without any conversion; None if nothing was written."""


def live_streams(model: Any, state: Any, held: str) -> Live:
    """The streams of a model, on a copy of its present weights.

    Args:
        state: where they stand. It is taken, or copied.
        held: how the weights of the network are held, one of :data:`streamdrnn.kernels.HELD`.

    Raises:
        ValueError, TypeError: the weights fit neither one another nor the state, or cannot be held so.
    """
    weight, rnn = parameter_of(model), state.rnn if isinstance(state, ModelState) else state
    carried = next(t.dtype for t in rnn.tensors().values() if t.is_floating_point())
    if carried_dtype(weight.dtype) != carried:
        raise ValueError(f"model: its dtype is {weight.dtype} now, and the streams' {carried}; make a new stream")
    runtime = _runtime_of(model, state.batch_size, held)
    return LiveParts(model, state, held) if runtime is None else LiveModel(runtime, state)


def _runtime_of(model: Any, batch_size: int, held: str) -> Optional[kernels.Runtime]:
    """The native streams of a model, if it is one that they know."""
    if not _is_known(model):
        return None
    make = kernels.resolve(model.rnn.backend, parameter_of(model)).runtime
    try:
        return None if make is None else make(model_content(model), model.rnn.num_layers, batch_size, held)
    except ValueError:  # a part is not as the configuration says, for instance an output of another size
        return None


def _is_known(model: Any) -> bool:
    """Whether all parts of a model are the package's own, and calling them is no more than computing."""
    if type(model) not in _HEADS or type(model.rnn) is not DilatedRNN or autocasts(parameter_of(model)):
        return False
    if model.frontend is not None and not model.frontend.has_own_constants():
        return False
    parts = [part for part in model.children() if part is not model.rnn]
    return (
        all(t.dtype == torch.float32 and t.is_cpu for t in chain(model.parameters(), model.buffers()))
        and is_plain(model, type(model), "forward", "features", "standardised", "read_out")
        and is_plain(model.rnn, DilatedRNN, "forward", "chunk")
        and all(part is model.frontend or type(part) is nn.Linear for part in parts)
        and all(is_plain(part, type(part), "forward") for part in parts)
    )


class LiveModel:
    """A :class:`Live` whose every chunk is one call of native code: front-end, network and head.

    Args:
        runtime: the streams of a head.
        state: where they stand; it is copied.
    """

    looks_itself = True

    def __init__(self, runtime: kernels.Runtime, state: ModelState) -> None:
        self._runtime = runtime
        self.push = runtime.push_at_once
        parts = iter([self._part(name, tensor) for name, tensor in state.tensors().items()])
        self.state = state.map(lambda _: next(parts))
        write(self.state, state)

    def _part(self, name: str, like: Tensor) -> Tensor:
        """A tensor of the state, in the memory of the runtime, which has only those with numbers."""
        own_name = name.removeprefix("audio.").removeprefix("rnn.")
        return self._runtime.part(own_name, like.shape, like.dtype) if like.numel() else like.clone()

    def advance(self, x: Tensor, lengths: Optional[Tensor], streams: Optional[Tensor]) -> Tensor:
        return self._runtime.push(x.to(torch.float32), lengths, streams)

    def output_so_far(self) -> Tensor:
        return self._runtime.output_so_far()

    def sensitive(self) -> list[nn.Module]:
        return []

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        return None


class LiveParts:
    """A :class:`Live` of any model: its network on a stream of the backend's or called as it is, the rest by torch.

    Args:
        model: a network or a head.
        state: where they stand; it is this object's from now on.
        held: how the weights of the network are held.

    Raises:
        ValueError: whoever computes the network cannot hold them so.
    """

    looks_itself = False

    def __init__(self, model: Any, state: Any, held: str) -> None:
        self.state = state.map(Tensor.contiguous)
        self._head: Any = model if isinstance(model, Head) else None
        self._rnn: Any = model if self._head is None else model.rnn
        # Whether the network may be computed without calling it.
        self._plain = is_plain(self._rnn, DilatedRNN, "forward", "chunk")
        for part, called in ((self._rnn, not self._plain), (self._head, self._is_called())):
            if called:
                kernels.refuse_narrow(held, f"{type(part).__name__}, which is called as it is,")
        self._stream: kernels.Stream = (
            self._rnn.stream(state.batch_size, held) if self._plain else _CalledStream(self._rnn)
        )
        self._stream.bind(self._rnn_state)
        self.step = self._stream.step
        own_dtype = parameter_of(self._rnn).dtype == torch.float32
        whole = self._head is None and self._plain and own_dtype and not self._rnn.batch_first
        self.push = self._stream.run_at_once if whole else _nothing_at_once

    @property
    def _rnn_state(self) -> Any:
        return self.state if self._head is None else self.state.rnn

    def advance(self, x: Tensor, lengths: Optional[Tensor], streams: Optional[Tensor]) -> Tensor:
        if streams is None:
            y, self.state = self._run(x, self.state, lengths)
            return y
        y, after = self._run(x, self.state.select(streams), lengths)
        put(self.state, after, streams)
        return y

    def _run(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> tuple[Tensor, Any]:
        """A chunk, and the state after it; tensors of the given one are written."""
        if self._head is None:
            return self._advance(x, state, lengths), state
        if self._is_called():
            y, after = self._head(x, state, lengths)
            write(state.rnn, after.rnn)
            return y, after._replace(rnn=state.rnn)
        x, lengths, audio = self._head.features(x, state.audio, lengths)
        before = state.rnn.clone() if self._has_own_output() else state.rnn
        cursor = state.rnn.cursor.clone()
        y = self._advance(x, state.rnn, lengths)
        try:
            out, pooled = self._head.read_out(y, state.pooled, cursor, state.rnn.cursor)
        except BaseException:
            write(state.rnn, before)
            raise
        return out, ModelState(audio, state.rnn, pooled)

    def _is_called(self) -> bool:
        """Whether the head as a whole has to be called."""
        return self._head is not None and not is_plain(self._head, Head, "forward")

    def _advance(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> Tensor:
        """The network over a chunk ``(T, B, I)``, writing the state in place; y is ``(T, B, H)``."""
        return self._stream.run(x, lengths, None if state is self._rnn_state else state).to(x.dtype)

    def _parts_of_head(self) -> list[nn.Module]:
        """What is between the network and the output."""
        if self._head is None:
            return []
        return [part for part in self._head.children() if part is not self._rnn and part is not self._head.frontend]

    def _has_own_output(self) -> bool:
        """Whether code that is not of this package is between the network and the output: it may fail."""
        known = all(type(part) is nn.Linear and is_plain(part, nn.Linear, "forward") for part in self._parts_of_head())
        return not (known and is_plain(self._head, type(self._head), "read_out"))

    def output_so_far(self) -> Tensor:
        return self._head.output_so_far(self.state)  # type: ignore[no-any-return]

    def sensitive(self) -> list[nn.Module]:
        # Our own heads and streams compute the same in training.
        own = [part for part in self._parts_of_head() if type(part) is not nn.Linear]
        return [*([] if self._plain else self._rnn.modules()), *(module for part in own for module in part.modules())]


def _nothing_at_once(x: Tensor) -> Optional[Tensor]:
    return None


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
        write(state, after)
        return y.movedim(dim, 0)  # type: ignore[no-any-return]

    def run_at_once(self, x: Tensor) -> Optional[Tensor]:
        return None

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        return None


def write(state: StreamState, after: StreamState) -> None:
    """Write a state's numbers over those of another one of the same shapes."""
    written = after.tensors()
    for name, tensor in state.tensors().items():
        tensor.copy_(written[name])


def put(state: StreamState, after: StreamState, streams: Tensor) -> None:
    """Write the state of some streams over theirs."""
    written = after.tensors()
    for name, tensor in state.tensors().items():
        tensor.index_copy_(batch_dim(tensor), streams.to(tensor.device), written[name])


class Watch:
    """A model as it is when its weights are copied, to see later whether it has become another one.

    Args:
        model: the model.

    Attributes:
        weights: those that can be watched: the dictionary of the module, the name, the tensor, its version and address.
            The writing of tensors that were made in inference mode cannot be seen.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._device = parameter_of(model).device.type
        self._dicts: list[dict[str, Any]] = [
            some for part in self._modules for some in (part._parameters, part._buffers, part._modules)
        ]
        # With a `forward` of its own, or a hook, one of these grows.
        self._sized = [some for part in self._modules for some in (part.__dict__, *_hooks(part))]
        self.weights = [
            (own, name, t, t._version, t.data_ptr())
            for part in self._modules
            for own in (part._parameters, part._buffers)
            for name, t in own.items()
            if t is not None and not t.is_inference()
        ]
        self._tensors = [t for _, _, t, _, _ in self.weights]
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether a weight was written or replaced, or a module would be called otherwise."""
        return self._look() != self._seen

    def _look(self) -> tuple[Any, ...]:
        # A chunk takes microseconds: these loops are Python's own.
        return (
            [*map(_version, self._tensors)],
            [*map(Tensor.data_ptr, self._tensors)],
            [*map(id, chain.from_iterable(map(dict.values, self._dicts)))],
            [*map(type, self._modules)],
            [*map(len, self._sized)],
            _has_any_global_hook(),
            torch.is_autocast_enabled(self._device),
        )


_version = attrgetter("_version")


def _hooks(module: nn.Module) -> tuple[Any, ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
