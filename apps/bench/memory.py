"""Suite ``memory``: what a training step needs at its peak, ours and the reshape trick's, each in its own process."""

import subprocess
import sys

from streamdrnn.apps.bench.choices import Cell
from streamdrnn.apps.bench.contenders import OURS, RESHAPE
from streamdrnn.apps.bench.process_usage import NEEDS, measurable
from streamdrnn.apps.bench.sequences import sizes_of
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.workloads import Workload

MIB = 2**20
CELLS: tuple[Cell, ...] = ("gru",)


def measure(session: Session) -> list[Table]:
    """Peak memory of one training step.

    Raises:
        ValueError: a step failed, or the peer computes something else.
    """
    rows: list[Row] = []
    workloads = session.sizes.sequences
    for workload in workloads if measurable() else ():
        for cell in session.chosen_cells(CELLS):
            session.say(f"memory: {workload.name}, {cell}")
            ours, reshape = (probe(workload, cell, who) for who in (OURS, RESHAPE))
            rows.append(
                {
                    "work": workload.name,
                    "cell": cell,
                    "ours_mib": ours / MIB,
                    "reshape_mib": reshape / MIB,
                    "ratio": reshape / ours if ours else None,
                }
            )
    notes = (
        "Peak resident memory above that just before the step, with weights and input made; one process each. "
        "ratio: reshape / ours.",
        sizes_of(workloads),
    )
    return [Table("memory", "Peak memory of a training step", rows, notes if measurable() else (f"{NEEDS}.",))]


def probe(workload: Workload, cell: str, who: str) -> int:
    """Bytes, from a process of its own.

    Raises:
        ValueError: it failed.
    """
    sizes = (workload.batch, workload.steps, workload.inputs, workload.hidden, workload.layers)
    command = [sys.executable, "-m", "streamdrnn.apps.bench.memory_probe", cell, who, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ValueError(f"memory of {who} for {workload.name}, {cell}: {reason}")
    return int(done.stdout)
