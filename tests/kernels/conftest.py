"""Without a GPU the Triton kernels run in Triton's interpreter."""

from collections.abc import Iterator
from typing import Any

import pytest

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
