"""The description in an exported file: one JSON object, the same in every format."""

import json
from typing import Any, Dict, Tuple

import torch
from torch import Tensor

import streamdrnn
from streamdrnn.export.program import Program
from streamdrnn.heads import Head
from streamdrnn.network import parameter_of
from streamdrnn.state import batch_dim

NAME = "streamdrnn.json"
"""The name of the description within a file."""

FORMAT, VERSION = "streamdrnn-export", 1

NEXT = "next."
"""The prefix of a state's tensor among the outputs, in formats whose outputs have names."""


def describe(program: Program, notes: Dict[str, str]) -> Dict[str, Any]:
    """A model's inputs and outputs, and where a stream begins.

    Sizes that may be any are words: ``"batch"`` and ``"steps"``.

    Args:
        notes: the model's, as :func:`streamdrnn.model_notes` gives them.
    """
    model = program.model
    frontend = model.frontend if isinstance(model, Head) else None
    x, state = step_example(program, 1)
    y = program.step(x, state)[0]
    return {
        "format": FORMAT,
        "version": VERSION,
        "streamdrnn": streamdrnn.__version__,
        "kind": type(model).__name__,
        "config": model.config(),
        "notes": notes,
        "sample_rate": None if frontend is None else frontend.sample_rate,
        "hop_length": None if frontend is None else frontend.hop_length,
        "window": None if frontend is None else frontend.window,
        "entry_points": {
            "step": {"x": _described(x, ["batch", x.shape[1]]), "y": _described(y, ["batch", y.shape[1]])},
            "chunk": {
                "x": _described(x, ["steps", "batch", x.shape[1]]),
                "y": _described(y, ["steps", "batch", y.shape[1]]),
            },
        },
        "state": {name: {**_described(tensor, state_shape(tensor)), "initial": 0} for name, tensor in state.items()},
    }


def described_as(description: Dict[str, Any], entry_point: str) -> str:
    """The description, as JSON, of a file that has one of the entry points."""
    own = {entry_point: description["entry_points"][entry_point]}
    return json.dumps({**description, "entry_points": own})


def step_example(program: Program, batch_size: int) -> Tuple[Tensor, Dict[str, Tensor]]:
    """Zeros that a step takes: x, and the state of streams before their first step."""
    parameter = parameter_of(program.model)
    x = torch.zeros(batch_size, program.step_size, dtype=parameter.dtype, device=parameter.device)
    return x, program.initial_state(batch_size)


def state_shape(tensor: Tensor) -> list[Any]:
    """The shape of a state's tensor, for any number of streams."""
    sizes: list[Any] = list(tensor.shape)
    sizes[batch_dim(tensor)] = "batch"
    return sizes


def _described(tensor: Tensor, shape: list[Any]) -> Dict[str, Any]:
    return {"shape": shape, "dtype": str(tensor.dtype).removeprefix("torch.")}
