"""Tables and figures of the paper, from nothing to the report."""

from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from streamdrnn.apps.training.paper.figures import draw
from streamdrnn.apps.training.paper.queue import jobs_of, make_missing
from streamdrnn.apps.training.paper.report import to_markdown
from streamdrnn.apps.training.paper.stored_runs import stored_runs
from streamdrnn.apps.training.paper.tables import Table


def train_rows(tables: Iterable[Table], runs: Path, page: Path, data_dir: Optional[Path], workers: int) -> None:
    """Train what is not trained yet of some tables; the report is written after each run.

    Raises:
        ValueError: a row cannot be trained, or its folder has a run of another recipe.
    """
    make_missing(jobs_of(tables), runs, data_dir, workers, lambda: write_report(runs, page))


def write_report(runs: Path, page: Path) -> None:
    """Write the page of all tables, and its plots beside the runs.

    Raises:
        ValueError, OSError: a run is damaged, or nothing can be written.
    """
    for folder in (runs, page.parent):
        folder.mkdir(parents=True, exist_ok=True)
    stored = stored_runs(runs)
    plots = draw(stored, runs)
    command = f"streamdrnn reproduce all --report-only --runs {runs} --report {page}"
    page.write_text(to_markdown(stored, command, plots, page), encoding="utf-8")
