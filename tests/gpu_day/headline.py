"""The benchmark's headline: ours and cuDNN's reshape on the paper's networks, live streams, and one layer of an LSTM.

``python -m tests.gpu_day.headline 90 results.json`` takes about 90 seconds. The file is written after each suite.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from streamdrnn.apps.bench import report, suites
from streamdrnn.apps.bench.choices import Cell, Precision
from streamdrnn.apps.bench.command import say
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.tables import Table
from streamdrnn.apps.bench.target import TARGETS, Target
from streamdrnn.apps.bench.workloads import SIZES, Sizes
from streamdrnn.errors import InputError

OF_NETWORKS = 0.75
"""The part of the time that is the networks'; single layers have the rest."""
REPEATS = 9


def headline(sizes: Sizes) -> Sizes:
    """Three works and the streams, without what ``torch.compile`` takes its time for."""
    stream = sizes.stream._replace(compiled=())
    return sizes._replace(sequences=sizes.sequences[:3], loops=(), compiled=None, layers=(), stream=stream)


def measure(target: Target, sizes: Sizes, seconds: float, file: Path) -> list[str]:
    """Measure and write; what went wrong, in words."""
    layers = headline(sizes)._replace(sequences=(), layers=sizes.layers)
    runs: Sequence[tuple[float, Sizes, Cell, tuple[Precision, ...], tuple[str, ...]]] = [
        (OF_NETWORKS, headline(sizes), "gru", ("tf32", "ieee"), ("forward", "train", "stream")),
        (1 - OF_NETWORKS, layers, "lstm", (), ("forward", "train")),
    ]
    tables: list[Table] = []
    problems: list[str] = []
    for part, chosen, cell, precisions, names in runs:
        timed = target._replace(total_seconds=part * seconds)
        session = Session(timed, chosen, (cell,), precisions, REPEATS, False, say)
        for _, found in suites.measure(session, [name for name in suites.SUITES["cuda"] if name in names]):
            tables += [table for table in found if table.rows]
            file.write_text(report.to_json("make gpu-day", session.facts, tables) + "\n", encoding="utf-8")
        problems += session.problems
    print(report.to_markdown("make gpu-day", target.facts(), tables, []))
    return problems


def main(seconds: str, file: str) -> None:
    try:
        problems = measure(TARGETS["cuda"](), SIZES["cuda"], float(seconds), Path(file))
    except InputError as error:
        sys.exit(f"headline: {error}")
    if problems:
        sys.exit(f"headline: {len(problems)} measurements failed: {'; '.join(problems)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
