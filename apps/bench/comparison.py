"""The engine: contenders compute the same, each is checked, and those that are right are timed in turns."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Optional, Protocol

import torch

from streamdrnn.apps.bench.agreement import Errors
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.contenders import ALL_OURS, OURS, RESHAPE
from streamdrnn.apps.bench.peers import CannotRunError, compiling
from streamdrnn.apps.bench.precision import float32_products
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.target import Target
from streamdrnn.apps.bench.timing import Run, Times, Turns, interleaved
from streamdrnn.apps.bench.workloads import Case

NO_TIME = "not measured: the suite's time was over"


class Contender(NamedTuple):
    """One way to compute a case.

    Attributes:
        errors: computes the case's check, and compares.
        run: what is timed.
    """

    errors: Callable[[], Errors]
    run: Run


class Job(Protocol):
    """A case with its weights, inputs and right results, ready for contenders."""

    def contender(self, name: str, precision: Precision) -> Contender:
        """Make one.

        Raises:
            CannotRunError: it needs what is not here, or cannot compute this.
        """


class Outcome(NamedTuple):
    """What became of one contender.

    Attributes:
        times: of a call; None if ``why_not`` says why there are none.
        errors: against float64.
        first_call_s: seconds of its check, which compiles what must be compiled; it is in none of the times.
    """

    times: Optional[Times] = None
    errors: Optional[Errors] = None
    first_call_s: Optional[float] = None
    why_not: str = ""


class Comparison(NamedTuple):
    """What became of the contenders on one case, in one precision."""

    case: Case
    precision: Precision
    outcomes: Mapping[str, Outcome]

    def ms(self, name: str) -> Optional[float]:
        """A contender's median, if it has one."""
        times = self.outcomes[name].times if name in self.outcomes else None
        return None if times is None else times.ms

    @property
    def ratio(self) -> Optional[float]:
        """How many times as long as ours the reshape trick takes, if both were measured."""
        return quotient(self.ms(RESHAPE), self.ms(OURS))

    def entries(self, *names: str) -> "list[Entry]":
        """Those of some contenders, or of all."""
        return [Entry(self, name) for name in self.outcomes if name in names or not names]


class Entry(NamedTuple):
    """One contender in a comparison: what a row of a table is about."""

    comparison: Comparison
    name: str

    @property
    def outcome(self) -> Outcome:
        return self.comparison.outcomes[self.name]


def compare(
    session: Session,
    what: str,
    case: Case,
    job: Callable[[Target, Case], Job],
    fields: Mapping[Precision, Sequence[str]],
    turns: Optional[Turns] = None,
) -> list[Comparison]:
    """Check contenders and time them in turns.

    Args:
        what: for people.
        job: sets the case up, once for all precisions.
        fields: the names of the contenders for each precision.
        turns: the session's, unless they are given.
    """
    why_not = NO_TIME
    if not session.over:
        try:
            torch.manual_seed(0)
            ready = job(session.target, case)
            return [
                _in_turns(session, f"{what}, {precision}", ready, case, precision, names, turns or session.turns)
                for precision, names in fields.items()
            ]
        except Exception as error:  # in what is common to all: the right results, or the turns
            why_not = session.failed(what, error, is_ours=True)
    missing = Outcome(why_not=why_not)
    return [Comparison(case, precision, dict.fromkeys(names, missing)) for precision, names in fields.items()]


def _in_turns(
    session: Session, what: str, job: Job, case: Case, precision: Precision, names: Sequence[str], turns: Turns
) -> Comparison:
    session.say(what)
    outcomes: dict[str, Outcome] = {}
    runs: dict[str, Run] = {}
    with float32_products(precision), torch.inference_mode(not case.train):
        for name in names:
            outcomes[name], run = _checked(session, f"{what}, {name}", job, name, precision)
            if run is not None:
                runs[name] = run
        times = interleaved(runs, turns, session.target.clock)
    timed = {name: outcome._replace(times=times.get(name)) for name, outcome in outcomes.items()}
    return Comparison(case, precision, timed)


def _checked(session: Session, what: str, job: Job, name: str, precision: Precision) -> tuple[Outcome, Optional[Run]]:
    """A contender's errors, and its run if it is right."""
    outcome = Outcome()
    clock = session.target.clock
    try:
        with compiling():
            with torch.inference_mode(False):  # torch.compile refuses weights of inference mode
                contender = job.contender(name, precision)
            start = clock()
            errors = contender.errors()
            outcome = Outcome(errors=errors, first_call_s=(clock() - start) / 1e9)
            wrong = errors.excess(precision)
            if not wrong:
                contender.run()  # compiles what the check, of other sizes, did not
                return outcome, contender.run
        session.problems.append(f"{what}: {wrong}")
        return outcome._replace(why_not=wrong), None
    except CannotRunError as error:
        return outcome._replace(why_not=str(error)), None
    except Exception as error:
        return outcome._replace(why_not=session.failed(what, error, is_ours=name in ALL_OURS)), None


def quotient(above: Optional[float], below: Optional[float]) -> Optional[float]:
    """One by the other, if there are both."""
    return None if above is None or not below else above / below
