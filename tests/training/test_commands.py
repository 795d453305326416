"""`train`, `evaluate` and `generate` as their users call them, wrongly too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamdrnn.apps.training.progress import training_progress
from streamdrnn.apps.training.tasks import ptb
from tests.apps.test_cli import Run, run
from tests.training.interrupted import accept_texts, write_texts

__all__ = ["run"]

COPY = ("--blank", "4", "--hidden-size", "4", "--dilations", "1", "2", "--steps", "4", "--batch-size", "8")
TEXT = ("--window", "10", "--hidden-size", "4", "--dilations", "1", "2", "--steps", "4", "--batch-size", "8")


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with texts that are taken for the Penn Treebank."""
    monkeypatch.setattr(ptb, "MD5", dict(ptb.MD5))
    accept_texts()
    write_texts(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "task", ["copy", "mnist", "noisy-mnist", "ptb", "speaker", "activity", "overlap", "csv", "embedder"]
)
def test_every_task_has_help_with_an_example(run: Run, task: str) -> None:
    outcome = run("train", task, "--help")
    assert outcome.code == 0
    assert f"Example: streamdrnn train {task}" in " ".join(outcome.out.split())


def test_generate_has_help_with_an_example(run: Run) -> None:
    assert "Example: streamdrnn generate runs/ptb" in " ".join(run("generate", "--help").out.split())


def test_train_and_evaluate_in_batch_and_as_a_stream(run: Run, tmp_path: Path) -> None:
    outcome = run("train", "copy", *COPY, "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    (results,) = outcome.objects()
    for way in ((), ("--stream",)):
        (scores,) = run("evaluate", tmp_path / "run", *way, "--json").objects()
        assert scores == pytest.approx(results["test"], rel=1e-6)
    assert "test loss" in run("train", "copy", *COPY, "--out", tmp_path / "run", "--resume").out
    run("evaluate", tmp_path / "run", "--model", "x").is_one_line_about("--model is for evaluate embedder")
    run("generate", tmp_path / "run").is_one_line_about("model.safetensors: not a model of text")


def test_train_as_in_the_paper(run: Run, tmp_path: Path) -> None:
    small = ("--blank", "4", "--hidden-size", "4", "--dilations", "1", "2", "--steps", "2")
    assert run("train", "copy", *small, "--paper", "--out", tmp_path / "run").code == 0
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert told["recipe"]["training"]["optimizer"] == "rmsprop"
    assert told["recipe"]["training"]["steps"] == 2
    assert told["recipe"]["training"]["beta2"] == 0.999, "Adam's, which the task has of its own"
    outcome = run("train", "copy", *COPY, "--paper", "--out", tmp_path / "other")
    outcome.is_one_line_about("batch_size: the paper has its own, 128; expected none with --paper")
    assert not (tmp_path / "other").exists()


def test_train_on_text_and_write_some(run: Run, texts: Path) -> None:
    folder = texts / "run"
    assert run("train", "ptb", *TEXT, "--data-dir", texts, "--out", folder).code == 0
    outcome = run("generate", folder, "--prompt", "one", "--length", 30, "--seed", 3)
    assert outcome.code == 0
    assert outcome.out.startswith("one")
    assert len(outcome.out) == 3 + 30 + 1
    refused = run("generate", folder, "--prompt", "zero")
    refused.is_one_line_about("the model knows no 'z'; it knows")
    assert not refused.out
    assert run("evaluate", folder, "--data-dir", texts, "--stream").code == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--blank", "0"), "blank: expected 1 or more, got 0"),
        (("--dilations", "1", "24"), "dilations: the longest is 24, expected less than the 24 steps"),
        (("--dilations", "1", "0"), "dilations[1]: expected 1 or more, got 0"),
        (("--dilations",), "dilations: "),
        (("--network", "cnn", "--dilations"), "dilations: expected one or more"),
        (("--hidden-size", "0"), "hidden_size: expected 1 or more, got 0"),
        (("--dropout", "1"), "dropout: expected a probability"),
        (("--network", "skip", "--dropout", "0.1"), "dropout: a skip network has none"),
        (("--network", "cnn", "--cell", "lstm"), "cell: a cnn network has none, expected gru"),
        (("--steps", "0"), "steps: expected more than 0, got 0"),
        (("--batch-size", "-1"), "batch_size: expected more than 0, got -1"),
        (("--learning-rate", "nan"), "learning_rate: expected more than 0, got nan"),
        (("--learning-rate", "inf"), "learning_rate: expected"),
        (("--beta2", "1"), "beta2: expected 0 to below 1, got 1"),
        (("--optimizer", "rmsprop", "--weight-decay", "0.1"), "weight_decay: rmsprop has none, expected 0"),
        (("--clip", "-1"), "clip: expected 0 or more"),
        (("--seed", "-1"), "seed: expected 0 or more"),
        (("--seed", "2147483648"), "seed: expected less than 2147483648"),
        (("--compile",), "compile: on a CPU only a cnn network is compiled"),
    ],
    ids=" ".join,
)
def test_a_recipe_that_cannot_be_trained_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    run("train", "copy", *COPY, "--out", tmp_path / "run", *options).is_one_line_about(problem)
    assert not (tmp_path / "run").exists()


def test_data_that_do_not_fit_are_refused_before_anything_is_written(run: Run, texts: Path) -> None:
    out = ("--data-dir", texts, "--out", texts / "run")
    run("train", "ptb", *TEXT, *out, "--window", "900").is_one_line_about("streams of windows of 900 take more than")
    run("train", "mnist", *out).is_one_line_about("expected the data set 'mnist'")
    run("train", "noisy-mnist", *out, "--length", "784").is_one_line_about("length: expected more than the 784 pixels")
    assert not (texts / "run").exists()


def test_mixed_precision_without_a_gpu_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = run("train", "copy", *COPY, "--out", tmp_path / "run", "--mixed-precision", "bf16")
    outcome.is_one_line_about("mixed_precision: bf16 is for GPUs, and there is none")
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_gets_one_line(run: Run, tmp_path: Path) -> None:
    run("evaluate", tmp_path / "gone").is_one_line_about("run.json: no such file; expected the folder of a run")
    run("generate", tmp_path / "gone").is_one_line_about("model.safetensors: no such file")
    (tmp_path / "run.json").write_text("{")
    run("evaluate", tmp_path).is_one_line_about("run.json: damaged")
    (tmp_path / "run.json").write_text("[]")
    run("evaluate", tmp_path).is_one_line_about("run.json: damaged")
    (tmp_path / "run.json").write_text('{"task": "copy", "recipe": {"network": {}}}')
    run("evaluate", tmp_path).is_one_line_about("not a run of this release")


def test_tensorboard_gets_the_log_too(run: Run, tmp_path: Path) -> None:
    assert run("train", "copy", *COPY, "--out", tmp_path / "run", "--tensorboard").code == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_off_a_terminal_a_line_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress() as progress:
        for step in range(1, 2001):
            progress("a long name [of] 1 fold, " * 4, step, 2000, 1 / step)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[4] == "a long name [of] 1 fold, " * 4 + ": 1000 of 2000 steps, loss 0.001"


def test_without_the_libraries_training_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['accelerate'] = None\n"
        "from streamdrnn.apps.cli import main\n"
        f"main(['train', 'copy', '--out', {str(tmp_path / 'run')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install '.[train]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_loads_what_trains_only_to_train() -> None:
    script = (
        "import sys, streamdrnn.apps.training.train\n"
        "assert not {'accelerate', 'torchmetrics', 'rich', 'tensorboardX'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
