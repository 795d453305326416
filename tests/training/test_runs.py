"""Runs as processes of their own: killed and continued, or on two processes at once, they give the same numbers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from streamdrnn.apps.training.csv_log import read_log
from tests.training.interrupted import write_texts

# Dropout draws random numbers, and the state of the text's streams is carried: both have to be found again.
OPTIONS = (
    *("--steps", "40", "--window", "10", "--batch-size", "8", "--hidden-size", "8", "--dilations", "1", "2", "4"),
    *("--dropout", "0.3", "--validate-every", "10", "--checkpoint-every", "8", "--log-every", "1"),
)

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    write_texts(tmp_path)

    def run(*arguments: str, launcher: tuple[str, ...] = (sys.executable,), **variables: str) -> Any:
        command = [*launcher, "-m", "tests.training.interrupted", *arguments, "--data-dir", str(tmp_path)]
        # On the CPU, where equal is bit for bit.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **variables}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[2]
        )

    return run


def numbers(log: Path) -> list[tuple[int, str, float]]:
    """A log without the lines that a clock writes."""
    return [line for line in read_log(log) if line[1] != "seconds"]


def results(run: Path) -> dict[str, Any]:
    return {k: v for k, v in json.loads((run / "results.json").read_text()).items() if k != "seconds"}


def test_a_run_that_is_killed_and_continued_is_the_uninterrupted_run(start: Start, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ("train", "ptb", *OPTIONS, "--out")
    assert start(*options, str(whole)).returncode == 0
    # Three steps after a checkpoint, and one after a measurement: both are made again.
    died = start(*options, str(killed), KILL_AT="35")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (killed / "results.json").exists()
    before = (killed / "checkpoint.safetensors").read_bytes()
    assert read_log(killed / "log.csv")[-1][0] == 35
    continued = start(*options, str(killed), "--resume")
    assert continued.returncode == 0, continued.stderr
    assert (killed / "checkpoint.safetensors").read_bytes() != before
    ours, theirs = (load_file(run / "model.safetensors") for run in (killed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert numbers(killed / "log.csv") == numbers(whole / "log.csv")
    assert results(killed) == results(whole)
    losses = [value for _, name, value in numbers(whole / "log.csv") if name == "loss"]
    assert losses[-1] < losses[0]


def test_two_processes_train_as_one(start: Start, tmp_path: Path) -> None:
    options = ("train", "ptb", *OPTIONS, "--dropout", "0", "--out")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one, two = tmp_path / "one", tmp_path / "two"
    assert start(*options, str(one)).returncode == 0
    died = start(*options, str(two), launcher=torchrun, KILL_AT="20")
    assert died.returncode != 0
    assert not (two / "results.json").exists()
    done = start(*options, str(two), "--resume", "--json", launcher=torchrun)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 40, "one process reports"
    ours, theirs = numbers(one / "log.csv"), numbers(two / "log.csv")
    assert [line[:2] for line in ours] == [line[:2] for line in theirs]
    assert [line[2] for line in ours] == pytest.approx([line[2] for line in theirs], rel=1e-4)
    assert results(one)["test"]["bits"] == pytest.approx(results(two)["test"]["bits"], rel=1e-4)
    refused = start(*options, str(two), "--resume")
    assert refused.returncode == 1
    assert "a run with processes 2, asked to go on with 1" in refused.stderr
