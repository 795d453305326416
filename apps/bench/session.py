"""What the suites share: the device, what was asked for, the time left, and what went wrong."""

import math
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional

from streamdrnn.apps.bench.ceilings import Ceilings, Peak, ceiling_facts, measured_ceilings, measured_peak
from streamdrnn.apps.bench.choices import CELLS, Cell, Precision
from streamdrnn.apps.bench.tables import Say
from streamdrnn.apps.bench.target import Target
from streamdrnn.apps.bench.timing import Turns
from streamdrnn.apps.bench.workloads import Sizes

FEWEST_TURNS = 3


@dataclass
class Session:
    """One run of the benchmark.

    Attributes:
        cells, precisions: those asked for; empty for each suite's own.
        repeats: the most turns that anything is timed in.
        quick: whether to see that everything runs is enough.
        say: told what is being measured.
        data_dir: the folder of the data sets; None is that which the environment names.
        rtneural: a folder of RTNeural's sources, if it is measured.
        until: after this time, on the monotonic clock, the suite that runs begins no further comparison.
        problems: what was wrong, or failed where it must not, in words.
    """

    target: Target
    sizes: Sizes
    cells: tuple[Cell, ...]
    precisions: tuple[Precision, ...]
    repeats: int
    quick: bool
    say: Say
    data_dir: Optional[Path] = None
    rtneural: Optional[Path] = None
    until: float = math.inf
    problems: list[str] = field(default_factory=list)

    def chosen_cells(self, default: Sequence[Cell] = CELLS) -> Sequence[Cell]:
        """Those asked for, or a suite's own."""
        return self.cells or default

    def chosen_precisions(self, default: Sequence[Precision]) -> list[Precision]:
        """Those asked for, or a suite's own, as far as the device has them."""
        return [precision for precision in self.precisions or default if precision in self.target.precisions]

    @property
    def over(self) -> bool:
        """Whether the suite's time is."""
        return time.monotonic() >= self.until

    @property
    def turns(self) -> Turns:
        """Of a contender whose calls are timed one by one."""
        return Turns(self.repeats, seconds=self.target.seconds_each, fewest=FEWEST_TURNS)

    @cached_property
    def peak(self) -> Peak:
        """The processor's."""
        return measured_peak(self.target, 0.02 if self.quick else 1.0)

    @cached_property
    def ceilings(self) -> Ceilings:
        """The device's."""
        self.say("measuring what the device can do")
        return measured_ceilings(self.target, self.sizes)

    @property
    def facts(self) -> dict[str, object]:
        """What the device is, and if that was measured, what it can do."""
        measured = ceiling_facts(self.ceilings, self.sizes) if "ceilings" in vars(self) else {}
        return self.target.facts() | measured

    def failed(self, what: str, error: Exception, is_ours: bool) -> str:
        """Note that something raised; a peer may. One failure does not end a run that others are waiting for.

        Returns:
            what the table says, without the message, which may name files and folders of this machine.
        """
        self.say(f"{what} failed:")
        traceback.print_exception(error, file=sys.stderr)
        if is_ours:
            self.problems.append(f"{what} failed with {type(error).__name__}")
        return f"failed with {type(error).__name__}"
