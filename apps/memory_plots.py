"""Plots of a network's memory, as PNG and SVG: unrolled graph, recurrent lengths, gradients against the lag."""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from streamdrnn.apps.plot_style import BLUE, GREY, STYLE, VERMILION
from streamdrnn.memory import (
    DependencyGraph,
    Edge,
    dependencies,
    layer_name,
    mean_recurrent_length,
    one_hop_field,
    recurrent_lengths,
    shortest_path,
)

STEPS = 33


def draw(graph: DependencyGraph, gradients: Tensor, folder: Path) -> list[str]:
    """Write the plots into a folder.

    Args:
        gradients: ``(T,)``, the norm at each lag (:func:`streamdrnn.memory.gradient_norms`).

    Returns:
        the names of the files.
    """
    names = []
    with mpl.rc_context(STYLE):
        figures = {
            "graph": unrolled(graph),
            "recurrent_length": lengths(graph),
            "gradients": gradients_by_lag(gradients),
        }
        for name, figure in figures.items():
            for ending in ("png", "svg"):
                figure.savefig(folder / f"{name}.{ending}", metadata={"Date": None} if ending == "svg" else None)
                names.append(f"{name}.{ending}")
    return names


def unrolled(graph: DependencyGraph, steps: int = STEPS) -> Figure:
    """The last steps of the unrolled graph: what the output depends on, and a shortest path to the oldest input."""
    figure = Figure(figsize=(0.34 * steps + 1.6, 0.62 * len(graph.nodes) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    seen = dependencies(graph, steps)
    for edge in graph.edges:
        for lag in range(steps):
            depends = seen[edge.target][lag]
            _connect(axes, edge, lag, BLUE if depends else GREY, 1.0 if depends else 0.4, 2 if depends else 1)
    furthest = int(recurrent_lengths(graph, steps - 1).isfinite().nonzero().max())
    path = shortest_path(graph, furthest)
    for (above, later), (below, earlier) in pairwise(path):
        _connect(axes, Edge(below, above, earlier - later), later, VERMILION, 2.4, 3)
    for node in range(len(graph.nodes)):
        colours = [BLUE if depends else "white" for depends in seen[node]]
        axes.scatter(range(0, -steps, -1), [node] * steps, 26, colours, edgecolors=GREY, linewidths=0.6, zorder=4)
    axes.set_title(f"In blue what the last output depends on, in red a shortest path over {furthest} steps")
    axes.set_yticks(range(len(graph.nodes)), [layer_name(graph, node) for node in range(len(graph.nodes))])
    axes.set_xlabel("time step, before the output")
    axes.set_xlim(-steps + 0.4, 0.6)
    axes.set_ylim(-0.5, graph.output + 0.6)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def lengths(graph: DependencyGraph) -> Figure:
    """The recurrent length of each lag up to twice the period, beside that of a regular stack of as many layers."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    m = graph.period
    lags = range(1, 2 * m + 1)
    regular = DependencyGraph.recurrent([[1]] * graph.output)
    axes.plot(lags, recurrent_lengths(regular, 2 * m)[1:], color=GREY, label="regular stack of as many layers")
    axes.plot(lags, recurrent_lengths(graph, 2 * m)[1:], color=BLUE, linewidth=1.0, label="this network")
    mean = mean_recurrent_length(graph)
    if mean < float("inf"):
        axes.plot([1, m], [mean, mean], color=VERMILION, linestyle="--", label=f"its mean over {m} steps: {mean:.1f}")
    axes.set_title("Edges on the shortest path from input to output")
    axes.set_xlabel("lag (steps)")
    axes.set_ylabel("recurrent length, lower is better")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.legend()
    return figure


def gradients_by_lag(gradients: Tensor) -> Figure:
    """How strongly the last output depends on each input before it."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    norms = gradients.where(gradients > 0, float("nan"))  # on a logarithmic axis nothing has no place
    axes.plot(range(len(norms)), norms, color=BLUE, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_title("How far back it remembers (for white noise as input)")
    axes.set_xlabel("lag n (steps)")
    axes.set_ylabel(r"$\|\partial y_T / \partial x_{T-n}\|$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    return figure


def noise_steps(graph: DependencyGraph) -> int:
    """How many steps of input show a network's memory: twice what it sees by short paths, within reason."""
    return min(max(2 * one_hop_field(graph), 64), 2048)


def _connect(axes: Axes, edge: Edge, lag: int, colour: str, width: float, layer: int) -> None:
    """One edge that ends ``lag`` steps before the output: straight between layers, an arc within one."""
    end, start = (-lag, edge.target), (-lag - edge.delay, edge.source)
    if edge.source != edge.target:
        axes.plot(*zip(start, end, strict=True), color=colour, linewidth=width, zorder=layer)
        return
    height = edge.target + (0.0 if edge.delay == 1 else 0.7)
    middle = ((start[0] + end[0]) / 2, height)
    curve = Curve([start, middle, end], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])
    axes.add_patch(PathPatch(curve, fill=False, edgecolor=colour, linewidth=width, zorder=layer))
