"""Series of one's own: files are read as described, wrong ones refused in a line, and padding tells nothing."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from streamdrnn import StreamingDRNN, load_model, model_notes
from streamdrnn.apps.training import network
from streamdrnn.apps.training.evaluation import evaluate
from streamdrnn.apps.training.network import KINDS, NetworkRecipe
from streamdrnn.apps.training.prediction import predict
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.series_file import read_series
from streamdrnn.apps.training.tasks.labelled_series import CSVRecipe, SeriesTask
from streamdrnn.apps.training.tasks.task import IGNORED
from streamdrnn.apps.training.trainer import Trainer
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from tests.apps.test_cli import Run, run

__all__ = ["run"]

HEAD = "series,label,split,x,y\n"
GOOD = HEAD + "a,up,train,1,2\nb,down,train,3,4\na,up,train,5,6\nc,up,valid,7,8\nd,down,test,9,10\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def remembered(path: Path, count: int = 120, per_step: bool = False, seed: int = 0) -> Path:
    """Series of 5 to 20 steps of noise; the label is the sign of the first number, which only memory can tell.

    With ``per_step`` it is the sign of the number two steps ago.
    """
    chance = random.Random(seed)
    lines = ["series,label,big,same"]
    for number in range(count):
        values = [chance.choice([-1, 1]) * chance.uniform(0.5, 1) for _ in range(chance.randint(5, 20))]
        for step, value in enumerate(values):
            decided_by = values[max(0, step - 2)] if per_step else values[0]
            lines.append(f"s{number},{'plus' if decided_by > 0 else 'minus'},{1000 + 50 * value},7")
    return write(path, "\n".join(lines) + "\n")


def load(path: Path, per_step: bool = False, **options: int) -> SeriesTask:
    return CSVRecipe(
        data=str(path),
        per_step=per_step,
        training=TrainingRecipe(**{"batch_size": 8, **options}),  # type: ignore[arg-type]
    ).load(None)


def test_rows_are_gathered_by_series_in_their_order(tmp_path: Path) -> None:
    content = read_series(write(tmp_path / "f.csv", GOOD), per_step=False)
    assert content.features == ["x", "y"]
    assert list(content.series) == ["a", "b", "c", "d"]
    assert content.series["a"].values == [[1, 2], [5, 6]]
    assert content.series["a"].labels == ["up", "up"]
    assert [series.split for series in content.series.values()] == ["train", "train", "valid", "test"]


def test_columns_are_found_by_name_and_quotes_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    lines = ('\ufeffy,label,"x, in m",series,split', '1,"a ""b""",2,s,train', "", "3,c,4,t,train", "5,c,6,u,valid")
    text = "\r\n".join((*lines, "7,c,8,v,test"))
    content = read_series(write(tmp_path / "f.csv", text), per_step=False)
    assert content.features == ["y", "x, in m"]
    assert content.series["s"].labels == ['a "b"']
    assert content.series["t"].values == [[3, 4]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 0: no column 'series'"),
        ("series;label;x\n", "line 1: no column 'series', expected the names of the columns, with commas between"),
        ("series,x\n", "line 1: no column 'label'"),
        ("series,label,x,x\n", "line 1: two columns 'x'"),
        ("series,label,split\n", "line 1: no features"),
        (HEAD, "no series in train; a column 'split' says which are"),
        (HEAD + "a,up,train,1\n", "line 2: 4 fields, expected 5"),
        (HEAD + "a,up,train,1,2,3\n", "line 2: 6 fields, expected 5"),
        (HEAD + "a,up,train,1,two\n", "line 2: y is 'two', expected a finite number"),
        (HEAD + "a,up,train,,2\n", "line 2: x is '', expected a finite number"),
        (HEAD + "a,up,train,nan,2\n", "line 2: x is 'nan', expected a finite number"),
        (HEAD + "a,up,train,1,-inf\n", "line 2: y is '-inf', expected a finite number"),
        (HEAD + "a,up,train,1,1e999\n", "line 2: y is '1e999', expected a finite number"),
        (HEAD + ",up,train,1,2\n", "line 2: no series"),
        (HEAD + "a, ,train,1,2\n", "line 2: no label"),
        (HEAD + "a,up,dev,1,2\n", "line 2: split 'dev', expected train, valid or test"),
        (HEAD + "a,up,train,1,2\na,up,test,1,2\n", "line 3: series 'a' is in train and in test"),
        (HEAD + "a,up,train,1,2\na,down,train,1,2\n", "line 3: series 'a' has labels 'up' and 'down'; --per-step"),
        (HEAD + 'a,"up,train,1,2\n', "line 2: unexpected end of data"),
        (GOOD.replace("valid", "train"), "no series in valid"),
        (GOOD.replace("test", "valid"), "no series in test"),
        (GOOD.replace("down", "up"), "one label in train, 'up', expected two or more"),
        (GOOD.replace("c,up", "c,sideways"), "no series in train has the label 'sideways'"),
        (GOOD.replace("1,2", "1e308,2").replace("3,4", "-1e308,4"), "x: has numbers that are too large"),
        (GOOD.replace("9,10", "9,1e300"), "y: has numbers that are too large"),
    ],
)
def test_a_wrong_file_gets_one_line_before_anything_is_written(
    run: Run, tmp_path: Path, text: str, problem: str
) -> None:
    path = write(tmp_path / "f.csv", text)
    run("train", "csv", "--data", path, "--out", tmp_path / "run").is_one_line_about(problem)
    assert not (tmp_path / "run").exists()


def test_what_is_no_text_file_gets_one_line(run: Run, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    run("train", "csv", "--data", tmp_path / "gone.csv", *out).is_one_line_about("gone.csv: no such file")
    run("train", "csv", "--data", tmp_path, *out).is_one_line_about("no such file; expected a CSV file")
    (tmp_path / "f.csv").write_bytes(HEAD.encode() + b"\xff\xfe,1\n")
    run("train", "csv", "--data", tmp_path / "f.csv", *out).is_one_line_about("f.csv: not UTF-8")


def test_without_a_split_series_are_divided_by_their_names_alone(tmp_path: Path) -> None:
    first = read_series(remembered(tmp_path / "a.csv", 1000), per_step=False).series
    shares = [sum(series.split == part for series in first.values()) / 1000 for part in ("train", "valid", "test")]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.04)
    second = read_series(remembered(tmp_path / "b.csv", 200, seed=1), per_step=False).series
    assert all(first[name].split == series.split for name, series in second.items())
    # In every release: a model must not be tested on what trained it.
    assert [first[f"s{number}"].split for number in range(4)] == ["test", "test", "train", "train"]


def test_features_are_standardised_by_what_trains(tmp_path: Path) -> None:
    task = load(write(tmp_path / "f.csv", GOOD.replace("9,10", "9,4")))
    steps = np.array([[1, 2], [5, 6], [3, 4]])
    test = next(task.evaluation("test"))
    assert test.x[0, 0].tolist() == pytest.approx(((np.array([9, 4]) - steps.mean(0)) / steps.std(0)).tolist())
    constant = load(remembered(tmp_path / "g.csv"))
    assert torch.equal(next(constant.evaluation("test")).x[:, :, 1].unique(), torch.zeros(1)), "a constant is 0"


def test_an_epoch_has_every_series_once_also_where_a_batch_takes_more_than_one(tmp_path: Path) -> None:
    task = load(remembered(tmp_path / "f.csv"), batch_size=32)
    count = len(task._parts["train"])
    assert count % 32
    firsts = torch.cat([task.batch(step).x[0, :, 0] for step in range(count)])  # 32 epochs
    _, times = firsts.unique(return_counts=True)
    assert times.tolist() == [32] * count
    assert not torch.equal(firsts[:count], firsts[count : 2 * count]), "every epoch has its own order"
    again = load(tmp_path / "f.csv", batch_size=32)
    assert torch.equal(again.batch(7).x, task.batch(7).x)
    assert not torch.equal(load(tmp_path / "f.csv", batch_size=32, seed=1).batch(7).x, task.batch(7).x)
    whole = load(tmp_path / "f.csv", batch_size=5 * count).batch(0)
    assert whole.x.shape[1] == 5 * count


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_tells_nothing(tmp_path: Path, kind: str, per_step: bool) -> None:
    task = load(remembered(tmp_path / "f.csv", per_step=per_step), per_step)
    recipe = NetworkRecipe(network=kind, hidden_size=5, dilations=(2, 4))
    model = network.seeded(recipe, 1, task.input_size, task.num_outputs, per_step).eval()
    for batch in (task.batch(0), next(task.evaluation("test"))):
        assert batch.lengths is not None
        assert len(batch.lengths.unique()) > 2
        beyond = torch.arange(len(batch.x))[:, None] >= batch.lengths
        with torch.no_grad():
            logits = predict(model, batch, None, per_step)[0]
            poisoned = predict(model, batch._replace(x=batch.x.masked_fill(beyond[:, :, None], 1e3)), None, per_step)[0]
            for number, length in enumerate(batch.lengths.tolist()):
                alone = model.output(model.rnn(batch.x[:length, number : number + 1])[0][:, 0])
                mine = logits[:length, number] if per_step else logits[number]
                assert torch.allclose(mine, alone if per_step else alone[-1], atol=1e-6)
                assert torch.equal(mine, poisoned[:length, number] if per_step else poisoned[number])
        if per_step:
            assert torch.equal(batch.target == IGNORED, beyond)


@pytest.mark.parametrize("per_step", [False, True])
def test_what_only_memory_can_tell_is_learned_and_streamed(run: Run, tmp_path: Path, per_step: bool) -> None:
    path = remembered(tmp_path / "f.csv", 300, per_step)
    options = ("--dilations", "1", "2", "4", "--hidden-size", "16", "--steps", "150", "--learning-rate", "0.02")
    flag = ("--per-step",) if per_step else ()
    outcome = run("train", "csv", "--data", path, *flag, *options, "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    results: Any = outcome.objects()[0]
    assert results["chance"]["accuracy"] < 0.7
    assert results["test"]["accuracy"] > 0.95
    assert results["test"]["loss"] < 0.4 * results["chance"]["loss"]
    in_batch = run("evaluate", tmp_path / "run", "--json").objects()[0]
    as_stream = run("evaluate", tmp_path / "run", "--stream", "--json").objects()[0]
    assert in_batch == pytest.approx(results["test"])
    assert as_stream == pytest.approx(in_batch, rel=1e-6)


def test_the_notes_are_enough_to_use_the_model_outside(run: Run, tmp_path: Path) -> None:
    path = remembered(tmp_path / "f.csv", 300)
    options = ("--dilations", "1", "2", "4", "--hidden-size", "16", "--steps", "150", "--learning-rate", "0.02")
    assert run("train", "csv", "--data", path, *options, "--out", tmp_path / "run").code == 0
    notes = {name: json.loads(text) for name, text in model_notes(tmp_path / "run" / "model.safetensors").items()}
    assert notes["features"] == ["big", "same"]
    stream = StreamingDRNN(load_model(tmp_path / "run" / "model.safetensors"))
    for first, label in ((1.0, "plus"), (-1.0, "minus")):
        stream.reset()
        for value in (first, 0.5, -0.5, 0.6, -0.7, 0.6):
            x_t = torch.tensor([[1000 + 50 * value, 7]])
            logits = stream.step((x_t - torch.tensor(notes["mean"])) / torch.tensor(notes["std"]))
        assert notes["labels"][int(logits.argmax())] == label


def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    recipe = CSVRecipe(
        data=str(remembered(tmp_path / "f.csv")),
        network=NetworkRecipe(hidden_size=5, dilations=(1, 2), dropout=0.3),
        training=TrainingRecipe(steps=12, batch_size=8, validate_every=4, checkpoint_every=4),
    )

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    def train(name: str, resume: bool = False) -> object:
        return Trainer(recipe, recipe.load(None), RunFolder(tmp_path / name), resume).run(lambda *at: None)["test"]

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        Trainer(recipe, recipe.load(None), RunFolder(tmp_path / "cut"), resume=False).run(interrupt)
    assert train("cut", resume=True) == whole
    ours, theirs = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_chance_is_a_guess_by_how_often_labels_train(tmp_path: Path) -> None:
    rows = [f"t{n},{'a' if n < 3 else 'b'},train,{n}" for n in range(4)]
    rows += ["v,a,valid,0", *(f"u{n},{'a' if n < 1 else 'b'},test,{n}" for n in range(2))]
    task = load(write(tmp_path / "f.csv", "series,label,split,x\n" + "\n".join(rows)))
    assert task.chance["accuracy"] == 0.5
    assert task.chance["loss"] == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)


def test_the_share_of_a_process_has_its_own_lengths(tmp_path: Path) -> None:
    task = load(remembered(tmp_path / "f.csv"))
    model = network.seeded(NetworkRecipe(hidden_size=5, dilations=(2, 4)), 1, 2, 2, per_step=False)
    whole = task.batch(0)
    with torch.no_grad():
        parts = [predict(model, whole.part(index, 3), None, per_step=False)[0] for index in range(3)]
        assert torch.allclose(torch.cat(parts), predict(model, whole, None, per_step=False)[0], atol=1e-6)
    assert evaluate(model, task, "test").keys() == {"loss", "accuracy"}
