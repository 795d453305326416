"""`streamdrnn train` and `evaluate`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Optional

import tyro

from streamdrnn.apps.training.recipes import SpeakerRecipe

Task = Annotated[
    tyro.conf.Positional[Literal["speaker"]],
    tyro.conf.arg(metavar="TASK", help="speaker: tell the voices of a LibriSpeech folder apart."),
]
DataDir = Annotated[
    Optional[Path],
    tyro.conf.arg(metavar="FOLDER", help="Where the data sets are; by default what STREAMDRNN_DATA names."),
]
Json = Annotated[bool, tyro.conf.arg(help="Print the results as one JSON object.")]


@dataclass
class Train:
    """Train a model, and measure it.

    Writes OUT.safetensors and OUT.md, the model card.

    Example: streamdrnn train speaker --data-dir data --out voices
    """

    task: Task
    out: Annotated[Path, tyro.conf.arg(metavar="OUT", help="What to write, without its ending.")]
    data_dir: DataDir = None
    recipe: SpeakerRecipe = field(default_factory=SpeakerRecipe)
    json: Json = False

    def run(self) -> None:
        from streamdrnn import save_model
        from streamdrnn.apps.training.data import data_folder
        from streamdrnn.apps.training.model_card import model_card
        from streamdrnn.apps.training.speaker import load_speakers, train_speaker_model

        try:
            from streamdrnn.apps.training.progress import training_progress
        except ModuleNotFoundError as error:
            raise ValueError(f"{error}; training needs it: pip install 'streamdrnn[train]'") from None
        self.recipe.check()
        speakers = load_speakers(data_folder(self.data_dir, "librispeech"))
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with training_progress() as progress:
            trained = train_speaker_model(speakers, self.recipe, progress)
        notes = {"task": self.task, "threshold": f"{trained.calibration.threshold:.4f}"}
        save_model(trained.embedder, Path(f"{self.out}.safetensors"), notes)
        card = model_card(trained, self.recipe, len(speakers))
        Path(f"{self.out}.md").write_text(card, encoding="utf-8")
        report({**trained.scores, **trained.calibration._asdict()}, self.json)


@dataclass
class Evaluate:
    """Measure a trained model on the data that its training held back.

    Example: streamdrnn evaluate speaker --data-dir data
    """

    task: Task
    model: Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="The model, if not the shipped one.")] = None
    data_dir: DataDir = None
    json: Json = False

    def run(self) -> None:
        from streamdrnn.apps.speaker_id.model import load_speaker_model
        from streamdrnn.apps.training.data import data_folder
        from streamdrnn.apps.training.speaker import evaluate, load_speakers

        model = load_speaker_model(self.model)
        speakers = load_speakers(data_folder(self.data_dir, "librispeech"))
        report(evaluate(model.embedder, speakers), self.json)


def report(scores: dict[str, float], as_json: bool) -> None:
    """Print scores for people or for programs."""
    if as_json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            print(f"{name:<16} {value:.4f}")
