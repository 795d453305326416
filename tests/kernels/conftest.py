"""Without a GPU the Triton kernels run in Triton's interpreter."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from streamdrnn.kernels import gpu

OPERATIONS = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


@pytest.fixture(scope="session", autouse=True)
def _quicker_interpreter() -> Iterator[None]:
    """A third of its time goes into replacing ``triton.language`` again for each call within a kernel, and half of the
    rest into looking for overflows with a dozen operations of its own."""
    with pytest.MonkeyPatch.context() as patch:
        if gpu.interpreted():
            from triton import language as tl
            from triton.language.semantic import TritonSemantic
            from triton.runtime import interpreter

            def call(function: Any, *arguments: Any, **named: Any) -> Any:
                seen = [value for value in function.fn.__globals__.values() if value is tl or value is tl.core]
                if any(tl.core.is_builtin(value.load) for value in seen):
                    interpreter._patch_lang(function.fn)
                return function.rewrite()(*arguments, **named)

            def overflow(self: Any, lhs: Any, rhs: Any, operation: Callable[..., Any]) -> None:
                if (kind := lhs.type.scalar).int_bitwidth < 64:
                    found = OPERATIONS[operation.__name__](lhs.handle.data, rhs.handle.data, dtype=np.int64)
                    inside = (kind.get_int_min_value() <= found) & (found <= kind.get_int_max_value())
                    assert inside.all(), f"{operation.__name__} of {kind} overflows"

            patch.setattr(interpreter.InterpretedFunction, "__call__", call)
            patch.setattr(TritonSemantic, "binary_op_sanitize_overflow_impl", overflow)
        yield


@pytest.fixture
def _watched_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the interpreter, every address that a kernel reads or writes lies in one of its arguments.

    On a GPU such an access may hit a page that is not there, or another tensor, or pass unseen.
    """
    from triton.runtime import interpreter

    inside: list[tuple[int, int]] = []
    accesses = []
    launch = interpreter.GridExecutor.__call__

    def watched(self: Any, *arguments: Any, **options: Any) -> None:
        tensors = [t for t in (*arguments, *options.values()) if isinstance(t, Tensor) and t.numel()]
        assert all(t.is_contiguous() for t in tensors)
        inside[:] = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors]
        launch(self, *arguments, **options)

    def check(pointers: Any, mask: Any) -> None:
        addresses = pointers.data[mask.data.astype(bool)]
        accesses.append(addresses.size)
        found = np.zeros(addresses.shape, dtype=bool)
        for start, end in inside:
            found |= (addresses >= start) & (addresses < end)
        assert found.all(), "an access outside of all arguments"

    load, store = interpreter.InterpreterBuilder.create_masked_load, interpreter.InterpreterBuilder.create_masked_store

    def checked_load(self: Any, pointers: Any, mask: Any, *more: Any) -> Any:
        check(pointers, mask)
        return load(self, pointers, mask, *more)

    def checked_store(self: Any, pointers: Any, value: Any, mask: Any, *more: Any) -> Any:
        check(pointers, mask)
        return store(self, pointers, value, mask, *more)

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", watched)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_load", checked_load)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_store", checked_store)
    yield
    assert sum(accesses) > 0


@pytest.fixture
def _watched_columns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """:func:`watched_threads` for kernels in which a column, the first index of every tile, is a thread or some."""

    def columns(shape: tuple[int, ...]) -> Any:
        return np.broadcast_to(np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape)

    with watched_threads(monkeypatch, columns) as barriers:
        yield
    assert barriers


@pytest.fixture
def _watched_positions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """:func:`watched_threads` for kernels in which only the same position of tiles of one shape is the same thread.

    Where a tile's layout changes between its reading and its writing, its values go through a barrier of Triton's.
    """

    def positions(shape: tuple[int, ...]) -> Any:
        return (np.arange(math.prod(shape)).reshape(shape) << 16) + hash(shape) % 2**16

    with watched_threads(monkeypatch, positions):
        yield


@contextmanager
def watched_threads(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[tuple[int, ...]], Any]
) -> Iterator[list[object]]:
    """In the interpreter, no thread reads what another one has written, or writes what another one has read or
    written, without a barrier between. On a GPU that would be a race.

    Args:
        threads: from a tile's shape to the thread of each of its numbers.

    Yields:
        the barriers that are passed.
    """
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    load, store, barrier = builder.create_masked_load, builder.create_masked_store, builder.create_barrier
    set_program = builder.set_grid_idx
    written: dict[int, int] = {}
    read: dict[int, set[int]] = {}
    barriers: list[object] = []

    def accesses(pointers: Any, mask: Any) -> list[tuple[int, int]]:
        """The addresses, and which thread's they are."""
        real = mask.data.astype(bool)
        who = threads(pointers.data.shape)
        return list(zip(pointers.data[real].tolist(), who[real].tolist(), strict=True))

    def checked_load(self: Any, pointers: Any, mask: Any, *more: Any) -> Any:
        for address, thread in accesses(pointers, mask):
            assert written.get(address, thread) == thread, "a read of what another thread has written"
            read.setdefault(address, set()).add(thread)
        return load(self, pointers, mask, *more)

    def checked_store(self: Any, pointers: Any, value: Any, mask: Any, *more: Any) -> Any:
        for address, thread in accesses(pointers, mask):
            assert written.setdefault(address, thread) == thread, "two threads write the same"
            assert read.get(address, {thread}) == {thread}, "a write over what another thread has read"
        return store(self, pointers, value, mask, *more)

    def pass_barrier(self: Any, *more: Any) -> Any:
        written.clear()
        read.clear()
        barriers.append(self)
        return barrier(self, *more)

    def begin(self: Any, *program: int) -> None:
        written.clear()
        read.clear()
        set_program(self, *program)

    monkeypatch.setattr(builder, "create_masked_load", checked_load)
    monkeypatch.setattr(builder, "create_masked_store", checked_store)
    monkeypatch.setattr(builder, "create_barrier", pass_barrier)
    monkeypatch.setattr(builder, "set_grid_idx", begin)
    yield barriers
