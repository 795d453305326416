"""Suite ``memory``: what a training step needs at its peak, ours and the reshape trick's, each in its own process."""

import subprocess
import sys
from collections.abc import Sequence

from streamdrnn.apps.bench.process_usage import NEEDS, measurable
from streamdrnn.apps.bench.tables import Row, Say, Table
from streamdrnn.apps.bench.works import Work

MIB = 2**20


def measure(works: Sequence[Work], cells: Sequence[str], say: Say) -> list[Table]:
    """Peak memory of one training step.

    Raises:
        ValueError: a step failed, or the peer computes something else.
    """
    rows: list[Row] = []
    for work in works if measurable() else ():
        for cell in cells:
            say(f"memory: {work.name}, {cell}")
            ours, reshape = (probe(work, cell, who) for who in ("ours", "reshape"))
            rows.append(
                {
                    "work": work.name,
                    "cell": cell,
                    "ours_mib": ours / MIB,
                    "reshape_mib": reshape / MIB,
                    "ratio": reshape / ours if ours else None,
                }
            )
    note = (
        "Peak resident memory above that just before the step, with weights and input made; one process each. "
        "ratio: reshape / ours."
    )
    sizes = "; ".join(f"{work.name} is {work}" for work in works)
    return [
        Table("memory", "Peak memory of a training step", rows, (note, f"{sizes}.") if measurable() else (f"{NEEDS}.",))
    ]


def probe(work: Work, cell: str, who: str) -> int:
    """Bytes, from a process of its own.

    Raises:
        ValueError: it failed.
    """
    sizes = (work.batch, work.steps, work.inputs, work.hidden, work.layers)
    command = [sys.executable, "-m", "streamdrnn.apps.bench.memory_probe", cell, who, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ValueError(f"memory of {who} for {work.name}, {cell}: {reason}")
    return int(done.stdout)
