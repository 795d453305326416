"""Compile the Triton kernels for a GPU that need not be here, and print what the compiler says of each, as JSON lines.

``python -m tests.kernels.compile_kernels 90 forward step`` compiles for compute capability 9.0 what ``scan.forward``
and a live stream's step launch, with float32 operands; with ``thorough``, in all variants; with ``3/16``, the third of
sixteen parts of them. What is compiled goes to Triton's cache where TRITON_CACHE_DIR names one.

The launches are those of ``streamdrnn.kernels.gpu.compiling``.
"""

import contextlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# Before Triton is imported: its own cache would keep the compiler's report from us.
os.environ.pop("TRITON_INTERPRET", None)
os.environ |= {"TRITON_ALWAYS_COMPILE": "1", "TRITON_DUMP_PTXAS_LOG": "1"}
os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp())

import torch

from streamdrnn.kernels import CELLS, gpu
from streamdrnn.kernels.gpu import scan
from streamdrnn.kernels.gpu.compiling import (
    SCALED_BIAS,
    compiling_only,
    launch_group,
    launch_layer,
    launch_step,
    zero_weights,
)
from streamdrnn.kernels.gpu.plans import SWITCH, Plan, groups
from tests.kernels.offered import offered, representative

PRECISIONS = {
    "ieee": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),
    "bfloat16": (torch.bfloat16, "highest"),
    "float16": (torch.float16, "highest"),
}
WIDEST = ("ieee", "tf32")
"""Those of float32 operands, which take the most registers and shared memory."""


class Variant(NamedTuple):
    """One kernel, as far as a compiler can tell.

    Attributes:
        aligned: whether H is a multiple of 16.
        lengths, save, bias: whether there are lengths, what the gradient needs is kept, and there are biases.
    """

    cell: str
    precision: str
    plan: Plan
    H: int
    aligned: bool
    lengths: bool = True
    save: bool = True
    bias: bool = True


def variants(direction: str, thorough: bool) -> Iterator[Variant]:
    for cell, precision in itertools.product(CELLS, PRECISIONS if thorough else WIDEST):
        plans = (offered if thorough else representative)(cell, precision != "ieee")
        for plan, sizes in plans.items():
            if plan.spread:  # of the same code
                assert plan._replace(spread=False) in offered(cell, precision != "ieee")
                continue
            if precision == "tf32" and not plan.dot:  # the same code as ieee: tensor cores only round so
                continue
            for aligned in (False, True):
                H = max((H for H in sizes if (H % 16 == 0) == aligned), default=None)
                if H is None:
                    continue
                variant = Variant(cell, precision, plan, H, aligned)
                if thorough:
                    flags = itertools.product((False, True), (False, True), (False, True))
                    for lengths, save, bias in flags:
                        forward = direction == "forward"
                        if (save or forward) and (bias or (forward and cell in SCALED_BIAS)):
                            yield variant._replace(lengths=lengths, save=save, bias=bias)
                elif not aligned:
                    # The two that are launched most; of the tiled ones both, since their registers are full.
                    for lengths in (False, True) if plan.inputs else (False,):
                        yield variant._replace(lengths=lengths)


def launch(direction: str, variant: Variant) -> None:
    """What a call of ``scan`` launches."""
    cell, precision, plan, H, _, lengths, save, bias = variant
    launch_layer(direction, cell, H, plan, dtype_of(precision), lengths, save, bias)


def dtype_of(precision: str) -> torch.dtype:
    """Of the products' operands; float32 products are set to be rounded so."""
    dtype, switch = PRECISIONS[precision]
    torch.set_float32_matmul_precision(switch)
    return dtype


WORDS = {
    "barriers": "bar.sync",
    "unchanging": "ld.global.nc",
    "fma": "fma.rn.f32",
    "add": "add.f32",
    "sub": "sub.f32",
    "mul": "mul.f32",
    "quotients": "div.full.f32",
    "powers": "ex2.approx.f32",
}
"""What is counted in a kernel's PTX; ``ld.global.nc`` is for memory that no thread of the kernel writes. Quotients and
powers so written become four instructions each, see ``cells.py``."""


class Compiler:
    """Compiles what is launched, or every ``parts``-th call of it, and keeps what ptxas says."""

    def __init__(self, part: str = "1/1") -> None:
        self.number, self.parts = map(int, part.split("/"))
        self.calls = 0
        self.said = io.StringIO()
        self.reports: list[dict[str, Any]] = []

    def seen(self, kernel: Any) -> None:
        """Report on a kernel, unless it was compiled before."""
        log = self.said.getvalue()
        self.said.seek(0)
        self.said.truncate()
        if log:
            ptx = kernel.asm["ptx"]
            counts = {name: ptx.count(word) for name, word in WORDS.items()}
            closed = ptx.rfind(WORDS["barriers"]) > ptx.rfind("st.global")
            found = {**counts, "closed": closed, "kernel": kernel.name, "shared": kernel.metadata.shared}
            self.reports.append({**_read(log), **found})

    def compile(self, name: dict[str, Any], launched: Callable[..., None], *arguments: Any) -> None:
        """Print what was compiled for the launches of a call, if it is of our part."""
        self.calls += 1
        if self.calls % self.parts != self.number % self.parts:
            return
        self.reports.clear()
        with contextlib.redirect_stdout(self.said):
            launched(*arguments)
        for report in self.reports:
            print(json.dumps({**name, **report}), flush=True)


def _read(log: str) -> dict[str, int]:
    found = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.search(r"Used (\d+) registers", log)
    assert found is not None, log
    assert registers is not None, log
    stack, stores, loads = map(int, found.groups())
    return {"stack": stack, "spill_stores": stores, "spill_loads": loads, "registers": int(registers[1])}


def step(cell: str, precision: str, B: int, fusion: bool, bias: bool, H: int) -> None:
    """What a step of live streams launches."""
    launch_step(cell, H, B, dtype_of(precision), fusion, bias)


SKEWED = [("gru", 9, 20)]
"""Stacks of layers whose skewed scans are compiled: a cell, layers and units."""

ALL_SKEWED = [
    *((cell, 9, 20) for cell in CELLS),
    *(("gru", L, H) for L, H in [(12, 20), (8, 32), (2, 48), (1, 50), (1, 64), (5, 12), (1, 1)]),
    *(("lstm", L, H) for L, H in [(12, 20), (4, 32), (1, 40), (1, 64), (5, 12), (1, 1)]),
    *(("rnn", L, H) for L, H in [(8, 32), (4, 64), (1, 96), (5, 12), (1, 1)]),
]


def skewed(cell: str, L: int, H: int, save: bool, lengths: bool, upper: bool) -> None:
    """What a group of layers launches; with ``save`` also in the backward pass; ``upper``: with others below."""
    (group,) = groups(cell, [H] * L)
    launch_group(cell, group._replace(fed=True, phases=2) if upper else group, H, save, lengths)


CALLS = [(5, 3, (2, 3)), (1, 1, (1, 1)), (16, 16, (16, 1)), (17, 1, (3, 32)), (1, 64, (7, 5)), (5, 2, (1, 3))]
"""Calls in which all sizes differ that may differ from call to call."""


def train(cell: str, H: int, T: int, B: int, dilations: tuple[int, ...]) -> None:
    """What a step of training launches, for streams at their beginning."""
    torch.set_float32_matmul_precision("highest")
    x = torch.zeros(T, B, 3, requires_grad=True)
    setattr(scan, "choose", lambda key, plans, run: plans[0])  # noqa: B010
    y, h, c, _ = gpu.stack(cell, x, zero_weights(cell, H, torch.float32), dilations, None, None, None)
    torch.autograd.grad([y, *h, *c], x, [torch.zeros_like(t) for t in (y, *h, *c)])


def main(capability: int, *what: str) -> None:
    compiler = Compiler(*(word for word in what if "/" in word))
    with compiling_only(capability, compiler.seen):
        compile_all(compiler, *what)


def compile_all(compiler: Compiler, *what: str) -> None:
    thorough = "thorough" in what
    if "step" in what:
        flags = itertools.product((False, True), (False, True), (20, 64)) if thorough else [(True, True, 20)]
        precisions = PRECISIONS if thorough else WIDEST
        for cell, precision, B, (fusion, bias, H) in itertools.product(CELLS, precisions, (1, 4096), list(flags)):
            name = {"cell": cell, "precision": precision, "B": B, "fusion": fusion, "bias": bias, "H": H}
            compiler.compile({"what": "step", **name}, step, *name.values())
    if "sizes" in what:
        for cell, H in itertools.product(CELLS, (5, 20, 200)):
            for number, (T, B, dilations) in enumerate(CALLS):
                name = {"cell": cell, "H": H, "T": T, "B": B, "dilations": dilations}
                compiler.compile({"what": "sizes", "call": number, **name}, train, *name.values())
    os.environ[SWITCH] = "1"
    for cell, L, H in (ALL_SKEWED if thorough else SKEWED) if "skewed" in what else ():
        flags = [(True, False, False), (False, True, True)]
        for save, lengths, upper in itertools.product((True, False), repeat=3) if thorough else flags:
            name = {"cell": cell, "layers": L, "H": H, "save": save, "lengths": lengths, "upper": upper}
            compiler.compile({"what": "skewed", **name}, skewed, *name.values())
    for direction in ("forward", "backward"):
        for variant in variants(direction, thorough) if direction in what else ():
            name = {**variant._asdict(), "plan": variant.plan._asdict()}
            compiler.compile({"what": direction, **name}, launch, direction, variant)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
