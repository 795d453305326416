"""Predicted cycles per iteration of the skewed scans, from the machine code that is compiled for them without a GPU.

``python -m streamdrnn.kernels.gpu.cost gru 9 20`` prints them for nine GRU layers of 20 units. A prediction is not a
measurement: it is for choosing what to try first on a GPU.

The machine code says itself how it waits: each instruction has the cycles until the next one, and which of six counters
it waits for or releases. What is not in it is assumed: :data:`LATENCY`, :data:`SLOW`, and what :func:`simulate` says.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from streamdrnn.kernels.cells import CELLS

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

CACHED = ("LDG", "LD")
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
    """

    name: str
    stall: int
    result: Optional[int]
    read: Optional[int]
    waits: tuple[int, ...]


def loop_of(sass: str) -> list[Instruction]:
    """The instructions of the longest loop with a barrier in it, from ``nvdisasm -c -hex``."""
    labels: dict[str, int] = {}
    found: list[Instruction] = []
    loops: list[tuple[int, int]] = []
    lines = iter(sass.splitlines())
    for line in lines:
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(found)
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
            loops.append((labels[target[1]], len(found) + 1))
        found.append(Instruction(name, max(1, control & 15), result, read, waits))
    whole = [found[start:end] for start, end in loops]
    return max((loop for loop in whole if any(i.name == "BAR" for i in loop)), key=len)


class _Warp:
    """Where a warp is in the loop, and when it goes on."""

    def __init__(self) -> None:
        self.at, self.next = 0, 0
        self.released = [0] * 6


def simulate(loop: Sequence[Instruction], warps: int, load: int, turns: int = 6) -> float:
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
        for scheduler in range(SCHEDULERS):
            for warp in group[scheduler::SCHEDULERS]:
                one = loop[warp.at]
                free = busy[scheduler].get(one.name, 0)
                if now < max(warp.next, free, *(warp.released[n] for n in one.waits), 0):
                    continue
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
                for counter, when in ((one.result, done), (one.read, now + OPERANDS_READ)):
                    if counter is not None:
                        warp.released[counter] = max(warp.released[counter], when)
                warp.at += 1
                if warp.at == len(loop):
                    warp.at = 0
                    if warp is group[-1]:
                        ends.append(now)
                break
        now += 1
    return (ends[-1] - ends[1]) / (turns - 2)  # the first turns fill the pipeline


class Prediction(NamedTuple):
    """What is known of a kernel without a GPU.

    Attributes:
        instructions, barriers: in one iteration.
        near, far: predicted cycles per iteration, where loads are found in the first cache, and in the second.
    """

    registers: int
    spilled: int
    shared: int
    instructions: int
    barriers: int
    near: int
    far: int


def predict(cell: str, layers: int, H: int, direction: str, save: bool = True, capability: int = 90) -> Prediction:
    """Compile a group of layers and predict its cycles.

    Raises:
        ValueError: so many layers of this size are no group.
    """
    import triton

    from streamdrnn.kernels.gpu.plans import grouped

    group = grouped(cell, [H] * layers, 0)
    if group.last != layers or not group.columns:
        raise ValueError(f"layers: got {layers} of {H} units, expected at most {group.last if group.columns else 0}")
    options = {"num_warps": group.warps, "num_stages": 1, "maxnreg": 255}
    sizes = {"LAYERS": layers, "H": H, "COLUMNS": group.columns, "PIECE": group.piece}
    kernel = triton.compile(
        _source(direction, cell, {"CELL": cell, "SAVE": save, "UNROLLED": group.unrolled, **sizes}),
        target=triton.backends.compiler.GPUTarget("cuda", capability, 32),
        options=options,
    )
    tools, cubin = triton.knobs.nvidia, kernel.asm["cubin"]
    used = _run(tools.cuobjdump.path, "--dump-resource-usage", cubin)
    registers, stack = (int(re.search(rf"{name}:(\d+)", used)[1]) for name in ("REG", "STACK"))  # type: ignore[index]
    loop = loop_of(_run(tools.nvdisasm.path, "-c -hex", cubin))
    turns = group.unrolled if direction == "forward" else 1
    near, far = (round(simulate(loop, group.warps, load) / turns) for load in (L1, L2))
    barriers = sum(i.name == "BAR" for i in loop) // turns
    return Prediction(registers, stack, kernel.metadata.shared, len(loop) // turns, barriers, near, far)


def _source(direction: str, cell: str, constants: dict[str, object]) -> Any:
    """A kernel of ``skewed.py`` with arguments as it is launched with."""
    from triton.compiler import ASTSource

    from streamdrnn.kernels.gpu import skewed

    kernel = getattr(skewed, direction)
    # Chunks without lengths; other cells than a GRU have no bias that a gate scales.
    constants = {
        **constants,
        "p_lengths": None,
        "phases": 1,
        "FED": False,
        **({} if cell == "gru" else {"p_b_n": None}),
    }
    types = {"p_cursor": "*i64", "p_layers": "*i64", "T": "i32", "B": "i32"}
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in names}
    aligned = [name for name, kind in signature.items() if kind.startswith("*") and name not in skewed.GIVEN]
    return ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items() if name in names},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )


def _run(tool: str, options: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, *options.split(), file.name], check=True, capture_output=True, text=True).stdout


WAYS = (("inference", "forward", False), ("training, forward", "forward", True), ("backward", "backward", True))


def main(*wanted: str) -> None:
    triples = [wanted[at : at + 3] for at in range(0, len(wanted), 3)]
    if not all(len(one) == 3 and one[0] in CELLS and one[1].isdecimal() and one[2].isdecimal() for one in triples):
        sys.exit(f"cost: expected CELL LAYERS UNITS, such as gru 9 20, any number of times; got {' '.join(wanted)}")
    print("| group | pass | registers | spilled | shared | instructions | barriers | cycles, L1 | cycles, L2 |")
    print("| --- | --- |" + " ---: |" * 7)
    given = [(cell, int(layers), int(H)) for cell, layers, H in triples]
    for cell, layers, H in given or [(cell, 9, 20) for cell in ("gru", "lstm", "rnn")]:
        for name, direction, save in WAYS:
            numbers = predict(cell, layers, H, direction, save)
            print(f"| {layers} {cell} of {H} | {name} | {' | '.join(map(str, numbers))} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
