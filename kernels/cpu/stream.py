"""Live streams: the whole stack, the fusion included, as one call of the library per step or chunk."""

import ctypes
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.cpu.library import NOT_FINITE, OK, Live, State, check, load
from streamdrnn.kernels.cpu.packed import PackedStack, address_of, addresses_of, plain
from streamdrnn.kernels.weights import Weights


class Stream:
    """A stack with a copy of its weights, and the state of B streams that it advances in place.

    Args:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        weights, dilations: one per layer.
        fusion: the weight ``(H, H, d0)`` and bias ``(H,)`` of the fusion, or None.
        batch_size: B.

    Raises:
        MemoryError: there is not enough memory.
    """

    def __init__(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[tuple[Tensor, Optional[Tensor]]],
        batch_size: int,
    ) -> None:
        self._packed = PackedStack(cell, weights, dilations, fusion, 1, batch_size, gradients=False)
        self._outputs = weights[-1].w_hh.shape[1]
        self._run, self._step = load().streamdrnn_run, load().streamdrnn_step

    def bind(self, h_rings: Sequence[Tensor], c_rings: Sequence[Tensor], fusion_ring: Tensor, cursor: Tensor) -> None:
        """Take a state: from now on every call advances it, in its own memory.

        Args:
            h_rings, c_rings: ``(d, B, H)`` per layer; c for an LSTM, else empty.
            fusion_ring: ``(d0, B, H)``.
            cursor: ``(B,)`` int64.
        """
        tensors = [*h_rings, *c_rings, fusion_ring, cursor]
        assert all(t.is_contiguous() and t.is_cpu for t in tensors)
        h, c = addresses_of(h_rings), addresses_of(c_rings)
        state = State(cursor.shape[0], h, c, fusion_ring.data_ptr(), cursor.data_ptr())
        self._held = tensors, Live(self._packed.handle, state)
        self._live = ctypes.c_void_p(ctypes.addressof(self._held[1]))

    def step(self, x_address: int, y_address: int) -> bool:
        """One step of all streams, on this thread and without taking memory.

        Args:
            x_address, y_address: where x ``(B, I)`` and y ``(B, H)`` are, float32 and contiguous.

        Returns:
            whether it was made; it is not where x is not finite.
        """
        code: int = self._step(self._live, x_address, y_address)
        return code == OK

    def run(self, x: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """A chunk, from x ``(T, B, I)`` to y ``(T, B, H)``; lengths as for a layer. A single step uses one thread.

        Raises:
            ValueError: x is not finite where a step is made.
            MemoryError: there is not enough memory.
            In either case nothing was written.
        """
        T, B, _ = x.shape
        x = plain(x.to(torch.float32))
        lengths = None if lengths is None else plain(lengths)
        y = torch.empty(T, B, self._outputs)
        threads = 1 if T == 1 else torch.get_num_threads()
        code = self._run(self._live, T, x.data_ptr(), address_of(lengths), y.data_ptr(), threads)
        check(code)
        if code == NOT_FINITE:
            raise ValueError("expected finite values, got NaN or infinity")
        return y
