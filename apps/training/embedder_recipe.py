"""What a training run is made of; every field is an option of the command line."""

from dataclasses import dataclass

from streamdrnn.errors import InputError


@dataclass
class EmbedderRecipe:
    """How the speaker model is trained.

    Attributes:
        folds: models that are trained beside it, each without its share of the voices, which then judge it.
        epochs: times that the network hears as much audio as there is, at three speeds.
        hidden_size: units per layer.
        layers: number of layers, dilated 1, 2, 4, ...
        embedding_size: dimensions of an embedding.
        dropout: between two layers.
        learning_rate: the highest, of a one-cycle schedule.
        batch_seconds: seconds of audio per step, in crops of 0.8 to 3 s.
        margin: by which the right voice's cosine must win.
        scale: of the cosines in the softmax.
        seed: of everything random.
    """

    folds: int = 5
    epochs: int = 160
    hidden_size: int = 128
    layers: int = 4
    embedding_size: int = 128
    dropout: float = 0.1
    learning_rate: float = 2e-3
    batch_seconds: float = 64.0
    margin: float = 0.2
    scale: float = 30.0
    seed: int = 0

    def check(self) -> None:
        """Raise ``ValueError`` if nothing can be trained with this."""
        for name, value in vars(self).items():
            if name not in ("dropout", "margin", "seed") and not value > 0:
                raise InputError(f"{name}: expected more than 0, got {value}")
        if self.folds < 2:
            raise InputError(f"folds: expected 2 or more, got {self.folds}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: expected 0 to below 1, got {self.dropout}")
