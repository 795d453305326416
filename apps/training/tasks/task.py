"""What every task has: batches to train on, batches to measure on, and how it is measured."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.training_recipe import TrainingRecipe

IGNORED = -100
"""The target where nothing is to be predicted, as ``torch.nn.functional.cross_entropy`` has it."""

Split = Literal["valid", "test"]
Metric = Literal["loss", "accuracy", "bits"]


class Batch(NamedTuple):
    """B sequences, or the next window of each of B streams.

    Attributes:
        x: ``(T, B, I)``.
        target: the class of each sequence ``(B,)``, or of each step ``(T, B)``; int64.
        begins: whether the sequences begin here, rather than continue those of the batch before.
    """

    x: Tensor
    target: Tensor
    begins: bool = True

    def part(self, index: int, parts: int) -> "Batch":
        """One of several nearly equal shares of the sequences."""
        x, target = (t.tensor_split(parts, dim)[index] for t, dim in ((self.x, 1), (self.target, -1)))
        return Batch(x, target, self.begins)

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.x.to(device), self.target.to(device), self.begins)


class Task(ABC):
    """A task with its data at hand.

    The batch of a step is a function of the step and the seed alone: so training goes on after an interruption, and on
    several processes, with the same numbers.

    Attributes:
        input_size: I, the features per step.
        num_outputs: the classes.
        per_step: whether every step is predicted, or the sequence.
        carries: whether streams go on from batch to batch.
        length: T, the steps of a training batch.
        metric: by which models are compared.
        higher_is_better: whether a higher metric is better.
    """

    input_size: int
    num_outputs: int
    length: int
    per_step: ClassVar[bool]
    carries: ClassVar[bool] = False
    metric: ClassVar[Metric]
    higher_is_better: ClassVar[bool]

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """The training batch of a step, counted from 0."""

    @abstractmethod
    def evaluation(self, split: Split) -> Iterator[Batch]:
        """All of the data that validate or test, always the same."""

    @property
    def chance(self) -> dict[str, float]:
        """What the best guess without any memory scores, where that is known."""
        return {}

    def notes(self) -> dict[str, str]:
        """What belongs to a trained model beside its weights."""
        return {}

    def check(self, network: NetworkRecipe) -> None:
        """Raise ``ValueError`` unless a network fits the data."""
        if network.network != "stacked" and max(network.dilations, default=1) >= self.length:
            raise ValueError(
                f"dilations: the longest is {max(network.dilations)}, expected less than the {self.length} steps of "
                "a sequence"
            )


@dataclass
class Recipe(ABC):
    """A task, a network, and how it is trained: the options of ``streamdrnn train TASK``."""

    network: NetworkRecipe
    training: TrainingRecipe

    name: ClassVar[str]

    @abstractmethod
    def load(self, data_dir: Optional[Path]) -> Task:
        """The task with its data.

        Raises:
            OSError, ValueError: data are missing or are not the expected ones, or the recipe does not fit them.
        """
