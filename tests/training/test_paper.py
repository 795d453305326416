"""The paper's tables: every row can be trained, and the report says what the stored runs say."""

import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from streamdrnn.apps.training.commands import Reproduce
from streamdrnn.apps.training.paper import figures, reproduce, stored_runs
from streamdrnn.apps.training.paper.report import to_markdown
from streamdrnn.apps.training.paper.stored_runs import StoredRun, recipe_of_row
from streamdrnn.apps.training.paper.tables import TABLES, Row, Table
from streamdrnn.apps.training.run_folder import RunFolder
from tests.apps.test_cli import Run, run

__all__ = ["run"]

DOCS = Path(__file__).parents[2] / "docs" / "results"
ROWS = {row.run: row for table in TABLES.values() for row in table.rows}
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


def pretend(runs: Path, row: Row, accuracy: float = 0.98765, seconds: float = 4000.0) -> None:
    """Put a run into a folder that was never made."""
    folder = RunFolder(runs / row.run)
    folder.start(recipe_of_row(row), {}, processes=1)
    scores = {"accuracy": accuracy, "loss": 0.01234567, "bits": 1.31}
    folder.write_results(
        {"test": scores, "valid": scores, "chance": {"loss": 0.04}, "parameters": 21000, "steps": 6000, "best_step": 1}
        | {"seconds": seconds}
    )
    lines = [f"{step},{name},{step / 10000}" for step in (50, 100) for name in ("loss", "seconds", "valid_accuracy")]
    folder.log.write_text("step,name,value\r\n" + "\r\n".join(lines) + "\r\n")


def test_the_command_knows_all_tables() -> None:
    (names, _) = get_args(get_type_hints(Reproduce, include_extras=True)["table"])[:2]
    assert set(get_args(get_args(names)[0]) or get_args(names)) == {"all", *TABLES}


@pytest.mark.parametrize("run_name", ROWS)
def test_every_row_is_a_command_that_can_be_run(run_name: str) -> None:
    row = ROWS[run_name]
    recipe = recipe_of_row(row)
    recipe.training.check()
    recipe.network.check()
    assert recipe.name == row.options[0]
    same_run = [other for table in TABLES.values() for other in table.rows if other.run == run_name]
    assert {other.options for other in same_run} == {row.options}
    assert re.fullmatch(r"[a-z0-9/-]+", row.run)


def test_the_layers_of_a_row_are_those_that_its_name_says() -> None:
    for row in ROWS.values():
        layers = re.search(r"(\d+) layers?\b", row.name)
        if layers:
            assert len(recipe_of_row(row).network.dilations) == int(layers[1])
        size = re.search(r"layers? of (\d+)", row.name)
        if size:
            assert recipe_of_row(row).network.hidden_size == int(size[1])


def test_the_report_shows_what_was_run_and_how_to_run_the_rest(tmp_path: Path) -> None:
    pretend(tmp_path / "runs", ROWS["mnist/dilated-gru-20"])
    reproduce.write_report(tmp_path / "runs", tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    (gru,) = (line for line in lines if line.startswith("| dilated GRU, 9 layers of 20 | 99.0 % |"))
    cells = [cell.strip() for cell in gru.split("|")[1:-1]]
    assert cells[2:7] == ["98.77 %", "21,000", "6000", "0", "1 h 07 min"]
    assert cells[8] == "`streamdrnn train mnist --cell gru`"
    assert (
        sum("not run" in line and "`streamdrnn train" in line for line in lines)
        == sum(len(table.rows) for table in TABLES.values()) - 1
    )
    assert f"1 of {len(ROWS)} runs are done" in "\n".join(lines)


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
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.values())


def test_curves_are_the_logs(tmp_path: Path) -> None:
    pretend(tmp_path, ROWS["layers/9"], accuracy=0.5, seconds=120)
    stored = stored_runs.stored_runs(tmp_path)["layers/9"]
    assert isinstance(stored, StoredRun)
    drawn = [("nine", stored)]
    (left, right) = figures.layers(TABLES["layers"], drawn).axes
    assert left.lines[0].get_xydata().tolist() == [[9, 50]]  # type: ignore[union-attr]
    assert right.lines[0].get_xydata().tolist() == [[9, 2]]  # type: ignore[union-attr]
    (axes,) = figures.start_dilation(TABLES["start-dilation"], drawn).axes
    assert axes.lines[0].get_xdata() == pytest.approx([0.005 / 60, 0.01 / 60])
    assert axes.lines[0].get_ydata() == pytest.approx([0.5, 1])
    (axes,) = figures.learning_curves(TABLES["copy"], drawn).axes
    assert axes.lines[0].get_xydata().tolist() == [[50, 0.005], [100, 0.01]]  # type: ignore[union-attr]
    assert axes.lines[1].get_ydata() == [0.04, 0.04]


def test_rows_are_trained_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (first, second) = ((tmp_path / row.run / "results.json") for row in TINY.rows)
    pretend(tmp_path, TINY.rows[0])
    before = first.read_bytes()
    for _ in ("from its beginning", "from where it was interrupted"):
        reproduce.train_rows(TINY, tmp_path, None)
        assert first.read_bytes() == before
        assert "short blank" not in capfd.readouterr().err
        second.unlink()
    assert json.loads((tmp_path / "tiny/b/run.json").read_text())["command"].startswith(
        "streamdrnn train copy --blank 600"
    )
    changed = TINY._replace(rows=(TINY.rows[0]._replace(options=(*TINY.rows[0].options, "--seed", "1")),))
    with pytest.raises(ValueError, match="a run with seed 0, asked to go on with 1"):
        reproduce.train_rows(changed, tmp_path, None)
    refused = TINY._replace(rows=(TINY.rows[0]._replace(run="tiny/c", options=("copy", "--blank", "0")),))
    with pytest.raises(ValueError, match="short blank: its training failed"):
        reproduce.train_rows(refused, tmp_path, None)


def test_reproduce_writes_the_report_of_what_is_there(run: Run, tmp_path: Path) -> None:
    outcome = run("reproduce", "all", "--report-only", "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert "0 of" in (tmp_path / "runs" / "report.md").read_text()
    assert "Example: streamdrnn reproduce mnist" in " ".join(run("reproduce", "--help").out.split())


def test_the_published_report_is_that_of_the_published_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parents[1])
    runs, page = Path("docs/results/paper"), Path("docs/results/paper.md")
    stored = stored_runs.stored_runs(runs)
    plots = {name: runs / path.name for name, path in figures.draw(stored, tmp_path).items()}
    assert all(path.is_file() for path in plots.values())
    command = "streamdrnn reproduce all --report-only --runs docs/results/paper --report docs/results/paper.md"
    assert page.read_text(encoding="utf-8") == to_markdown(stored, command, plots, page)
