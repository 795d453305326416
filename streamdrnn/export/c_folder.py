"""C: a folder that builds by itself, with the library in one file, the model as an array, and an example."""

import json
from pathlib import Path
from typing import Any, Dict

from streamdrnn.checkpoint import model_content
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.errors import InputError
from streamdrnn.export.amalgamation import INTERFACE, SOURCES, amalgamated
from streamdrnn.export.description import NAME, describe
from streamdrnn.export.program import Program

_FILES = Path(__file__).parent / "c_files"  # those that are the same for every model

_MODEL_H = """\
/* The file of the model, for streamdrnn_model_load. */
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
extern const unsigned char *const model_file;
extern const size_t model_size;
#ifdef __cplusplus
}
#endif
"""

# Strings take a compiler a tenth of the time and a quarter of the memory that numbers take. C99 promises no long ones.
_ROW = 64
_MODEL_C = """\
#include "model.h"

/* No row has room for the zero that ends a string, and none needs it. */
#if defined(__clang__)
#if __has_warning("-Wunterminated-string-initialization")
#pragma clang diagnostic ignored "-Wunterminated-string-initialization"
#endif
#elif defined(__GNUC__) && __GNUC__ >= 15
#pragma GCC diagnostic ignored "-Wunterminated-string-initialization"
#endif

static const unsigned char rows[][{row}] = {{
{strings}}};
const unsigned char *const model_file = rows[0];
const size_t model_size = {size};
"""
# ? is left out for the sake of trigraphs.
_CHARACTERS = [chr(i) if 32 <= i < 127 and chr(i) not in '"\\?' else f"\\{i:03o}" for i in range(256)]


def describe_in_c(program: Program, notes: Dict[str, str]) -> Dict[str, Any]:
    """The description of a model whose one entry point is ``streamdrnn_push``, which keeps the state to itself."""
    description = describe(program, notes)
    step = description["entry_points"]["step"]
    hears = description["sample_rate"] is not None
    x = ["samples", "batch"] if hears else ["steps", *step["x"]["shape"]]
    push = {
        name: {"shape": shape, "dtype": "float32"} for name, shape in (("x", x), ("y", ["steps", *step["y"]["shape"]]))
    }
    return {**description, "entry_points": {"push": push}, "state": {}}


def to_c(program: Program, description: Dict[str, Any]) -> Dict[str, Dict[str, bytes]]:
    """The folder's files by name, under no entry point's name as it is one for all.

    Raises:
        InputError: the network is none that the library computes.
    """
    rnn = program.network.rnn
    if not isinstance(rnn, DilatedRNN):
        raise InputError(f"c: the library computes a DilatedRNN only, got a {type(rnn).__name__}; onnx and pt2 take it")
    files = {path.name: path.read_bytes() for path in _FILES.iterdir()}
    texts = {
        "streamdrnn.cpp": amalgamated(),
        INTERFACE: (SOURCES / INTERFACE).read_text("utf-8"),
        "model.h": _MODEL_H,
        "model.c": _model_c(model_content(program.model)),
        NAME: json.dumps(description, indent=2) + "\n",
    }
    return {"": {**files, **{name: text.encode() for name, text in texts.items()}}}


def _model_c(content: bytes) -> str:
    rows = [content[start : start + _ROW] for start in range(0, len(content), _ROW)]
    strings = ",\n".join(f'"{"".join(_CHARACTERS[byte] for byte in row)}"' for row in rows)
    return _MODEL_C.format(row=_ROW, strings=strings, size=len(content))
