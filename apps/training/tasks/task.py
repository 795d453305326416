"""What every task has: batches to train on, batches to measure on, and how it is measured."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.apps.training.network import KINDS, AudioInput, NetworkRecipe
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.errors import InputError

IGNORED = -100
"""The target where nothing is to be predicted, as ``torch.nn.functional.cross_entropy`` has it."""

FALSE_ALARMS = 0.01
"""The share of steps without what is to be found in which it may yet be reported, where recall is measured."""

Split = Literal["valid", "test"]
Metric = Literal["loss", "accuracy", "bits", "recall"]


class Batch(NamedTuple):
    """B sequences, or the next window of each of B streams.

    Attributes:
        x: ``(T, B, I)``, or ``(N, B)`` samples for a task that is heard.
        target: the class of each sequence ``(B,)``, or of each step ``(T, B)``; int64. With a single output, whose
            logit it is, the probability: float32.
        begins: whether the sequences begin here, rather than continue those of the batch before.
        lengths: ``(B,)`` int64, the steps (or samples) that are each sequence's own; None is all. What follows them
            cannot change what a causal network says of them, and is not asked about.
        group: ``(B,)`` int64, which utterance each sequence is a window of, where a task judges those too.
    """

    x: Tensor
    target: Tensor
    begins: bool = True
    lengths: Optional[Tensor] = None
    group: Optional[Tensor] = None

    def part(self, index: int, parts: int) -> "Batch":
        """One of several nearly equal shares of the sequences."""

        def share(tensor: Tensor, dim: int) -> Tensor:
            return tensor.tensor_split(parts, dim)[index]

        lengths, group = (None if t is None else share(t, 0) for t in (self.lengths, self.group))
        return Batch(share(self.x, 1), share(self.target, -1), self.begins, lengths, group)

    def to(self, device: torch.device) -> "Batch":
        lengths, group = (None if t is None else t.to(device) for t in (self.lengths, self.group))
        return Batch(self.x.to(device), self.target.to(device), self.begins, lengths, group)


class Task(ABC):
    """A task with its data at hand.

    The batch of a step is a function of the step and the seed alone: so training goes on after an interruption, and on
    several processes, with the same numbers.

    Attributes:
        input_size: I, the features per step.
        num_outputs: the classes; 1 where there is a yes or no.
        per_step: whether every step is predicted, or the sequence.
        carries: whether streams go on from batch to batch.
        length: T, the steps of a training batch.
        metric: by which models are compared.
        higher_is_better: whether a higher metric is better.
        audio_input: what turns samples into features, where the batches are of samples.
        num_groups: how many utterances there are at most in what is measured, where those are judged too.
    """

    input_size: int
    num_outputs: int
    length: int
    per_step: bool
    carries: ClassVar[bool] = False
    metric: ClassVar[Metric]
    higher_is_better: ClassVar[bool]
    audio_input: Optional[AudioInput] = None
    num_groups: int = 0

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

    def notes_of(self, scores: dict[str, float]) -> dict[str, str]:
        """What belongs to a trained model with these scores on the validation set."""
        return {}

    def check(self, network: NetworkRecipe) -> None:
        """Raise ``ValueError`` unless a network fits the data."""
        if KINDS[network.network].dilates and max(network.dilations, default=1) >= self.length:
            raise InputError(
                f"dilations: the longest is {max(network.dilations)}, expected less than the {self.length} steps of "
                "a sequence"
            )


@dataclass
class Recipe(ABC):
    """A task, a network, and how it is trained: the options of ``streamdrnn train TASK``.

    Attributes:
        name: the task's.
        example: options of a training, for the help, which begins with the first line of the recipe's docstring.
        data_set: the one that can be downloaded for it, if any.
        in_16_bits: whether the model is kept in 16 bits: in a file half as large.
    """

    network: NetworkRecipe
    training: TrainingRecipe

    name: ClassVar[str]
    example: ClassVar[str]
    data_set: ClassVar[Optional[str]] = None
    in_16_bits: ClassVar[bool] = False

    @abstractmethod
    def load(self, data_dir: Optional[Path]) -> Task:
        """The task with its data.

        Raises:
            OSError, ValueError: data are missing or are not the expected ones, or the recipe does not fit them.
        """
