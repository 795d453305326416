"""Predicted cycles of the kernels' loops, from the machine code that is compiled for them without a GPU.

``streamdrnn bench --device model`` prints them for every plan. A prediction is not a measurement: it is for choosing
what to try first on a GPU, and for seeing a regression without one.

The machine code says itself how it waits: each instruction has the cycles until the next one, and which of six counters
it waits for or releases. What is not in it is assumed: :data:`LATENCY`, :data:`SLOW`, and what :func:`simulate` says.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, Optional

L1, L2 = 41, 263
"""Cycles from a load to its value. Whether what a program has just written is found in its first cache, nobody tells:
predictions are for both. As measured by Luo et al. 2024, arXiv 2402.13499, on an H100."""

LATENCY = {
    "LDS": 29,
    "LDSM": 33,
    "SHFL": 24,
    "MUFU": 23,
    "I2F": 23,
    "F2I": 23,
    "LDC": 30,
    "S2R": 30,
    "S2UR": 30,
    "BAR": 20,
}
"""Cycles until an instruction of variable latency has its result; the shared memory's from the same source, the others
assumed."""

OPERANDS_READ = 12
"""Cycles until an instruction of variable latency has read its registers, assumed."""

CACHED = ("LDG", "LD", "LDGSTS")
MEMORY = (*CACHED, "STG", "ST", "LDS", "STS", "LDSM", "SHFL")
SLOW = {
    name: cycles
    for cycles, names in {
        2: "IADD3 LOP3 LEA SHF ISETP FSETP SEL FSEL FMNMX IMNMX VIADD PRMT IMAD PLOP3 VIMNMX",
        8: "MUFU I2F F2I",
    }.items()
    for name in names.split()
}
"""Cycles for which a scheduler's unit is busy with a warp, where it has fewer lanes than a warp has threads."""

SCHEDULERS = 4


class Instruction(NamedTuple):
    """One instruction of a loop.

    Attributes:
        name: without what follows the first point.
        stall: cycles until the warp's next instruction.
        result, read: the counters that it releases when its result is there, and when it has read its registers.
        waits: the counters that must be released before.
        behind: of an instruction that waits for copies to shared memory: how many groups of them may be on their way.
    """

    name: str
    stall: int
    result: Optional[int]
    read: Optional[int]
    waits: tuple[int, ...]
    behind: Optional[int] = None


class Loop(NamedTuple):
    """A loop of the machine code, from one instruction to before another, with the loops in it."""

    start: int
    end: int
    inner: "list[Loop]"

    @property
    def depth(self) -> int:
        """The loops from this one to the innermost."""
        return 1 + max((loop.depth for loop in self.inner), default=0)


def one_turn(sass: str, trips: Sequence[int] = ()) -> list[Instruction]:
    """The instructions of one turn of a kernel's longest loop, from ``nvdisasm -c -hex``.

    Args:
        trips: how often the loops in it are gone through, by their depth; where the compiler has made one loop of two,
            it has the product.
    """
    code, loops = _read(sass)
    longest = max(loops, key=lambda loop: loop.end - loop.start)
    return _unfolded(code, longest, trips)


def _read(sass: str) -> tuple[list[Instruction], list[Loop]]:
    """All instructions, and the outermost loops."""
    labels: dict[str, int] = {}
    code: list[Instruction] = []
    spans: dict[int, int] = {}
    lines = iter(sass.splitlines())
    for line in lines:
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        match = re.match(
            r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.a-z]+)(.*);\s+/\* 0x[0-9a-f]{16} \*/", line
        )
        if not match:
            continue
        # The upper half of an instruction holds how it waits, as on all of NVIDIA's GPUs since Volta.
        control = int(next(lines).strip()[5:-3], 16) >> 41
        name = match[1].split(".")[0]
        result, read = (None if number == 7 else number for number in (control >> 5 & 7, control >> 8 & 7))
        waits = tuple(number for number in range(6) if control >> 11 + number & 1)
        target = re.search(r"`\((\.L_x_\d+)\)", match[2])
        if name == "BRA" and target and target[1] in labels:
            start = labels[target[1]]
            spans[start] = len(code) + 1  # of branches to one place the last ends the loop
        behind = re.search(r"SB0, 0x(\d+)", match[2]) if name == "DEPBAR" else None
        code.append(
            Instruction(name, max(1, control & 15), result, read, waits, int(behind[1], 16) if behind else None)
        )
    outermost: list[Loop] = []
    for start, end in sorted(spans.items()):
        if end - start > 1:  # else it is where the program's end waits
            siblings = outermost
            while siblings and end <= siblings[-1].end:
                siblings = siblings[-1].inner
            siblings.append(Loop(start, end, []))
    return code, outermost


def _unfolded(code: Sequence[Instruction], loop: Loop, trips: Sequence[int]) -> list[Instruction]:
    """One turn, with the loops in it as often as they are gone through."""
    found: list[Instruction] = []
    at = loop.start
    times = prod(trips) if loop.depth == 2 else prod(trips[:1])
    for inner in loop.inner:
        found += code[at : inner.start]
        found += times * _unfolded(code, inner, trips[1:])
        at = inner.end
    return found + list(code[at : loop.end])


class _Warp:
    """Where a warp is in the loop, and when it goes on."""

    def __init__(self) -> None:
        self.at, self.next = 0, 0
        self.released = [0] * 6
        self.copied = 0  # when its last copy to shared memory is there
        self.groups: list[int] = []  # the same of each group of copies


def simulate(loop: Sequence[Instruction], warps: int, load: int, turns: int = 4) -> float:
    """Cycles per turn of a loop, for warps that take turns on four schedulers, each one instruction a cycle.

    All warps go the same way, and a scheduler prefers its first warp that can go on. A warp's access to memory takes a
    cycle: 32 neighbouring numbers, or a few vectors that many threads read. If a vector of 128 bits for each thread
    took four cycles, the forward pass of nine GRU layers of 20 would be predicted to take a third more.
    """
    group = [_Warp() for _ in range(warps)]
    busy = [dict.fromkeys(SLOW, 0) for _ in range(SCHEDULERS)]
    memory, arrived, now = 0, 0, 0
    ends: list[int] = []  # of the last warp's turns
    while len(ends) < turns:
        issued, soonest = False, sys.maxsize
        for scheduler in range(SCHEDULERS):
            for warp in group[scheduler::SCHEDULERS]:
                one = loop[warp.at]
                free = busy[scheduler].get(one.name, 0)
                ready = max(warp.next, free, *(warp.released[n] for n in one.waits))
                if one.behind is not None:
                    ready = max([ready, *warp.groups[: max(0, len(warp.groups) - one.behind)]])
                if now < ready:
                    soonest = min(soonest, ready)
                    continue
                issued = True
                warp.next = now + one.stall
                done = now + LATENCY.get(one.name, 0)
                if one.name in SLOW:
                    busy[scheduler][one.name] = now + SLOW[one.name]
                elif one.name in MEMORY:
                    memory = max(memory, now) + 1
                    done = memory + (load if one.name in CACHED else LATENCY.get(one.name, 0))
                elif one.name == "BAR":
                    arrived += 1
                    warp.next = sys.maxsize
                    if arrived == warps:
                        arrived = 0
                        for other in group:
                            other.next = now + LATENCY["BAR"]
                if one.name == "LDGSTS":
                    warp.copied = max(warp.copied, done)
                elif one.name == "LDGDEPBAR":
                    warp.groups = [*warp.groups[-7:], warp.copied]
                    done = warp.copied
                for counter, when in ((one.result, done), (one.read, now + OPERANDS_READ)):
                    if counter is not None:
                        warp.released[counter] = max(warp.released[counter], when)
                warp.at += 1
                if warp.at == len(loop):
                    warp.at = 0
                    if warp is group[-1]:
                        ends.append(now)
                break
        now = now + 1 if issued else max(now + 1, soonest)
    return (ends[-1] - ends[1]) / (turns - 2)  # the first turns fill the pipeline


class Prediction(NamedTuple):
    """What is known of a kernel without a GPU.

    Attributes:
        instructions, barriers: in one turn of its longest loop.
        near, far: predicted cycles of a turn, where loads are found in the first cache, and in the second.
    """

    registers: int
    spilled: int
    shared: int
    instructions: int
    barriers: int
    near: int
    far: int


def predict(kernel: Any, trips: Sequence[int] = (), unrolled: int = 1) -> Prediction:
    """The cycles of a kernel that Triton compiled.

    Args:
        trips: as for :func:`one_turn`.
        unrolled: how many turns the loop was written to have in one.
    """
    import triton

    tools, cubin = triton.knobs.nvidia, kernel.asm["cubin"]
    used = _run(tools.cuobjdump.path, "--dump-resource-usage", cubin)
    registers, stack = (int(re.search(rf"{name}:(\d+)", used)[1]) for name in ("REG", "STACK"))  # type: ignore[index]
    turn = one_turn(_run(tools.nvdisasm.path, "-c -hex", cubin), trips)
    near, far = (round(simulate(turn, kernel.metadata.num_warps, load) / unrolled) for load in (L1, L2))
    barriers = sum(one.name == "BAR" for one in turn) // unrolled
    return Prediction(registers, stack, kernel.metadata.shared, len(turn) // unrolled, barriers, near, far)


def _run(tool: str, options: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, *options.split(), file.name], check=True, capture_output=True, text=True).stdout
