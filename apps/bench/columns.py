"""The columns of all tables of comparisons, each once: from an entry to what stands in its row."""

from collections.abc import Callable, Iterable
from typing import Optional

from streamdrnn.apps.bench.comparison import Comparison, Entry, quotient
from streamdrnn.apps.bench.contenders import OURS, RESHAPE
from streamdrnn.apps.bench.tables import Row, Value
from streamdrnn.apps.bench.timing import Times

Column = Callable[[Entry], Value]


def of_case(read: Callable[[Comparison], Value]) -> Column:
    """What all contenders of a comparison share."""
    return lambda entry: read(entry.comparison)


def of_times(read: Callable[[Times], Value], contender: Optional[str] = None) -> Column:
    """From the times of the row's contender, or of one that is named; None without them."""

    def column(entry: Entry) -> Value:
        outcome = entry.outcome if contender is None else entry.comparison.outcomes.get(contender)
        return None if outcome is None or outcome.times is None else read(outcome.times)

    return column


def percentile_us(percent: int) -> Column:
    """Of the row's contender, in microseconds."""
    return of_times(lambda times: times.percentile(percent) / 1e3)


def us_per_stream(entry: Entry) -> Optional[float]:
    """The median of a step, shared by its streams."""
    ms = entry.comparison.ms(entry.name)
    return None if ms is None else 1e3 * ms / entry.comparison.case.workload.batch


def us_per_sample(entry: Entry) -> Optional[float]:
    """The median of a whole sequence, shared by its steps."""
    ms = entry.comparison.ms(entry.name)
    return None if ms is None else 1e3 * ms / entry.comparison.case.workload.steps


def timed_calls(entry: Entry) -> int:
    """How many."""
    return 0 if entry.outcome.times is None else len(entry.outcome.times.nanoseconds)


def error(which: str) -> Column:
    """Of ``outputs`` or ``gradients``, against float64."""
    return lambda entry: None if entry.outcome.errors is None else getattr(entry.outcome.errors, which)


COLUMNS: dict[str, Column] = {
    "work": of_case(lambda comparison: comparison.case.workload.name),
    "cell": of_case(lambda comparison: comparison.case.cell),
    "inputs": of_case(lambda comparison: comparison.case.workload.inputs),
    "hidden": of_case(lambda comparison: comparison.case.workload.hidden),
    "streams": of_case(lambda comparison: comparison.case.workload.batch),
    "precision": of_case(lambda comparison: comparison.precision),
    "contender": lambda entry: entry.name,
    "peer": lambda entry: entry.name,
    "runner": lambda entry: entry.name,
    "how": lambda entry: entry.name,
    "ms": of_times(lambda times: times.ms),
    "quartiles_ms": of_times(lambda times: times.quartiles_ms),
    "ours_ms": of_times(lambda times: times.ms, OURS),
    "ours_quartiles_ms": of_times(lambda times: times.quartiles_ms, OURS),
    "reshape_ms": of_times(lambda times: times.ms, RESHAPE),
    "reshape_quartiles_ms": of_times(lambda times: times.quartiles_ms, RESHAPE),
    "ratio": of_case(lambda comparison: comparison.ratio),
    "p50_us": percentile_us(50),
    "p95_us": percentile_us(95),
    "p99_us": percentile_us(99),
    "us_per_step": percentile_us(50),
    "us_per_step_of_a_stream": us_per_stream,
    "us_per_stream": us_per_stream,
    "seconds": of_times(lambda times: times.ms / 1e3),
    "quartiles_seconds": of_times(lambda times: (times.quartiles_ms[0] / 1e3, times.quartiles_ms[1] / 1e3)),
    "us_per_sample": us_per_sample,
    "ns_per_step": lambda entry: None if (us := us_per_sample(entry)) is None else 1e3 * us,
    "times_ours": lambda entry: quotient(entry.comparison.ms(entry.name), entry.comparison.ms(OURS)),
    "turns": timed_calls,
    "steps_timed": timed_calls,
    "output_error": error("outputs"),
    "gradient_error": error("gradients"),
    "first_call_s": lambda entry: entry.outcome.first_call_s,
    "why_not": lambda entry: entry.outcome.why_not,
}


def rows(comparisons: Iterable[Comparison], columns: str, *contenders: str) -> list[Row]:
    """One row for each entry.

    Args:
        columns: names of :data:`COLUMNS`, with spaces between.
        contenders: whose entries; none is everyone's.
    """
    return [
        {column: COLUMNS[column](entry) for column in columns.split()}
        for comparison in comparisons
        for entry in comparison.entries(*contenders)
    ]


def pivot(comparisons: Iterable[Comparison], index: str, across: str) -> list[Row]:
    """Reshape / ours, with a row for each value of some columns and a column for each value of another.

    Args:
        index: names of :data:`COLUMNS`, with spaces between.
        across: another one's.
    """
    found: dict[tuple[Value, ...], Row] = {}
    for comparison in comparisons:
        (row,) = rows([comparison], index, OURS)
        at = found.setdefault(tuple(row.values()), row)
        at[str(COLUMNS[across](Entry(comparison, OURS)))] = comparison.ratio
    return list(found.values())
