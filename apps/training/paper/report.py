"""The paper's tables beside ours, as a page of Markdown."""

import os
from collections.abc import Mapping
from pathlib import Path

from streamdrnn.apps.training.paper.stored_runs import StoredRun
from streamdrnn.apps.training.paper.tables import TABLES, Row, Table
from streamdrnn.apps.training.tasks.task import Metric

Runs = Mapping[str, StoredRun | None]
"""By the folders of their rows."""

HEADINGS = ("network", "paper", "here", "parameters", "steps", "seed", "time", "machine", "command")


def to_markdown(runs: Runs, command: str, plots: Mapping[str, Path], page: Path) -> str:
    """The page of all tables.

    Args:
        runs: of all rows.
        command: that which makes the page.
        plots: by table, the plots that were drawn.
        page: where it will lie; plots are named from there.
    """
    done = sum(run is not None for run in runs.values())
    lines = [
        "# The paper's results, and ours",
        "",
        f"Made by `{command}` from the runs themselves; nothing in it is typed. {done} of {len(runs)} runs are done, "
        "each by its command, with `--out` and the folder of the run. Where the paper does not say how networks were "
        "trained, and in the optimizer, its schedule and the first weights, the defaults of the command are ours.",
        "",
        "The paper is Chang et al. 2017, _Dilated Recurrent Neural Networks_. Its figures and its networks' sizes are "
        "as recalled, unless a note names another source. Times are of a machine on which other work ran too.",
    ]
    for name, table in TABLES.items():
        lines += ["", f"## {table.title}", "", table.notes, ""]
        lines += [f"| {' | '.join(HEADINGS)} |", "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |"]
        lines += [f"| {' | '.join(_cells(table, row, runs[row.run]))} |" for row in table.rows]
        if name in plots:
            lines += ["", f"![{table.title}]({Path(os.path.relpath(plots[name], page.parent)).as_posix()})"]
    revisions = sorted({run.configuration["git_revision"] or "unknown" for run in runs.values() if run})
    lines += ["", f"Revisions of the code that made the runs: {', '.join(revisions) or 'none'}."]
    return "\n".join(lines) + "\n"


def _cells(table: Table, row: Row, run: StoredRun | None) -> tuple[str, ...]:
    train = f"`streamdrnn train {' '.join(row.options)}`"
    if run is None:
        return (row.name, row.paper or "-", "not run", "", "", "", "", "", train)
    machine = run.configuration["machine"]
    return (
        row.name,
        row.paper or "-",
        _score(table.metric, run),
        f"{run.results['parameters']:,}",
        str(run.results["steps"]),
        str(run.configuration["recipe"]["training"]["seed"]),
        _duration(run.results["seconds"]),
        machine["gpu"] or f"{machine['processor']}, {machine['threads']} thread{'s' if machine['threads'] > 1 else ''}",
        train,
    )


def _score(metric: Metric, run: StoredRun) -> str:
    value: float = run.results["test"][metric]
    if metric == "accuracy":
        return f"{100 * value:.2f} %"
    if metric == "bits":
        return f"{value:.3f}"
    return f"{value:.2g} (chance {run.results['chance'][metric]:.2g})"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
