"""What the suites share: the device, what was asked for, the time left, and what went wrong."""

import sys
import traceback
from dataclasses import dataclass, field

from streamdrnn.apps.bench.cuda.budget import Deadline
from streamdrnn.apps.bench.cuda.ceilings import Ceilings
from streamdrnn.apps.bench.cuda.precision import Precision
from streamdrnn.apps.bench.cuda.target import Target
from streamdrnn.apps.bench.cuda.works import Sizes
from streamdrnn.apps.bench.tables import Say

NO_TIME = "not measured: the suite's time was over"


@dataclass
class Session:
    """One run of the benchmark.

    Attributes:
        ceilings: of the target.
        cells, precisions: those asked for; empty for each suite's own.
        repeats: the most turns that anything is timed in.
        deadline: of the suite that runs.
        problems: what was wrong, or failed where it must not, in words.
    """

    target: Target
    ceilings: Ceilings
    sizes: Sizes
    cells: tuple[str, ...]
    precisions: tuple[Precision, ...]
    repeats: int
    say: Say
    deadline: Deadline
    problems: list[str] = field(default_factory=list)

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
