"""Headline ratios of a release to its peers, from the committed results, and how they went from release to release.

``python -m streamdrnn.apps.bench.releases docs/results`` writes ``releases/VERSION.json`` of this version and draws all
releases in ``releases/ratios.png``. Nothing is measured: ratios outlast machines, and times do not.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import streamdrnn
from streamdrnn.errors import InputError

FOLDER = "releases"


class Headline(NamedTuple):
    """A ratio: how many times the costs of ours a peer has.

    Attributes:
        name: for people; it stays the same from release to release.
        device, table, column: the results that it is in, the table there, and the column.
        row: what tells the row from the others.
    """

    name: str
    device: str
    table: str
    row: Mapping[str, object]
    column: str


WORKS = ("mnist", "copy", "wide", "recording")
STEP = {"inputs": 64, "runner": "onnxruntime"}
GPU_STEP = {"cell": "gru", "streams": 1, "precision": "ieee", "contender": "cuDNN"}
PAPERS = {"work": "H=20 T=784", "cell": "gru"}
HEADLINES = (
    *(Headline(f"forward, {work}", "cpu", "forward_means", {"work": work}, "geometric_mean_ratio") for work in WORKS),
    *(Headline(f"training, {work}", "cpu", "train_means", {"work": work}, "geometric_mean_ratio") for work in WORKS),
    Headline("memory of training, mnist, GRU", "cpu", "memory", {"work": "mnist", "cell": "gru"}, "ratio"),
    Headline("one step, onnxruntime", "cpu", "stream_steps", STEP, "times_ours"),
    Headline("forward, mnist, GRU", "gpu", "forward_ratios", PAPERS, "ieee"),
    Headline("training, mnist, GRU", "gpu", "train_ratios", PAPERS, "ieee"),
    Headline("one step, cuDNN", "gpu", "stream", GPU_STEP, "times_ours"),
)


def ratios_of(results: Path) -> dict[str, Any]:
    """What is kept of a release: where its results were measured, and its ratios by device and name.

    Raises:
        InputError: a headline is not in the results.
    """
    found = {device: json.loads((results / device / "results.json").read_text("utf-8")) for device in ("cpu", "gpu")}
    ratios: dict[str, dict[str, float]] = {device: {} for device in found}
    for name, device, table, row, column in HEADLINES:
        rows = found[device]["tables"][table]["rows"]
        values = [one.get(column) for one in rows if row.items() <= one.items()]
        if len(values) != 1 or not isinstance(values[0], float):
            raise InputError(f"{results}: expected one {column} of {table} with {dict(row)}, got {values}")
        ratios[device][name] = round(values[0], 3)
    machines = {device: one["machine"] for device, one in found.items()}
    return {"release": streamdrnn.__version__, "machines": machines, "ratios": ratios}


def write_release(results: Path) -> None:
    """Write this version's ratios, and draw those of all versions that are there."""
    folder = results / FOLDER
    folder.mkdir(exist_ok=True)
    kept = json.dumps(ratios_of(results), indent=1) + "\n"
    (folder / f"{streamdrnn.__version__}.json").write_text(kept, encoding="utf-8")
    releases = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
    _draw(sorted(releases, key=lambda release: [int(part) for part in release["release"].split(".")]), folder)


def _draw(releases: list[dict[str, Any]], folder: Path) -> None:
    """A panel per device, a row per headline: the newest release with its figure, and where earlier ones were."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, ScalarFormatter

    from streamdrnn.apps.plot_style import BLUE, GREY, STYLE

    *earlier, newest = releases
    rows = {device: [one.name for one in HEADLINES if one.device == device] for device in ("cpu", "gpu")}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 5), layout="constrained")
        figure.suptitle("What peers cost as a multiple of ours (log scale)")
        panels = figure.subplots(2, 1, sharex=True, height_ratios=[len(names) for names in rows.values()])
        for axes, (device, names) in zip(panels, rows.items(), strict=True):
            for release in earlier:
                known = {name: ratio for name, ratio in release["ratios"][device].items() if name in names}
                axes.plot([*known.values()], [names.index(name) for name in known], "o", color=GREY, label="earlier")
            ratios = [newest["ratios"][device][name] for name in names]
            axes.plot(ratios, range(len(names)), "o", color=BLUE, label=newest["release"])
            for row, ratio in enumerate(ratios):
                axes.annotate(f"{ratio:.1f}", (ratio, row), (7, 0), textcoords="offset points", va="center", fontsize=9)
            axes.set_title(device.upper())
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.grid(axis="y", alpha=0.3)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.set_xticks([1, 2, 5, 10, 20])
            axes.xaxis.set_minor_locator(NullLocator())
        entries = dict(zip(*panels[0].get_legend_handles_labels()[::-1], strict=True))
        panels[0].legend(entries.values(), entries.keys(), loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        figure.savefig(folder / "ratios.png")


if __name__ == "__main__":
    write_release(Path(sys.argv[1]))
