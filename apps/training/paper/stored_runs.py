"""The runs of the paper's rows, as they lie below one folder."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from streamdrnn.apps.option_style import OPTION_STYLE
from streamdrnn.apps.training.csv_log import read_log
from streamdrnn.apps.training.paper.tables import TABLES, Options
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.tasks.copying import SYMBOLS
from streamdrnn.apps.training.tasks.task import Recipe
from streamdrnn.apps.training.train import Train, TrainTask


class StoredRun(NamedTuple):
    """A run that has come to its end.

    Attributes:
        configuration: what was trained, where and by which command.
        results: what came of it.
        log: lines of step, name and value.
    """

    configuration: dict[str, Any]
    results: dict[str, Any]
    log: list[tuple[int, str, float]]

    @property
    def loss_unit(self) -> float:
        """What makes a loss per step of the copy task one per recalled symbol, for which chance is ln 8."""
        return math.log(SYMBOLS) / float(self.results["chance"]["loss"])

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """The steps and values of one of its logged quantities."""
        lines = [(step, value) for step, kind, value in self.log if kind == name]
        return [step for step, _ in lines], [value for _, value in lines]

    def minutes(self, steps: int) -> float:
        """How long so many steps take where nothing disturbs them: each as long as the fastest tenth of them did.

        Most runs shared their machine with other work, some of the time.
        """
        at, seconds = self.curve("seconds")
        return steps * float(np.quantile(np.diff([0.0, *seconds]) / np.diff([0, *at]), 0.1)) / 60


def stored_runs(folder: Path) -> dict[str, StoredRun | None]:
    """The runs of all rows, by their folders; None where one was not made, or did not come to its end.

    Raises:
        ValueError: a run is damaged, or of another recipe than its row's.
    """
    rows = [row for table in TABLES.values() for row in table.rows]
    return {
        row.run_of(seed): _stored(folder / row.run_of(seed), row.options_of(seed)) for row in rows for seed in row.seeds
    }


def recipe_of(options: Options) -> Recipe:
    """The recipe that options of ``streamdrnn train`` make."""
    command = tyro.cli(Train, args=[*options, "--out", "unused"], config=OPTION_STYLE)
    assert isinstance(command.task, TrainTask)
    recipe: Recipe = command.task.recipe
    return recipe


def _stored(path: Path, options: Options) -> StoredRun | None:
    folder = RunFolder(path)
    results = folder.results()
    if results is None:
        return None
    folder.check_recipe(recipe_of(options))
    return StoredRun(folder.configuration(), results, read_log(folder.log))
