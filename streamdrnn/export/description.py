"""What an exported file says of itself: one JSON object, the same in every format."""

import json
from typing import Any, Dict, Tuple

import torch
from torch import Tensor

import streamdrnn
from streamdrnn.export.program import Program
from streamdrnn.heads import Head
from streamdrnn.state import batch_dim

NAME = "streamdrnn.json"
"""What the description is called within a file."""

FORMAT, VERSION = "streamdrnn-export", 1

NEXT = "next."
"""What precedes the name of a state's tensor where it comes out, in formats whose outputs have names."""


def describe(program: Program, notes: Dict[str, str]) -> Dict[str, Any]:
    """What goes into a model and comes out of it, and where a stream begins.

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
    model = program.model
    rnn = model.rnn if isinstance(model, Head) else model
    x = torch.zeros(batch_size, program.step_size, dtype=rnn.weight_ih_l0.dtype)
    return x, program.initial_state(batch_size)


def state_shape(tensor: Tensor) -> list[Any]:
    """The shape of a state's tensor, for any number of streams."""
    sizes: list[Any] = list(tensor.shape)
    sizes[batch_dim(tensor)] = "batch"
    return sizes


def _described(tensor: Tensor, shape: list[Any]) -> Dict[str, Any]:
    return {"shape": shape, "dtype": str(tensor.dtype).removeprefix("torch.")}
