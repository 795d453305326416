"""Plots of the measurements, as PNG files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from streamdrnn.apps.bench.tables import Row, Table, numbers
from streamdrnn.apps.plot_style import BLUE, COLOURS, GREEN, ORANGE, PURPLE, STYLE

OURS, RESHAPE = BLUE, ORANGE
MARKS = {"ours": (OURS, "o"), "reshape": (RESHAPE, "s")}
MARKERS = "osD^"


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


def sequences(table: Table) -> Figure:
    """Times of ours and of the reshape trick, a panel per workload."""
    works = list(dict.fromkeys(str(row["work"]) for row in table.rows))
    figure = Figure(figsize=(max(6.4, 2.9 * len(works)), 3.8), layout="constrained")
    figure.suptitle(f"{table.title} (lines: quartiles)", x=0.01, ha="left")
    for axes, work in zip(panels(figure, 1, len(works)), works, strict=True):
        rows = [row for row in table.rows if row["work"] == work]
        pair_of_bars(axes, rows, "ms", [str(row["cell"]) for row in rows])
        axes.set_title(work)
        axes.set_xlabel("cell")
    figure.axes[0].set_ylabel("time (ms), lower is better")
    legend_below(figure)
    return figure


def memory(table: Table) -> Figure:
    """Peak memory of a training step."""
    figure = Figure(figsize=(max(6.4, 1.1 * len(table.rows) + 2), 3.8), layout="constrained")
    figure.suptitle(table.title, x=0.01, ha="left")
    axes = panels(figure, 1, 1)[0]
    pair_of_bars(axes, table.rows, "mib", [f"{row['work']}\n{row['cell']}" for row in table.rows])
    axes.set_ylabel("memory (MiB), lower is better")
    legend_below(figure)
    return figure


def pair_of_bars(axes: Axes, rows: Sequence[Row], unit: str, labels: Sequence[str]) -> None:
    """Bars of ours and the reshape trick from zero, with their quartiles and their ratio; none for what is missing."""
    width = 0.38
    tops = [0.0] * len(rows)
    for at, (who, (colour, _)) in enumerate(MARKS.items()):
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
    axes.set_xticks(range(len(rows)), labels)
    axes.grid(axis="y", alpha=0.3)


def live(found: dict[str, Table]) -> Figure:
    """Percentiles of one step, and the cost of many streams."""
    steps, many = found["stream_steps"].rows, found["stream_many"].rows
    inputs = list(dict.fromkeys(row["inputs"] for row in steps))
    figure = Figure(figsize=(4.2 * (len(inputs) + 1), 4.0), layout="constrained")
    figure.suptitle("Live streams, one step at a time", x=0.01, ha="left")
    *of_inputs, last = panels(figure, 1, len(inputs) + 1)
    for axes, size in zip(of_inputs, inputs, strict=True):
        rows = [row for row in steps if row["inputs"] == size and row["p50_us"] is not None]
        rows.reverse()
        places = range(len(rows))
        p50 = numbers(rows, "p50_us")
        colours = [OURS if str(row["runner"]).startswith("ours") else RESHAPE for row in rows]
        axes.barh(places, p50, 0.55, color=colours, label="p50")
        for percent, mark, colour in ((95, "d", "black"), (99, ">", PURPLE)):
            axes.plot(numbers(rows, f"p{percent}_us"), places, mark, color=colour, label=f"p{percent}", markersize=5)
        axes.set_yticks(places, [str(row["runner"]) for row in rows])
        axes.set_title(f"one stream, I={size} (bar: p50)")
        axes.set_xlabel("time per step (µs), lower is better")
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.grid(axis="x", alpha=0.3)
        axes.legend(
            handles=[handle for handle in axes.get_legend_handles_labels()[0] if handle.get_label() != "p50"],
            loc="upper right",
        )
    streams = numbers(many, "streams")
    last.loglog(streams, numbers(many, "us_per_step"), "o-", color=OURS, label="a step of all")
    last.loglog(streams, numbers(many, "us_per_step_of_a_stream"), "s-", color=GREEN, label="per stream")
    size_ticks(last, streams)
    last.set_title("many streams at once, ours")
    last.set_xlabel("streams")
    last.set_ylabel("time (µs)")
    last.grid(alpha=0.3)
    last.legend()
    return figure


def costs(found: dict[str, Table]) -> Figure:
    """Cost against each size with the fitted exponents, and memory against time."""
    rows, laws, over_time = (found[name].rows for name in ("growth", "growth_laws", "growth_memory"))
    exponents = {(row["axis"], row["runner"]): float(str(row["exponent_at_the_end"])) for row in laws}
    axes_names = list(dict.fromkeys(str(row["axis"]) for row in rows))
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    figure.suptitle("How the cost grows; in brackets the exponent over the larger half of the sizes", x=0.01, ha="left")
    *several, last = panels(figure, 2, 3)
    for axes, axis in zip(several, axes_names, strict=True):
        of_axis = [row for row in rows if row["axis"] == axis and row["ms"] is not None]
        for runner in dict.fromkeys(str(row["runner"]) for row in of_axis):
            points = [row for row in of_axis if row["runner"] == runner]
            colour, mark = MARKS[runner]
            law = f" ({exponents[axis, runner]:.2f})" if (axis, runner) in exponents else ""
            sizes, costs = numbers(points, "size"), numbers(points, "ms")
            axes.loglog(sizes, costs, mark + "-", color=colour, label=runner + law, markersize=5)
        size_ticks(axes, numbers(of_axis, "size"))
        axes.set_xlabel(axis)
        axes.set_ylabel("time (ms)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    if over_time:
        thousands = [steps / 1000 for steps in numbers(over_time, "steps")]
        last.plot(thousands, numbers(over_time, "resident_mib"), "o-", color=OURS, markersize=4)
        last.set_ylim(0, 1.15 * last.get_ylim()[1])
    last.set_xlabel("thousands of steps pushed")
    last.set_ylabel("resident memory (MiB)")
    last.grid(alpha=0.3)
    return figure


def serving(table: Table) -> Figure:
    """Latency against load, a line per server."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    figure.suptitle("Latency of live streams, 99th percentile", x=0.01, ha="left")
    axes = panels(figure, 1, 1)[0]
    colours = (OURS, ORANGE, GREEN, PURPLE)
    for name, colour, mark in zip(
        dict.fromkeys(str(row["server"]) for row in table.rows), colours, "osd^", strict=False
    ):
        points = [row for row in table.rows if row["server"] == name and row["p99_ms"] is not None]
        axes.loglog(numbers(points, "streams"), numbers(points, "p99_ms"), mark + "-", color=colour, label=name)
    size_ticks(axes, numbers(table.rows, "streams"))
    axes.set_xlabel("streams in real time")
    axes.set_yticks([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000], None)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=1)
    axes.set_ylabel("latency (ms), lower is better")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def ratios(table: Table) -> Figure:
    """The ratios to the reshape trick: a panel per workload, a bar per cell and precision."""
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
    """Bars of one workload; the line is where both are equally fast."""
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
    axes.set_xticks(range(len(rows)), [str(row["cell"]) for row in rows])
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.3)


def ratios_by_size(table: Table) -> Figure:
    """The ratios to the reshape trick against the number of units: a panel per precision, a line per cell."""
    precisions = list(dict.fromkeys(str(row["precision"]) for row in table.rows))
    figure = Figure(figsize=(max(6.4, 4.6 * len(precisions)), 4.2), layout="constrained")
    figure.suptitle(first_part(table.title), x=0.01, ha="left")
    for axes, precision in zip(panels(figure, 1, len(precisions)), precisions, strict=True):
        rows = [row for row in table.rows if row["precision"] == precision]
        cells = [name for name in rows[0] if name not in ("hidden", "precision")]
        for cell, colour, marker in zip(cells, COLOURS, MARKERS, strict=False):
            known = [row for row in rows if isinstance(row.get(cell), float)]
            axes.plot(
                numbers(known, "hidden"), numbers(known, cell), marker + "-", color=colour, label=cell, markersize=5
            )
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


def many_streams(table: Table) -> Figure:
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
            axes.plot(streams, p50, marker + "-", color=colour, label=contender, markersize=5)
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


def first_part(title: str) -> str:
    """A title up to its colon: the axes say the rest, and it would not fit."""
    return title.partition(":")[0]


def size_ticks(axes: Axes, sizes: Sequence[float]) -> None:
    """Ticks on a logarithmic axis at some of the sizes that were measured."""
    shown = sorted(set(sizes))
    shown = shown[:: -(-len(shown) // 6)]
    axes.set_xticks(shown, [f"{size:,.0f}" for size in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def panels(figure: Figure, rows: int, columns: int) -> list[Axes]:
    """The figure's axes, row by row."""
    return [figure.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]


def legend_below(figure: Figure) -> None:
    """One legend for panels that have the same."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


DRAWERS: dict[str, Callable[[dict[str, Table]], Figure]] = {
    "forward_means": lambda found: sequences(found["forward"]),
    "train_means": lambda found: sequences(found["train"]),
    "stream_steps": live,
    "memory": lambda found: memory(found["memory"]),
    "growth_laws": costs,
    "serve": lambda found: serving(found["serve"]),
    "forward_ratios": lambda found: ratios(found["forward_ratios"]),
    "train_ratios": lambda found: ratios(found["train_ratios"]),
    "growth_ratios": lambda found: ratios_by_size(found["growth_ratios"]),
    "stream": lambda found: many_streams(found["stream"]),
}
"""The table that a suite has on one device only, to the suite's plot."""
