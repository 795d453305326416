"""Models as files: safetensors, with the model's configuration and notes about it in the metadata."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any, Optional, Union, cast

import torch
from torch import Tensor, nn

from streamdrnn.audio.frontends import FRONTENDS
from streamdrnn.errors import InputError
from streamdrnn.heads import HEADS
from streamdrnn.network import NETWORKS
from streamdrnn.storage import read_safetensors, safetensors_content, shown, write_safetensors

FORMAT = "streamdrnn-model"
VERSION = 1

_LARGEST_STATE = 2**26
"""Numbers that a stream may carry from step to step. They follow from the configuration alone: no weight bounds the
dilation of an upper layer."""

_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}

PathLike = Union[str, os.PathLike[str]]


def save_model(model: nn.Module, path: PathLike, notes: Optional[dict[str, str]] = None) -> None:
    """Write a model's weights and configuration as one file, whole or not at all.

    Weights that are tied are written once for each of their names, and are apart in the model that is loaded.

    Args:
        model: a network of a registered kind (:mod:`streamdrnn.network`), or a head over one.
        notes: what else belongs to the model, such as a threshold; :func:`model_notes` reads it.

    Raises:
        TypeError, ValueError: what would be written could not be read again: the model or a part of it is of no known
            kind, or has other weights than its configuration asks for.
    """
    weights, metadata = _described(model, notes)
    if type(_model(metadata["config"], weights)) is not type(model):
        name = type(model).__name__
        raise TypeError(f"model: another {name} than {type(model).__module__}.{name} has this name in files")
    write_safetensors(path, weights, metadata)


def model_content(model: nn.Module) -> bytes:
    """The file of a model, as :func:`save_model` would write it; whether it can be read again is not tried."""
    weights, metadata = _described(model, None)
    return safetensors_content(weights, metadata)


def _described(model: nn.Module, notes: Optional[dict[str, str]]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A model's weights and metadata, as its file has them."""
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    config = json.dumps({"kind": type(model).__name__, **cast(Any, model).config()})
    return weights, {"format": FORMAT, "version": str(VERSION), "config": config, "notes": json.dumps(notes or {})}


def load_model(path: PathLike) -> Any:
    """The model that :func:`save_model` wrote, a network or a head, on the CPU, in ``eval()`` mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no model of a known kind, or its configuration and weights disagree.
    """
    metadata, tensors = read_safetensors(path, FORMAT, VERSION)
    try:
        return _model(metadata["config"], tensors).eval()
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def _model(config: str, tensors: dict[str, Tensor]) -> Any:
    """The model of a configuration, as JSON, with these tensors as its weights."""
    import streamdrnn.baselines  # noqa: F401 (its networks are known then)

    try:
        # Without memory at first: whether the sizes are those of the weights in the file is seen before any is taken.
        with torch.device("meta"):
            model = _build(_json_object(config), len(tensors))
        dtypes = {tensor.dtype for tensor in tensors.values()}
        if len(dtypes) != 1:
            raise ValueError("the weights are of different dtypes")
        if not dtypes < _DTYPES:
            raise ValueError(f"weights of {dtypes.pop()}, expected floating point of 16, 32 or 64 bits")
        model.load_state_dict(tensors, assign=True)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the model's configuration does not fit: {_one_line(error)}") from None
    return model


def model_notes(path: PathLike) -> dict[str, str]:
    """The notes that a model was saved with.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_model`.
    """
    metadata, _ = read_safetensors(path, FORMAT, VERSION)
    try:
        notes = _json_object(metadata["notes"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: the model's notes are damaged: {_one_line(error)}") from None
    return {str(name): str(value) for name, value in notes.items()}


def _build(config: dict[str, Any], num_tensors: int) -> Any:
    if config["kind"] not in HEADS:
        return _build_network(config, NETWORKS | HEADS, num_tensors)
    # Without a kind the network is of a release that knew one only.
    rnn = _build_network({"kind": "DilatedRNN"} | config.pop("rnn"), NETWORKS, num_tensors)
    frontend = config.pop("frontend")
    return _made(config, HEADS, rnn=rnn, frontend=None if frontend is None else _made(frontend, FRONTENDS))


def _build_network(config: dict[str, Any], kinds: Mapping[str, type[Any]], num_tensors: int) -> Any:
    # A layer without weights of its own takes time and memory too before it is found to have none.
    layers = [len(value) for value in config.values() if isinstance(value, list)]
    if max([*layers, config.get("num_layers") or 0]) > num_tensors:
        raise ValueError("expected at most as many layers as there are weights")
    network = _made(config, kinds)
    carried = network.zero_state(1, torch.device("meta")).tensors().values()
    if sum(math.prod(tensor.shape) for tensor in carried) > _LARGEST_STATE:
        raise ValueError(f"expected at most {_LARGEST_STATE} numbers in the state of a stream")
    return network


def _made(config: dict[str, Any], kinds: Mapping[str, type[Any]], **parts: Any) -> Any:
    """The object that a configuration describes, if its own configuration is the same."""
    kind = config.pop("kind")
    if kind not in kinds:
        raise ValueError(f"kind: got {shown(kind)}, expected one of {', '.join(kinds)}")
    if name := next((name for name in ("backend", "device", "dtype") if name in config), ""):
        raise ValueError(f"{name}: how a model is computed is no part of its file")
    made = kinds[kind](**parts, **config)
    own = made.config()
    for name, value in config.items():
        if name not in own:
            raise ValueError(f"{name}: no part of the file of a {kind}")
        if json.dumps(own[name]) != json.dumps(value):
            raise ValueError(f"{name}: got {shown(value)}, expected {shown(own[name])}")
    return made


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, got {text[:40]!r}")
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
