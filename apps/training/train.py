"""`streamdrnn train`: its tasks' recipes are its options, and load torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeAlias, TypeVar, Union

import tyro

from streamdrnn.apps.training.commands import DataDir, Json, check_installed, report
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe
from streamdrnn.apps.training.ignored_options import without_ignored
from streamdrnn.apps.training.tasks.registry import RECIPES
from streamdrnn.apps.training.tasks.task import Recipe
from streamdrnn.errors import InputError

CorpusName = Literal["librispeech", "speechocean762", "dspspeech20", "arabic_sc", "wuw2"]

R = TypeVar("R", bound=Recipe)


@dataclass
class TrainEmbedder:
    """Tell the voices of several corpora apart: the model that `listen` and `identify` know people by.

    A quarter of the speakers is left out of the training: they calibrate and judge the model. Writes model.safetensors
    and its card model.md. A training that is interrupted goes on where it was. It takes a night on two cores.

    Example: streamdrnn train embedder --data-dir data --out runs/voices
    """

    out: Annotated[Path, tyro.conf.arg(metavar="RUN", help="The folder of the run; one that is there is gone on with.")]
    data_dir: DataDir = None
    without: Annotated[
        tuple[CorpusName, ...],
        tyro.conf.arg(
            help="Corpora to leave out, for their licence: wuw2 is share-alike, speechocean762's is unverified."
        ),
    ] = ()
    all_folds: Annotated[
        bool, tyro.conf.arg(help="Train a model without each other quarter too, so that every speaker judges one.")
    ] = False
    device: Annotated[Literal["cpu", "cuda"], tyro.conf.arg(help="What computes.")] = "cpu"
    recipe: EmbedderRecipe = field(default_factory=EmbedderRecipe)

    def run(self) -> None:
        from streamdrnn import save_model
        from streamdrnn.apps.training.data import data_folder
        from streamdrnn.apps.training.embedder import train_embedders
        from streamdrnn.apps.training.embedder_release import finish_embedder
        from streamdrnn.apps.training.voices import CORPORA, training_voices

        check_installed()
        from streamdrnn.apps.training.progress import training_progress

        self.recipe.check()
        noises = data_folder(self.data_dir, "noise")
        voices = training_voices(noises.parent, [name for name in CORPORA if name not in self.without])
        self.out.mkdir(parents=True, exist_ok=True)
        trained = self.recipe.folds if self.all_folds else 1
        with training_progress() as progress:
            models = train_embedders(voices, noises, self.out, self.recipe, trained, self.device, progress)
        for number, model in enumerate(models):
            notes = {"fold": str(number), "folds": str(self.recipe.folds), "recipe": json.dumps(vars(self.recipe))}
            save_model(model.half(), self.out / f"fold-{number + 1}.safetensors", notes)
        finish_embedder(self.out, voices)


@dataclass
class TrainTask(Generic[R]):
    """Train on a task, in a folder of its own."""

    out: Annotated[Path, tyro.conf.arg(metavar="RUN", help="The folder of the run.")]
    recipe: R
    paper: Annotated[
        bool,
        tyro.conf.arg(
            help="Train as the original code does: RMSProp at a constant 0.001 without clipping, in batches of 128. For"
            " as long as it does give --steps 30000."
        ),
    ] = False
    download: Annotated[
        bool,
        tyro.conf.arg(help="Fetch the data set (mnist or ptb) into the data folder, by default the user's cache."),
    ] = False
    resume: Annotated[
        bool, tyro.conf.arg(help="Go on where the run in the folder was interrupted; begin if there is none.")
    ] = False
    data_dir: DataDir = None
    json: Json = False

    def run(self) -> None:
        check_installed()
        from streamdrnn.apps.training.downloads import SOURCES, download
        from streamdrnn.apps.training.progress import training_progress
        from streamdrnn.apps.training.run_folder import RunFolder
        from streamdrnn.apps.training.trainer import Trainer

        fields: Any = type(self.recipe).__dataclass_fields__
        network, training = (fields[name].default_factory() for name in ("network", "training"))
        if self.paper:
            self.recipe.training = self.recipe.training.as_in_paper(training)
        self.recipe.training = without_ignored(self.recipe.training, training)
        self.recipe.network = without_ignored(self.recipe.network, network)
        self.recipe.training.check()
        if self.download:
            if self.recipe.data_set not in SOURCES:
                raise InputError(f"--download: expected one of the tasks on {' and '.join(SOURCES)}")
            download(self.recipe.data_set, self.data_dir)
        task = self.recipe.load(self.data_dir)
        trainer = Trainer(self.recipe, task, RunFolder(self.out), self.resume)
        if not trainer.accelerator.is_main_process:
            trainer.run(lambda *at: None)
            return
        with training_progress() as progress:
            results = trainer.run(lambda *at: progress(self.recipe.name, *at))
        report(results, self.json)


def _task_command(recipe: type[Recipe]) -> Any:
    """The subcommand that trains a task."""
    assert recipe.__doc__ is not None
    what = recipe.__doc__.splitlines()[0]
    description = f"{what}\n\nExample: streamdrnn train {recipe.name} {recipe.example}"
    return Annotated[TrainTask[recipe], tyro.conf.subcommand(recipe.name, description=description)]  # type: ignore[valid-type]


if TYPE_CHECKING:
    AnyTask: TypeAlias = TrainTask[Recipe]
else:  # what the command line offers
    AnyTask = Union[tuple(map(_task_command, RECIPES.values()))]


@dataclass
class Train:
    """Train a model, and measure it.

    A task's run gets a folder with its configuration, log, checkpoints, best model and results. On several devices:
    torchrun --nproc-per-node 2 -m streamdrnn.apps.cli train mnist --out runs/mnist

    Example: streamdrnn train mnist --permuted --out runs/mnist
    """

    task: Union[AnyTask, Annotated[TrainEmbedder, tyro.conf.subcommand("embedder")]]

    def run(self) -> None:
        self.task.run()
