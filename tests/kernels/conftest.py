"""Without a GPU the Triton kernels run in Triton's interpreter."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from streamdrnn.kernels import gpu


@pytest.fixture(scope="session", autouse=True)
def _quicker_interpreter() -> Iterator[None]:
    """For each call within a kernel it would replace ``triton.language`` again, which takes a third of its time."""
    with pytest.MonkeyPatch.context() as patch:
        if gpu.interpreted():
            from triton import language as tl
            from triton.runtime import interpreter

            def call(function: Any, *arguments: Any, **named: Any) -> Any:
                seen = [value for value in function.fn.__globals__.values() if value is tl or value is tl.core]
                if any(tl.core.is_builtin(value.load) for value in seen):
                    interpreter._patch_lang(function.fn)
                return function.rewrite()(*arguments, **named)

            patch.setattr(interpreter.InterpretedFunction, "__call__", call)
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
