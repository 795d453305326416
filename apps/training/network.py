"""The networks that a task can be trained with: the dilated one, and what the paper compares it with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Optional, Union

import torch
from torch import Tensor, nn

from streamdrnn import Classifier, DilatedRNN, Tagger, load_model, save_model
from streamdrnn.apps.training.initialisation import initialise
from streamdrnn.audio import AudioState, FrontEnd
from streamdrnn.baselines import CNNState, DilatedCNN, SkipRNN, SkipRNNState
from streamdrnn.drnn_state import DRNNState
from streamdrnn.errors import InputError
from streamdrnn.storage import read_safetensors, write_safetensors

BASELINE_FORMAT, BASELINE_VERSION = "streamdrnn-baseline", 1

NetworkState = Union[DRNNState, SkipRNNState, CNNState]


@dataclass
class NetworkRecipe:
    """What is trained.

    Attributes:
        network: dilated; stacked: as many layers, all of dilation 1; skip: each layer also reads its state of one
            dilation ago; cnn: dilated causal convolutions of width 2.
        cell: of the recurrent networks.
        hidden_size: units of each layer; channels of a cnn.
        dilations: one per layer, from the bottom.
        dropout: between two layers of a dilated or stacked network.
        backend: what computes the recurrence; auto is the fastest.
    """

    network: Literal["dilated", "stacked", "skip", "cnn"] = "dilated"
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    hidden_size: int = 20
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    dropout: float = 0.0
    backend: Literal["auto", "reference", "torch", "cpu", "triton"] = "auto"

    def check(self) -> None:
        """Raise ``ValueError`` for options that the network would ignore; sizes are checked by the network itself."""
        if self.dropout and self.network in ("skip", "cnn"):
            raise InputError(f"dropout: a {self.network} network has none, expected 0")
        if self.backend != "auto" and self.network == "cnn":
            raise InputError("backend: a cnn network has no recurrence, expected auto")


class Hearing(NamedTuple):
    """How a network hears samples.

    Attributes:
        frontend: what turns them into features.
        mean, std: ``(I,)``, by which the features are standardised.
    """

    frontend: FrontEnd
    mean: Tensor
    std: Tensor


class Baseline(nn.Module):
    """A baseline with the parts of a :class:`Classifier` or :class:`Tagger`.

    Args:
        rnn: the network; the name is that of the heads.
        num_outputs: the size of each output.
        hearing: what stands before the network, if its inputs are made of samples.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, rnn: Union[SkipRNN, DilatedCNN], num_outputs: int, hearing: Optional[Hearing] = None) -> None:
        super().__init__()
        self.rnn = rnn
        self.output = nn.Linear(rnn.hidden_size, num_outputs)
        self.frontend = None
        if hearing is not None:
            self.frontend = hearing.frontend
            self.register_buffer("feature_mean", hearing.mean)
            self.register_buffer("feature_std", hearing.std)

    def features(
        self, x: Tensor, audio: Optional[AudioState], lengths: Optional[Tensor]
    ) -> tuple[Tensor, Optional[Tensor], Optional[AudioState]]:
        """What the network is given: as :meth:`streamdrnn.heads.Head.features`."""
        if self.frontend is not None:
            x, lengths, audio = self.frontend(x, audio, lengths)
            x = (x - self.feature_mean) / self.feature_std
        return x, lengths, audio


Model = Union[Classifier, Tagger, Baseline]


def build(
    recipe: NetworkRecipe, input_size: int, num_outputs: int, per_step: bool, hearing: Optional[Hearing] = None
) -> Model:
    """A fresh model.

    Args:
        input_size: I, the features per step.
        num_outputs: the classes.
        per_step: whether there is a prediction for every step, or one for the sequence.
        hearing: what stands before the network, if the model takes samples.

    Raises:
        ValueError, TypeError: an option is out of its range.
    """
    recipe.check()
    size, dilations = recipe.hidden_size, list(recipe.dilations)
    if recipe.network == "skip":
        skip = SkipRNN(input_size, size, skips=dilations, cell=recipe.cell, backend=recipe.backend)
        initialise(skip, recipe.cell)
        return Baseline(skip, num_outputs, hearing)
    if recipe.network == "cnn":
        return Baseline(DilatedCNN(input_size, size, dilations=dilations), num_outputs, hearing)
    if recipe.network == "stacked":
        dilations = [1] * len(dilations)
    rnn = DilatedRNN(
        input_size, size, dilations=dilations, cell=recipe.cell, dropout=recipe.dropout, backend=recipe.backend
    )
    initialise(rnn, recipe.cell)
    frontend = None if hearing is None else hearing.frontend
    head = Tagger(rnn, num_outputs, frontend) if per_step else Classifier(rnn, num_outputs, frontend=frontend)
    if hearing is not None:
        head.feature_mean.copy_(hearing.mean)
        head.feature_std.copy_(hearing.std)
    return head


def save(model: Model, path: Path, notes: dict[str, str]) -> None:
    """Write a model: as :func:`streamdrnn.save_model` does, or a baseline's weights alone."""
    if isinstance(model, Baseline):
        metadata = {"format": BASELINE_FORMAT, "version": str(BASELINE_VERSION)}
        weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        write_safetensors(path, weights, metadata | notes)
    else:
        save_model(model, path, notes)


def is_baseline(path: Path) -> bool:
    """Whether a file holds a :class:`Baseline` that :func:`save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        read_safetensors(path, BASELINE_FORMAT, BASELINE_VERSION)
    except ValueError:
        return False
    return True


def load(
    path: Path,
    recipe: NetworkRecipe,
    input_size: int,
    num_outputs: int,
    per_step: bool,
    hearing: Optional[Hearing] = None,
) -> Model:
    """The model that :func:`save` wrote for the same recipe, on the CPU, in ``eval()`` mode.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is damaged or of another recipe.
    """
    model = build(recipe, input_size, num_outputs, per_step, hearing)
    if isinstance(model, Baseline):
        weights = read_safetensors(path, BASELINE_FORMAT, BASELINE_VERSION)[1]
    else:
        weights = load_model(path).state_dict()
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{path}: its weights are not those of the run's recipe") from None
    return model.eval()


def seeded(
    recipe: NetworkRecipe,
    seed: int,
    input_size: int,
    num_outputs: int,
    per_step: bool,
    hearing: Optional[Hearing] = None,
) -> Model:
    """:func:`build` with weights that follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(recipe, input_size, num_outputs, per_step, hearing)
