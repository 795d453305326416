"""The paper's figures, drawn from our runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from streamdrnn.apps.plot_style import COLOURS, STYLE
from streamdrnn.apps.training.paper.stored_runs import StoredRun
from streamdrnn.apps.training.paper.tables import FIGURE_5, TABLES, Row, Table
from streamdrnn.apps.training.tasks.copying import SYMBOLS

Drawn = list[tuple[str, StoredRun]]
"""Rows by their names, and their runs."""


OVERVIEW = "overview"
LEAST_LOSS = 1e-6
"""Of those that are drawn; some networks come to 0."""


def draw(runs: Mapping[str, StoredRun | None], folder: Path) -> dict[str, Path]:
    """Draw the figure of every table that has one, of the rows that were run, and one of what matters most.

    Returns:
        by table, or :data:`OVERVIEW`, the file.
    """
    plots = {}
    compared = [row for row in TABLES["mnist-permuted"].rows if runs[row.run] is not None]
    if compared:
        with mpl.rc_context(STYLE):
            plots[OVERVIEW] = folder / f"{OVERVIEW}.png"
            overview(compared, runs).savefig(plots[OVERVIEW], metadata={"Software": None})
    for name, table in TABLES.items():
        drawn = [(row.name, run) for row in table.rows if (run := runs[row.run]) is not None]
        if table.figure and drawn:
            with mpl.rc_context(STYLE):
                figure = FIGURES[table.figure](table, drawn)
                plots[name] = folder / f"{name}.png"
                figure.savefig(plots[name], metadata={"Software": None})
    return plots


def overview(rows: Sequence[Row], runs: Mapping[str, StoredRun | None]) -> Figure:
    """Accuracy on permuted MNIST against size, beside the paper's, and against the time that training took."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for number, row in enumerate(rows):
        run = runs[row.run]
        assert run is not None
        colour, accuracy = COLOURS[number % len(COLOURS)], 100 * run.results["test"]["accuracy"]
        size, marker = run.results["parameters"] / 1000, "osD^"[number // len(COLOURS)]
        left.plot(size, accuracy, marker, color=colour, label=row.name)
        if row.paper is not None:
            papers = float(row.paper.value.split()[0])
            left.plot([size, size], [accuracy, papers], ":", color=colour, linewidth=1.0)
            left.plot(size, papers, marker, markerfacecolor="none", color=colour)
        right.plot(run.minutes(run.results["steps"]), accuracy, marker, color=colour)
    left.set_xscale("log")
    left.set_xticks([5, 10, 20, 50, 100, 200], minor=False)
    left.set_xticks([], minor=True)
    left.xaxis.set_major_formatter("{x:g}")
    left.set_xlim(5, 350)
    left.set_xlabel("thousands of parameters")
    left.set_ylabel("test accuracy (%)")
    left.set_title("Permuted MNIST. Filled: here; hollow: the paper")
    figure.legend(loc="outside right upper")
    right.set_xlabel("minutes of training, one thread, undisturbed")
    right.set_xlim(left=0)
    right.set_title("Here")
    return figure


def learning_curves(table: Table, drawn: Drawn) -> Figure:
    """The training loss against the step, a panel for each length of sequence, which ends the names of its rows."""
    named = [(*name.rpartition(", ")[::2], run) for name, run in drawn]
    networks = list(dict.fromkeys(network for network, _, _ in named))
    lengths = list(dict.fromkeys(length for _, length, _ in named))
    figure = Figure(figsize=(3.6 + 4.4 * len(lengths), 4.2), layout="constrained")
    panels = figure.subplots(1, len(lengths), squeeze=False, sharey=True)[0]
    lines: dict[str, Line2D] = {}
    for axes, length in zip(panels, lengths, strict=True):
        for network, run in [(network, run) for network, its, run in named if its == length]:
            steps, losses = run.curve("loss")
            losses = [max(LEAST_LOSS, run.loss_unit * loss) for loss in losses]
            number = networks.index(network)
            colour, style = COLOURS[number % len(COLOURS)], ("-", "--", "-.")[number // len(COLOURS)]
            (lines[network],) = axes.plot(steps, losses, style, color=colour, linewidth=1.2)
        lines["chance"] = axes.axhline(math.log(SYMBOLS), color="black", linestyle=":", linewidth=1.0)
        axes.set_yscale("log")
        axes.set_xlabel("gradient steps")
        axes.set_title(f"{table.title}, {length}")
    panels[0].set_ylabel(f"training loss, {LEAST_LOSS:g} or more (nats per symbol)")
    shown = [*networks, "chance"]
    figure.legend(handles=[lines[name] for name in shown], labels=shown, loc="outside right upper")
    return figure


def layers(table: Table, drawn: Drawn) -> Figure:
    """Accuracy against the step, and at the end against the number of layers, beside the paper's."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    ends = []
    for colour, (name, run) in zip(_shades(len(drawn)), drawn, strict=True):
        count = len(run.configuration["recipe"]["network"]["dilations"])
        steps, accuracies = run.curve(f"valid_{table.metric}")
        left.plot(steps, [100 * value for value in accuracies], color=colour, label=name)
        papers = FIGURE_5[count]
        left.plot(list(papers), [100 * value for value in papers.values()], ":", color=colour)
        ends.append((count, 100 * run.results["test"][table.metric], 100 * papers[max(papers)]))
    counts, ours, of_paper = zip(*sorted(ends), strict=True)
    right.plot(counts, ours, "o-", color=COLOURS[0], label="here")
    right.plot(counts, of_paper, "o:", color="black", label="the paper")
    left.set_title(f"{table.title}: here (validation), and dotted the paper's (test)")
    left.set_xlabel("gradient steps")
    right.set_xlabel("layers")
    right.set_xticks(counts)
    for axes in (left, right):
        axes.set_ylabel("accuracy (%)")
        axes.set_ylim(0, 100)
        axes.legend()
    return figure


def start_dilation(table: Table, drawn: Drawn) -> Figure:
    """Validation accuracy against the time that training takes undisturbed."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes: Axes = figure.subplots()
    for colour, (name, run) in zip(_shades(len(drawn)), drawn, strict=True):
        steps, accuracies = run.curve(f"valid_{table.metric}")
        minutes = [run.minutes(step) for step in steps]
        axes.plot(minutes, [100 * value for value in accuracies], "o-", color=colour, label=name)
    axes.set_xlabel("minutes of training, one thread, undisturbed")
    axes.set_ylabel("validation accuracy (%)")
    axes.set_xlim(left=0)
    axes.set_title(table.title)
    axes.legend()
    return figure


def _shades(count: int) -> list[tuple[float, ...]]:
    """Colours of what has an order, however many there are."""
    return [colormaps["viridis"](0.95 * number / max(1, count - 1)) for number in range(count)]


FIGURES: dict[str, Callable[[Table, Drawn], Figure]] = {
    "learning curves": learning_curves,
    "layers": layers,
    "start dilation": start_dilation,
}
