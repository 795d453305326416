"""The paper's tables beside ours, as a page of Markdown."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamdrnn.apps.training.paper.figures import OVERVIEW
from streamdrnn.apps.training.paper.stored_runs import StoredRun
from streamdrnn.apps.training.paper.tables import TABLES, Row, Table
from streamdrnn.apps.training.tasks.task import Metric

Runs = Mapping[str, StoredRun | None]
"""By the folders of their rows."""

HEADINGS = ("network", "paper", "source", "here", "parameters", "steps", "seeds", "time", "machine", "command")


def to_markdown(runs: Runs, command: str, plots: Mapping[str, Path], page: Path) -> str:
    """The page of all tables.

    Args:
        runs: of all rows.
        command: that which makes the page.
        plots: what was drawn, see :func:`draw`.
        page: where it will lie; plots are named from there.
    """
    done = sum(run is not None for run in runs.values())
    lines = [
        "# The paper's results, and ours",
        "",
        f"Made by `{command}` from the runs themselves; nothing in it is typed. {done} of {len(runs)} runs are done, "
        "each by its command, with `--out` and the folder of the run; where a row asks for several seeds, each is a "
        "run.",
        "",
        "Networks are trained in our own way: by Adam on a schedule and with gradients cut to a norm, on MNIST with "
        "decay of the weights and for 10,000 steps (the paper: RMSProp at a constant rate, 30,000 steps), from first "
        "weights of ours. A GRU is torch's, whose reset gate comes after the product with the state; the paper's "
        "comes before.",
        "",
        "The paper is Chang et al. 2017, _Dilated Recurrent Neural Networks_. Its own tables could not be read here: "
        "beside each of its figures stands where it was read, or that it is recalled. Of several seeds the mean is "
        "given, and the least and the most; and the time of the first. A time is that of the steps alone where nothing "
        "disturbs them, each as fast as the fastest tenth was: other work ran on the machines too. Later revisions of "
        "the code are faster than earlier ones.",
    ]
    if OVERVIEW in plots:
        lines += ["", f"![Accuracy, size and time]({_beside(page, plots[OVERVIEW])})"]
    for name, table in TABLES.items():
        lines += ["", f"## {table.title}", "", table.notes, ""]
        lines += [f"| {' | '.join(HEADINGS)} |", "| --- | --- | --- | --- | ---: | ---: | --- | ---: | --- | --- |"]
        lines += [f"| {' | '.join(_cells(table, row, runs))} |" for row in table.rows]
        if name in plots:
            lines += ["", f"![{table.title}]({_beside(page, plots[name])})"]
    revisions = sorted({run.configuration["git_revision"] or "unknown" for run in runs.values() if run})
    lines += ["", f"Revisions of the code that made the runs: {', '.join(revisions) or 'none'}."]
    return "\n".join(lines) + "\n"


def _beside(page: Path, plot: Path) -> str:
    return Path(os.path.relpath(plot, page.parent)).as_posix()


def _cells(table: Table, row: Row, runs: Runs) -> tuple[str, ...]:
    known = (row.name, row.paper.value, row.paper.known) if row.paper else (row.name, "-", "")
    train = f"`streamdrnn train {' '.join(row.options)}`"
    done = {seed: run for seed in row.seeds if (run := runs[row.run_of(seed)])}
    if not done:
        return (*known, "not run", "", "", _seeds(row, []), "", "", train)
    first = next(iter(done.values()))
    machine = first.configuration["machine"]
    return (
        *known,
        _score(table.metric, list(done.values())),
        f"{first.results['parameters']:,}",
        str(first.results["steps"]),
        _seeds(row, list(done)),
        _duration(first.minutes(first.results["steps"])),
        machine["gpu"] or f"{machine['processor']}, {machine['threads']} thread{'s' if machine['threads'] > 1 else ''}",
        train,
    )


def _seeds(row: Row, done: Sequence[int]) -> str:
    told, asked = (", ".join(map(str, seeds)) for seeds in (done, row.seeds))
    return told if told == asked or len(row.seeds) == 1 else f"{told or 'none'} of {asked}"


def _score(metric: Metric, runs: Sequence[StoredRun]) -> str:
    values = [run.results["test"][metric] * _unit(metric, run) for run in runs]
    texts = [_number(metric, value) for value in (sum(values) / len(values), min(values), max(values))]
    return f"{texts[0]} ({texts[1]} to {texts[2]})" if len(runs) > 1 else texts[0]


def _unit(metric: Metric, run: StoredRun) -> float:
    """What a score is multiplied by: an accuracy is given in %."""
    if metric == "loss":
        return run.loss_unit
    return 100.0 if metric == "accuracy" else 1.0


def _number(metric: Metric, value: float) -> str:
    if metric == "accuracy":
        return f"{value:.2f} %"
    return f"{value:.3f}" if metric == "bits" else f"{value:.2g}"


def _duration(minutes: float) -> str:
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest:02} min" if hours else f"{rest} min"
