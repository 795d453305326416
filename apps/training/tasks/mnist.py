"""MNIST read pixel by pixel: in order, permuted, or with noise after the image.

The permutation, the 55,000 training and 5,000 validation images, the size of the network and the batch are those of the
original code, https://github.com/code-terminator/DilatedRNN (demo.ipynb); there the network has nine layers of 20, and
RMSProp trains it for 30,000 steps. Of dilated networks the paper's accuracies, permuted or not, are 94 to
99 percent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Optional

import numpy as np
import torch
from torch import Tensor

from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.mnist_files import Images, read_mnist
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.tasks.task import Batch, Recipe, Split, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.errors import InputError

PIXELS = 28 * 28
VALIDATION_IMAGES = 5000
PERMUTATION_SEED = 92916
EVALUATION_BATCH = 250


@dataclass
class MNISTRecipe(Recipe):
    """Tell digits that are read pixel by pixel, 784 steps.

    Attributes:
        permuted: read the pixels in one random order (the original code's).
    """

    name: ClassVar[str] = "mnist"
    example: ClassVar[str] = "--permuted --out runs/mnist"
    data_set: ClassVar[Optional[str]] = "mnist"

    permuted: bool = False
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    training: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(steps=10_000, weight_decay=0.1))

    def load(self, data_dir: Optional[Path]) -> "MNISTTask":
        return MNISTTask(*_images(data_dir), self.training, self.permuted)


@dataclass
class NoisyMNISTRecipe(Recipe):
    """Tell digits that are read pixel by pixel, and followed by noise.

    Attributes:
        length: the steps of image and noise together.
    """

    name: ClassVar[str] = "noisy-mnist"
    example: ClassVar[str] = "--length 2000 --out runs/noisy"
    data_set: ClassVar[Optional[str]] = "mnist"

    length: int = 1000
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    training: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(steps=10_000, weight_decay=0.1))

    def load(self, data_dir: Optional[Path]) -> "MNISTTask":
        if self.length <= PIXELS:
            raise InputError(f"length: expected more than the {PIXELS} pixels, got {self.length}")
        return MNISTTask(*_images(data_dir), self.training, length=self.length)


def _images(data_dir: Optional[Path]) -> tuple[Images, Images]:
    folder = data_folder(data_dir, "mnist")
    return read_mnist(folder, "train"), read_mnist(folder, "t10k")


class MNISTTask(Task):
    """Images as sequences of pixels from 0 to 1.

    Args:
        train: the training images; the first 5,000 validate.
        test: the test images.
        recipe: batch size and seed.
        permuted: whether the pixels are permuted.
        length: the steps of a sequence; those after the image are uniform noise from 0 to 1, drawn anew whenever an
            image trains.

    Raises:
        ValueError: there are fewer training images than a batch takes.
    """

    input_size = 1
    num_outputs = 10
    per_step = False
    metric = "accuracy"
    higher_is_better = True

    def __init__(
        self, train: Images, test: Images, recipe: TrainingRecipe, permuted: bool = False, length: int = PIXELS
    ) -> None:
        self.length = length
        self._train = Images(train.pixels[VALIDATION_IMAGES:], train.labels[VALIDATION_IMAGES:])
        valid = Images(train.pixels[:VALIDATION_IMAGES], train.labels[:VALIDATION_IMAGES])
        self._evaluation: dict[Split, Images] = {"valid": valid, "test": test}
        self._batch_size, self._seed = recipe.batch_size, recipe.seed
        self._batches = len(self._train.labels) // recipe.batch_size
        if not self._batches:
            raise InputError(f"batch_size: expected at most the {len(self._train.labels)} training images")
        self._order: Optional[np.ndarray] = None
        if permuted:
            self._order = np.random.RandomState(PERMUTATION_SEED).permutation(PIXELS)
        self._epoch, self._shuffled = -1, np.empty(0, np.int64)

    @property
    def chance(self) -> dict[str, float]:
        return {"accuracy": 1 / self.num_outputs, "loss": float(np.log(self.num_outputs))}

    def batch(self, step: int) -> Batch:
        epoch, number = divmod(step, self._batches)
        if epoch != self._epoch:
            random = np.random.default_rng((self._seed, epoch))
            self._epoch, self._shuffled = epoch, random.permutation(len(self._train.labels))
        chosen = self._shuffled[number * self._batch_size :][: self._batch_size]
        images = Images(self._train.pixels[chosen], self._train.labels[chosen])
        return self._as_batch(images, np.random.default_rng((self._seed, step, 1)))

    def evaluation(self, split: Split) -> Iterator[Batch]:
        images = self._evaluation[split]
        for start in range(0, len(images.labels), EVALUATION_BATCH):
            some = slice(start, start + EVALUATION_BATCH)
            random = np.random.default_rng((0, start, 2 if split == "valid" else 3))
            yield self._as_batch(Images(images.pixels[some], images.labels[some]), random)

    def _as_batch(self, images: Images, random: np.random.Generator) -> Batch:
        pixels = images.pixels if self._order is None else images.pixels[:, self._order]
        x = torch.from_numpy(pixels).float() / 255
        noise = random.random((len(x), self.length - PIXELS), np.float32)
        x = torch.cat([x, torch.from_numpy(noise)], 1)
        return Batch(_time_first(x), torch.from_numpy(images.labels).long())


def _time_first(x: Tensor) -> Tensor:
    """``(T, B, 1)`` for ``(B, T)``."""
    return x.T.contiguous()[:, :, None]
