"""Scorers side by side, on Ray Data."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: nobody is told that it is used
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")  # else it tells of every run

import ray
import ray.data

from streamdrnn.apps.scoring.scorer import Score, Scorer


class _Worker:
    """A scorer as Ray Data calls it: rows are dictionaries."""

    def __init__(self, model: Path, folder: Path) -> None:
        self._score = Scorer(model, folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return self._score(row["recording"])._asdict()


def score_on_ray(model: Path, folder: Path, recordings: Sequence[str], workers: int) -> Iterator[Score]:
    """Score recordings on a cluster: that of ``RAY_ADDRESS``, else one on this machine for as long as it takes.

    Args:
        model, folder: by the same paths on every machine.
        workers: how many processes score, each with a core of its own.

    Yields:
        the scores, in whatever order they are done.
    """
    started = not ray.is_initialized()
    if started:
        cores = None if "RAY_ADDRESS" in os.environ else workers
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        rows = ray.data.from_items([{"recording": name} for name in recordings], override_num_blocks=4 * workers)
        worker: Any = _Worker  # Ray's types know functions only
        scored = rows.map(worker, fn_constructor_args=(model, folder), compute=ray.data.ActorPoolStrategy(size=workers))
        for row in scored.iter_rows():
            yield Score(**row)
    finally:
        if started:
            ray.shutdown()
