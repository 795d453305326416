"""The networks that a task can be trained with: the dilated one, and those that it is compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Optional, TypeAlias, Union

import torch
from torch import Tensor, nn

from streamdrnn import Classifier, DilatedRNN, Tagger, initialise, load_model
from streamdrnn.apps.training.ignored_options import refuse_ignored
from streamdrnn.audio import FrontEnd
from streamdrnn.baselines import LRU, DilatedCNN, MinGRU, SkipRNN, stacked_rnn
from streamdrnn.errors import InputError
from streamdrnn.kernels import BACKEND_NAMES, CELLS


class Kind(NamedTuple):
    """A kind of network that can be trained.

    Attributes:
        build: makes one, from its input size, hidden size, dilations, and the options.
        options: those of :class:`NetworkRecipe` that it has beside its sizes and dilations.
        dilates: whether its layers read what is a dilation ago; else there are as many layers as dilations.
    """

    build: Callable[..., nn.Module]
    options: tuple[str, ...]
    dilates: bool = True

    @property
    def is_recurrent(self) -> bool:
        """Whether it has cells."""
        return "cell" in self.options


def _dilated(input_size: int, hidden_size: int, dilations: list[int], **options: Any) -> nn.Module:
    return DilatedRNN(input_size, hidden_size, dilations=dilations, **options)


def _stacked(input_size: int, hidden_size: int, dilations: list[int], **options: Any) -> nn.Module:
    return stacked_rnn(input_size, hidden_size, len(dilations), **options)


def _skip(input_size: int, hidden_size: int, dilations: list[int], **options: Any) -> nn.Module:
    return SkipRNN(input_size, hidden_size, skips=dilations, **options)


def _cnn(input_size: int, hidden_size: int, dilations: list[int], **options: Any) -> nn.Module:
    return DilatedCNN(input_size, hidden_size, dilations=dilations, **options)


def _tcn(input_size: int, hidden_size: int, dilations: list[int], **options: Any) -> nn.Module:
    return DilatedCNN(input_size, hidden_size, dilations=dilations, kernel_size=3, residual=True, **options)


def _min_gru(input_size: int, hidden_size: int, dilations: list[int], **options: Any) -> nn.Module:
    return MinGRU(input_size, hidden_size, len(dilations), **options)


def _lru(input_size: int, hidden_size: int, dilations: list[int], **options: Any) -> nn.Module:
    return LRU(input_size, hidden_size, len(dilations), **options)


KINDS = {
    "dilated": Kind(_dilated, ("cell", "dropout", "backend")),
    "stacked": Kind(_stacked, ("cell", "dropout", "backend"), dilates=False),
    "skip": Kind(_skip, ("cell", "backend")),
    "cnn": Kind(_cnn, ("backend",)),
    "tcn": Kind(_tcn, ("backend",)),
    "min-gru": Kind(_min_gru, ("backend",), dilates=False),
    "lru": Kind(_lru, ("backend",), dilates=False),
}
"""By name, as recipes have it."""

if TYPE_CHECKING:
    KindName: TypeAlias = str
    CellName: TypeAlias = str
    BackendName: TypeAlias = str
else:  # what the command line offers
    KindName, CellName, BackendName = (Literal[tuple(names)] for names in (KINDS, CELLS, BACKEND_NAMES))


@dataclass
class NetworkRecipe:
    """What is trained.

    Attributes:
        network: dilated; stacked: as many layers, all of dilation 1; skip: each layer also reads its state of one
            dilation ago; cnn: dilated causal convolutions of width 2; tcn: of width 3, each added to its input; min-gru
            and lru: as many layers of recurrences whose gates do not read the state.
        cell: of the recurrent networks.
        hidden_size: units of each layer; channels of a cnn or tcn.
        dilations: one per layer, from the bottom.
        keep_bias: what a GRU's update gates or an LSTM's forget gates begin with, by default a GRU's as torch draws
            them and an LSTM's with 1; more of it keeps the state for longer at first.
        dropout: between two layers of a dilated or stacked network.
        backend: what computes the network; auto is the fastest.
    """

    network: KindName = "dilated"
    cell: CellName = "gru"
    hidden_size: int = 20
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    keep_bias: Optional[float] = None
    dropout: float = 0.0
    backend: BackendName = "auto"

    def ignored(self) -> tuple[str, Mapping[str, Any]]:
        """As :class:`Options` has it."""
        kind = KINDS[self.network]
        has = (*kind.options, "keep_bias") if kind.is_recurrent else kind.options
        none = {"cell": "gru", "dropout": 0.0, "keep_bias": None}
        return f"a {self.network} network", {name: value for name, value in none.items() if name not in has}

    def check(self) -> None:
        """Raise ``ValueError`` for options that the network would ignore; sizes are checked by the network itself."""
        refuse_ignored(self)


class AudioInput(NamedTuple):
    """What turns samples into a network's inputs.

    Attributes:
        frontend: it makes features of them.
        mean, std: ``(I,)``, by which the features are standardised.
    """

    frontend: FrontEnd
    mean: Tensor
    std: Tensor


Model = Union[Classifier, Tagger]


def build(
    recipe: NetworkRecipe, input_size: int, num_outputs: int, per_step: bool, audio_input: Optional[AudioInput] = None
) -> Model:
    """A fresh model.

    Args:
        input_size: I, the features per step.
        num_outputs: the classes.
        per_step: whether there is a prediction for every step, or one for the sequence.
        audio_input: what stands before the network, if the model takes samples.

    Raises:
        ValueError, TypeError: an option is out of its range.
    """
    recipe.check()
    kind = KINDS[recipe.network]
    options = {name: getattr(recipe, name) for name in kind.options}
    rnn: Any = kind.build(input_size, recipe.hidden_size, list(recipe.dilations), **options)
    if kind.is_recurrent:
        initialise(rnn, recipe.keep_bias)
    frontend = None if audio_input is None else audio_input.frontend
    head = Tagger(rnn, num_outputs, frontend) if per_step else Classifier(rnn, num_outputs, frontend=frontend)
    if audio_input is not None:
        head.feature_mean.copy_(audio_input.mean)
        head.feature_std.copy_(audio_input.std)
    return head


def load(
    path: Path,
    recipe: NetworkRecipe,
    input_size: int,
    num_outputs: int,
    per_step: bool,
    audio_input: Optional[AudioInput] = None,
) -> Model:
    """The model of the same recipe that :func:`streamdrnn.save_model` wrote, on the CPU, in ``eval()`` mode.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is damaged or of another recipe.
    """
    model, saved = build(recipe, input_size, num_outputs, per_step, audio_input), load_model(path)
    if type(saved) is not type(model) or saved.config() != model.config():
        raise InputError(f"{path}: not a model of the run's recipe")
    model.load_state_dict(saved.state_dict())
    return model.eval()


def seeded(
    recipe: NetworkRecipe,
    seed: int,
    input_size: int,
    num_outputs: int,
    per_step: bool,
    audio_input: Optional[AudioInput] = None,
) -> Model:
    """:func:`build` with weights that follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(recipe, input_size, num_outputs, per_step, audio_input)
