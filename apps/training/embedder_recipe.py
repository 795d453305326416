"""What a training run is made of; every field is an option of the command line."""

from dataclasses import dataclass

from streamdrnn.errors import InputError

WINDOW, HANN, HOP = 1024, 800, 640
"""Samples of a frame of features, of its Hann window (50 ms), and from a frame to the next (40 ms). With frames of
20 ms the network takes twice the time, and was no better."""


@dataclass
class EmbedderRecipe:
    """How the speaker model is trained.

    Attributes:
        folds: parts of the voices. The model is trained without the first, which calibrates and judges it.
        steps: gradient steps, most of what they learn by said by a teacher.
        finish: gradient steps after them, most of what they learn by which voice it is, with a larger margin.
        projection: gradient steps after those, of the projection alone.
        hidden_size: units per layer.
        layers: number of layers, dilated 1, 2, 4, ...
        bands: of the log-mel features.
        dropout: between two layers.
        learning_rate: of the steps; the finish begins with three quarters of it, and ends with none.
        batch_seconds: seconds of audio per step, in crops of 0.8 to 3.6 s.
        margin: by which the right voice's angle must win, in radians.
        scale: of the cosines in the softmax.
        teacher_weight: of the disagreement with the teacher in the loss; in the finish a quarter of it.
        seed: of everything random.
    """

    folds: int = 4
    steps: int = 4000
    finish: int = 12900
    projection: int = 600
    hidden_size: int = 336
    layers: int = 3
    bands: int = 64
    dropout: float = 0.0
    learning_rate: float = 2e-3
    batch_seconds: float = 192.0
    margin: float = 0.2
    scale: float = 30.0
    teacher_weight: float = 20.0
    seed: int = 0

    @property
    def all_steps(self) -> int:
        """Those of the finish included, those of the projection alone not."""
        return self.steps + self.finish

    def check(self) -> None:
        """Raise ``ValueError`` if nothing can be trained with this."""
        for name, value in vars(self).items():
            if name in ("projection", "margin", "teacher_weight"):
                if not value >= 0:
                    raise InputError(f"{name}: expected 0 or more, got {value}")
            elif name not in ("dropout", "seed") and not value > 0:
                raise InputError(f"{name}: expected more than 0, got {value}")
        if self.folds < 2:
            raise InputError(f"folds: expected 2 or more, got {self.folds}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: expected 0 to below 1, got {self.dropout}")
