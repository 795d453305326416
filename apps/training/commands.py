"""`streamdrnn evaluate`, `generate` and `reproduce`, and what `streamdrnn train` shares with them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import tyro

from streamdrnn.errors import InputError, installing

DataDir = Annotated[
    Optional[Path],
    tyro.conf.arg(metavar="FOLDER", help="Where the data sets are; by default what STREAMDRNN_DATA names."),
]
Json = Annotated[bool, tyro.conf.arg(help="Print the results as one JSON object.")]


@dataclass
class Evaluate:
    """Measure a trained model on the data that its training held back.

    Example: streamdrnn evaluate runs/mnist --stream
    """

    run_folder: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            metavar="RUN|embedder|activity|overlap",
            help="The folder of a run, or embedder: the speaker model, or activity: the speech detector beside Silero,"
            " or overlap: the detector of overlapped speech.",
        ),
    ]
    model: Annotated[
        Optional[Path],
        tyro.conf.arg(metavar="FILE", help="The speaker model or detector, if not the shipped one."),
    ] = None
    folds: Annotated[
        Optional[Path],
        tyro.conf.arg(
            metavar="FOLDER",
            help="Speaker models fold-1.safetensors and so on, each judged by the voices that it was trained without."
            " So is the shipped model; of any other, only those corpora count that did not train it.",
        ),
    ] = None
    peer: Annotated[
        Optional[Literal["resemblyzer"]], tyro.conf.arg(help="Judge this on the same trials as the speaker model.")
    ] = None
    stream: Annotated[
        bool, tyro.conf.arg(help="Give the run's model one step after the other, as a live stream does.")
    ] = False
    data_dir: DataDir = None
    json: Json = False

    def run(self) -> None:
        if self.run_folder == "embedder":
            self._embedder()
            return
        for option in ("folds", "peer"):
            if getattr(self, option) is not None:
                raise InputError(f"--{option}: only for evaluate embedder")
        measure = {"activity": self._activity, "overlap": self._overlap}.get(self.run_folder, self._run)
        report(measure(), self.json)

    def _embedder(self) -> None:
        from streamdrnn import model_notes
        from streamdrnn.apps.speaker_id.model import asset, load_speaker_model
        from streamdrnn.apps.training.data import data_folder
        from streamdrnn.apps.training.embedder_judgement import (
            Embed,
            Part,
            compare,
            embedding,
            fold_model,
            fold_models,
            is_of_a_fold,
            markdown,
        )
        from streamdrnn.apps.training.embedder_peers import PEERS
        from streamdrnn.apps.training.embedder_release import calibrated_parts
        from streamdrnn.apps.training.score_calibration import fold_trials
        from streamdrnn.apps.training.voices import CORPORA, training_voices

        if self.stream:
            raise InputError("--stream: the embedder is always measured as a stream's windows")
        if self.folds is not None and self.model is not None:
            raise InputError("--folds: has its own models, expected no --model")
        peers: dict[str, Embed] = {name: load() for name, load in PEERS.items() if name == self.peer}
        root = data_folder(self.data_dir, CORPORA["librispeech"].folder).parent
        voices = training_voices(root, [name for name, corpus in CORPORA.items() if (root / corpus.folder).is_dir()])
        path = self.model or asset("speaker.safetensors")
        if self.folds is None and not is_of_a_fold(model_notes(path)):
            model = load_speaker_model(path)
            parts = [Part(embedding(model.embedder), voices, dict.fromkeys(CORPORA, model.scorer))]
        else:
            models = [fold_model(path, voices)] if self.folds is None else fold_models(self.folds, voices)
            parts = calibrated_parts(models, fold_trials(models, voices))
        compared = compare(parts, peers)
        print(json.dumps(asdict(compared)) if self.json else markdown(compared))

    def _activity(self) -> dict[str, Any]:
        self._check_detector()
        from streamdrnn.apps.speaker_id.model import load_activity_model
        from streamdrnn.apps.training.activity_scores import compare

        return compare(load_activity_model(self.model), self.data_dir)

    def _overlap(self) -> dict[str, Any]:
        self._check_detector()
        from streamdrnn.apps.speaker_id.model import load_overlap_model
        from streamdrnn.apps.training.overlap_scores import measure

        return measure(load_overlap_model(self.model), self.data_dir)

    def _check_detector(self) -> None:
        check_installed()
        if self.stream:
            raise InputError("--stream: a detector's batches give what its streams give")

    def _run(self) -> dict[str, Any]:
        check_installed()
        from streamdrnn.apps.training.evaluation import evaluate
        from streamdrnn.apps.training.run_folder import RunFolder
        from streamdrnn.apps.training.runs import load_run

        if self.model is not None:
            raise InputError("--model: a run has its own model; --model is for evaluate embedder, activity and overlap")
        model, task = load_run(RunFolder(Path(self.run_folder)), self.data_dir)
        return evaluate(model, task, "test", self.stream)


@dataclass
class Generate:
    """Write text with a model that was trained on the Penn Treebank, character by character.

    Example: streamdrnn generate runs/ptb --prompt "the company said " --length 500
    """

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help="The folder of a ptb run.")]
    prompt: Annotated[str, tyro.conf.arg(help="What the text begins with.")] = "\n"
    length: Annotated[int, tyro.conf.arg(help="How many characters.")] = 500
    temperature: Annotated[
        float, tyro.conf.arg(help="Below 1 the text is likelier than the model's, above 1 less; 0: no chance at all.")
    ] = 1.0
    seed: Annotated[int, tyro.conf.arg(help="Of chance.")] = 0

    def run(self) -> None:
        from streamdrnn import Tagger, load_model, model_notes
        from streamdrnn.apps.training.generation import generate
        from streamdrnn.apps.training.run_folder import MODEL

        path = self.run_folder / MODEL
        model, characters = load_model(path), model_notes(path).get("characters")
        if not isinstance(model, Tagger) or characters is None:
            raise InputError(f"{path}: not a model of text")
        text = generate(model, characters, self.prompt, self.length, self.temperature, self.seed)
        print(self.prompt, end="")
        for character in text:
            print(character, end="", flush=True)
        print()


@dataclass
class Reproduce:
    """Train all that a table or figure of the paper needs, and write the report of all tables.

    What the paper claims comes first, then what takes long. Runs that are made already are left alone, and one that was
    interrupted goes on. The report is written after each run, and has every row, those that were not run too, with
    their commands.

    Example: streamdrnn reproduce all --jobs 2
    """

    table: Annotated[
        tyro.conf.Positional[
            Literal[
                "all",
                "copy",
                "mnist",
                "mnist-permuted",
                "noisy-mnist",
                "ptb",
                "speaker",
                "speaker-here",
                "layers",
                "start-dilation",
            ]
        ],
        tyro.conf.arg(help="Which table or figure, or all."),
    ]
    runs: Annotated[Path, tyro.conf.arg(metavar="FOLDER", help="Where the runs are.")] = Path("runs/paper")
    report: Annotated[
        Optional[Path], tyro.conf.arg(metavar="FILE", help="What to write; by default report.md beside the runs.")
    ] = None
    report_only: Annotated[bool, tyro.conf.arg(help="Train nothing.")] = False
    jobs: Annotated[int, tyro.conf.arg(metavar="N", help="How many runs are made at a time.")] = 1
    data_dir: DataDir = None

    def run(self) -> None:
        check_installed()
        from streamdrnn.apps.training.paper.reproduce import train_rows, write_report
        from streamdrnn.apps.training.paper.tables import TABLES

        if self.jobs < 1:
            raise InputError(f"jobs: expected 1 or more, got {self.jobs}")
        page = self.report or self.runs / "report.md"
        write_report(self.runs, page)
        if not self.report_only:
            tables = [table for name, table in TABLES.items() if self.table in ("all", name)]
            train_rows(tables, self.runs, page, self.data_dir, self.jobs)
        print(f"wrote {page}")


def check_installed() -> None:
    """Raise ``ValueError`` if what training needs is not installed."""
    try:
        import accelerate  # noqa: F401
        import matplotlib  # noqa: F401
        import pooch  # noqa: F401
        import rich  # noqa: F401
        import torchmetrics  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; training needs it: {installing('train')}") from None


def report(results: dict[str, Any], as_json: bool) -> None:
    """Print results for people or for programs."""
    if as_json:
        print(json.dumps(results))
        return
    for name, value in results.items():
        if isinstance(value, dict):
            report({f"{name} {key}": item for key, item in value.items()}, as_json=False)
        else:
            print(f"{name:<16} {f'{value:.4f}' if isinstance(value, float) else value}")
