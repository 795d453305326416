"""Plots of the measurements, as PNG files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from streamdrnn.apps.bench.tables import Row, Table, numbers
from streamdrnn.apps.plot_style import BLUE, GREEN, ORANGE, PURPLE, STYLE

OURS, RESHAPE = BLUE, ORANGE
MARKS = {"ours": (OURS, "o"), "reshape": (RESHAPE, "s")}


def draw(tables: Sequence[Table], folder: Path) -> list[str]:
    """Write one plot per suite.

    Returns:
        the names of the files.
    """
    found = {table.name: table for table in tables}
    drawers: dict[str, Callable[[dict[str, Table]], Figure]] = {
        "forward": lambda found: sequences(found["forward"]),
        "train": lambda found: sequences(found["train"]),
        "stream_steps": live,
        "memory": lambda found: memory(found["memory"]),
        "growth": growth,
        "serve": lambda found: serving(found["serve"]),
    }
    names = []
    with mpl.rc_context(STYLE):
        for table, drawer in drawers.items():
            if table in found and found[table].rows:
                name = f"{table.removesuffix('_steps')}.png"
                drawer(found).savefig(folder / name)
                names.append(name)
    return names


def sequences(table: Table) -> Figure:
    """Times of ours and of the reshape trick, a panel per work."""
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
    """Bars of ours and the reshape trick from zero, with their quartiles and their ratio."""
    width = 0.38
    tops = [0.0] * len(rows)
    for at, (who, (colour, _)) in enumerate(MARKS.items()):
        heights = numbers(list(rows), f"{who}_{unit}")
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


def growth(found: dict[str, Table]) -> Figure:
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
