"""What every state of a stream has in common.

A state is what a stream carries from one step to the next: a named tuple of tensors, so that TorchScript passes it
through unchanged. Every operation on it returns a new state. Every tensor has one entry per stream: vectors are
``(B,)``, everything else is ``(slots, B, ...)``.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Optional, Self, Union, get_type_hints

import torch
from torch import Tensor

from streamdrnn.errors import InputError
from streamdrnn.storage import read_safetensors, shown, write_safetensors

FORMAT = "streamdrnn-state"
VERSION = 1

Streams = Union[int, Sequence[int], Tensor]


def stream_indices(streams: Streams, batch_size: int) -> Tensor:
    """The streams asked for, as indices.

    Args:
        streams: one index, several, or a bool mask of shape ``(B,)``.
        batch_size: B, the number of streams there are.

    Raises:
        ValueError: an index is outside ``0..B-1`` or the mask has another length.
    """
    asked = torch.as_tensor(streams)
    if asked.dtype == torch.bool:
        if asked.shape != (batch_size,):
            raise ValueError(f"streams: a mask of shape {tuple(asked.shape)}, expected ({batch_size},)")
        return asked.nonzero().flatten().cpu()
    if asked.numel() == 0:
        return torch.zeros(0, dtype=torch.int64)
    if asked.is_floating_point() or asked.is_complex():
        raise TypeError(f"streams: expected integers or a bool mask, got {asked.dtype}")
    asked = asked.reshape(-1).to(device="cpu", dtype=torch.int64)
    if int(asked.min()) < 0 or int(asked.max()) >= batch_size:
        raise ValueError(f"streams: got {asked.tolist()}, expected indices from 0 to {batch_size - 1}")
    return asked


def batch_dim(tensor: Tensor) -> int:
    """Where the streams are in a tensor of a state."""
    return 0 if tensor.dim() == 1 else 1


def _map(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """A field's value with ``fn`` applied to every tensor in it."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, list):
        return [_map(item, fn) for item in value]
    return value.map(fn) if isinstance(value, StreamState) else value


class StreamState:
    """The operations that every state has; mixed into the named tuples that hold the tensors."""

    __slots__ = ()

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

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by dotted name, for instance ``h.0`` for the ring of the first layer."""
        found: dict[str, Tensor] = {}

        def visit(name: str, value: Any) -> None:
            if isinstance(value, Tensor):
                found[name] = value
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    visit(f"{name}.{i}", item)
            elif isinstance(value, StreamState):
                for field, item in value.fields().items():
                    visit(f"{name}.{field}" if name else field, item)

        visit("", self)
        return found

    def select(self, streams: Streams) -> Self:
        """The state of some of the streams, in the order asked for.

        Raises:
            ValueError: an index is outside the batch.
        """
        index = stream_indices(streams, self.batch_size)
        return self.map(lambda t: t.index_select(batch_dim(t), index.to(t.device)))

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
            problem = first.mismatch(other)
            if problem:
                raise ValueError(f"states[{i}] does not fit states[0]: {problem}")
        columns = [list(state.tensors().values()) for state in states]
        joined = iter([torch.cat(column, dim=batch_dim(column[0])) for column in zip(*columns, strict=True)])
        return first.map(lambda _: next(joined))

    def mismatch(self, other: "StreamState") -> str:
        """Why ``other`` is of another model than this state, batch size aside; empty when it is not."""
        mine, others = self.tensors(), other.tensors()
        if mine.keys() != others.keys():
            return f"expected tensors {sorted(mine)}, got {sorted(others)}"
        for name, want in mine.items():
            got, dim = others[name], batch_dim(want)
            kind = (want.dim(), want.shape[:dim] + want.shape[dim + 1 :], want.dtype, want.device)
            if kind != (got.dim(), got.shape[:dim] + got.shape[dim + 1 :], got.dtype, got.device):
                expected = [*want.shape]
                expected[dim : dim + 1] = [other.batch_size]
                return (
                    f"{name} is {tuple(got.shape)} {got.dtype} on {got.device}, "
                    f"expected {tuple(expected)} {want.dtype} on {want.device}"
                )
        for name, value in self.attributes().items():
            if other.attributes().get(name) != value:
                return f"{name} is {other.attributes().get(name)!r}, expected {value!r}"
        return ""

    def attributes(self) -> dict[str, str]:
        """The fields that are no tensors, by dotted name."""
        found = {name: value for name, value in self.fields().items() if isinstance(value, str)}
        for name, value in self.fields().items():
            if isinstance(value, StreamState):
                found |= {f"{name}.{key}": item for key, item in value.attributes().items()}
        return found

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
        """What the file's metadata says of the model that this state belongs to."""
        return self.attributes()

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the state as one safetensors file, whole or not at all."""
        metadata = {"format": FORMAT, "version": str(VERSION), "type": type(self).__name__}
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

    @classmethod
    def _build(cls, prefix: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Self:
        values: list[Any] = []
        for field, hint in get_type_hints(cls.__mro__[1]).items():  # the named tuple that the state extends
            name = prefix + field
            options = getattr(hint, "__args__", ())
            nested = next((t for t in (hint, *options) if isinstance(t, type) and issubclass(t, StreamState)), None)
            if hint is Tensor:
                values.append(tensors[name])
            elif hint is str:
                values.append(metadata[name])
            elif nested is not None:
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
