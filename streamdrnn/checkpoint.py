"""Models as files: safetensors, with the model's configuration and notes about it in the metadata."""

import json
import os
from typing import Any, Optional, Union

import torch

from streamdrnn.audio.frontends import MFCC, FrontEnd, LogMel, RawWaveform
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.errors import InputError
from streamdrnn.heads import Classifier, Head, SpeakerEmbedder, Tagger
from streamdrnn.storage import read_safetensors, shown, write_safetensors

FORMAT = "streamdrnn-model"
VERSION = 1

_LARGEST_STATE = 2**26
"""Numbers that a stream may carry from step to step. They follow from the configuration alone: no weight bounds the
dilation of an upper layer."""

_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_HEADS: dict[str, type[Head]] = {head.__name__: head for head in (Classifier, Tagger, SpeakerEmbedder)}
_FRONTENDS: dict[str, type[FrontEnd]] = {front.__name__: front for front in (RawWaveform, LogMel, MFCC)}

PathLike = Union[str, os.PathLike[str]]


def save_model(model: Union[DilatedRNN, Head], path: PathLike, notes: Optional[dict[str, str]] = None) -> None:
    """Write a model's weights and configuration as one file, whole or not at all.

    Args:
        notes: what else belongs to the model, such as a threshold; :func:`model_notes` reads it.
    """
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps({"kind": type(model).__name__, **model.config()}),
        "notes": json.dumps(notes or {}),
    }
    write_safetensors(path, {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, metadata)


def load_model(path: PathLike) -> Union[DilatedRNN, Head]:
    """The model that :func:`save_model` wrote, on the CPU, in ``eval()`` mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no model of ours, or its configuration and weights disagree.
    """
    metadata, tensors = read_safetensors(path, FORMAT, VERSION)
    try:
        # Without memory at first: whether the sizes are those of the weights in the file is seen before any is taken.
        with torch.device("meta"):
            model = _build(_json_object(metadata["config"]), len(tensors))
        dtypes = {tensor.dtype for tensor in tensors.values()}
        if len(dtypes) != 1:
            raise ValueError("the weights are of different dtypes")
        if not dtypes < _DTYPES:
            raise ValueError(f"weights of {dtypes.pop()}, expected floating point of 16, 32 or 64 bits")
        model.load_state_dict(tensors, assign=True)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: the model's configuration does not fit: {_one_line(error)}") from None
    return model.eval()


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


def _build(config: dict[str, Any], num_tensors: int) -> Union[DilatedRNN, Head]:
    kind = config.pop("kind")
    if kind == "DilatedRNN":
        return _build_network(config, num_tensors)
    frontend = config.pop("frontend")
    if frontend is not None:
        frontend = _FRONTENDS[frontend.pop("kind")](**frontend)
    return _HEADS[kind](_build_network(config.pop("rnn"), num_tensors), frontend=frontend, **config)


def _build_network(config: dict[str, Any], num_tensors: int) -> DilatedRNN:
    # A layer without weights of its own takes time and memory too before it is found to have none.
    if not isinstance(config["dilations"], list) or len(config["dilations"]) > num_tensors:
        raise ValueError("dilations: expected a list of as many as there are layers with weights")
    if "backend" in config:
        raise ValueError("backend: how a network is computed is no part of its file")
    for name in ("bias", "batch_first", "fuse"):
        if not isinstance(config.get(name, True), bool):
            raise TypeError(f"{name}: expected true or false, got {shown(config[name])}")
    rnn = DilatedRNN(**config)
    carried = sum(d * size for d, size in zip(rnn.dilations, rnn.hidden_sizes, strict=True))
    if carried > _LARGEST_STATE:
        raise ValueError(f"dilations, hidden_size: expected at most {_LARGEST_STATE} numbers in the state of a stream")
    return rnn


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, got {text[:40]!r}")
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
