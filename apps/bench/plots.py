"""Plots of the measurements, as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from streamdrnn.apps.bench.tables import Row, Table, numbers
from streamdrnn.apps.plot_style import COLOURS, GREEN, PURPLE, STYLE

OURS, RESHAPE = COLOURS[:2]
MARKERS = "osD^v*"
Tables = Mapping[str, Table]


def draw(tables: Sequence[Table], folder: Path) -> list[str]:
    """Write one plot per suite, where it has something to show.

    Returns:
        the names of the files.
    """
    found = {table.name: table for table in tables}
    names = []
    with mpl.rc_context(STYLE):
        for name, drawer in DRAWERS.items():
            if name in found and any(isinstance(value, float) for row in found[name].rows for value in row.values()):
                file = f"{name.partition('_')[0]}.png"
                drawer(found).savefig(folder / file)
                names.append(file)
    return names


def times(found: Tables, name: str) -> Figure:
    """Times of ours and of the reshape trick, a panel per workload."""
    table = found[name]
    figure = by_workload(
        f"{table.title} (lines: quartiles)", table.rows, partial(pair_of_bars, unit="ms", by=("cell",))
    )
    figure.axes[0].set_ylabel("time (ms), lower is better")
    return figure


def ratios(found: Tables, name: str) -> Figure:
    """The ratios to the reshape trick: a panel per workload, a bar per cell and precision."""
    table = found[name]
    figure = by_workload(first_part(table.title), table.rows, ratio_bars)
    top = max(axes.get_ylim()[1] for axes in figure.axes)
    for axes in figure.axes:
        axes.set_ylim(0, top)
    figure.axes[0].set_ylabel("reshape / ours, higher is better")
    return figure


def by_workload(title: str, rows: Sequence[Row], bars: Callable[[Axes, Sequence[Row]], None]) -> Figure:
    """A panel of bars per workload."""
    workloads = groups(rows, "work")
    figure = titled(title, 3.0 * len(workloads), 3.8)
    for axes, (name, of_one) in zip(panels(figure, 1, len(workloads)), workloads.items(), strict=True):
        bars(axes, of_one)
        axes.set_title(name)
        axes.set_xlabel("cell")
    legend_below(figure)
    return figure


def memory(found: Tables) -> Figure:
    """Peak memory of a training step."""
    table = found["memory"]
    figure = titled(table.title, 1.1 * len(table.rows) + 2, 3.8)
    (axes,) = panels(figure, 1, 1)
    pair_of_bars(axes, table.rows, "mib", ("work", "cell"))
    axes.set_ylabel("memory (MiB), lower is better")
    legend_below(figure)
    return figure


def pair_of_bars(axes: Axes, rows: Sequence[Row], unit: str, by: Sequence[str]) -> None:
    """Bars of ours and the reshape trick from zero, with their quartiles and their ratio; none for what is missing."""
    width = 0.38
    tops = [0.0] * len(rows)
    for at, (who, colour) in enumerate((("ours", OURS), ("reshape", RESHAPE))):
        heights = [float(str(row[f"{who}_{unit}"] or 0)) for row in rows]
        places = [place + (at - 0.5) * width for place in range(len(rows))]
        axes.bar(places, heights, width, color=colour, label=who)
        for number, row in enumerate(rows):
            quartiles = row.get(f"{who}_quartiles_{unit}")
            if isinstance(quartiles, tuple):
                axes.vlines(places[number], *quartiles, color="black", linewidth=1)
                tops[number] = max(tops[number], *quartiles)
            tops[number] = max(tops[number], heights[number])
    for place, (row, top) in enumerate(zip(rows, tops, strict=True)):
        ratio = "" if row["ratio"] is None else f"{float(str(row['ratio'])):.1f}x"
        axes.annotate(ratio, (place, top), (0, 4), textcoords="offset points", ha="center", fontweight="bold")
    axes.margins(y=0.15)
    axes.set_xticks(range(len(rows)), ["\n".join(str(row[name]) for name in by) for row in rows])
    axes.grid(axis="y", alpha=0.3)


def ratio_bars(axes: Axes, rows: Sequence[Row]) -> None:
    """Bars of one workload; the line is where both are equally fast."""
    precisions = [name for name in rows[0] if name not in ("work", "cell", "contender")]
    width = 0.8 / len(precisions)
    for at, (precision, colour) in enumerate(zip(precisions, COLOURS, strict=False)):
        known = [(place, row[precision]) for place, row in enumerate(rows) if isinstance(row[precision], float)]
        places = [place + (at - (len(precisions) - 1) / 2) * width for place, _ in known]
        bars = axes.bar(places, [float(str(ratio)) for _, ratio in known], width, color=colour, label=precision)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=7.5)
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    axes.set_xticks(range(len(rows)), [str(row["cell"]) for row in rows])
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.3)


def single_steps(found: Tables) -> Figure:
    """Percentiles of one step, and the cost of many streams."""
    inputs, many = groups(found["stream_steps"].rows, "inputs"), found["stream_many"].rows
    figure = titled("Live streams, one step at a time", 4.2 * (len(inputs) + 1), 4.0)
    *of_inputs, last = panels(figure, 1, len(inputs) + 1)
    for axes, (size, of_size) in zip(of_inputs, inputs.items(), strict=True):
        rows = [row for row in reversed(of_size) if row["p50_us"] is not None]
        places = range(len(rows))
        colours = [OURS if str(row["runner"]).startswith("ours") else RESHAPE for row in rows]
        axes.barh(places, numbers(rows, "p50_us"), 0.55, color=colours)
        for percent, mark, colour in ((95, "d", "black"), (99, ">", PURPLE)):
            axes.plot(numbers(rows, f"p{percent}_us"), places, mark, color=colour, label=f"p{percent}", markersize=5)
        axes.set_yticks(places, [str(row["runner"]) for row in rows])
        axes.set_title(f"one stream, I={size} (bar: p50)")
        axes.set_xlabel("time per step (µs), lower is better")
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="upper right")
    many = [row for row in many if row["us_per_step"] is not None]
    streams = numbers(many, "streams")
    last.loglog(streams, numbers(many, "us_per_step"), "o-", color=OURS, label="a step of all")
    last.loglog(streams, numbers(many, "us_per_step_of_a_stream"), "s-", color=GREEN, label="per stream")
    last.set_title("many streams at once, ours")
    label(last, "streams", "time (µs)", streams)
    last.legend(fontsize=9)
    return figure


def costs(found: Tables) -> Figure:
    """Cost against each size with the fitted exponents, and memory against time."""
    rows, laws, over_time = (found[name].rows for name in ("growth", "growth_laws", "growth_memory"))
    figure = titled("How the cost grows; in brackets the exponent over the larger half of the sizes", 11, 6.6)
    *several, last = panels(figure, 2, 3)
    for axes, (axis, of_axis) in zip(several, groups(rows, "axis").items(), strict=False):
        known = {row["runner"]: f" ({row['exponent_at_the_end']:.2f})" for row in laws if row["axis"] == axis}
        lines(axes, of_axis, "size", "ms", "runner", lambda name, known=known: name + known.get(name, ""))  # type: ignore[misc]
        axes.set_yscale("log")
        label(axes, axis, "time (ms)", numbers(of_axis, "size"))
        axes.legend(fontsize=9)
    if over_time:
        thousands = [steps / 1000 for steps in numbers(over_time, "steps")]
        last.plot(thousands, numbers(over_time, "resident_mib"), "o-", color=OURS, markersize=4)
        last.set_ylim(0, 1.15 * last.get_ylim()[1])
    last.set_xlabel("thousands of steps pushed")
    last.set_ylabel("resident memory (MiB)")
    last.grid(alpha=0.3)
    return figure


def serving(found: Tables) -> Figure:
    """Latency against load, a line per server."""
    rows = found["serve"].rows
    figure = titled("Latency of live streams, 99th percentile", 7.2, 4.2)
    (axes,) = panels(figure, 1, 1)
    lines(axes, rows, "streams", "p99_ms", "server")
    axes.set_yscale("log")
    axes.set_yticks([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000], None)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=1)
    label(axes, "streams in real time", "latency (ms), lower is better", numbers(rows, "streams"))
    axes.legend(fontsize=9)
    return figure


def ratios_by_size(found: Tables) -> Figure:
    """The ratios to the reshape trick against the number of units: a panel per precision, a line per cell."""
    table = found["growth_ratios"]
    precisions = groups(table.rows, "precision")
    figure = titled(first_part(table.title), 4.6 * len(precisions), 4.2)
    for axes, (precision, rows) in zip(panels(figure, 1, len(precisions)), precisions.items(), strict=True):
        cells = [name for name in rows[0] if name not in ("hidden", "precision")]
        long = [{"hidden": row["hidden"], "cell": cell, "ratio": row.get(cell)} for cell in cells for row in rows]
        lines(axes, long, "hidden", "ratio", "cell")
        axes.axhline(1, color="black", linewidth=1, linestyle=":")
        axes.set_ylim(bottom=0)
        axes.set_title(precision)
        label(axes, "hidden units", "reshape / ours, higher is better", numbers(rows, "hidden"))
        axes.legend(fontsize=9)
    return figure


def many_streams(found: Tables) -> Figure:
    """The time of a step against the number of streams: a panel per cell and precision, a line per contender."""
    table = found["stream"]
    kinds = groups(table.rows, "cell", "precision")
    figure = titled(f"{table.title} (median; bars reach up to the 99th percentile)", 4.6 * len(kinds), 4.2)
    for axes, (kind, rows) in zip(panels(figure, 1, len(kinds)), kinds.items(), strict=True):
        lines(axes, rows, "streams", "p50_us", "contender", bars="p99_us")
        axes.set_yscale("log")
        axes.set_title(kind)
        label(axes, "streams", "time of a step (µs), lower is better", numbers(rows, "streams"))
    legend_below(figure)
    return figure


def lines(
    axes: Axes,
    rows: Sequence[Row],
    x: str,
    y: str,
    by: str,
    name: Callable[[str], str] = str,
    bars: str = "",
) -> None:
    """A line for each value of a column, through what is known; the sizes are on a logarithmic axis.

    Args:
        name: a value's in the legend.
        bars: a column up to which bars reach from y.
    """
    for (value, of_value), colour, marker in zip(groups(rows, by).items(), COLOURS, MARKERS, strict=False):
        known = [row for row in of_value if row[y] is not None]
        xs, ys = numbers(known, x), numbers(known, y)
        axes.plot(xs, ys, marker + "-", color=colour, label=name(value), markersize=5)
        if bars:
            axes.vlines(xs, ys, numbers(known, bars), color=colour, linewidth=1)
    axes.set_xscale("log")


def label(axes: Axes, x: str, y: str, sizes: Sequence[float]) -> None:
    """What the axes are, with ticks at some of the sizes that were measured."""
    shown = sorted(set(sizes))
    shown = shown[:: -(-len(shown) // 6)]
    axes.set_xticks(shown, [f"{size:,.0f}" for size in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)


def groups(rows: Sequence[Row], *names: str) -> dict[str, list[Row]]:
    """The rows by the values of some columns."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(", ".join(str(row[name]) for name in names), []).append(row)
    return found


def first_part(title: str) -> str:
    """A title up to its colon: the axes say the rest, and it would not fit."""
    return title.partition(":")[0]


def titled(title: str, width: float, height: float) -> Figure:
    """An empty figure, wide enough for its title."""
    figure = Figure(figsize=(max(6.4, width), height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def panels(figure: Figure, rows: int, columns: int) -> list[Axes]:
    """The figure's axes, row by row."""
    return [figure.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]


def legend_below(figure: Figure) -> None:
    """One legend for panels that have the same."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


DRAWERS: dict[str, Callable[[Tables], Figure]] = {
    "forward_means": partial(times, name="forward"),
    "train_means": partial(times, name="train"),
    "stream_steps": single_steps,
    "memory": memory,
    "growth_laws": costs,
    "serve": serving,
    "forward_ratios": partial(ratios, name="forward_ratios"),
    "train_ratios": partial(ratios, name="train_ratios"),
    "growth_ratios": ratios_by_size,
    "stream": many_streams,
}
"""The table that a suite has on one device only, to the suite's plot."""
