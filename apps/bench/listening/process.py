"""`streamdrnn listen` in a process of its own, watched from outside."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional

import numpy as np

from streamdrnn.apps.bench.process_usage import cpu_seconds, measurable, resident_bytes


class Heard(NamedTuple):
    """What a process that listened has told, and what it took.

    Attributes:
        events: its lines.
        cores: what it computed from its first report to its last, as a share of that time; None if not to be known.
        seconds: that time.
        resident: bytes at the reports.
    """

    events: list[dict[str, Any]]
    cores: Optional[float]
    seconds: float
    resident: list[int]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """Who spoke when."""
        return [event for event in self.events if event["event"] == "segment"]


def listen(arguments: Sequence[str], profiles: Path, pcm: Optional[np.ndarray]) -> Heard:
    """Run the command.

    Args:
        pcm: what to give to its standard input.

    Raises:
        ValueError: it failed.
    """
    command = [sys.executable, "-m", "streamdrnn.apps.cli", "listen", *arguments, "--json", "--profiles", str(profiles)]
    events: list[dict[str, Any]] = []
    marks: list[tuple[float, Optional[float]]] = []
    resident: list[int] = []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        feeder = threading.Thread(target=feed, args=(process.stdin, pcm))
        feeder.start()
        try:
            for line in process.stdout:
                events.append(json.loads(line))
                if events[-1]["event"] == "report":
                    marks.append((time.perf_counter(), cpu_seconds(process.pid)))
                    resident += [resident_bytes(process.pid)] if measurable() else []
            problem = process.stderr.read().decode(errors="replace").strip()
            if process.wait():
                raise ValueError(
                    f"listen: {problem.splitlines()[-1] if problem else f'exit code {process.returncode}'}"
                )
        finally:
            process.kill()
            feeder.join()
    (began, cpu_began), (ended, cpu_ended) = marks[0], marks[-1]
    cores = None if cpu_began is None or cpu_ended is None else (cpu_ended - cpu_began) / (ended - began)
    return Heard(events, cores, ended - began, resident)


def feed(pipe: BinaryIO, pcm: Optional[np.ndarray]) -> None:
    """Write samples, and close; a reader that has gone says itself why."""
    with contextlib.suppress(BrokenPipeError), pipe:
        if pcm is not None:
            pipe.write(pcm.astype("<i2").tobytes())
