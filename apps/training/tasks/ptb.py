"""The Penn Treebank character by character: predict the next one.

The text is that of Mikolov et al. 2010, split as there. The paper has 1.27 bits per character with GRU layers of 256,
and a longest dilation of 64 (as recalled; windows of 100 characters, five layers, the dilations between and the dropout
are our choice). There are two protocols, whose bits are not to be compared: the state is carried from window to window
and every character is predicted; or every window is read from its beginning and only the character after it is
predicted, as in later code of the paper's authors.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Optional

import numpy as np
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
EVALUATION_WINDOWS: dict[Split, int] = {"valid": 5_000, "test": 50_000}
"""At most; bits of the test's are within 0.02 of those of all windows, of which there are 450,000."""


@dataclass
class PTBRecipe(Recipe):
    """Predict the next character of the Penn Treebank.

    Attributes:
        window: characters through which gradients flow back.
        protocol: carried: every character is predicted, and the state goes on from window to window; windows: only the
            character after a window, from the window alone.
    """

    name: ClassVar[str] = "ptb"
    example: ClassVar[str] = "--out runs/ptb"
    data_set: ClassVar[Optional[str]] = "ptb"

    window: int = 100
    protocol: Literal["carried", "windows"] = "carried"
    network: NetworkRecipe = field(
        default_factory=lambda: NetworkRecipe(hidden_size=256, dilations=(1, 2, 8, 32, 64), dropout=0.2)
    )
    training: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(steps=20000, learning_rate=2e-3))

    def load(self, data_dir: Optional[Path]) -> "TextTask":
        folder = data_folder(data_dir, "ptb")
        texts = {split: _read(folder / f"ptb.{split}.txt", md5) for split, md5 in MD5.items()}
        kind = PTBTask if self.protocol == "carried" else PTBWindowsTask
        return kind(texts, self.training, self.window)


def _read(path: Path, md5: str) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = path.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != md5:
        raise InputError(f"{path}: not Mikolov's file (its md5 is {digest}, expected {md5})")
    return content.decode("utf-8")


class TextTask(Task):
    """Predict characters of a text.

    Args:
        texts: what trains, validates and tests.
        recipe: batch size and seed.
        window: T, the characters of each sequence in a batch.

    Raises:
        ValueError: there is no window, or there are characters that are not in what trains.
    """

    metric = "bits"
    higher_is_better = False

    def __init__(self, texts: dict[str, str], recipe: TrainingRecipe, window: int) -> None:
        if window < 1:
            raise InputError(f"window: expected 1 or more, got {window}")
        self.characters = "".join(sorted(set(texts["train"])))
        self.input_size = self.num_outputs = len(self.characters)
        self.length = window
        self._batch_size, self._seed = recipe.batch_size, recipe.seed
        self._text, valid, test = (encode(texts[split], self.characters) for split in ("train", "valid", "test"))
        self._evaluation: dict[Split, Tensor] = {"valid": valid, "test": test}

    @property
    def chance(self) -> dict[str, float]:
        """The bits of the test text for a guess by how often each character occurs in what trains."""
        counts = self._text.bincount(minlength=self.num_outputs).double()
        p = (counts + 1) / (counts + 1).sum()
        return {"bits": float(-p.log2()[self._evaluation["test"]].mean())}

    def notes(self) -> dict[str, str]:
        return {"characters": self.characters}

    def _one_hot(self, codes: Tensor) -> Tensor:
        return one_hot(codes, self.input_size).float()


class PTBTask(TextTask):
    """A text cut into B streams of equal length, which are read side by side; every character is predicted.

    Raises:
        ValueError: as :class:`TextTask`, or the text is too short for one window of every stream.
    """

    per_step = True
    carries = True

    def __init__(self, texts: dict[str, str], recipe: TrainingRecipe, window: int) -> None:
        super().__init__(texts, recipe, window)
        text, batch_size = self._text, recipe.batch_size
        steps = (len(text) - 1) // batch_size
        self._windows = steps // window
        if not self._windows:
            raise InputError(
                f"batch_size: {batch_size} streams of windows of {window} take more than the {len(text)} characters "
                "of the training text"
            )
        self._given = text[: steps * batch_size].view(batch_size, steps).T
        self._next = text[1 : steps * batch_size + 1].view(batch_size, steps).T

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


class PTBWindowsTask(TextTask):
    """Windows from anywhere in the text, after each of which one character is predicted.

    Raises:
        ValueError: as :class:`TextTask`, or a text has no window.
    """

    per_step = False

    def __init__(self, texts: dict[str, str], recipe: TrainingRecipe, window: int) -> None:
        super().__init__(texts, recipe, window)
        shortest = min(len(text) for text in (self._text, *self._evaluation.values()))
        if shortest <= window:
            raise InputError(f"window: expected fewer than the {shortest} characters of a text, got {window}")

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng((self._seed, step))
        starts = random.integers(len(self._text) - self.length, size=self._batch_size)
        return self._after(self._text, torch.from_numpy(starts))

    def evaluation(self, split: Split) -> Iterator[Batch]:
        text = self._evaluation[split]
        windows = len(text) - self.length
        count = min(windows, EVALUATION_WINDOWS[split])
        for starts in (torch.arange(count) * windows // count).split(EVALUATION_WINDOW):
            yield self._after(text, starts)

    def _after(self, text: Tensor, starts: Tensor) -> Batch:
        places = torch.arange(self.length)[:, None] + starts
        return Batch(self._one_hot(text[places]), text[starts + self.length])


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
