"""Killed at any moment, also while a file is written, a run goes on to the numbers of a run that was not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from streamdrnn import load_model
from streamdrnn.apps.training import checkpoint, network
from streamdrnn.apps.training.csv_log import CSVLog, read_log
from streamdrnn.apps.training.evaluation import evaluate
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.tasks.copying import CopyRecipe
from streamdrnn.apps.training.tasks.labelled_series import CSVRecipe
from streamdrnn.apps.training.tasks.task import Batch, Task
from streamdrnn.apps.training.trainer import Trainer
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from tests.training.test_labelled_series import remembered

RECIPE = CopyRecipe(
    blank=3,
    network=NetworkRecipe(hidden_size=6, dilations=(1, 2), dropout=0.2),
    # Every second measurement is made without a checkpoint.
    training=TrainingRecipe(
        steps=8, batch_size=8, validate_every=2, checkpoint_every=4, log_every=1, learning_rate=0.02
    ),
)


class KilledError(BaseException):
    """Nothing in a trainer handles it."""


def train(folder: Path, resume: bool = False) -> dict[str, Any]:
    return Trainer(RECIPE, RECIPE.load(None), RunFolder(folder), resume).run(lambda *at: None)


def interrupted(folder: Path, step: int) -> None:
    def die(at: int, steps: int, loss: float) -> None:
        if at == step:
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(RECIPE, RECIPE.load(None), RunFolder(folder), resume=False).run(die)


def same(ours: Path, theirs: Path) -> None:
    for name in ("model.safetensors", "checkpoint.safetensors"):
        mine, wanted = load_file(ours / name), load_file(theirs / name)
        assert mine.keys() == wanted.keys()
        assert all(torch.equal(mine[key], value) for key, value in wanted.items()), name
    logs = [[line for line in read_log(folder / "log.csv") if line[1] != "seconds"] for folder in (ours, theirs)]
    assert logs[0] == logs[1]
    mine, wanted = (json.loads((folder / "results.json").read_text()) for folder in (ours, theirs))
    assert {**mine, "seconds": 0} == {**wanted, "seconds": 0}


class Dying:
    """``os.replace`` that dies at one of its calls, with the file in its place or not."""

    def __init__(self, at: int, written: bool) -> None:
        self.at, self.written = at, written
        self.files: list[str] = []
        self.replace = os.replace

    def __call__(self, source: Any, target: Any) -> None:
        now = len(self.files) == self.at
        self.files.append(Path(target).name)
        if not now or self.written:
            self.replace(source, target)
        if now:
            raise KilledError


@pytest.mark.parametrize("written", [False, True])
def test_killed_before_or_after_any_file_is_put_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    train(tmp_path / "whole")
    for number in range(100):
        folder, dying = tmp_path / f"killed-{number}", Dying(number, written)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dying)
            try:
                train(folder)
                break
            except KilledError:
                pass
        train(folder, resume=True)
        same(folder, tmp_path / "whole")
    assert {"run.json", "log.csv", "model.safetensors", "checkpoint.safetensors", "results.json"} <= set(dying.files)
    assert number == len(dying.files) >= 6, "every file was one to die at"


def test_the_model_in_the_folder_is_the_best_that_the_checkpoint_knows(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", step=7)  # measured last at 6, and kept at 4
    later = load_file(tmp_path / "run" / "model.safetensors")
    task = RECIPE.load(None)
    trainer = Trainer(RECIPE, task, RunFolder(tmp_path / "run"), resume=True)
    assert trainer.progress.step == trainer.progress.best_step == 4
    best = load_model(tmp_path / "run" / "model.safetensors")
    assert evaluate(best, task, "valid") == trainer.progress.best
    assert any(not torch.equal(later[name], value) for name, value in best.state_dict().items())


def test_a_log_is_whole_also_when_its_last_line_or_its_shortening_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CSVLog(tmp_path / "log.csv")
    log.start()
    for step in range(1, 6):
        log.log({"loss": step / 2}, step=step)
    with log.path.open("a") as file:
        file.write("6,lo")
    again = CSVLog(log.path)
    again.first_step = 4

    monkeypatch.setattr(os, "replace", Dying(0, written=False))
    with pytest.raises(KilledError):
        again.start()
    monkeypatch.undo()
    assert len(read_log(log.path)) == 5
    again.start()
    again.log({"loss": 9}, step=5)
    assert read_log(log.path) == [(1, "loss", 0.5), (2, "loss", 1), (3, "loss", 1.5), (4, "loss", 2), (5, "loss", 9)]
    log.path.write_bytes(log.path.read_bytes().replace(b"\r\n", b"\n"))  # as git and editors may do
    assert read_log(log.path)[-1] == (5, "loss", 9)


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    path = remembered(tmp_path / "f.csv")
    recipe = CSVRecipe(
        data=str(path),
        network=NetworkRecipe(hidden_size=4, dilations=(1,)),
        training=TrainingRecipe(steps=2, batch_size=8),
    )

    def start(resume: bool) -> None:
        Trainer(recipe, recipe.load(None), RunFolder(tmp_path / "run"), resume).run(lambda *at: None)

    start(resume=False)
    start(resume=True)
    remembered(path, seed=1)
    with pytest.raises(ValueError, match="the data have changed since the run was started: other mean"):
        start(resume=True)


def test_a_run_whose_file_says_nothing_does_not_go_on(tmp_path: Path) -> None:
    train(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="a run with task None, asked to go on with copy"):
        train(tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run")
    trainer = Trainer(RECIPE, RECIPE.load(None), RunFolder(tmp_path / "new"), resume=False)
    trainer.model.output = torch.nn.Linear(6, 3)
    with pytest.raises(ValueError, match="the checkpoint is of a network of another size"):
        checkpoint.restore(
            checkpoint.read(tmp_path / "run" / "checkpoint.safetensors"), trainer.model, trainer.optimizer
        )


def test_more_processes_than_sequences_measure_the_same(tmp_path: Path) -> None:
    class One(Task):
        input_size, num_outputs, length, per_step, metric, higher_is_better = 2, 3, 5, False, "accuracy", True

        def batch(self, step: int) -> Batch:
            return Batch(torch.zeros(5, 1, 2), torch.zeros(1, dtype=torch.int64))

        def evaluation(self, split: Any) -> Any:
            for size in (3, 1):
                yield Batch(
                    torch.ones(5, size, 2), torch.zeros(size, dtype=torch.int64), lengths=torch.full((size,), 4)
                )

    model = network.seeded(RECIPE.network, 0, 2, 3, per_step=False)
    for as_stream in (False, True):
        shares = [evaluate(model, One(), "test", as_stream, process, 2)["loss"] for process in range(2)]
        assert shares[0] == pytest.approx(shares[1], rel=1e-5)
