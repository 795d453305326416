"""The common base of all states of streams.

A state is what a stream carries from one step to the next: a named tuple of tensors, so that TorchScript passes it
through unchanged. Every operation on it returns a new state. Every tensor has one entry per stream: vectors are
``(B,)``, everything else is ``(slots, B, ...)``.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Optional, Self, Union, get_type_hints

import torch
from torch import Tensor

from streamdrnn.checks import check_tensor
from streamdrnn.errors import InputError
from streamdrnn.kernels.cells import CELLS
from streamdrnn.storage import read_safetensors, shown, write_safetensors

FORMAT = "streamdrnn-state"
VERSION = 2

CELL_NAMES = tuple(CELLS)

MOST_STEPS = 2**62  # far beyond any stream's life, and as far from overflowing

Streams = Union[int, Sequence[int], Tensor]


def stream_indices(streams: Streams, batch_size: int) -> Tensor:
    """The streams asked for, as indices.

    Args:
        streams: one index, several, or a bool mask of shape ``(B,)``.
        batch_size: B, the number of streams there are.

    Raises:
        ValueError: an index is outside ``0..B-1`` or the mask has another length.
    """
    asked = streams if isinstance(streams, Tensor) else torch.as_tensor(streams, device="cpu")
    if asked.dtype == torch.bool:
        if asked.shape != (batch_size,):
            raise ValueError(f"streams: a mask of shape {tuple(asked.shape)}, expected ({batch_size},)")
        return asked.nonzero().flatten().cpu()
    if asked.numel() == 0:
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    if asked.is_floating_point() or asked.is_complex():
        raise TypeError(f"streams: expected integers or a bool mask, got {asked.dtype}")
    asked = asked.reshape(-1).to(device="cpu", dtype=torch.int64)
    if int(asked.min()) < 0 or int(asked.max()) >= batch_size:
        raise ValueError(f"streams: got {asked.tolist()}, expected indices from 0 to {batch_size - 1}")
    return asked


def carried_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which dtype a state is carried: float32 or wider, so that a chunk's end adds no rounding."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def batch_dim(tensor: Tensor) -> int:
    """Where the streams are in a tensor of a state."""
    return 0 if tensor.dim() == 1 else 1


def _selected(tensor: Tensor, index: Tensor) -> Tensor:
    dim = batch_dim(tensor)
    if tensor.is_contiguous():
        return tensor.index_select(dim, index)
    # Along another dimension than the first torch copies the whole tensor; a live stream's lies among many others'.
    return tensor.movedim(dim, 0).index_select(0, index).movedim(0, dim).contiguous()


def last_steps(past: Tensor, new: Tensor, lengths: Optional[Tensor]) -> Tensor:
    """The last k of the steps that each stream has made, in order of time, after a chunk.

    Args:
        past: ``(k, B, ...)``, those before the chunk.
        new: ``(T, B, ...)``, those of the chunk.
        lengths: ``(B,)`` int64, how many of them each stream really made; None is T.
    """
    history = torch.cat([past, new])
    if lengths is None:
        return history[new.shape[0] :]
    entries = torch.arange(past.shape[0], device=past.device)[:, None] + lengths
    return history[entries, torch.arange(past.shape[1], device=past.device)]


def _map(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """A field's value with ``fn`` applied to every tensor in it."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, list):
        return [_map(item, fn) for item in value]
    return value.map(fn) if isinstance(value, StreamState) else value


def tensors_of(state: Any) -> dict[str, Tensor]:
    """All tensors of a state by dotted name. TorchScript returns states as named tuples of types of its own."""
    found: dict[str, Tensor] = {}

    def visit(name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, list):
            for i, item in enumerate(value):
                visit(f"{name}.{i}", item)
        elif hasattr(value, "_fields"):
            for field, item in zip(value._fields, value, strict=True):
                visit(f"{name}.{field}" if name else field, item)

    visit("", state)
    return found


def check_fits(name: str, got: Any, wanted: "StreamState", device: torch.device, batch_size: int) -> None:
    """Raise unless a state has the tensors of another one.

    Args:
        name: of the state, for the message.
        got: a state, or what TorchScript made of one.
        wanted: shapes and dtypes, on any device and for any number of streams.
        device, batch_size: those expected.

    Raises:
        TypeError: it is no state of this kind, or a tensor has another dtype.
        ValueError: it is of another model, on another device, or for another number of streams.
    """
    if getattr(got, "_fields", None) != wanted._fields:  # type: ignore[attr-defined]
        raise TypeError(f"{name}: expected a {type(wanted).__name__}, got {type(got).__name__}")
    for field, want, own in zip(wanted._fields, wanted, got, strict=True):  # type: ignore[attr-defined, call-overload]
        _check_field(f"{name}.{field}", own, want, device, batch_size)


def _check_field(name: str, got: Any, wanted: Any, device: torch.device, batch_size: int) -> None:
    if isinstance(wanted, list):
        if not isinstance(got, list):
            raise TypeError(f"{name}: expected a list of tensors, got {type(got).__name__}")
        if len(got) != len(wanted):
            raise ValueError(f"{name}: expected {len(wanted)} tensors, got {len(got)}")
        for i, (own, want) in enumerate(zip(got, wanted, strict=True)):
            _check_field(f"{name}[{i}]", own, want, device, batch_size)
    elif isinstance(wanted, Tensor):
        shape = list(wanted.shape)
        shape[batch_dim(wanted)] = batch_size
        if (
            shape[-1] == 0
            and isinstance(got, Tensor)
            and got.shape[2:] == (0,)
            and shape[0] != got.shape[0] < len(CELL_NAMES)
        ):
            want_cell, got_cell = CELL_NAMES[shape[0]], CELL_NAMES[got.shape[0]]
            raise ValueError(f"{name}: expected that of a {want_cell!r} model, got that of a {got_cell!r} model")
        check_tensor(name, got, shape, "(B,)" if len(shape) == 1 else "(slots, B, H)")
        if got.dtype != wanted.dtype:
            raise TypeError(f"{name}: expected dtype {wanted.dtype}, got {got.dtype}")
        if got.device != device:
            raise ValueError(f"{name}: expected device {device}, got {got.device}")
    elif wanted is None or got is None:
        if wanted is not got:
            raise ValueError(f"{name}: expected {type(wanted).__name__}, got {type(got).__name__}")
    else:
        check_fits(name, got, wanted, device, batch_size)


def traceable(state: Any) -> Any:
    """A state as ``torch.jit.trace`` can give it: it knows no None and no empty list, but empty tuples."""
    if not torch.jit.is_tracing():
        return state
    fields = (() if value is None else tuple(value) if isinstance(value, list) else value for value in state)
    return type(state)(*fields)


STATES: dict[str, type["StreamState"]] = {}
"""All kinds of states by name, as files have it."""


class StreamState:
    """The operations that every state has; mixed into the named tuples that hold the tensors."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        STATES[cls.__name__] = cls

    def map(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """The state with ``fn`` applied to every tensor."""
        return type(self)(*(_map(value, fn) for value in self.fields().values()))

    def fields(self) -> dict[str, Any]:
        """Field names and values, in the order of the constructor's arguments."""
        return {name: getattr(self, name) for name in self._fields}  # type: ignore[attr-defined]

    @property
    def batch_size(self) -> int:
        """B, the number of streams."""
        tensor = next(iter(self.tensors().values()))
        return tensor.shape[batch_dim(tensor)]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.tensors().values())).device

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by dotted name, for instance ``h.0`` for the ring of the first layer."""
        return tensors_of(self)

    def select(self, streams: Streams) -> Self:
        """The state of some of the streams, in the order asked for.

        Raises:
            ValueError: an index is outside the batch.
        """
        index = stream_indices(streams, self.batch_size)
        return self.map(lambda t: _selected(t, index.to(t.device)))

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """One batch of the streams of several states; their clocks may differ.

        Raises:
            ValueError: there are none, or their layers, sizes, dtypes or devices differ.
        """
        if not states:
            raise ValueError("states: an empty sequence, expected one state or more")
        first = states[0]
        for i, other in enumerate(states):
            if not isinstance(other, cls):
                raise TypeError(f"states[{i}]: expected {cls.__name__}, got {type(other).__name__}")
            check_fits(f"states[{i}]", other, first, first.device, other.batch_size)
        columns = [list(state.tensors().values()) for state in states]
        joined = iter([torch.cat(column, dim=batch_dim(column[0])) for column in zip(*columns, strict=True)])
        return first.map(lambda _: next(joined))

    def reset(self, streams: Optional[Streams] = None) -> Self:
        """This state with some streams (all of them by default) back at their beginning.

        Raises:
            ValueError: an index is outside the batch.
        """
        index = stream_indices(range(self.batch_size) if streams is None else streams, self.batch_size)
        return self.map(lambda t: t.index_fill(batch_dim(t), index.to(t.device), 0))

    def detach(self) -> Self:
        """This state cut from the autograd graph, as truncated backpropagation needs it."""
        return self.map(Tensor.detach)

    def clone(self) -> Self:
        """A copy that shares no memory with this state."""
        return self.map(Tensor.clone)

    def to(self, device: Union[str, torch.device, None] = None, dtype: Optional[torch.dtype] = None) -> Self:
        """This state on another device or in another floating point type.

        Raises:
            ValueError: ``dtype`` is narrower than float32; carried states never are.
        """
        if dtype is not None and dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype: got {dtype}, expected torch.float32 or torch.float64")
        return self.map(lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else t.dtype))

    def describe(self) -> dict[str, str]:
        """The model that this state belongs to, as the file's metadata has it."""
        return {}

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the state as one safetensors file, whole or not at all."""
        metadata = {"format": FORMAT, "version": str(VERSION), **self._types("")}
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in self.tensors().items()}
        write_safetensors(path, tensors, metadata | self.describe())

    @classmethod
    def load(cls, path: Union[str, os.PathLike[str]]) -> Self:
        """Read a state that ``save`` wrote, onto the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is truncated, is no state, or is one of another type or version.
        """
        metadata, tensors = read_safetensors(path, FORMAT, VERSION)
        if metadata.get("type") != cls.__name__:
            raise InputError(f"{path}: holds a {shown(metadata.get('type'))}, expected {cls.__name__!r}")
        try:
            state = cls._build("", tensors, metadata)
            if state.tensors().keys() != tensors.keys():
                expected, got = shown(sorted(state.tensors())), shown(sorted(tensors))
                raise ValueError(f"expected tensors {expected}, got {got}")
            state.check()
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: not a complete {cls.__name__}: {error}") from None
        if state.describe() != {name: metadata.get(name) for name in state.describe()}:
            raise InputError(f"{path}: the metadata and the tensors disagree")
        return state

    def _types(self, prefix: str) -> dict[str, str]:
        """The names of the types of this state and of those in it, by dotted name."""
        found = {prefix + "type": type(self).__name__}
        for name, value in self.fields().items():
            if isinstance(value, StreamState):
                found |= value._types(f"{prefix}{name}.")
        return found

    @classmethod
    def _build(cls, prefix: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Self:
        values: list[Any] = []
        for field, hint in get_type_hints(cls.__mro__[1]).items():  # the named tuple that the state extends
            name = prefix + field
            options = getattr(hint, "__args__", ())
            nested = next((t for t in (hint, *options) if isinstance(t, type) and issubclass(t, StreamState)), None)
            if hint is Tensor:
                values.append(tensors[name])
            elif nested is not None:
                nested = STATES.get(metadata.get(f"{name}.type", ""), nested)
                present = any(key.startswith(name + ".") for key in tensors)
                values.append(nested._build(name + ".", tensors, metadata) if present else None)
            else:
                count = sum(key.startswith(name + ".") for key in tensors)
                values.append([tensors[f"{name}.{i}"] for i in range(count)])
        return cls(*values)

    def check(self) -> None:
        """Raise ``ValueError`` unless the tensors fit one another."""
        sizes = {name: t.shape[batch_dim(t)] for name, t in self.tensors().items() if t.dim()}
        if len(sizes) != len(self.tensors()) or len(set(sizes.values())) != 1:
            raise ValueError(f"tensors for different numbers of streams: {sizes}")
        cursor = self.fields().get("cursor")
        if cursor is not None and (cursor.dtype != torch.int64 or ((cursor < 0) | (cursor > MOST_STEPS)).any()):
            raise ValueError("cursor must hold int64 step counts from 0 to 2**62")
