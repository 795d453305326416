"""ONNX: a file for each entry point, with every tensor of the state as a named input and output."""

import importlib
from typing import Any, Dict

import torch

from streamdrnn.errors import InputError, installing
from streamdrnn.export.description import NAME, NEXT, described_as
from streamdrnn.export.program import Program
from streamdrnn.export.tracing import ENTRY_POINTS, EntryPoint, any_sizes, traced


def to_onnx(program: Program, description: Dict[str, Any]) -> Dict[str, bytes]:
    """The files' contents by entry point.

    Raises:
        ValueError: a package is missing.
    """
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; ONNX files need it: {installing('export')}") from None
    return {entry_point: _graph(program, entry_point, description) for entry_point in ENTRY_POINTS}


def _graph(program: Program, entry_point: EntryPoint, description: Dict[str, Any]) -> bytes:
    names = list(description["state"])
    graph = torch.onnx.export(
        traced(program, entry_point),
        input_names=["x", *names],
        output_names=["y", *(NEXT + name for name in names)],
        dynamic_shapes=any_sizes(program, entry_point),
        custom_translation_table={torch.ops.aten.log10.default: _log10},
        dynamo=True,
        verbose=False,
    )
    assert graph is not None
    proto = graph.model_proto
    proto.metadata_props.add(key=NAME, value=described_as(description, entry_point))
    content: bytes = proto.SerializeToString()
    return content


def _log10(x: Any) -> Any:
    """The decadic logarithm, to float64's precision too: torch's own translation has ln 10 in float32."""
    import numpy as np
    from onnx import numpy_helper
    from onnxscript import opset18 as op

    ln_10: Any = op.Constant(value=numpy_helper.from_array(np.log(10.0)))
    return op.Div(op.Log(x), op.CastLike(ln_10, x))
