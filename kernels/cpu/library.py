"""The compiled library: where it is, and its functions as ctypes sees them (``src/streamdrnn_cpu.h``)."""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Optional

import torch

OK, NOT_FINITE, NO_MEMORY, BAD_MODEL = range(4)
CELLS = {"rnn": 0, "gru": 1, "lstm": 2}
INT8_INPUTS = 133144
"""The most inputs or units of a layer whose weights are held as int8."""


class Layer(Structure):
    """``streamdrnn_layer``: sizes, and where the weights are."""

    _fields_ = (
        ("input_size", c_int64),
        ("hidden_size", c_int64),
        ("dilation", c_int64),
        ("w_ih", c_void_p),
        ("w_hh", c_void_p),
        ("b_ih", c_void_p),
        ("b_hh", c_void_p),
    )


class LayerGradients(Structure):
    """``streamdrnn_layer_gradients``: where they go."""

    _fields_ = (("w_ih", c_void_p), ("w_hh", c_void_p), ("b_ih", c_void_p), ("b_hh", c_void_p))


class State(Structure):
    """``streamdrnn_state``: where the rings and clocks of B streams are."""

    _fields_ = (
        ("batch_size", c_int64),
        ("h", POINTER(c_void_p)),
        ("c", POINTER(c_void_p)),
        ("fusion", c_void_p),
        ("cursor", c_void_p),
    )


class Live(Structure):
    """``streamdrnn_live``: a stack and the streams that it runs on."""

    state_tensors: Sequence[object]
    _fields_ = (("stack", c_void_p), ("state", State))


class ModelInfo(Structure):
    """``streamdrnn_info``: the sizes of a model."""

    _fields_ = (
        ("head", c_int32),
        ("sample_rate", c_int32),
        ("input_size", c_int64),
        ("hop_length", c_int64),
        ("window", c_int64),
        ("hidden_size", c_int64),
        ("output_size", c_int64),
        ("state_size", c_int64),
    )


_PROTOTYPES = {
    "level": (c_char_p, []),
    "set_level": (c_int, [c_char_p]),
    "stack_new": (
        c_void_p,
        [c_int, c_int64, POINTER(Layer), c_int64, c_void_p, c_void_p, c_int64, c_int64, c_int, c_int],
    ),
    "stack_free": (None, [c_void_p]),
    "saved_size": (c_int64, [c_void_p, c_int64, c_int64]),
    "forward": (c_int, [c_void_p, POINTER(State), POINTER(State), c_int64, *[c_void_p] * 4, c_int]),
    "run": (c_int, [c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_int]),
    "step": (c_int, [c_void_p, c_void_p, c_void_p]),
    "steps": (c_int, [c_void_p, c_int64, c_void_p, c_void_p]),
    "backward": (
        c_int,
        [c_void_p, POINTER(State), c_int64, *[c_void_p] * 4, POINTER(State), c_void_p, POINTER(LayerGradients), c_int],
    ),
    "linear": (c_int, [c_int64, c_int64, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_int]),
    "linear_backward": (c_int, [c_int64, c_int64, c_int64, *[c_void_p] * 6, c_int]),
    "model_load": (c_int, [c_char_p, c_size_t, c_int, c_char_p, POINTER(c_void_p), c_char_p, c_size_t]),
    "model_free": (None, [c_void_p]),
    "model_info": (None, [c_void_p, POINTER(ModelInfo)]),
    "streams_in": (c_int, [c_void_p, c_int64, c_void_p, c_int, POINTER(c_void_p)]),
    "streams_free": (None, [c_void_p]),
    "state_layout": (None, [c_void_p, POINTER(c_int64)]),
    "most_steps": (c_int64, [c_void_p, c_int64]),
    "push_some": (c_int, [c_void_p, c_int64, c_void_p, c_int64, *[c_void_p] * 3, POINTER(c_int64), c_int]),
    "output": (c_int, [c_void_p, c_int64, c_void_p]),
    "multiply_adds_per_second": (c_double, [c_double]),
}


@cache
def find() -> Optional[Path]:
    """The compiled library's file, or None if this installation has none."""
    path = Path(__file__).with_name("_native.so")
    return path if path.is_file() else None


_found: Optional[str] = None


def why_not() -> str:
    """Why the library cannot be used; empty if it can."""
    global _found
    if _found is None:
        if torch.compiler.is_compiling():  # which cannot trace how it is found out
            return ""
        _found = _find_out()
    return _found


def _find_out() -> str:
    if find() is None:
        return "its library was not compiled (pip compiles it where there is a C++17 compiler)"
    try:
        load()
    except (OSError, AttributeError) as error:
        return f"its library does not load: {error}"
    return ""


@cache
def load() -> ctypes.CDLL:
    """The library with its functions' types declared.

    Raises:
        OSError: there is none, or it does not load.
        AttributeError: it is one of another version.
    """
    path = find()
    if path is None:
        raise OSError("not compiled")
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, f"streamdrnn_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def check(code: int) -> None:
    """Raise what a code of the library means.

    Raises:
        MemoryError: there was not enough memory. Nothing was written.
    """
    if code == NO_MEMORY:
        raise MemoryError("the CPU kernels: not enough memory")
