"""Results for people: plain lines."""

from typing import Optional, TextIO

from streamdrnn.apps.speaker_id.session import Event, Gap, Report, Summary
from streamdrnn.apps.speaker_id.sources.source import Chunk


class Lines:
    """Writes a line a second, and one whenever the label changes, or whether another voice speaks too.

    Args:
        out: where to write.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def hear(self, chunk: Chunk) -> None:
        """The samples are not written."""

    def take(self, event: Event) -> None:
        """Write a report or a loss; segments only say again, later and surer, what reports said."""
        if isinstance(event, Gap):
            self._write(f"{event.time:8.1f} s  (lost {event.seconds:.2f} s: too late to listen to it)")
        elif isinstance(event, Report):
            now = event.now
            each = "  ".join(f"{name} {now.probability[name]:.0%} ({score:.2f})" for name, score in now.scores.items())
            evidence = f"{now.evidence:3.1f} s: {each}".rstrip() if now.probability else ""
            self._write(f"{now.time:8.1f} s  {now.text:<24} {now.level:4.0f} dB  {evidence}".rstrip())

    def finish(self, summary: Summary) -> None:
        """Write the summary."""
        self._write(f"\nlistened         {summary.seconds:.1f} s")
        if summary.p50 is not None:
            p50, p95, p99 = (_milliseconds(value) for value in (summary.p50, summary.p95, summary.p99))
            self._write(f"sound to label   {p50} p50, {p95} p95, {p99} p99")
        self._write(f"queue            {summary.deepest:.2f} s at most")
        self._write(f"lost             {summary.dropped:.2f} s in {summary.gaps} places")
        self._write(f"real-time factor {summary.real_time_factor:.3f} (1 would be just in time)")

    def _write(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def _milliseconds(seconds: Optional[float]) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"
