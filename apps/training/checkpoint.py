"""Where a run stands, as one safetensors file: what is needed to go on with the same numbers.

accelerate's own checkpoints hold pickles, which this package never reads; a safetensors file holds numbers only.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor, nn

from streamdrnn.errors import InputError
from streamdrnn.storage import read_safetensors, write_safetensors

FORMAT = "streamdrnn-training"
VERSION = 1


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: gradient steps made.
        best: what the best model so far scored on the validation set; empty before the first measurement.
        best_step: when it was.
        since_best: measurements since.
        seconds: wall-clock time of the training, interruptions aside.
    """

    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    since_best: int = 0
    seconds: float = 0.0


@dataclass
class Checkpoint:
    """All that changes in a run.

    Attributes:
        progress: how far it is.
        model: weights by name.
        best: those of the best model so far; none before the first measurement.
        optimizer: the optimizer's tensors, by parameter and name.
        rng: ``(processes, bytes)`` uint8, the state of the random numbers on each process's device; dropout draws them.
        carried: the network's state between two windows, of all streams; None where sequences end with a batch.
        scaler: the state of the gradient scaler of fp16.
    """

    progress: Progress
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    rng: Tensor
    carried: Optional[dict[str, Tensor]]
    scaler: dict[str, float]


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    tensors = {f"model.{name}": value for name, value in checkpoint.model.items()}
    tensors |= {f"best.{name}": value for name, value in checkpoint.best.items()}
    for index, values in checkpoint.optimizer.items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    tensors |= {f"carried.{name}": value for name, value in (checkpoint.carried or {}).items()}
    tensors["rng"] = checkpoint.rng
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "progress": json.dumps(asdict(checkpoint.progress)),
        "scaler": json.dumps(checkpoint.scaler),
    }
    write_safetensors(path, {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file, on the CPU.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    metadata, tensors = read_safetensors(path, FORMAT, VERSION)
    optimizer: dict[int, dict[str, Tensor]] = {}
    try:
        for name, value in _below("optimizer.", tensors).items():
            index, what = name.split(".")
            optimizer.setdefault(int(index), {})[what] = value
        return Checkpoint(
            Progress(**json.loads(metadata["progress"])),
            _below("model.", tensors),
            _below("best.", tensors),
            optimizer,
            tensors["rng"],
            _below("carried.", tensors) or None,
            json.loads(metadata["scaler"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a complete checkpoint ({error})") from None


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """What an optimizer has learned about each parameter; its options are the recipe's."""
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return state


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and what the optimizer has learned in their places.

    Raises:
        ValueError: they are of another model.
    """
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError:
        raise InputError("the checkpoint is of a network of another size: the data have changed since") from None
    whole: dict[str, Any] = optimizer.state_dict()
    optimizer.load_state_dict({**whole, "state": checkpoint.optimizer})
