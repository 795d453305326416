"""Series of one's own: a label for each, or for each of their steps."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Optional

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.series_file import Series, SeriesFile, read_series
from streamdrnn.apps.training.tasks.task import IGNORED, Batch, Recipe, Split, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.errors import InputError

EVALUATION_SERIES = 64


@dataclass
class CSVRecipe(Recipe):
    """Label series of your own.

    Attributes:
        per_step: every step has a label, rather than every series.
    """

    name: ClassVar[str] = "csv"
    example: ClassVar[str] = "--data walks.csv --out runs/walks"

    data: Annotated[
        str,
        tyro.conf.arg(
            metavar="FILE",
            help="One row per step: columns series, label, perhaps split (train, valid, test), and one per feature.",
        ),
    ] = field(kw_only=True)
    per_step: bool = False
    network: NetworkRecipe = field(default_factory=lambda: NetworkRecipe(hidden_size=32, dilations=(1, 2, 4, 8, 16)))
    training: TrainingRecipe = field(
        default_factory=lambda: TrainingRecipe(steps=2000, batch_size=32, validate_every=100, checkpoint_every=100)
    )

    def __post_init__(self) -> None:
        # The run is measured again from any folder.
        self.data = str(Path(self.data).absolute())

    def load(self, data_dir: Optional[Path]) -> "SeriesTask":
        return SeriesTask(read_series(Path(self.data), self.per_step), self.per_step, self.training)


class Example(NamedTuple):
    """A series: x ``(T, I)``, standardised, and its label ``()`` or labels ``(T,)``."""

    x: Tensor
    target: Tensor


class SeriesTask(Task):
    """Series of different lengths, whole.

    Features are standardised by the mean and deviation of the steps that train. These, the features' names and the
    labels in the order of the outputs are the model's notes, each a list in JSON: ``features``, ``mean``, ``std`` and
    ``labels``.

    Args:
        content: the series.
        per_step: whether every step has a label.
        recipe: batch size and seed.

    Raises:
        ValueError: the numbers of a feature are too large.
    """

    metric = "accuracy"
    higher_is_better = True

    def __init__(self, content: SeriesFile, per_step: bool, recipe: TrainingRecipe) -> None:
        self.per_step = per_step
        self.features = content.features
        self.input_size = len(content.features)
        training = [series for series in content.series.values() if series.split == "train"]
        self.labels = sorted({label for series in training for label in series.labels})
        self.num_outputs = len(self.labels)
        steps = np.concatenate([series.array() for series in training])
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean, std = steps.mean(0), steps.std(0)
        self._check_finite(std)
        self.std = np.where(std > 0, std, 1.0)
        self._parts = {
            part: [self._example(series) for series in content.series.values() if series.split == part]
            for part in ("train", "valid", "test")
        }
        self.length = max(len(example.x) for example in self._parts["train"])
        self._batch_size, self._seed = recipe.batch_size, recipe.seed

    @property
    def chance(self) -> dict[str, float]:
        """The scores on what tests of a guess by how often each label occurs in what trains."""
        counts = self._targets("train").bincount(minlength=self.num_outputs).double()
        test = self._targets("test")
        log_p = (counts / counts.sum()).log()
        return {
            "accuracy": float((test == counts.argmax()).double().mean()),
            "loss": float(-log_p[test].mean()),
        }

    def notes(self) -> dict[str, str]:
        facts = {"features": self.features, "mean": self.mean.tolist(), "std": self.std.tolist(), "labels": self.labels}
        return {name: json.dumps(fact) for name, fact in facts.items()}

    def batch(self, step: int) -> Batch:
        examples = self._parts["train"]
        order: list[int] = []
        epoch, place = divmod(step * self._batch_size, len(examples))
        while len(order) < self._batch_size:  # a batch may be larger than an epoch
            random = np.random.default_rng((self._seed, epoch))
            order += random.permutation(len(examples))[place:].tolist()
            epoch, place = epoch + 1, 0
        return self._as_batch([examples[number] for number in order[: self._batch_size]])

    def evaluation(self, split: Split) -> Iterator[Batch]:
        examples = self._parts[split]
        for start in range(0, len(examples), EVALUATION_SERIES):
            yield self._as_batch(examples[start : start + EVALUATION_SERIES])

    def _as_batch(self, examples: list[Example]) -> Batch:
        lengths = torch.tensor([len(example.x) for example in examples])
        targets = [example.target for example in examples]
        target = pad_sequence(targets, padding_value=IGNORED) if self.per_step else torch.stack(targets)
        return Batch(pad_sequence([example.x for example in examples]), target, lengths=lengths)

    def _example(self, series: Series) -> Example:
        x = torch.from_numpy((series.array() - self.mean) / self.std).float()
        self._check_finite(x.numpy())
        labels = series.labels if self.per_step else series.labels[0]
        if isinstance(labels, str):
            return Example(x, torch.tensor(self.labels.index(labels)))
        return Example(x, torch.tensor([self.labels.index(label) for label in labels]))

    def _check_finite(self, values: NDArray[np.floating]) -> None:
        """Raise ``ValueError`` for the first feature whose numbers ``(..., I)`` became infinite on the way."""
        for feature, column in zip(self.features, values.reshape(-1, self.input_size).T, strict=True):
            if not np.isfinite(column).all():
                raise InputError(f"{feature}: has numbers that are too large")

    def _targets(self, part: str) -> Tensor:
        """Of all that is labelled ``(N,)``."""
        return torch.cat([example.target.flatten() for example in self._parts[part]])
