"""Stages of one command that has little time: each stops at its budget, and nothing stops the next."""

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple
from xml.etree import ElementTree

MOST_BYTES = 16 * 2**20
"""Of a file that is kept."""

GRACE = 5.0
"""Seconds of its budget that a stage has to end after it was interrupted, and write what it has."""


class Stage(NamedTuple):
    """One step of the day, in processes of its own.

    Attributes:
        seconds: its budget, beside those of the others: what earlier stages leave is shared by these budgets.
        commands: its processes, side by side.
        environment: added to our own.
        why_not: why it cannot run here; empty if it can.
    """

    name: str
    seconds: float
    commands: Sequence[Sequence[str]] = ()
    environment: Mapping[str, str] = {}
    why_not: str = ""


class Outcome(NamedTuple):
    """What became of a stage.

    Attributes:
        budget, took: seconds.
        ended: in words.
        output: the end of what its processes printed.
    """

    name: str
    budget: float
    took: float
    ended: str
    output: str


def run_all(stages: Sequence[Stage], seconds: float, after_each: Callable[[Outcome], None]) -> None:
    """Run stages one after the other, within so many seconds in all."""
    end = time.monotonic() + seconds
    for number, stage in enumerate(stages):
        left = [later.seconds for later in stages[number:] if not later.why_not]
        after_each(run(stage, 0.0 if stage.why_not else share(end - time.monotonic(), left)))


def share(left: float, budgets: Sequence[float]) -> float:
    """What the first of some stages may take of the seconds that are left to all of them; what it leaves is theirs."""
    return max(0.0, left) * budgets[0] / sum(budgets)


def run(stage: Stage, budget: float) -> Outcome:
    """Run one stage; its processes are interrupted, and then killed, at the end of its budget."""
    if stage.why_not:
        return Outcome(stage.name, budget, 0.0, f"not run: {stage.why_not}", "")
    start = time.monotonic()
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as open_files:
        open_files.callback(_kill, processes)  # if we are interrupted, nothing of the stage goes on
        files = [open_files.enter_context(tempfile.TemporaryFile()) for _ in stage.commands]
        for command, file in zip(stage.commands, files, strict=True):
            environment = {**os.environ, **stage.environment}
            started = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            processes.append(started)
        late = _wait(processes, start + max(0.0, budget - GRACE))
        for process in late:
            os.killpg(process.pid, signal.SIGINT)
        _kill(_wait(late, start + budget))
        output = "".join(_end(file) for file in files)
    codes = Counter(process.returncode for process in processes)
    ended = "done" if set(codes) == {0} else "exit codes " + ", ".join(f"{code}: {n}" for code, n in codes.items())
    if late:
        ended = f"stopped at its budget: {len(late)} of {len(processes)} processes"
    return Outcome(stage.name, budget, time.monotonic() - start, ended, output)


def _wait(processes: Sequence["subprocess.Popen[bytes]"], until: float) -> "list[subprocess.Popen[bytes]]":
    """Those that still run then."""
    running = list(processes)
    while running and time.monotonic() < until:
        time.sleep(0.05)
        running = [process for process in running if process.poll() is None]
    return running


def _kill(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Those that still run, with all that they have started."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end(file: IO[bytes]) -> str:
    """The last of what was written, of all processes together less than a file may have."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**18))
    return file.read().decode(errors="replace")


def joined(reports: Sequence[Path]) -> tuple[str, dict[str, int], list[str]]:
    """JUnit files as one; how many tests passed, failed and were skipped, and how many files were cut short, as by a
    process that was killed; and the names of the tests that failed."""
    whole = ElementTree.Element("testsuites")
    cut = 0
    for report in reports:
        try:
            whole.extend(ElementTree.parse(report).getroot())
        except ElementTree.ParseError:
            cut += 1
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failed = []
    for case in whole.iter("testcase"):
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[kind] += 1
        if kind == "failed":
            failed.append(f"{case.get('classname')}::{case.get('name')}")
    if cut:
        counts["reports cut short"] = cut
    return ElementTree.tostring(whole, encoding="unicode"), counts, failed


def keep(path: Path, text: str) -> None:
    """Write a file, of a text that is too long its beginning."""
    path.write_bytes(text.encode()[:MOST_BYTES])
