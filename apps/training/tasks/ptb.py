"""The Penn Treebank character by character: predict the next one.

The text is that of Mikolov et al. 2010, split as there. The network's state is carried from window to window. The paper
has 1.27 bits per character with GRU layers of 256, and a longest dilation of 64 (as recalled; windows of 100
characters, five layers, the dilations between and the dropout are our choice).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Optional

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.tasks.task import IGNORED, Batch, Recipe, Split, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.errors import InputError

MD5 = {
    "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "valid": "aa0affc06ff7c36e977d7cd49e3839bf",
    "test": "8b80168b89c18661a38ef683c0dc3721",
}
EVALUATION_STREAMS = 50
EVALUATION_WINDOW = 500


@dataclass
class PTBRecipe(Recipe):
    """Predict the next character of the Penn Treebank.

    Attributes:
        window: characters through which gradients flow back; the state is carried on.
    """

    name: ClassVar[str] = "ptb"
    data_set: ClassVar[Optional[str]] = "ptb"

    window: int = 100
    network: NetworkRecipe = field(
        default_factory=lambda: NetworkRecipe(hidden_size=256, dilations=(1, 2, 8, 32, 64), dropout=0.2)
    )
    training: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(steps=20000, learning_rate=2e-3))

    def load(self, data_dir: Optional[Path]) -> "PTBTask":
        folder = data_folder(data_dir, "ptb")
        texts = {split: _read(folder / f"ptb.{split}.txt", md5) for split, md5 in MD5.items()}
        return PTBTask(texts, self.training.batch_size, self.window)


def _read(path: Path, md5: str) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = path.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != md5:
        raise InputError(f"{path}: not Mikolov's file (its md5 is {digest}, expected {md5})")
    return content.decode("utf-8")


class PTBTask(Task):
    """A text cut into B streams of equal length, which are read side by side.

    Args:
        texts: what trains, validates and tests.
        batch_size: B, the streams while training.
        window: T, the characters of each stream in a batch.

    Raises:
        ValueError: the text is too short for one window of every stream, or has characters that are not in what trains.
    """

    per_step = True
    carries = True
    metric = "bits"
    higher_is_better = False

    def __init__(self, texts: dict[str, str], batch_size: int, window: int) -> None:
        if window < 1:
            raise InputError(f"window: expected 1 or more, got {window}")
        self.characters = "".join(sorted(set(texts["train"])))
        self.input_size = self.num_outputs = len(self.characters)
        self.length = window
        codes = {split: encode(text, self.characters) for split, text in texts.items()}
        text = codes["train"]
        steps = (len(text) - 1) // batch_size
        self._windows = steps // window
        if not self._windows:
            raise InputError(
                f"batch_size: {batch_size} streams of windows of {window} take more than the {len(text)} characters "
                "of the training text"
            )
        self._given = text[: steps * batch_size].view(batch_size, steps).T
        self._next = text[1 : steps * batch_size + 1].view(batch_size, steps).T
        self._evaluation: dict[Split, Tensor] = {"valid": codes["valid"], "test": codes["test"]}

    @property
    def chance(self) -> dict[str, float]:
        """The bits of the test text for a guess by how often each character occurs in what trains."""
        counts = self._given.flatten().bincount(minlength=self.num_outputs).double()
        p = (counts + 1) / (counts + 1).sum()
        return {"bits": float(-p.log2()[self._evaluation["test"]].mean())}

    def notes(self) -> dict[str, str]:
        return {"characters": self.characters}

    def batch(self, step: int) -> Batch:
        number = step % self._windows
        some = slice(number * self.length, (number + 1) * self.length)
        return Batch(self._one_hot(self._given[some]), self._next[some], begins=number == 0)

    def evaluation(self, split: Split) -> Iterator[Batch]:
        text = self._evaluation[split]
        steps = -(-(len(text) - 1) // EVALUATION_STREAMS)
        missing = steps * EVALUATION_STREAMS - (len(text) - 1)
        # Every character but the first is predicted once; what fills up the last stream is not.
        given = pad(text[:-1], (0, missing)).view(EVALUATION_STREAMS, steps).T
        following = pad(text[1:], (0, missing), value=IGNORED).view(EVALUATION_STREAMS, steps).T
        for start in range(0, steps, EVALUATION_WINDOW):
            some = slice(start, start + EVALUATION_WINDOW)
            yield Batch(self._one_hot(given[some]), following[some], begins=start == 0)

    def _one_hot(self, codes: Tensor) -> Tensor:
        return one_hot(codes, self.input_size).float()


def encode(text: str, characters: str) -> Tensor:
    """The places ``(N,)`` of a text's characters among those that a model knows.

    Raises:
        ValueError: it has others.
    """
    unknown = sorted(set(text) - set(characters))
    if unknown:
        raise InputError(f"the model knows no {', '.join(map(repr, unknown))}; it knows {characters!r}")
    places = {character: place for place, character in enumerate(characters)}
    return torch.tensor([places[character] for character in text], dtype=torch.int64)
