"""Live streams: the whole stack, the fusion included, as one call of the library per step or chunk."""

import ctypes
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.backend import Rings
from streamdrnn.kernels.cpu.library import NOT_FINITE, Live, State, check, load
from streamdrnn.kernels.cpu.packed import PackedStack, address_of, addresses_of, checked, is_plain_float32
from streamdrnn.kernels.operators import observed, plain
from streamdrnn.kernels.weights import AS_THEY_ARE, FusionWeights, Weights, weights_in

# Looked up once: a step takes microseconds.
_FLOAT32, _new = torch.float32, torch.empty_like
_modes, _tracing = torch._C._len_torch_dispatch_stack, torch._C._get_tracing_state
_written = torch._C._increment_version


class CPUStream:
    """A :class:`streamdrnn.kernels.backend.Stream` on the native kernels.

    Args:
        cell: the cell's name.
        weights, dilations: one per layer, on the CPU.
        fusion: those of the fusion, or None.
        batch_size: B.
        held: one of :data:`HELD`.

    Raises:
        MemoryError: there is not enough memory.
        ValueError, TypeError: as :class:`PackedStack`.
    """

    def __init__(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
        batch_size: int,
        held: str = AS_THEY_ARE,
    ) -> None:
        weights = [weights_in(torch.float32, w) for w in weights]
        if fusion is not None:
            fusion = FusionWeights(*(None if t is None else t.to(torch.float32) for t in fusion))  # type: ignore[arg-type]
        self._packed = PackedStack(cell, weights, dilations, fusion, 1, batch_size, gradients=False, held=held)
        self._outputs = weights[-1].w_hh.shape[1]
        self._x_shape = torch.Size([batch_size, weights[0].w_ih.shape[1]])
        self._y = torch.empty(batch_size, self._outputs, dtype=torch.float32, device="cpu")
        self._y_shape = self._y.shape
        self._run, self._step = load().streamdrnn_run, load().streamdrnn_step

    def bind(self, state: Rings) -> None:
        self._bound = self._live_on(state)
        self._live = ctypes.c_void_p(ctypes.addressof(self._bound))

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        """On this thread, and with ``out`` without taking memory."""
        if _modes() or _tracing() is not None:
            return None
        try:
            # The library can take x as it is: written out, as each call of Python's is a hundredth of a step.
            if not (
                type(x) is Tensor
                and x.shape == self._x_shape
                and x.dtype is _FLOAT32
                and x.is_cpu
                and x.is_contiguous()
                and not x.is_neg()
            ):
                return None
        except AttributeError:  # no tensor
            return None
        if out is None:
            out = _new(self._y)
        elif not is_plain_float32(out) or out.shape != self._y_shape or out.requires_grad:
            return None
        elif not out.is_inference():
            _written([out])  # so that autograd sees it
        return None if self._step(self._live, x.data_ptr(), out.data_ptr()) else out

    def run_at_once(self, x: Tensor) -> Optional[Tensor]:
        if observed() or not is_plain_float32(x) or x.dim() != 3 or x.shape[1:] != self._x_shape:
            return None
        T = x.shape[0]
        y = torch.empty(T, *self._y_shape, dtype=torch.float32, device="cpu")
        threads = 1 if T == 1 else torch.get_num_threads()
        return None if self._run(self._live, T, x.data_ptr(), None, y.data_ptr(), threads) else y

    def steps(self, x: Tensor, count: int) -> None:
        """So many steps with the same x ``(B, I)`` in one call, to measure one without Python."""
        x = checked("x", x, self._x_shape)
        check(load().streamdrnn_steps(self._live, count, x.data_ptr(), self._y.data_ptr()))

    def run(self, x: Tensor, lengths: Optional[Tensor], state: Optional[Rings] = None) -> Tensor:
        """A single step uses one thread.

        Raises:
            ValueError: x is not finite where a step is made.
            MemoryError: there is not enough memory.
            In either case nothing was written.
        """
        T, B, _ = x.shape
        x = plain(x.detach().to(torch.float32))
        lengths = None if lengths is None else plain(lengths)
        y = x.new_empty(T, B, self._outputs)
        live = self._bound if state is None else self._live_on(state)
        threads = 1 if T == 1 else torch.get_num_threads()
        code = self._run(ctypes.byref(live), T, x.data_ptr(), address_of(lengths), y.data_ptr(), threads)
        check(code)
        if code == NOT_FINITE:
            raise ValueError("expected finite values, got NaN or infinity")
        return y

    def _live_on(self, state: Rings) -> Live:
        """The stack and a state as the library takes them."""
        tensors = [*state.h, *state.c, state.fusion, state.cursor]
        assert all(t.is_contiguous() and t.is_cpu for t in tensors)
        h, c = addresses_of(state.h), addresses_of(state.c)
        rings = State(state.cursor.shape[0], h, c, state.fusion.data_ptr(), state.cursor.data_ptr())
        live = Live(self._packed.handle, rings)
        live.state_tensors = tensors  # what the structure points to lives as long as it does
        return live
