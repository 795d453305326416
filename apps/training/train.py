"""`streamdrnn train`: its tasks' recipes are its options, and load torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union

import tyro

from streamdrnn.apps.training.commands import DataDir, Json, check_installed, report
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe
from streamdrnn.apps.training.tasks.activity import ActivityRecipe
from streamdrnn.apps.training.tasks.copying import CopyRecipe
from streamdrnn.apps.training.tasks.labelled_series import CSVRecipe
from streamdrnn.apps.training.tasks.mnist import MNISTRecipe, NoisyMNISTRecipe
from streamdrnn.apps.training.tasks.ptb import PTBRecipe
from streamdrnn.apps.training.tasks.speaker import SpeakerRecipe
from streamdrnn.apps.training.tasks.task import Recipe
from streamdrnn.errors import InputError

R = TypeVar("R", bound=Recipe)


@dataclass
class TrainEmbedder:
    """Tell the voices of a LibriSpeech folder apart.

    Writes OUT.safetensors and OUT.md, the model card.

    Example: streamdrnn train embedder --data-dir data --out voices
    """

    out: Annotated[Path, tyro.conf.arg(metavar="OUT", help="What to write, without its ending.")]
    data_dir: DataDir = None
    recipe: EmbedderRecipe = field(default_factory=EmbedderRecipe)
    json: Json = False

    def run(self) -> None:
        from streamdrnn import save_model
        from streamdrnn.apps.training.data import data_folder
        from streamdrnn.apps.training.embedder import check_folds, load_speakers, train_embedder
        from streamdrnn.apps.training.model_card import model_card

        check_installed()
        from streamdrnn.apps.training.progress import training_progress

        self.recipe.check()
        folder = data_folder(self.data_dir, "librispeech")
        check_folds(load_speakers(folder), self.recipe.folds)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with training_progress() as progress:
            trained = train_embedder(folder, self.recipe, progress)
        notes = {"task": "embedder", "threshold": f"{trained.unheard.threshold:.4f}"}
        save_model(trained.embedder, Path(f"{self.out}.safetensors"), notes)
        card = model_card(trained, self.recipe)
        Path(f"{self.out}.md").write_text(card, encoding="utf-8")
        report({**trained.scores, **trained.unheard._asdict()}, self.json)


@dataclass
class TrainTask(Generic[R]):
    """Train on a task, in a folder of its own."""

    out: Annotated[Path, tyro.conf.arg(metavar="RUN", help="The folder of the run.")]
    recipe: R
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


def task_command(name: str, what: str, example: str) -> Any:
    """The subcommand that trains a task."""
    return tyro.conf.subcommand(name, description=f"{what}\n\nExample: streamdrnn train {name} {example}")


@dataclass
class Train:
    """Train a model, and measure it.

    A task's run gets a folder with its configuration, log, checkpoints, best model and results. On several devices:
    torchrun --nproc-per-node 2 -m streamdrnn.apps.cli train mnist --out runs/mnist

    Example: streamdrnn train mnist --permuted --out runs/mnist
    """

    task: Union[
        Annotated[
            TrainTask[CopyRecipe],
            task_command("copy", "Recall ten symbols after a long blank.", "--blank 1000 --out runs/copy"),
        ],
        Annotated[
            TrainTask[MNISTRecipe],
            task_command("mnist", "Tell digits that are read pixel by pixel.", "--permuted --out runs/mnist"),
        ],
        Annotated[
            TrainTask[NoisyMNISTRecipe],
            task_command("noisy-mnist", "Tell digits that noise follows.", "--length 2000 --out runs/noisy"),
        ],
        Annotated[
            TrainTask[PTBRecipe],
            task_command("ptb", "Predict the next character of the Penn Treebank.", "--out runs/ptb"),
        ],
        Annotated[
            TrainTask[SpeakerRecipe],
            task_command(
                "speaker",
                "Tell which of N known speakers says this.",
                "--dataset librispeech --features mfcc --dilations 1 2 4 8 --out runs/speaker",
            ),
        ],
        Annotated[
            TrainTask[ActivityRecipe],
            task_command("activity", "Tell when there is speech, as a large teacher does.", "--out runs/activity"),
        ],
        Annotated[
            TrainTask[CSVRecipe],
            task_command("csv", "Label series of your own.", "--data walks.csv --out runs/walks"),
        ],
        Annotated[TrainEmbedder, tyro.conf.subcommand("embedder")],
    ]

    def run(self) -> None:
        self.task.run()
