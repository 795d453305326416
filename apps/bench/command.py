"""`streamdrnn bench`."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import tyro

from streamdrnn.errors import InputError

if TYPE_CHECKING:
    from streamdrnn.apps.bench.tables import Table

Suite = Literal["forward", "train", "stream", "memory", "growth", "serve", "listen"]
SUITES: dict[str, tuple[Suite, ...]] = {
    "cpu": ("forward", "train", "stream", "memory", "growth", "serve", "listen"),
    "cuda": ("forward", "train", "stream", "growth"),
}
ONLY_IF_ASKED: tuple[Suite, ...] = ("serve", "listen")
REPEATS = {"cpu": 7, "cuda": 21}


@dataclass
class Bench:
    """Measure the network beside other ways to compute the same numbers.

    Everything that is compared runs in turns in one run, and gives the same numbers, which is checked first.
    On the CPU OMP_NUM_THREADS sets the threads. All suites together take some minutes, on a GPU less than ten.

    Example: streamdrnn bench --suite forward train --out results

    On a GPU: streamdrnn bench --device cuda --out results
    """

    device: Annotated[
        Literal["cpu", "cuda"], tyro.conf.arg(help="The native kernels on the CPU, or the Triton kernels on a GPU.")
    ] = "cpu"
    suite: Annotated[
        tuple[Suite, ...],
        tyro.conf.arg(
            help="forward, train: whole sequences. stream: single steps. memory: of a training step (CPU only). "
            "growth: cost against each size; on a GPU a training step against hidden units. serve: servers under load, "
            "some minutes (CPU only). listen: live speaker identification, some minutes (CPU only). By default all but "
            "the last two."
        ),
    ] = ()
    cell: Annotated[
        tuple[Literal["gru", "rnn", "lstm"], ...],
        tyro.conf.arg(
            help="CPU: for forward and train (by default all) and memory (by default gru). GPU: for all suites (by "
            "default all; for stream gru and lstm)."
        ),
    ] = ()
    precision: Annotated[
        tuple[Literal["tf32", "ieee", "bf16", "fp16"], ...],
        tyro.conf.arg(
            help="GPU only, of the matrix products: float32 as tf32 or ieee, autocast to bf16 or fp16. By default "
            "tf32, for forward and train also ieee and bf16. Streams take tf32 and ieee only."
        ),
    ] = ()
    repeats: Annotated[
        Optional[int],
        tyro.conf.arg(
            help="Times that each is measured, if it takes no more than seconds (GPU: than a third of one in all). By "
            "default 7, on a GPU 21."
        ),
    ] = None
    quick: Annotated[bool, tyro.conf.arg(help="Tiny sizes, to see that everything runs.")] = False
    out: Annotated[
        Optional[Path], tyro.conf.arg(metavar="FOLDER", help="Where to write results.json, results.md and plots.")
    ] = None
    json: Annotated[bool, tyro.conf.arg(help="Print the results as one JSON object.")] = False

    def run(self) -> None:
        from streamdrnn.apps.bench.report import print_tables, to_json, to_markdown

        self.check()
        if self.out is not None:  # what would fail after minutes fails now
            require("matplotlib", "plots need")
            self.out.mkdir(parents=True, exist_ok=True)
        if not self.json:
            require("rich", "tables need")
        measure = self.measure_on_gpu if self.device == "cuda" else self.measure_on_cpu
        machine, tables, problems = measure()
        result = to_json(self.command_line(), machine, tables)
        if self.out is not None:
            plots = self.draw(tables, self.out)
            page = to_markdown(self.command_line(), machine, tables, plots)
            (self.out / "results.json").write_text(result + "\n", encoding="utf-8")
            (self.out / "results.md").write_text(page, encoding="utf-8")
        if self.json:
            print(result)
        else:
            print_tables(machine, tables)
        if problems:
            raise InputError(f"{len(problems)} measurements failed: {'; '.join(problems)}")

    def check(self) -> None:
        """Raise unless the options fit together, and this machine.

        Raises:
            ValueError: they do not, or their device is not here.
        """
        if self.repeats is not None and self.repeats < 1:
            raise InputError(f"repeats: got {self.repeats}, expected 1 or more")
        for suite in self.suite:
            if suite not in SUITES[self.device]:
                raise InputError(
                    f"--suite {suite}: not on {self.device}, where there are {', '.join(SUITES[self.device])}"
                )
        if self.precision and self.device != "cuda":
            raise InputError("--precision: only with --device cuda; the CPU's kernels compute in float32")
        if self.device == "cuda":
            from streamdrnn.apps.bench.cuda.target import gpu

            gpu()

    @property
    def suites(self) -> tuple[Suite, ...]:
        """Those asked for, or all of the device that need not be."""
        return self.suite or tuple(suite for suite in SUITES[self.device] if suite not in ONLY_IF_ASKED)

    @property
    def turns(self) -> int:
        """How often each is measured."""
        return REPEATS[self.device] if self.repeats is None else self.repeats

    def measure_on_cpu(self) -> "tuple[dict[str, object], list[Table], list[str]]":
        """The machine, the tables of the suites asked for, in their own order, and no problems: here they raise."""
        from streamdrnn.apps.bench import forward_train, growth, memory, stream, works
        from streamdrnn.apps.bench.machine import machine_facts, measured_peak

        machine = machine_facts()
        sizes = works.QUICK_WORKS if self.quick else works.WORKS
        tables: list[Table] = []
        for suite in (name for name in SUITES["cpu"] if name in self.suites):
            match suite:
                case "forward" | "train":
                    peak = measured_peak(0.02 if self.quick else 1.0)
                    cells = self.cell or works.CELLS
                    tables += forward_train.measure(sizes, cells, suite == "train", self.turns, peak, say)
                case "stream":
                    tables += stream.measure(works.QUICK_STREAM if self.quick else works.STREAM, self.turns, say)
                case "memory":
                    tables += memory.measure(sizes, self.cell or ("gru",), say)
                case "serve":
                    from streamdrnn.apps.bench.serving import suite as serve

                    tables += serve.measure(serve.QUICK_SERVE if self.quick else serve.SERVE, say)
                case "listen":
                    from streamdrnn.apps.bench.listening import suite as listening

                    tables += listening.measure(listening.QUICK_LISTEN if self.quick else listening.LISTEN, say)
                case "growth":
                    tables += growth.measure(works.QUICK_GROWTH if self.quick else works.GROWTH, self.turns, say)
        return machine, tables, []

    def measure_on_gpu(self) -> "tuple[dict[str, object], list[Table], list[str]]":
        """The machine, the tables of the suites asked for, and what is wrong in them."""
        from streamdrnn.apps.bench.cuda import machine, suites, target

        device, facts = target.gpu(), machine.gpu_facts()
        measured = suites.measure(device, self.suites, self.cell, self.precision, self.turns, self.quick, say)
        return facts | measured.facts, measured.tables, measured.problems

    def draw(self, tables: "list[Table]", folder: Path) -> list[str]:
        """Write the plots, and give their names."""
        if self.device == "cuda":
            from streamdrnn.apps.bench.cuda import plots as gpu_plots

            return gpu_plots.draw(tables, folder)
        from streamdrnn.apps.bench import plots

        return plots.draw(tables, folder)

    def command_line(self) -> str:
        """The command that repeats this, without the name of anyone's folder."""
        words = ["streamdrnn bench"]
        words += ["--device", self.device] if self.device != "cpu" else []
        words += ["--suite", *self.suites]
        words += ["--cell", *self.cell] if self.cell else []
        words += ["--precision", *self.precision] if self.precision else []
        words += ["--repeats", str(self.turns)]
        words += ["--quick"] if self.quick else []
        words += ["--out FOLDER"] if self.out is not None else []
        return " ".join(words + (["--json"] if self.json else []))


def say(what: str) -> None:
    """Tell what is being measured, beside the results."""
    print(what, file=sys.stderr, flush=True)


def require(package: str, what_for: str) -> None:
    """Raise unless a package of the extra ``bench`` is installed.

    Raises:
        ValueError: it is not.
    """
    try:
        importlib.import_module(package)
    except ModuleNotFoundError:
        raise InputError(f"{what_for} {package}: pip install 'streamdrnn[bench]'") from None
