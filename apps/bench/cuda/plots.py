"""Plots of the measurements on a GPU, as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from streamdrnn.apps.bench.plots import legend_below, panels, size_ticks
from streamdrnn.apps.bench.tables import Row, Table, numbers
from streamdrnn.apps.plot_style import COLOURS, STYLE

MARKERS = "osD^"


def draw(tables: Sequence[Table], folder: Path) -> list[str]:
    """Write one plot per suite, where it has something to show.

    Returns:
        the names of the files.
    """
    drawers: Mapping[str, Callable[[Table], Figure]] = {
        "forward_ratios": sequences,
        "train_ratios": sequences,
        "growth_ratios": growth,
        "stream": stream,
    }
    names = []
    with mpl.rc_context(STYLE):
        for table in tables:
            if table.name in drawers and any(isinstance(value, float) for row in table.rows for value in row.values()):
                name = f"{table.name.removesuffix('_ratios')}.png"
                drawers[table.name](table).savefig(folder / name)
                names.append(name)
    return names


def sequences(table: Table) -> Figure:
    """The ratios to the reshape trick: a panel per work, a bar per cell and precision."""
    works = list(dict.fromkeys(str(row["work"]) for row in table.rows))
    figure = Figure(figsize=(max(6.4, 3.1 * len(works)), 3.8), layout="constrained")
    figure.suptitle(first_part(table.title), x=0.01, ha="left")
    all_axes = panels(figure, 1, len(works))
    for axes, work in zip(all_axes, works, strict=True):
        ratio_bars(axes, [row for row in table.rows if row["work"] == work])
        axes.set_title(work)
        axes.set_xlabel("cell")
    top = max(axes.get_ylim()[1] for axes in all_axes)
    for axes in all_axes:
        axes.set_ylim(0, top)
    all_axes[0].set_ylabel("reshape / ours, higher is better")
    legend_below(figure)
    return figure


def ratio_bars(axes: Axes, rows: Sequence[Row]) -> None:
    """Bars of one work; the line is where both are equally fast."""
    precisions = [name for name in rows[0] if name not in ("work", "cell", "contender")]
    width = 0.8 / len(precisions)
    for at, (precision, colour) in enumerate(zip(precisions, COLOURS, strict=False)):
        known = [(place, row[precision]) for place, row in enumerate(rows) if isinstance(row[precision], float)]
        places = [place + (at - (len(precisions) - 1) / 2) * width for place, _ in known]
        heights = [float(str(ratio)) for _, ratio in known]
        axes.bar(places, heights, width, color=colour, label=precision)
        for place, height in zip(places, heights, strict=True):
            axes.annotate(
                f"{height:.1f}", (place, height), (0, 3), textcoords="offset points", ha="center", fontsize=7.5
            )
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    several = len({row["contender"] for row in rows}) > 1
    labels = [f"{row['cell']}\n{row['contender']}" if several else str(row["cell"]) for row in rows]
    axes.set_xticks(range(len(rows)), labels)
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.3)


def growth(table: Table) -> Figure:
    """The ratios to the reshape trick against the number of units: a panel per precision, a line per cell."""
    precisions = list(dict.fromkeys(str(row["precision"]) for row in table.rows))
    figure = Figure(figsize=(max(6.4, 4.6 * len(precisions)), 4.2), layout="constrained")
    figure.suptitle(first_part(table.title), x=0.01, ha="left")
    for axes, precision in zip(panels(figure, 1, len(precisions)), precisions, strict=True):
        rows = [row for row in table.rows if row["precision"] == precision]
        cells = [name for name in rows[0] if name not in ("hidden", "precision")]
        for cell, colour, marker in zip(cells, COLOURS, MARKERS, strict=False):
            known = [row for row in rows if isinstance(row.get(cell), float)]
            line(axes, numbers(known, "hidden"), numbers(known, cell), colour, marker, cell)
        axes.axhline(1, color="black", linewidth=1, linestyle=":")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        size_ticks(axes, numbers(rows, "hidden"))
        axes.set_title(precision)
        axes.set_xlabel("hidden units")
        axes.set_ylabel("reshape / ours, higher is better")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def stream(table: Table) -> Figure:
    """The time of a step against the number of streams: a panel per cell and precision, a line per contender."""
    kinds = list(dict.fromkeys((str(row["cell"]), str(row["precision"])) for row in table.rows))
    figure = Figure(figsize=(max(6.4, 4.6 * len(kinds)), 4.2), layout="constrained")
    figure.suptitle(f"{table.title} (median; bars reach up to the 99th percentile)", x=0.01, ha="left")
    all_axes = panels(figure, 1, len(kinds))
    contenders = list(dict.fromkeys(str(row["contender"]) for row in table.rows))
    for axes, kind in zip(all_axes, kinds, strict=True):
        rows = [row for row in table.rows if (row["cell"], row["precision"]) == kind]
        for contender, colour, marker in zip(contenders, COLOURS, MARKERS, strict=False):
            known = [row for row in rows if row["contender"] == contender and row["p50_us"] is not None]
            streams, p50, p99 = (numbers(known, name) for name in ("streams", "p50_us", "p99_us"))
            line(axes, streams, p50, colour, marker, contender)
            axes.vlines(streams, p50, p99, color=colour, linewidth=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        size_ticks(axes, numbers(rows, "streams"))
        axes.set_title(", ".join(kind))
        axes.set_xlabel("streams")
        axes.grid(alpha=0.3, which="both")
    all_axes[0].set_ylabel("time of a step (µs), lower is better")
    legend_below(figure)
    return figure


def line(axes: Axes, xs: Sequence[float], ys: Sequence[float], colour: str, marker: str, label: str) -> None:
    """A line with a mark at each point."""
    axes.plot(xs, ys, marker + "-", color=colour, label=label, markersize=5)


def first_part(title: str) -> str:
    """A title up to its colon: the axes say the rest, and it would not fit."""
    return title.partition(":")[0]
