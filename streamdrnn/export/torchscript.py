"""TorchScript: one file with the methods ``step``, ``chunk`` and ``initial_state``."""

import io
import json
from typing import Any, Dict

import torch

from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.errors import InputError
from streamdrnn.export.description import NAME
from streamdrnn.export.program import Program


def to_torchscript(program: Program, description: Dict[str, Any]) -> Dict[str, bytes]:
    """The file's content, under no entry point's name as it has both.

    Raises:
        InputError: the network is none that TorchScript compiles.
    """
    rnn = program.network.rnn
    if not isinstance(rnn, DilatedRNN):
        raise InputError(f"torchscript: compiles a DilatedRNN only, got a {type(rnn).__name__}; onnx and pt2 take it")
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(program), file, _extra_files={NAME: json.dumps(description)})
    return {"": file.getvalue()}
