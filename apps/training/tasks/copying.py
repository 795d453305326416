"""Copy memory: ten symbols are shown, and asked for after a long blank.

The set-up of Arjovsky et al. 2016 (arXiv 1511.06464, section 4.1), which the paper follows. Chance, a network that
knows where the symbols are asked for but not which, is 10 ln 8 / (T + 20) nats per step. The paper has dilated networks
near 0 at T = 500 and 1000, and networks without dilation at chance.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Optional

import numpy as np
import torch
from torch.nn.functional import one_hot

from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.tasks.task import Batch, Recipe, Split, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.errors import InputError

SYMBOLS = 8
SHOWN = 10
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1
EVALUATION_BATCHES = 4


@dataclass
class CopyRecipe(Recipe):
    """Recall ten symbols after a long blank.

    Ten of T + 20 steps ask for something, so gradients of the mean loss are small; they are cut at less than elsewhere.

    Attributes:
        blank: T, the steps of the blank; a sequence has T + 20.
    """

    name: ClassVar[str] = "copy"
    example: ClassVar[str] = "--blank 1000 --out runs/copy"

    blank: int = 500
    network: NetworkRecipe = field(default_factory=lambda: NetworkRecipe(hidden_size=10))
    training: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(steps=5000, beta2=0.99, clip=0.02))

    def load(self, data_dir: Optional[Path]) -> "CopyTask":
        if self.blank < 1:
            raise InputError(f"blank: expected 1 or more, got {self.blank}")
        return CopyTask(self.blank, self.training.batch_size, self.training.seed)


class CopyTask(Task):
    """Sequences are drawn anew for every step.

    Args:
        blank: T, the steps between the symbols and the question for them.
        batch_size: B.
        seed: of the sequences that train; those that are measured on are always the same.
    """

    input_size = SYMBOLS + 2
    num_outputs = SYMBOLS + 1
    per_step = True
    metric = "loss"
    higher_is_better = False

    def __init__(self, blank: int, batch_size: int, seed: int) -> None:
        self.blank = blank
        self.batch_size = batch_size
        self.seed = seed
        self.length = blank + 2 * SHOWN

    @property
    def chance(self) -> dict[str, float]:
        return {"loss": SHOWN * math.log(SYMBOLS) / self.length}

    def batch(self, step: int) -> Batch:
        return self._draw(np.random.default_rng((self.seed, step)))

    def evaluation(self, split: Split) -> Iterator[Batch]:
        for number in range(EVALUATION_BATCHES):
            # Three numbers, so that no training batch has the same seed.
            yield self._draw(np.random.default_rng((0, number, 1 if split == "valid" else 2)))

    def _draw(self, random: np.random.Generator) -> Batch:
        symbols = torch.from_numpy(random.integers(SYMBOLS, size=(SHOWN, self.batch_size)))
        given = torch.full((self.length, self.batch_size), BLANK)
        given[:SHOWN] = symbols
        given[-SHOWN - 1] = DELIMITER
        target = torch.full_like(given, BLANK)
        target[-SHOWN:] = symbols
        return Batch(one_hot(given, self.input_size).float(), target)
