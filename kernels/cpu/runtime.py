"""Live streams of a whole model, front-end and head included: one call of the library for each chunk."""

import ctypes
import os
import weakref
from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.cpu.library import NOT_FINITE, OK, ModelInfo, check, load
from streamdrnn.kernels.cpu.packed import address_of, is_plain_float32
from streamdrnn.kernels.operators import observed, plain
from streamdrnn.kernels.weights import HELD

_ROOM = 400  # bytes for the reason why a model is refused
_PARTS = ("cursor", "filled", "frames", "pooled", "tail", "history", "fusion")


class CPURuntime:
    """A :class:`streamdrnn.kernels.backend.Runtime`, with a record of the memory for each stream.

    Args:
        model: the bytes of its file.
        num_layers: how many layers its network has.
        batch_size: B.
        held: how the weights of the network are held, one of :data:`HELD`.

    Raises:
        ValueError: the library does not know a model of this kind, or a layer is too large for int8.
        MemoryError: there is not enough memory.
    """

    def __init__(self, model: bytes, num_layers: int, batch_size: int, held: str) -> None:
        library = load()
        handle, why = c_void_p(), ctypes.create_string_buffer(_ROOM)
        code = library.streamdrnn_model_load(
            model, len(model), HELD.index(held), library.streamdrnn_level(), handle, why, _ROOM
        )
        check(code)
        if code != OK:
            raise ValueError(why.value.decode())
        self._model = handle  # freed after the streams: finalizers run in the order of the latest first
        weakref.finalize(self, library.streamdrnn_model_free, handle)
        info = ModelInfo()
        library.streamdrnn_model_info(handle, info)
        self._outputs: int = info.output_size
        self._record = info.state_size // 4
        # A cache line more, so that the records can begin with one.
        memory = torch.zeros(batch_size * self._record + 16, dtype=torch.float32, device="cpu")
        start = -(memory.data_ptr() // 4) % 16
        self._memory = memory[start : start + batch_size * self._record]
        self._streams = c_void_p()
        workers = min(batch_size, os.cpu_count() or 1)
        check(library.streamdrnn_streams_in(handle, batch_size, self._memory.data_ptr(), workers, self._streams))
        weakref.finalize(self, library.streamdrnn_streams_free, self._streams)
        self._batch_size = batch_size
        self._shape = (batch_size,) if info.sample_rate else (batch_size, info.input_size)
        offsets = (c_int64 * (len(_PARTS) + 2 * num_layers))()
        library.streamdrnn_state_layout(handle, offsets)
        self._offset = dict(zip(_PARTS, offsets, strict=False))
        rings = offsets[len(_PARTS) :]
        self._rings = {"h": rings[:num_layers], "c": rings[num_layers:]}
        self._push, self._output, self._most = (
            library.streamdrnn_push_some,
            library.streamdrnn_output,
            library.streamdrnn_most_steps,
        )
        self._steps = c_int64()
        self._steps_at = ctypes.byref(self._steps)

    def part(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        ring = name.split(".")
        offset = self._rings[ring[0]][int(ring[1])] if len(ring) == 2 else self._offset[name]
        memory = self._memory.view(dtype)
        record, size = self._record * 4 // dtype.itemsize, shape[-1] if len(shape) == 3 else 1
        strides = (record,) if len(shape) == 1 else (size, record, 1)[: len(shape)]
        return memory.as_strided(tuple(shape), strides, memory.storage_offset() + offset // dtype.itemsize)

    def push(self, x: Tensor, lengths: Optional[Tensor], streams: Optional[Tensor]) -> Tensor:
        y = self._pushed(
            plain(x.detach()),
            None if lengths is None else plain(lengths),
            None if streams is None else plain(streams),
        )
        if y is None:
            raise ValueError("expected finite values, got NaN or infinity")
        return y

    def push_at_once(self, x: Tensor) -> Optional[Tensor]:
        if observed() or not is_plain_float32(x):
            return None
        return self._pushed(x, None, None) if x.shape[1:] == self._shape else None

    def _pushed(self, x: Tensor, lengths: Optional[Tensor], streams: Optional[Tensor]) -> Optional[Tensor]:
        """The outputs; None where x is not finite."""
        N, B = x.shape[:2]
        y = torch.empty(self._most(self._streams, N), B, self._outputs, dtype=torch.float32, device="cpu")
        code = self._push(
            self._streams,
            B,
            address_of(streams),
            N,
            x.data_ptr(),
            address_of(lengths),
            y.data_ptr(),
            self._steps_at,
            torch.get_num_threads(),
        )
        if code == NOT_FINITE:
            return None
        steps = self._steps.value
        return y if steps == y.shape[0] else y[:steps]

    def output_so_far(self) -> Tensor:
        y = torch.empty(self._batch_size, self._outputs, dtype=torch.float32, device="cpu")
        for b in range(self._batch_size):
            check(self._output(self._streams, b, y[b].data_ptr()))
        return y
