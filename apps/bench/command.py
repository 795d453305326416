"""`streamdrnn bench`."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import tyro

if TYPE_CHECKING:
    from streamdrnn.apps.bench.tables import Table

Suite = Literal["forward", "train", "stream", "memory", "growth"]
SUITES: tuple[Suite, ...] = ("forward", "train", "stream", "memory", "growth")


@dataclass
class Bench:
    """Measure the network beside other ways to compute the same numbers.

    Everything that is compared runs in turns in one run, and gives the same numbers, which is checked first.
    OMP_NUM_THREADS sets the threads; all suites together take some minutes.

    Example: streamdrnn bench --suite forward train --out results
    """

    suite: Annotated[
        tuple[Suite, ...],
        tyro.conf.arg(
            help="forward, train: whole sequences. stream: single steps. memory: of a training step. growth: cost "
            "against each size."
        ),
    ] = SUITES
    cell: Annotated[
        tuple[Literal["gru", "rnn", "lstm"], ...],
        tyro.conf.arg(help="For forward and train (by default all) and memory (by default gru)."),
    ] = ()
    repeats: Annotated[int, tyro.conf.arg(help="Times that each is measured, if it takes no more than seconds.")] = 7
    quick: Annotated[bool, tyro.conf.arg(help="Tiny sizes, to see that everything runs.")] = False
    out: Annotated[
        Optional[Path], tyro.conf.arg(metavar="FOLDER", help="Where to write results.json, results.md and plots.")
    ] = None
    json: Annotated[bool, tyro.conf.arg(help="Print the results as one JSON object.")] = False

    def run(self) -> None:
        from streamdrnn.apps.bench.machine import machine_facts
        from streamdrnn.apps.bench.report import print_tables, to_json, to_markdown

        if self.repeats < 1:
            raise ValueError(f"repeats: got {self.repeats}, expected 1 or more")
        if self.out is not None:  # what would fail after minutes fails now
            require("matplotlib", "plots need")
            self.out.mkdir(parents=True, exist_ok=True)
        if not self.json:
            require("rich", "tables need")
        machine = machine_facts()
        tables = self.measure()
        result = to_json(self.command_line(), machine, tables)
        if self.out is not None:
            from streamdrnn.apps.bench.plots import draw

            plots = draw(tables, self.out)
            page = to_markdown(self.command_line(), machine, tables, plots)
            (self.out / "results.json").write_text(result + "\n", encoding="utf-8")
            (self.out / "results.md").write_text(page, encoding="utf-8")
        if self.json:
            print(result)
        else:
            print_tables(machine, tables)

    def measure(self) -> "list[Table]":
        """The tables of the suites asked for, in their own order."""
        from streamdrnn.apps.bench import forward_train, growth, memory, stream, works
        from streamdrnn.apps.bench.machine import measured_peak

        sizes = works.QUICK_WORKS if self.quick else works.WORKS
        tables: list[Table] = []
        for suite in (name for name in SUITES if name in self.suite):
            match suite:
                case "forward" | "train":
                    peak = measured_peak(0.02 if self.quick else 1.0)
                    cells = self.cell or works.CELLS
                    tables += forward_train.measure(sizes, cells, suite == "train", self.repeats, peak, say)
                case "stream":
                    tables += stream.measure(works.QUICK_STREAM if self.quick else works.STREAM, self.repeats, say)
                case "memory":
                    tables += memory.measure(sizes, self.cell or ("gru",), say)
                case "growth":
                    tables += growth.measure(works.QUICK_GROWTH if self.quick else works.GROWTH, self.repeats, say)
        return tables

    def command_line(self) -> str:
        """The command that repeats this, without the name of anyone's folder."""
        words = ["streamdrnn bench --suite", *self.suite]
        words += ["--cell", *self.cell] if self.cell else []
        words += ["--repeats", str(self.repeats)]
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
        raise ValueError(f"{what_for} {package}: pip install 'streamdrnn[bench]'") from None
