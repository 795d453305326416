"""Which runs of the paper are missing, and how they are made: several at a time, the most telling first."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Optional

from streamdrnn.apps.training.paper.stored_runs import recipe_of
from streamdrnn.apps.training.paper.tables import Options, Table
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.errors import InputError

ORDER = (
    "mnist/dilated-*-20",
    "mnist-permuted/dilated-*-20",
    "copy-*/dilated-*",
    "copy-*/stacked-*",
    "layers/*",
    "noisy-mnist-1000/dilated-[rg]*",
    "noisy-mnist-1000/skip-*",
    "noisy-mnist-1000/cnn-*",
    "noisy-mnist-1000/stacked-rnn-*",
    "noisy-mnist-2000/dilated-rnn-*",
    "speaker-here/*",
    "ptb/*dilated-gru-*",
    "start-dilation/*",
    "mnist*/dilated-rnn-50",
    "mnist*/stacked-*",
    "mnist*/skip-*",
    "*/min-gru-*",
    "*/lru-*",
    "*/tcn-*",
    "mnist*/*-seed-[12]",
    "copy-*/dilated-*-seed-[12]",
    "[!p]*/[rlg]*-256",
    "speaker/*",
)
"""The paper's claims first, then what takes long. A run has the place of the last pattern that it matches; what none
matches comes before the last two, which are of hours and of data that few have."""
_UNMATCHED = len(ORDER) - 2.5


class Job(NamedTuple):
    """A run to make: what the report calls it, its folder below that of all runs, and the options of its training."""

    name: str
    run: str
    options: Options


def jobs_of(tables: Iterable[Table]) -> list[Job]:
    """The runs of all rows, in the order to make them; a run that two tables share is one."""
    found = {
        row.run_of(seed): Job(f"{table.title}: {row.name}", row.run_of(seed), row.options_of(seed))
        for table in tables
        for row in table.rows
        for seed in row.seeds
    }
    return sorted(found.values(), key=_place)


def _place(job: Job) -> float:
    return max((at for at, pattern in enumerate(ORDER) if fnmatchcase(job.run, pattern)), default=_UNMATCHED)


def make_missing(
    jobs: Sequence[Job], runs: Path, data_dir: Optional[Path], workers: int, after_each: Callable[[], None]
) -> None:
    """Make what was not made yet; what was interrupted goes on. What another process makes is left to it.

    Args:
        runs: the folder of all.
        workers: how many are made at a time, each with its part of the processors.
        after_each: called when one has come to its end.

    Raises:
        ValueError: a folder has a run of another recipe: nothing is made; or some cannot be trained: the others are
            made first.
    """
    missing = []
    for job in jobs:
        folder = RunFolder(runs / job.run)
        if folder.is_started():
            folder.check_recipe(recipe_of(job.options))
        if folder.results() is None:
            missing.append(job)
    failed: list[str] = []
    threads = ThreadPoolExecutor(workers)
    try:
        started = {threads.submit(_make, job, runs, data_dir, workers): job for job in missing}
        for one in as_completed(started):
            if one.result():
                after_each()
            else:
                failed.append(started[one].name)
    finally:  # Ctrl-C ends the trainings too; no other shall begin
        threads.shutdown(cancel_futures=True)
    if failed:
        raise InputError(f"{'; '.join(failed)}: training failed")


def _make(job: Job, runs: Path, data_dir: Optional[Path], workers: int) -> bool:
    """Whether the run is made now, or elsewhere."""
    folder = runs / job.run
    with _alone(folder.with_name(f"{folder.name}.lock")) as lock:
        if lock is None:
            print(f"{job.name}: another process trains it", file=sys.stderr)
            return True
        if RunFolder(folder).results() is not None:  # another process has just come to its end
            return True
        print(job.name, file=sys.stderr)
        options = [*job.options, "--out", str(folder), "--resume", "--json"]
        if data_dir is not None:
            options += ["--data-dir", str(data_dir)]
        threads = {} if workers == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}
        # A process of its own, so that the run tells the command that makes it again. It holds the lock too: as long
        # as it goes on, even when this one is killed, no other begins the same.
        command = [sys.executable, "-m", "streamdrnn.apps.cli", "train", *options]
        return not subprocess.run(command, env=os.environ | threads, pass_fds=[lock], check=False).returncode


@contextmanager
def _alone(path: Path) -> Iterator[Optional[int]]:
    """A locked file, or None if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            yield file.fileno()
        finally:
            path.unlink(missing_ok=True)
