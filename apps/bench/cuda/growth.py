"""Suite ``growth``: a training step against the number of units."""

from collections.abc import Sequence

from streamdrnn.apps.bench.cuda.contest import Contest, Result
from streamdrnn.apps.bench.cuda.precision import Precision
from streamdrnn.apps.bench.cuda.sequences import notes, rows, time_of
from streamdrnn.apps.bench.cuda.session import Session
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.works import CELLS

PRECISIONS: tuple[Precision, ...] = ("tf32",)


def measure(session: Session) -> list[Table]:
    """Training steps of ours and of the reshape trick.

    Returns:
        the ratios by size, and all times and errors.
    """
    base = session.sizes.growth
    works = [base._replace(name=f"H={hidden}", hidden=hidden) for hidden in session.sizes.hidden]
    entries = dict.fromkeys(session.precisions or PRECISIONS, ("reshape",))
    results: list[Result] = []
    for work in works:
        for cell in session.cells or CELLS:
            results += Contest(session, work, cell, train=True).results(entries)
    what = "Training step against hidden units"
    return [
        Table(
            "growth_ratios",
            f"{what}: how many times faster than the reshape trick",
            by_size(results),
            (f"{base}, and H varied.",),
        ),
        Table("growth", f"{what}: ours and the reshape trick", rows(results, train=True), notes(session, works)),
    ]


def by_size(results: Sequence[Result]) -> list[Row]:
    """Reshape / ours, a row for each size and precision and a column for each cell."""
    found: dict[tuple[int, str], Row] = {}
    for result in results:
        if result.contender == "ours":
            row = found.setdefault(
                (result.work.hidden, result.precision), {"hidden": result.work.hidden, "precision": result.precision}
            )
            reshape = time_of(results, result, "reshape")
            row[result.cell] = None if result.times is None or reshape is None else reshape / result.times.ms
    return list(found.values())
