"""librosa without numba, which would compile for twenty seconds, at the first use, functions that no test calls."""

from typing import Any

import numba
import pytest


def _as_it_is(*arguments: Any, **options: Any) -> Any:
    """A decorator, with arguments or without, that changes nothing."""
    if len(arguments) == 1 and not options and callable(arguments[0]):
        return arguments[0]
    return lambda function: function


with pytest.MonkeyPatch.context() as patch:
    for decorator in ("guvectorize", "jit", "stencil", "vectorize"):
        patch.setattr(numba, decorator, _as_it_is)
    import librosa.core
    import librosa.feature

    # Their modules are loaded when they are first asked for.
    loaded = [librosa.stft, librosa.power_to_db, librosa.feature.mfcc, librosa.feature.delta, librosa.filters.mel]

__all__ = ["librosa"]
