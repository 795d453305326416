"""The paper's tables: every row can be trained, and the report says what the stored runs say."""

import fcntl
import fnmatch
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from matplotlib.image import imread

from streamdrnn.apps.training.commands import Reproduce
from streamdrnn.apps.training.network import build
from streamdrnn.apps.training.paper import figures, queue, reproduce, stored_runs
from streamdrnn.apps.training.paper.report import to_markdown
from streamdrnn.apps.training.paper.stored_runs import StoredRun, recipe_of
from streamdrnn.apps.training.paper.tables import FIGURE_5, TABLES, Row, Table
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.trainer import Trainer
from streamdrnn.memory import graph_of, receptive_field
from tests.apps.test_cli import Run, run

__all__ = ["run"]

DOCS = Path(__file__).parents[2] / "docs" / "results"
ROWS = {row.run: row for table in TABLES.values() for row in table.rows}
RUNS = {name: row for row in ROWS.values() for name in row.runs}
FEW = ("--steps", "2", "--batch-size", "4", "--hidden-size", "2")
TINY = Table(
    "Tiny",
    "Next to nothing.",
    "loss",
    (
        Row("short blank", "tiny/a", ("copy", "--blank", "300", *FEW)),
        Row("long blank", "tiny/b", ("copy", "--blank", "600", *FEW)),
    ),
    "learning curves",
)


def pretend(runs: Path, row: Row, accuracy: float = 0.98765, seconds: float = 4000.0, seed: int = 0) -> None:
    """Put a run into a folder that was never made."""
    folder = RunFolder(runs / row.run_of(seed))
    folder.start(recipe_of(row.options_of(seed)), {}, processes=1)
    scores = {"accuracy": accuracy, "loss": 0.01234567, "bits": 1.31}
    folder.write_results(
        {"test": scores, "valid": scores, "chance": {"loss": 0.04}, "parameters": 21000, "steps": 6000, "best_step": 1}
        | {"seconds": 1.8 * seconds}
    )
    lines = [f"{step},{name},{step / 10000}" for step in (50, 100) for name in ("loss", "valid_accuracy")]
    parts = [seconds / 10] * 2 + [seconds / 5] * 8  # most of the time the machine had other work, too
    lines += [f"{600 * (part + 1)},seconds,{sum(parts[: part + 1])}" for part in range(10)]
    folder.log.write_text("step,name,value\r\n" + "\r\n".join(lines) + "\r\n")


def test_the_command_knows_all_tables() -> None:
    (names, _) = get_args(get_type_hints(Reproduce, include_extras=True)["table"])[:2]
    assert set(get_args(get_args(names)[0]) or get_args(names)) == {"all", *TABLES}


@pytest.mark.parametrize("run_name", RUNS)
def test_every_row_is_a_command_that_can_be_run(run_name: str) -> None:
    row = RUNS[run_name]
    (seed,) = (seed for seed in row.seeds if row.run_of(seed) == run_name)
    recipe = recipe_of(row.options_of(seed))
    recipe.training.check()
    recipe.network.check()
    assert recipe.training.seed == seed
    assert recipe.name == row.options[0]
    same_run = [other for table in TABLES.values() for other in table.rows if other.run == row.run]
    assert {other.options for other in same_run} == {row.options}
    assert re.fullmatch(r"[a-z0-9/-]+", run_name)


def test_the_layers_of_a_row_are_those_that_its_name_says() -> None:
    for row in ROWS.values():
        layers = re.search(r"(\d+) layers?\b", row.name)
        if layers:
            assert len(recipe_of(row.options).network.dilations) == int(layers[1])
        size = re.search(r"layers? of (\d+)", row.name)
        if size:
            assert recipe_of(row.options).network.hidden_size == int(size[1])


def parameters(run_name: str) -> int:
    recipe = recipe_of(ROWS[run_name].options)
    inputs, outputs = {"mnist": (1, 10), "speaker": (13, 109)}[recipe.name]
    model = build(recipe.network, inputs, outputs, per_step=False)
    return sum(weights.numel() for weights in model.parameters())


@pytest.mark.parametrize(
    ("run_name", "thousands"),
    [
        ("mnist/rnn-256", 68),
        ("mnist/lstm-256", 270),
        ("mnist/gru-256", 200),
        ("mnist/stacked-rnn-20", 7),
        ("mnist/stacked-lstm-20", 28),
        ("mnist/stacked-gru-20", 21),
        ("mnist/skip-rnn-20", 11),
        ("mnist/cnn-20", 7),
        ("mnist/cnn-50", 46),
        ("mnist/dilated-rnn-50", 44),
        ("mnist/dilated-lstm-50", 173),
        ("mnist/dilated-gru-50", 130),
        ("speaker/mfcc-gru-128", 68),
    ],
)
def test_networks_are_of_the_papers_sizes(run_name: str, thousands: int) -> None:
    """Within what PyTorch's second biases add."""
    assert parameters(run_name) == pytest.approx(1000 * thousands, rel=0.1)


@pytest.mark.parametrize("run_name", ["min-gru-36", "lru-20", "tcn-29"])
def test_networks_of_today_are_as_large_as_the_dilated_gru(run_name: str) -> None:
    of_gru = parameters("mnist-permuted/dilated-gru-20")
    assert parameters(f"mnist-permuted/{run_name}") == pytest.approx(of_gru, rel=0.1)


CONVOLUTIONS = [name for name in ROWS if re.search(r"/(cnn|tcn)-", name)]


@pytest.mark.parametrize("run_name", CONVOLUTIONS)
def test_convolutions_see_all_of_what_they_judge(run_name: str) -> None:
    recipe = recipe_of(ROWS[run_name].options)
    steps = {"mnist": 784, "noisy-mnist": getattr(recipe, "length", 0), "copy": getattr(recipe, "blank", 0) + 11}
    model = build(recipe.network, 1, 10, per_step=False)
    seen = receptive_field(graph_of(model))
    assert seen is not None
    assert seen >= steps[recipe.name]


def report_line(page: Path, beginning: str) -> list[str]:
    (line,) = (line for line in page.read_text().splitlines() if line.startswith(beginning))
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_report_shows_what_was_run_and_how_to_run_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "report.md"
    pretend(tmp_path / "runs", ROWS["mnist/dilated-gru-20"])
    reproduce.write_report(tmp_path / "runs", page)
    cells = report_line(page, "| dilated GRU, 9 layers of 20 | 99.0 % | read in Bai")
    assert cells[3:8] == ["98.77 %", "21,000", "6000", "0 of 0, 1, 2", "1 h 07 min"]
    assert cells[9] == "`streamdrnn train mnist --cell gru`"
    assert report_line(page, "| dilated RNN, 9 layers of 20 | 97.7 %")[3:7] == ["not run", "", "", "none of 0, 1, 2"]
    lines = page.read_text().splitlines()
    assert (
        sum("not run" in line and "`streamdrnn train" in line for line in lines)
        == sum(len(table.rows) for table in TABLES.values()) - 1
    )
    assert f"1 of {len(RUNS)} runs are done" in "\n".join(lines)
    pretend(tmp_path / "runs", ROWS["mnist/dilated-gru-20"], accuracy=0.9677, seed=2)
    reproduce.write_report(tmp_path / "runs", page)
    cells = report_line(page, "| dilated GRU, 9 layers of 20 | 99.0 % |")
    assert cells[3:7] == ["97.77 % (96.77 % to 98.77 %)", "21,000", "6000", "0, 2 of 0, 1, 2"]


def test_losses_are_those_of_what_is_recalled(tmp_path: Path) -> None:
    pretend(tmp_path / "runs", ROWS["copy-500/dilated-gru"])
    reproduce.write_report(tmp_path / "runs", tmp_path / "report.md")
    # Chance is 0.04 a step there, and ln 8 a symbol.
    assert report_line(tmp_path / "report.md", "| dilated GRU, T = 500 |")[3] == f"{0.01234567 / 0.04 * 2.0794:.2g}"


def test_a_run_of_another_recipe_is_not_reported(tmp_path: Path) -> None:
    row = ROWS["mnist/dilated-gru-20"]
    pretend(tmp_path, row._replace(options=(*row.options, "--seed", "3")))
    with pytest.raises(ValueError, match="a run with seed 3, asked to go on with 0"):
        reproduce.write_report(tmp_path, tmp_path / "report.md")
    assert not (tmp_path / "report.md").exists()


def test_a_run_that_did_not_end_is_not_run(tmp_path: Path) -> None:
    row = ROWS["ptb/dilated-gru-256"]
    pretend(tmp_path, row)
    (tmp_path / row.run / "results.json").unlink()
    assert stored_runs.stored_runs(tmp_path)[row.run] is None


def test_figures_are_drawn_of_what_was_run(tmp_path: Path) -> None:
    assert not figures.draw(stored_runs.stored_runs(tmp_path), tmp_path)
    for name in ("copy-500/dilated-gru", "copy-500/stacked-gru", "layers/2", "layers/9", "start-dilation/4"):
        pretend(tmp_path, ROWS[name], seconds=600)
    plots = figures.draw(stored_runs.stored_runs(tmp_path), tmp_path)
    assert plots.keys() == {"copy", "layers", "start-dilation"}
    pretend(tmp_path, ROWS["mnist-permuted/min-gru-36"])
    plots = figures.draw(stored_runs.stored_runs(tmp_path), tmp_path)
    assert plots.keys() == {figures.OVERVIEW, "copy", "layers", "start-dilation"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.values())


def test_the_overview_has_each_network_beside_the_papers(tmp_path: Path) -> None:
    rows = [ROWS["mnist-permuted/dilated-gru-20"], ROWS["mnist-permuted/min-gru-36"]]
    for row in rows:
        pretend(tmp_path, row, accuracy=0.95, seconds=120)
    left, right = figures.overview(rows, stored_runs.stored_runs(tmp_path)).axes
    ours, between, papers, todays = (line.get_xydata().tolist() for line in left.lines)  # type: ignore[union-attr]
    assert ours == todays == [[21, 95]]
    assert papers == [[21, 94.4]]
    assert between == [*ours, *papers]
    assert [line.get_xydata().ravel() for line in right.lines] == [pytest.approx([2, 95])] * 2  # type: ignore[union-attr]


def test_curves_are_the_logs(tmp_path: Path) -> None:
    pretend(tmp_path, ROWS["layers/9"], accuracy=0.5, seconds=120)
    stored = stored_runs.stored_runs(tmp_path)["layers/9"]
    assert isinstance(stored, StoredRun)
    drawn = [("nine", stored)]
    (left, right) = figures.layers(TABLES["layers"], drawn).axes
    ours, papers = left.lines
    assert ours.get_xydata().tolist() == [[50, 0.5], [100, 1]]  # type: ignore[union-attr]
    assert papers.get_xydata().tolist() == [[step, 100 * value] for step, value in FIGURE_5[9].items()]  # type: ignore[union-attr]
    ours, papers = right.lines
    assert ours.get_xydata().tolist() == [[9, 50]]  # type: ignore[union-attr]
    assert papers.get_xydata().tolist() == [[9, 97]]  # type: ignore[union-attr]
    (axes,) = figures.start_dilation(TABLES["start-dilation"], drawn).axes
    assert axes.lines[0].get_xdata() == pytest.approx([2 * 50 / 6000, 2 * 100 / 6000])
    assert axes.lines[0].get_ydata() == pytest.approx([0.5, 1])
    (axes,) = figures.start_dilation(TABLES["start-dilation"], 9 * drawn).axes
    assert len({line.get_color() for line in axes.lines}) == 9
    (axes,) = figures.learning_curves(TABLES["copy"], [("nine, T = 500", stored)]).axes
    unit = math.log(8) / 0.04  # chance is 0.04 a step there, and ln 8 a symbol
    assert axes.lines[0].get_xdata().tolist() == [50, 100]  # type: ignore[union-attr]
    assert axes.lines[0].get_ydata() == pytest.approx([0.005 * unit, 0.01 * unit])
    assert axes.lines[1].get_ydata() == pytest.approx([math.log(8)] * 2)
    solved = stored._replace(log=[(50, "loss", 0.01), (100, "loss", 0.0)])
    (axes,) = figures.learning_curves(TABLES["copy"], [("nine, T = 500", solved)]).axes
    assert axes.lines[0].get_ydata() == pytest.approx([0.01 * unit, figures.LEAST_LOSS])
    every = figures.learning_curves(TABLES["copy"], [(row.name, stored) for row in TABLES["copy"].rows])
    looks = [[(line.get_color(), line.get_linestyle()) for line in axes.lines] for axes in every.axes]
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == len(looks[0]) == len(every.legends[0].texts) == 14
    assert [axes.get_title() for axes in every.axes] == ["Copy memory, T = 500", "Copy memory, T = 1000"]


@pytest.mark.full
def test_rows_are_trained_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (first, second) = ((tmp_path / row.run / "results.json") for row in TINY.rows)
    pretend(tmp_path, TINY.rows[0])
    before = first.read_bytes()
    for _ in ("from its beginning", "from where it was interrupted"):
        make([TINY], tmp_path)
        assert first.read_bytes() == before
        assert "short blank" not in capfd.readouterr().err
        second.unlink()
    assert json.loads((tmp_path / "tiny/b/run.json").read_text())["command"].startswith(
        "streamdrnn train copy --blank 600"
    )
    changed = TINY._replace(rows=(TINY.rows[0]._replace(options=(*TINY.rows[0].options, "--seed", "1")),))
    with pytest.raises(ValueError, match="a run with seed 0, asked to go on with 1"):
        make([changed], tmp_path)


def make(tables: list[Table], runs: Path, workers: int = 1, after_each: Callable[[], None] = lambda: None) -> None:
    queue.make_missing(queue.jobs_of(tables), runs, None, workers, after_each)


def test_what_cannot_be_trained_is_named_when_the_others_are_done(tmp_path: Path) -> None:
    """And what has been trained is not trained again."""
    trained, missing = TINY.rows
    pretend(tmp_path, trained)
    before = (tmp_path / trained.run / "results.json").read_bytes()
    refused = trained._replace(run="tiny/c", options=("copy", "--blank", "0"))
    done: list[int] = []
    with pytest.raises(ValueError, match=r"^Tiny: short blank: training failed$"):
        make([TINY._replace(rows=(trained, refused, missing))], tmp_path, 2, lambda: done.append(1))
    assert (tmp_path / trained.run / "results.json").read_bytes() == before
    assert (tmp_path / missing.run / "results.json").is_file()
    assert done == [1]
    assert not list(tmp_path.rglob("*.lock"))


@pytest.mark.full
def test_a_queue_that_is_interrupted_begins_no_other_run(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    rows = tuple(TINY.rows[0]._replace(run=f"tiny/{name}") for name in "abc")
    with pytest.raises(KeyboardInterrupt):
        make([TINY._replace(rows=rows)], tmp_path, after_each=interrupt)
    assert (tmp_path / "tiny/a/results.json").is_file()
    assert not (tmp_path / "tiny/c").exists(), "b may have begun before the first was told"


def test_what_another_process_trains_is_left_to_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny").mkdir()
    with (tmp_path / "tiny/b.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        make([TINY._replace(rows=TINY.rows[1:])], tmp_path)
    assert "long blank: another process trains it" in capfd.readouterr().err
    assert not (tmp_path / "tiny/b").exists()


SLOW = TINY._replace(
    rows=(Row("slow", "slow", (*TINY.rows[0].options, "--steps", "60", "--checkpoint-every", "1", "--log-every", "1")),)
)
QUEUE = """
import sys
from pathlib import Path
from tests.training.test_paper import SLOW, make
make([SLOW], Path(sys.argv[1]))
"""


@pytest.mark.full
def test_a_queue_that_is_killed_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    recipe, killed = recipe_of(SLOW.rows[0].options), tmp_path / "killed"
    whole = Trainer(recipe, recipe.load(None), RunFolder(tmp_path / "whole"), resume=False).run(lambda *at: None)
    folder = RunFolder(killed / "slow")
    with subprocess.Popen([sys.executable, "-c", QUEUE, killed], start_new_session=True) as process:
        while not folder.checkpoint.exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    with (killed / "slow.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until both have gone
    assert folder.results() is None
    make([SLOW], killed)
    gone_on = folder.results()
    assert gone_on is not None
    for name in ("test", "valid", "steps", "best_step"):
        assert whole[name] == gone_on[name]


def test_the_papers_claims_come_first() -> None:
    order = [job.run for job in queue.jobs_of(TABLES.values())]
    assert len(order) == len(set(order)) == len(RUNS)
    ordered = [
        "mnist/dilated-rnn-20",
        "copy-1000/dilated-rnn",
        "layers/9",
        "speaker-here/dilated-8",
        "ptb/dilated-gru-256",
        "mnist/dilated-rnn-20-seed-1",
        "mnist/cnn-50",
        "mnist/gru-256",
        "speaker/dilated-8",
    ]
    assert sorted(ordered, key=order.index) == ordered
    for pattern in queue.ORDER:
        assert fnmatch.filter(order, pattern), pattern


def test_reproduce_writes_the_report_of_what_is_there(run: Run, tmp_path: Path) -> None:
    outcome = run("reproduce", "all", "--report-only", "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert "0 of" in (tmp_path / "runs" / "report.md").read_text()
    assert "Example: streamdrnn reproduce all --jobs 2" in " ".join(run("reproduce", "--help").out.split())


def test_the_published_report_is_that_of_the_published_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parents[1])
    runs, page = Path("docs/results/paper"), Path("docs/results/paper.md")
    stored = stored_runs.stored_runs(runs)
    drawn = figures.draw(stored, tmp_path)
    plots = {name: runs / path.name for name, path in drawn.items()}
    for name, path in plots.items():
        published, ours = imread(path), imread(drawn[name])
        assert published.shape == ours.shape, f"{name}: drawn before the runs were made that it shows"
        # Processors differ in the last bits of a logarithm, which may move an edge.
        assert np.mean(published != ours) < 1e-4, f"{name}: drawn before the runs were made that it shows"
    command = "streamdrnn reproduce all --report-only --runs docs/results/paper --report docs/results/paper.md"
    assert page.read_text(encoding="utf-8") == to_markdown(stored, command, plots, page)
