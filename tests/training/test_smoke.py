"""Every task is learned: within seconds far better than chance, and with HYPOTHESIS_PROFILE=full, in minutes, well."""

import os
from pathlib import Path
from typing import Any

import pytest

from streamdrnn.apps.training.csv_log import read_log
from tests.apps.test_cli import Run, run

__all__ = ["run"]

ADAM = ("--optimizer", "adam", "--learning-rate")
QUICK = ("--batch-size", "32", "--cell", "rnn")


def train(run: Run, folder: Path, task: str, *options: str) -> dict[str, Any]:
    """The results of a run on the data that STREAMDRNN_DATA names."""
    outcome = run("train", task, *options, "--log-every", "5", "--out", folder, "--json")
    assert outcome.code == 0, outcome.err
    losses = [value for _, name, value in read_log(folder / "log.csv") if name == "loss"]
    third = len(losses) // 3
    assert sum(losses[-third:]) < 0.95 * sum(losses[:third])
    return outcome.objects()[0]


def test_copying_is_learned(run: Run, tmp_path: Path) -> None:
    network = ("--dilations", "1", "2", "4", "8", "16", "--hidden-size", "32")
    results = train(run, tmp_path / "run", "copy", "--blank", "10", *QUICK, *network, "--steps", "1000", *ADAM, "0.005")
    assert results["test"]["loss"] < 0.3 * results["chance"]["loss"]


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize(
    ("task", "options", "accuracy"),
    [
        pytest.param("mnist", (), 0.4, marks=pytest.mark.full),
        pytest.param("mnist", ("--permuted",), 0.4, marks=pytest.mark.full),
        ("noisy-mnist", ("--length", "1000"), 0.25),
    ],
)
def test_digits_are_learned(run: Run, tmp_path: Path, task: str, options: tuple[str, ...], accuracy: float) -> None:
    results = train(run, tmp_path / "run", task, *options, *QUICK, "--steps", "60", *ADAM, "0.003")
    assert results["test"]["accuracy"] > accuracy, "chance is 0.1"
    assert results["test"]["loss"] < 0.9 * results["chance"]["loss"]


@pytest.mark.usefixtures("data_dir")
def test_text_is_learned(run: Run, tmp_path: Path) -> None:
    network = ("--dilations", "1", "2", "4", "--hidden-size", "32", "--window", "20", "--dropout", "0")
    results = train(run, tmp_path / "run", "ptb", *network, "--steps", "300", "--learning-rate", "0.004")
    assert results["test"]["bits"] < 0.85 * results["chance"]["bits"]
    in_batch = run("evaluate", tmp_path / "run", "--json").objects()[0]
    assert in_batch == pytest.approx(results["test"])
    assert run("evaluate", tmp_path / "run", "--stream", "--json").objects()[0] == pytest.approx(in_batch, rel=1e-6)


@pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "full", reason="takes minutes: HYPOTHESIS_PROFILE=full")
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize(
    ("task", "options", "metric", "least", "most"),
    [
        ("copy", ("--blank", "500", "--cell", "rnn"), "loss", 0, 0.004),
        ("mnist", ("--steps", "1500"), "accuracy", 0.9, 1),
        ("mnist", ("--steps", "1500", "--permuted"), "accuracy", 0.8, 1),
        ("noisy-mnist", ("--steps", "1500"), "accuracy", 0.85, 1),
        ("ptb", ("--steps", "600", "--hidden-size", "128"), "bits", 0, 2.2),
    ],
)
def test_in_minutes_every_task_is_learned_well(
    run: Run, tmp_path: Path, task: str, options: tuple[str, ...], metric: str, least: float, most: float
) -> None:
    assert least <= train(run, tmp_path / "run", task, *options)["test"][metric] <= most
