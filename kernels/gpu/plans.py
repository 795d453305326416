"""How a recurrence is cut into programs: the few ways worth trying for a size, and which is taken.

The best way depends on the chip. So on a GPU the candidates are timed once per kind of call, and the choice is kept for
the life of the process.
"""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import gcd
from typing import NamedTuple, TypeVar

import torch

from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.gpu.availability import interpreted

ON_CHIP = 128
"""Units whose recurrent weights one program can hold in registers; 64 for an LSTM, which has more."""


REGISTERS, MOST_REGISTERS = 65536, 255
"""The registers of a program, and of a thread."""


class Plan(NamedTuple):
    """One way to cut it.

    Attributes:
        rows, units: of a program's tile.
        warps, stages: what Triton calls ``num_warps`` and ``num_stages``.
        dot: whether products are ``tl.dot``; else multiplications and a sum.
        inputs: how many inputs of the product are taken at a time; 0 if all weights stay on the chip.
        spread: whether a step's units are spread over programs, so that every step is a launch.
        scan: ``"steps"``, one after the other; or ``"newton"``, all at once in torch's operations (``newton.py``), to
            which nothing of the above applies.
    """

    rows: int
    units: int
    warps: int
    stages: int = 1
    dot: bool = False
    inputs: int = 0
    spread: bool = False
    scan: str = "steps"

    @property
    def registers(self) -> int:
        """As many as a thread may have: the compiler would rather spill a few than let fewer programs run at once."""
        return min(MOST_REGISTERS, REGISTERS // (32 * self.warps))


NEWTON = Plan(0, 0, 0, scan="newton")
NEWTON_SWITCH = "STREAMDRNN_NEWTON"
"""The environment variable that, set to 1, makes :data:`NEWTON` a candidate. No GPU has run or timed it yet."""

MOST_UNITS_OF_NEWTON = 32


def candidates(cell: str, H: int, tensor_cores: bool, rows: int) -> list[Plan]:
    """The ways worth trying, most promising first.

    Args:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        H: units.
        tensor_cores: whether the products may be rounded to what tensor cores take.
        rows: streams times phases.
    """
    units = max(16, 1 << (H - 1).bit_length())
    plans = []
    if units <= (ON_CHIP // 2 if cell == "lstm" else ON_CHIP):
        # With fewer warps more rows are done per second, with more of them a step takes less time. The registers of a
        # thread hold about 100 weights, which an LSTM of 32 units exceeds in one warp.
        warps = {16: [1], 32: [2, 4] if cell == "lstm" else [1, 4], 64: [4, 8], 128: [16]}
        plans += [Plan(1, units, w) for w in warps[units]]
        if tensor_cores and units <= 64:
            units = max(32, units)
            plans.append(Plan(16, units, units // 8, dot=True))
    else:
        # Without tensor cores a thread holds its operands for all inputs at a time, for which 32 are too many.
        plans.append(Plan(16, 32, 8, stages=2, dot=True, inputs=32 if tensor_cores else 16))
        if tensor_cores:
            # The weights' reading, shared by more rows; without tensor cores it is the arithmetic that takes the time.
            plans.append(Plan(64, 16, 8, stages=2, dot=True, inputs=16))
        if rows <= 1024:
            plans.append(plans[0]._replace(spread=True))
    # Many rows share the weights' reading; of plans for as many rows, those with fewer warps stay first.
    plans = plans if rows <= 4096 else sorted(plans, key=lambda plan: -plan.rows)
    # Rounded products would keep the residual above its bound. The host reads it, which a captured graph cannot.
    newton = os.environ.get(NEWTON_SWITCH) == "1" and H <= MOST_UNITS_OF_NEWTON and not tensor_cores
    return [NEWTON, *plans] if newton and not _capturing() else plans


def _capturing() -> bool:
    return not interpreted() and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


Way = TypeVar("Way")
_chosen: dict[object, object] = {}


def choose(key: object, plans: Sequence[Way], run: Callable[[Way], object]) -> Way:
    """The fastest plan for calls of one kind, timed at the first of them.

    Not timed, but the first plan taken: in the interpreter, while a CUDA graph is captured, and where deterministic
    algorithms are asked for, since the plans' sums differ in their last bits.
    """
    if len(plans) == 1 or interpreted() or torch.are_deterministic_algorithms_enabled():
        return plans[0]
    for plan in plans:
        if plan == _chosen.get(key):
            return plan
    if _capturing():
        return plans[0]
    from triton.testing import do_bench

    times = [do_bench(lambda plan=plan: run(plan), warmup=2, rep=10, return_mode="median") for plan in plans]
    _chosen[key] = fastest = plans[times.index(min(times))]
    return fastest


SWITCH = "STREAMDRNN_SKEWED"
"""The environment variable that, set to 1, lets layers run as skewed scans. No GPU has run or timed these yet."""

MOST_COLUMNS = 256
"""The threads of a program for a skewed scan."""

MOST_WEIGHTS, FEWER_WEIGHTS, FEWEST_WEIGHTS = 192, 160, 128
"""Those that one of its threads can hold in 255 registers beside all else. The second where it has more besides: for an
LSTM, where threads share a column, and in a loop of two iterations; the third where two of these meet and threads share
a column."""


class Group(NamedTuple):
    """Neighbouring layers that run together.

    Attributes:
        first, last: the lowest layer, and the one after the highest.
        columns: of a program's tile, at least the layers' units; 0 for a layer that runs by itself, over its phases.
        threads: that share a column's weights.
        unrolled: the iterations in the forward pass's loop.
        fed: whether the lowest layer's input is the states of a layer of the same size, whose product the loop makes.
        phases: programs for each stream, which divide the layers' dilations.
    """

    first: int
    last: int
    columns: int = 0
    threads: int = 1
    unrolled: int = 1
    fed: bool = False
    phases: int = 1

    @property
    def piece(self) -> int:
        """How many inputs of a column are taken at a time: four by each thread, which it loads at once."""
        return 4 * self.threads

    @property
    def warps(self) -> int:
        return self.columns * self.threads // 32


def skewed_wanted() -> bool:
    """Whether :data:`SWITCH` is on."""
    return os.environ.get(SWITCH) == "1"


def groups(cell: str, sizes: Sequence[int], cut: int = 0) -> list[Group]:
    """Layers of these units: each by itself, or with :data:`SWITCH` as many of one size together as registers allow.

    Args:
        cut: no group has both this layer and the one below. The sums are the same with every cut.
    """
    found: list[Group] = []
    while not found or found[-1].last < len(sizes):
        first = found[-1].last if found else 0
        below = sizes[:cut] if first < cut else sizes
        found.append(grouped(cell, below, first) if skewed_wanted() else Group(first, first + 1))
    return found


PROCESSORS, WARPS = 132, 8
"""Those of an H100, and the warps of 255 registers that one of them takes at a time."""

ITERATION, LAUNCH = 700, 10_000
"""Cycles that the rule assumes: for an iteration, about what is predicted for nine GRU layers of 20 (``cost.py``), and
for a group to be launched."""

PROLOGUE = 5
"""Iterations' time in which a program reads its weights, assumed."""

MOST_SPLITS = 4

MOST_PHASES = 65535
"""The most programs that a grid has in its second dimension, on all of NVIDIA's GPUs."""


def splits(cell: str, sizes: Sequence[int], dilations: Sequence[int], T: int, B: int) -> list[list[Group]]:
    """The groups of a chunk: the few ways worth trying, that which is predicted to take the least time first.

    A group takes phases side by side that all its dilations have in common, where that is shorter. So a stack is cut
    where the upper layers gain more by their phases than a pass of their own takes. All ways give the same outputs and
    states, bit for bit.
    """
    if not skewed_wanted():
        return [groups(cell, sizes)]
    return _splits(cell, tuple(sizes), tuple(dilations), T, B)


@lru_cache(maxsize=256)
def _splits(cell: str, sizes: tuple[int, ...], dilations: tuple[int, ...], T: int, B: int) -> list[list[Group]]:
    found = []
    for cut in range(len(sizes)):
        ways = [
            group._replace(phases=phases(group, dilations, T, B)) if group.columns else group
            for group in groups(cell, sizes, cut)
        ]
        if ways not in found:
            found.append(ways)
    return sorted(found, key=lambda ways: sum(LAUNCH + cycles(group, T, B) for group in ways))[:MOST_SPLITS]


@lru_cache(maxsize=256)
def phases(group: Group, dilations: tuple[int, ...], T: int, B: int) -> int:
    """The number of phases to take side by side, by the rule."""
    common = gcd(*dilations[group.first : group.last])
    divisors = [phases for phases in range(1, max(1, min(common, T, MOST_PHASES)) + 1) if common % phases == 0]
    return min(divisors, key=lambda phases: cycles(group._replace(phases=phases), T, B))


def cycles(group: Group, T: int, B: int) -> int:
    """The time that a group takes by the rule: its iterations, as often as its programs exceed what runs at once."""
    if not group.columns:
        return 0  # it is the same in every split
    at_once = PROCESSORS * max(1, WARPS // group.warps)
    iterations = -(-T // group.phases) + group.last - group.first - 1 + PROLOGUE
    return -(-B * group.phases // at_once) * iterations * ITERATION


def grouped(cell: str, sizes: Sequence[int], first: int) -> Group:
    H = sizes[first]
    fed = first > 0 and sizes[first - 1] == H
    for threads in (1, 2, 4):
        weights = 4 * -(-H // (4 * threads)) * 2 * CELLS[cell].gates
        most = MOST_COLUMNS // threads // H
        unrolled = 2 if weights <= (FEWER_WEIGHTS if threads == 1 else FEWEST_WEIGHTS) else 1
        fewer = FEWEST_WEIGHTS if cell == "lstm" else FEWER_WEIGHTS
        held = fewer if threads > 1 else FEWER_WEIGHTS if cell == "lstm" else MOST_WEIGHTS
        if most and weights <= held:
            layers = next((n for n, other in enumerate(sizes[first:]) if other != H or n == most), len(sizes) - first)
            return Group(first, first + layers, max(32, 1 << (layers * H - 1).bit_length()), threads, unrolled, fed)
    return Group(first, first + 1)
