"""How any task is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from streamdrnn.apps.training.ignored_options import refuse_ignored
from streamdrnn.errors import InputError

RISING = 0.1

PAPER = {
    "optimizer": "rmsprop",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "clip": 0.0,
    "batch_size": 128,
}
"""How the original code trains (github.com/code-terminator/DilatedRNN), beside its 30,000 steps; its decay of 0.9 is
always that of rmsprop."""


@dataclass
class TrainingRecipe:
    """How it is trained.

    Attributes:
        steps: gradient steps.
        batch_size: sequences per step, over all processes.
        optimizer: adam, or rmsprop with a decay of 0.9, as in the original code.
        beta2: of adam, how slowly it forgets the sizes of gradients.
        weight_decay: of adam, what matrices lose per step: this times the learning rate (AdamW's).
        learning_rate: of either; with the cosine schedule the highest. The original code's is 0.001.
        schedule: of the learning rate: cosine rises over the first tenth of the steps and then falls to 0 along half a
            cosine; constant is the original code's, for 30,000 steps.
        clip: norm to which a longer gradient is cut; 0 is none.
        validate_every: steps between two measurements on the validation set. The best model is kept.
        patience: measurements without a better one after which training stops; 0 never stops early.
        checkpoint_every: steps between two checkpoints, from which --resume goes on.
        log_every: steps between two lines of the log.
        seed: of everything random.
        mixed_precision: on GPUs, narrower operands of products.
        compile: compile the model with torch.compile first: on GPUs, and of a cnn network everywhere.
        tensorboard: log for TensorBoard too.
    """

    steps: int = 6000
    batch_size: int = 128
    optimizer: Literal["adam", "rmsprop"] = "adam"
    beta2: float = 0.999
    weight_decay: float = 0.0
    learning_rate: float = 6e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    validate_every: int = 500
    patience: int = 0
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    tensorboard: bool = False

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        rising = self.steps * RISING
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        return self.learning_rate * (1 + math.cos(math.pi * (step - rising) / (self.steps - rising))) / 2

    def as_in_paper(self, default: "TrainingRecipe") -> "TrainingRecipe":
        """The same, trained as by the original code.

        Args:
            default: what it was before anybody asked for something else.

        Raises:
            ValueError: what the original code has its own way of was asked for as well.
        """
        for name in PAPER:
            if getattr(self, name) != getattr(default, name):
                raise InputError(f"{name}: the paper has its own, {PAPER[name]}; expected none with --paper")
        return replace(self, **PAPER)  # type: ignore[arg-type]

    def ignored(self) -> tuple[str, Mapping[str, Any]]:
        """As :class:`Options` has it."""
        return "rmsprop", {"beta2": 0.999, "weight_decay": 0.0} if self.optimizer == "rmsprop" else {}

    def check(self) -> None:
        """Raise ``ValueError`` if nothing can be trained with this."""
        refuse_ignored(self)
        for name in ("steps", "batch_size", "learning_rate", "validate_every", "checkpoint_every", "log_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.beta2 < 1:
            raise InputError(f"beta2: expected 0 to below 1, got {self.beta2}")
        for name in ("weight_decay", "clip", "patience", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        # What NumPy takes, less a number for each process.
        if self.seed >= 2**31:
            raise InputError(f"seed: expected less than 2147483648, got {self.seed}")
