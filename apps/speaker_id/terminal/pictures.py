"""The parts of the terminal's picture, as text in colours."""

from collections.abc import Sequence
from itertools import groupby
from typing import Optional

from rich.text import Text

from streamdrnn.apps.speaker_id.enrolment import Enrolling
from streamdrnn.apps.speaker_id.identifier import ANOTHER
from streamdrnn.apps.speaker_id.session import Report, Summary
from streamdrnn.apps.speaker_id.timeline import SILENT, Timeline

UNKNOWN = "(unknown)"
COLUMN_SECONDS = 0.5
FLOOR_DBFS = -60.0
_COLOURS = ("#56b4e9", "#e69f00", "#2fbf71", "#f0e442", "#cc79a7", "#ff7f50", "#9d8df1", "#8fd3c8")
_NAME, _SHARE, _BAR, _SCORE = 16, 5, 10, 7


def plain(label: str) -> str:
    """A label without the brackets that mark it as nobody's name."""
    return label[1:-1] if label.startswith("(") and label.endswith(")") else label


def colour(name: str, names: Sequence[str]) -> str:
    """The colour of a voice; those of few voices all differ."""
    return _COLOURS[names.index(name) % len(_COLOURS)] if name in names else "#a0a0a0"


def now(report: Optional[Report], names: Sequence[str]) -> Text:
    """Who speaks now, in large."""
    if report is None:
        return Text("listening ...", style="dim")
    label = report.now.label
    if label in SILENT:
        return Text(plain(label), style="dim")
    likely = max(report.now.probability, key=report.now.probability.__getitem__, default=label)
    shade = "bold" if likely == label else "italic"
    text = Text(f"  {plain(label)}  ", style=f"{shade} black on {colour(likely, names)}")
    also = ANOTHER if report.now.overlap else ""
    return text.append(f"{also}   {report.now.evidence:.1f} s of speech", style="not bold default on default")


def over(error: Optional[Exception]) -> Text:
    """There is nothing more to listen to."""
    return Text("the sound is over", style="dim") if error is None else Text(str(error), style="bold red")


def level(dbfs: float, width: int) -> Text:
    """How loud it is."""
    filled = round(width * min(max(1 - dbfs / FLOOR_DBFS, 0), 1))
    style = "red" if dbfs > -3 else "green"
    bar = Text("level ", style="dim").append("█" * filled, style).append("░" * (width - filled))
    return bar.append(f" {dbfs:4.0f} dB")


def enrolling(enrolment: Optional[Enrolling]) -> Text:
    """How far an enrolment is."""
    if enrolment is None:
        return Text()
    name, progress, enough = enrolment
    remark = "too loud" if progress.clipped else "" if progress.speaking else "waiting for speech"
    return Text(f"enrolling {name}: {progress.seconds:.1f} of {enough:g} s of clear speech  {remark}", style="bold")


def voices(names: Sequence[str], report: Optional[Report], timeline: Timeline, width: int) -> Text:
    """A row for each voice: its name, its probability and cosine, and when it spoke; the newest is at the right."""
    scores, shares = ({}, {}) if report is None else (report.now.scores, report.now.probability)
    columns = timeline.columns(max(width - _NAME - _SHARE - _SCORE - _BAR - 3, 10), COLUMN_SECONDS)
    rows = []
    for name in (*names, UNKNOWN):
        style = colour(name, names)
        row = Text(plain(name)[:_NAME].ljust(_NAME + 1), style=style)
        share = shares.get(name, 0.0)
        filled = round(_BAR * share)
        row.append(f"{share:4.0%} " if shares else " " * _SHARE).append("━" * filled, style).append(
            " " * (_BAR - filled)
        )
        row.append(f"{scores[name]:6.2f} " if name in scores else " " * _SCORE, "dim")
        # One piece for what is alike: each piece costs the terminal's library more than its characters.
        for mine, labels in groupby(columns, name.__eq__):
            row.append("".join("█" if mine else "·" if label else " " for label in labels), style if mine else "dim")
        rows.append(row)
    seconds = f"{len(columns) * COLUMN_SECONDS:g} s ago"
    axis = Text(" " * (_NAME + _SHARE + _SCORE + _BAR + 1) + seconds.ljust(len(columns) - 3) + "now", style="dim")
    return Text("\n").join([*rows, axis])


def health(summary: Summary, waiting: float) -> Text:
    """How late it runs, and whether it keeps up."""
    parts = []
    if summary.p50 is not None and summary.p95 is not None and summary.p99 is not None:
        delays = "/".join(f"{1000 * value:.0f}" for value in (summary.p50, summary.p95, summary.p99))
        parts.append(f"latency {delays} ms (p50/p95/p99)")
    parts += [
        f"queue {waiting:.2f} s",
        f"lost {summary.dropped:.2f} s",
        f"real-time factor {summary.real_time_factor:.2f}",
    ]
    text = Text("   ".join(parts), style="dim")
    if summary.gaps:
        text.stylize("bold red not dim")
    return text
