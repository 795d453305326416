"""`streamdrnn bench`."""

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import tyro

from streamdrnn.apps.bench.choices import Cell, Device, Precision, SuiteName
from streamdrnn.apps.training.commands import DataDir
from streamdrnn.errors import InputError, installing


@dataclass
class Bench:
    """Measure the network beside other ways to compute the same numbers.

    Everything that is compared runs in turns in one run, and gives the same numbers, which is checked first.
    On the CPU OMP_NUM_THREADS sets the threads. All suites together take some minutes, on a GPU less than ten.

    Example: streamdrnn bench --suite forward train --out results

    On a GPU: streamdrnn bench --device cuda --out results

    Predictions for one, without it: streamdrnn bench --device model
    """

    device: Annotated[
        Device,
        tyro.conf.arg(
            help="The native kernels on the CPU, or the Triton kernels on a GPU. model: cycles predicted for an H100, "
            "from the Triton kernels' machine code, which is compiled without a GPU."
        ),
    ] = "cpu"
    suite: Annotated[
        tuple[SuiteName, ...],
        tyro.conf.arg(
            help="forward, train: whole sequences. stream: single steps. memory: of a training step (CPU only). "
            "growth: cost against each size; on a GPU a training step against hidden units. serve: servers under load, "
            "some minutes (CPU only). listen: live speaker identification, some minutes (CPU only). weights: live "
            "streams on rounded weights, how fast they are and what they lose (CPU only). cycles: of each kernel "
            "(model only). By default all but serve, listen and weights."
        ),
    ] = ()
    cell: Annotated[
        tuple[Cell, ...],
        tyro.conf.arg(
            help="CPU: for forward and train (by default all) and memory (by default gru). GPU: for all suites (by "
            "default all; for stream gru and lstm)."
        ),
    ] = ()
    precision: Annotated[
        tuple[Precision, ...],
        tyro.conf.arg(
            help="GPU only, of the matrix products: float32 as tf32 or ieee, autocast to bf16 or fp16. By default "
            "tf32, for forward and train also ieee and bf16. Streams take tf32 and ieee only. The CPU has ieee."
        ),
    ] = ()
    rtneural: Annotated[
        Optional[Path],
        tyro.conf.arg(
            metavar="FOLDER",
            help="A copy of RTNeural's sources (github.com/jatinchowdhury18/RTNeural, with its submodules), which is "
            "compiled and measured beside our C library. CPU only, with the suite stream.",
        ),
    ] = None
    repeats: Annotated[
        Optional[int],
        tyro.conf.arg(
            help="Times that each is measured, if it takes no more than ten seconds in all (GPU: a third of one). By "
            "default 7, on a GPU 21."
        ),
    ] = None
    data_dir: DataDir = None
    quick: Annotated[bool, tyro.conf.arg(help="Tiny sizes, to see that everything runs.")] = False
    out: Annotated[
        Optional[Path],
        tyro.conf.arg(metavar="FOLDER", help="Where to write results.json, results.md and plots, after each suite."),
    ] = None
    json: Annotated[bool, tyro.conf.arg(help="Print the results as one JSON object.")] = False

    def run(self) -> None:
        from streamdrnn.apps.bench import plots, report, suites
        from streamdrnn.apps.bench.session import Session
        from streamdrnn.apps.bench.tables import Table
        from streamdrnn.apps.bench.target import TARGETS
        from streamdrnn.apps.bench.workloads import QUICK_SIZES, SIZES

        if self.repeats is not None and self.repeats < 1:
            raise InputError(f"repeats: got {self.repeats}, expected 1 or more")
        of_device = suites.SUITES[self.device]
        self.check("suite", self.suite, of_device)
        target = TARGETS[self.device]()
        self.check("precision", self.precision, target.precisions)
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise InputError(f"--data-dir {self.data_dir}: no such folder")
        if self.out is not None:  # what would fail after minutes fails now
            require("matplotlib", "plots need")
            self.out.mkdir(parents=True, exist_ok=True)
        if not self.json:
            require("rich", "tables need")
        chosen = self.suite or tuple(name for name, suite in of_device.items() if suite.by_default)
        self.check_rtneural(chosen)
        sizes = (QUICK_SIZES if self.quick else SIZES)[self.device]
        repeats = target.repeats if self.repeats is None else self.repeats
        session = Session(
            target, sizes, self.cell, self.precision, repeats, self.quick, say, self.data_dir, self.rtneural
        )
        done: list[SuiteName] = []
        tables: list[Table] = []
        for name, of_suite in suites.measure(session, chosen):
            done.append(name)
            tables += of_suite
            command = self.command_line(done, repeats)
            result = report.to_json(command, session.facts, tables)
            if self.out is not None:  # after each suite: a run that is stopped leaves those before
                page = report.to_markdown(command, session.facts, tables, plots.draw(tables, self.out))
                (self.out / "results.json").write_text(result + "\n", encoding="utf-8")
                (self.out / "results.md").write_text(page, encoding="utf-8")
        if self.json:
            print(result)
        else:
            report.print_tables(session.facts, tables)
        if session.problems:
            raise InputError(f"{len(session.problems)} measurements failed: {'; '.join(session.problems)}")

    def check(self, option: str, values: Iterable[str], available: Iterable[str]) -> None:
        """Raise unless the device has what was asked for.

        Raises:
            InputError: it has not.
        """
        for value in values:
            if value not in available:
                raise InputError(f"--{option} {value}: not on {self.device}, where there is {', '.join(available)}")

    def check_rtneural(self, suites: Iterable[SuiteName]) -> None:
        """Raise unless RTNeural can be compiled, and is measured, if it was asked for.

        Raises:
            InputError: it cannot, or is not.
        """
        if self.rtneural is None:
            return
        if self.device != "cpu" or "stream" not in suites:
            raise InputError("--rtneural: only on the CPU, with --suite stream")
        from streamdrnn.apps.bench.from_c import check_folder

        check_folder(self.rtneural)

    def command_line(self, suites: Iterable[SuiteName], repeats: int) -> str:
        """The command that repeats this, without the name of anyone's folder."""
        words = ["streamdrnn bench"]
        words += ["--device", self.device] if self.device != "cpu" else []
        words += ["--suite", *suites]
        words += ["--cell", *self.cell] if self.cell else []
        words += ["--precision", *self.precision] if self.precision else []
        words += ["--rtneural FOLDER"] if self.rtneural is not None else []
        words += ["--repeats", str(repeats)]
        words += ["--data-dir FOLDER"] if self.data_dir is not None else []
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
        raise InputError(f"{what_for} {package}: {installing('bench')}") from None
