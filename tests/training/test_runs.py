"""Runs whose process is killed, and that go on in another one, and runs on two processes give the same numbers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from streamdrnn.apps.training.csv_log import read_log
from tests.apps.test_cli import Run, run
from tests.training.test_commands import texts

__all__ = ["run", "texts"]

# Dropout draws random numbers, and the state of the text's streams is carried: both have to be found again.
OPTIONS = (
    *("--steps", "40", "--window", "10", "--batch-size", "8", "--hidden-size", "8", "--dilations", "1", "2", "4"),
    *("--dropout", "0.3", "--validate-every", "10", "--checkpoint-every", "8", "--log-every", "1"),
)

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where equal is bit for bit. Of this process, accelerate remembers another device."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def start(texts: Path) -> Start:
    """Starts a command in a process of its own."""

    def call(*arguments: object, launcher: tuple[str, ...] = (sys.executable,), **variables: str) -> Any:
        command = [*launcher, "-m", "tests.training.interrupted", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[2]
        )

    return call


def numbers(log: Path) -> list[tuple[int, str, float]]:
    """A log without the lines that a clock writes."""
    return [line for line in read_log(log) if line[1] != "seconds"]


def results(run: Path) -> dict[str, Any]:
    return {k: v for k, v in json.loads((run / "results.json").read_text()).items() if k != "seconds"}


def test_a_run_that_is_killed_and_continued_is_the_uninterrupted_run(start: Start, run: Run, texts: Path) -> None:
    whole, killed = texts / "whole", texts / "killed"
    options = ("train", "ptb", *OPTIONS, "--data-dir", texts, "--out")
    assert run(*options, whole).code == 0
    # Three steps after a checkpoint, and one after a measurement: both are made again.
    died = start(*options, killed, KILL_AT="35")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (killed / "results.json").exists()
    before = (killed / "checkpoint.safetensors").read_bytes()
    assert read_log(killed / "log.csv")[-1][0] == 35
    continued = run(*options, killed, "--resume")
    assert continued.code == 0, continued.err
    assert (killed / "checkpoint.safetensors").read_bytes() != before
    ours, theirs = (load_file(run / "model.safetensors") for run in (killed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert numbers(killed / "log.csv") == numbers(whole / "log.csv")
    assert results(killed) == results(whole)
    losses = [value for _, name, value in numbers(whole / "log.csv") if name == "loss"]
    assert losses[-1] < losses[0]


@pytest.mark.full
def test_two_processes_train_as_one(start: Start, run: Run, texts: Path) -> None:
    options = ("train", "ptb", *OPTIONS, "--dropout", "0", "--data-dir", texts, "--out")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one, two = texts / "one", texts / "two"
    assert run(*options, one).code == 0
    died = start(*options, two, launcher=torchrun, KILL_AT="20")
    assert died.returncode != 0
    assert not (two / "results.json").exists()
    done = start(*options, two, "--resume", "--json", launcher=torchrun)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 40, "one process reports"
    ours, theirs = numbers(one / "log.csv"), numbers(two / "log.csv")
    assert [line[:2] for line in ours] == [line[:2] for line in theirs]
    assert [line[2] for line in ours] == pytest.approx([line[2] for line in theirs], rel=1e-4)
    assert results(one)["test"]["bits"] == pytest.approx(results(two)["test"]["bits"], rel=1e-4)
    run(*options, two, "--resume").is_one_line_about("a run with processes 2, asked to go on with 1")
