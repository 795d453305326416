"""Tables and figures of the paper, from nothing to the report."""

import subprocess
import sys
from pathlib import Path
from typing import Optional

from streamdrnn.apps.training.paper.figures import draw
from streamdrnn.apps.training.paper.report import to_markdown
from streamdrnn.apps.training.paper.stored_runs import recipe_of_row, stored_runs
from streamdrnn.apps.training.paper.tables import Table
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.errors import InputError


def train_rows(table: Table, runs: Path, data_dir: Optional[Path]) -> None:
    """Train what is not trained yet of a table, one row after the other; a row that was interrupted goes on.

    Raises:
        ValueError: a row cannot be trained, or its folder has a run of another recipe.
    """
    for row in table.rows:
        folder = RunFolder(runs / row.run)
        if folder.is_started():
            folder.check_recipe(recipe_of_row(row))
        if folder.results() is not None:
            continue
        print(f"{table.title}: {row.name}", file=sys.stderr)
        options = [*row.options, "--out", str(folder.path), "--resume", "--json"]
        if data_dir is not None:
            options += ["--data-dir", str(data_dir)]
        # A process of its own, so that the run tells the command that makes it again.
        done = subprocess.run([sys.executable, "-m", "streamdrnn.apps.cli", "train", *options], check=False)
        if done.returncode:
            raise InputError(f"{row.name}: its training failed; the report is not written")


def write_report(runs: Path, page: Path) -> None:
    """Write the page of all tables, and its plots beside the runs.

    Raises:
        ValueError, OSError: a run is damaged, or nothing can be written.
    """
    stored = stored_runs(runs)
    plots = draw(stored, runs)
    command = f"streamdrnn reproduce all --report-only --runs {runs} --report {page}"
    page.write_text(to_markdown(stored, command, plots, page), encoding="utf-8")
