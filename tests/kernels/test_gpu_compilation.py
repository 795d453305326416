"""The Triton kernels compile for the GPUs they are meant for, within what these have; no GPU is needed for that."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamdrnn.kernels.gpu.plans import Plan
from tests.kernels.offered import offered, representative
from tests.strategies import CELLS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}
"""What a program may have, by compute capability."""

THOROUGH = ["thorough"] if os.environ.get("HYPOTHESIS_PROFILE") == "full" else []


def compiled(capability: int, *what: str) -> list[dict[str, Any]]:
    """The compiler's report of each kernel."""
    script = [sys.executable, "-m", "tests.kernels.compile_kernels", str(capability), *what]
    root = Path(__file__).parents[2]
    done = subprocess.run(script, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "what", [["forward"], pytest.param(["backward", "step"], marks=pytest.mark.full)], ids=" ".join
)
# The smaller machine is the one that a kernel may be too large for.
@pytest.mark.parametrize("capability", [80, pytest.param(90, marks=pytest.mark.full)])
def test_every_kernel_keeps_everything_in_registers_and_shared_memory(capability: int, what: list[str]) -> None:
    """No register is spilled, and no load may miss what the kernel itself has written: every plan that can be chosen;
    in ``make check-full`` with every cell."""
    reports = compiled(capability, *what, *THOROUGH)
    for report in reports:
        assert report["spill_stores"] == report["spill_loads"] == 0, report
        assert report["quotients"] == report["powers"] == 0, report
        assert report["shared"] <= SHARED_MEMORY[capability], report
        assert report["unchanging"] == 0, report
        if report["what"] != "step":
            plan = Plan(**report["plan"])
            assert report["registers"] <= plan.registers, report
            # Where a step reads what the one before has stored, a barrier comes after the last store.
            assert report["closed"] or not plan.inputs, report
    for direction in set(what) - {"step"}:
        for cell in CELLS:
            seen = {str(r["plan"]) for r in reports if (r["what"], r["cell"]) == (direction, cell)}
            plans = (
                offered(cell) if THOROUGH else {plan for exact in (True, False) for plan in representative(cell, exact)}
            )
            assert seen == {str(plan._asdict()) for plan in plans if not plan.spread}
    if "step" in what:
        steps = {(r["cell"], r["precision"], r["B"]) for r in reports if r["what"] == "step"}
        precisions = 4 if THOROUGH else 2
        assert len(steps) == 3 * precisions * 2, "cells, precisions, and few or many streams"


@pytest.mark.full
def test_other_numbers_of_steps_streams_and_phases_compile_nothing_anew() -> None:
    """Nor does where in memory a tensor begins: with 5 units, most begin between multiples of 16 bytes."""
    kernels = Counter((report["call"], report["cell"], report["H"]) for report in compiled(90, "sizes"))
    assert kernels == {(0, cell, H): 2 for cell in CELLS for H in (5, 20, 200)}, (
        "other than one forward and one backward"
    )


@pytest.mark.parametrize("capability", [90, pytest.param(80, marks=pytest.mark.full)])
def test_skewed_scans_keep_their_weights_in_registers_and_wait_once_or_twice_a_step(capability: int) -> None:
    """Without a spilled register, and without loads that may miss what the kernel itself has written.

    A stream's step and a batch's forward pass are variants of one kernel, with the same operations.
    """
    reports = compiled(capability, "skewed", *THOROUGH)
    assert {report["kernel"] for report in reports} == {"forward", "backward", "linear"}
    for report in reports:
        assert report["spill_stores"] == report["spill_loads"] == report["unchanging"] == 0, report
        assert report["quotients"] == report["powers"] == 0, report
        assert report["shared"] <= SHARED_MEMORY[capability], report
        # With more threads for a column the compiler adds its own.
        if report["kernel"] != "linear" and report["shared"] == 0:
            unrolled = {"forward": (1 + 1, 1 + 2), "backward": (2,)}[report["kernel"]]
            assert report["barriers"] in unrolled, report
    operations: dict[str, set[tuple[int, ...]]] = {}
    for report in reports:
        if report["kernel"] == "forward":
            kind = f"{report['cell']} {report['layers']} {report['H']}"
            counts = tuple(report[name] for name in ("fma", "add", "sub", "mul"))
            operations.setdefault(kind, set()).add(counts)
    assert {len(found) for found in operations.values()} == {1}, operations
