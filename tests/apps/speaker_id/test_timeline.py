"""Timelines: what was reported, and what was decided in its place."""

from streamdrnn.apps.speaker_id.identifier import Now
from streamdrnn.apps.speaker_id.timeline import Timeline
from streamdrnn.apps.speaker_id.turns import Segment


def now(time: float, label: str) -> Now:
    return Now(time, None if label.startswith("(") else label, label, {}, 2.0, -20.0, {})


def test_a_report_holds_until_the_next_one() -> None:
    timeline = Timeline(seconds=60)
    timeline.report(now(0.1, "(listening)"))
    timeline.report(now(1.1, "Anna"))
    timeline.report(now(2.0, "Anna"))
    assert timeline.columns(4, 0.5) == ["(listening)", "(listening)", "Anna", "Anna"]
    timeline.report(now(2.6, "Ben"))
    assert timeline.columns(3, 0.5) == ["Anna", "Anna", "Ben"]


def test_a_decision_takes_the_place_of_what_was_reported() -> None:
    timeline = Timeline(seconds=60)
    timeline.report(now(0.1, "Anna"))
    timeline.report(now(3.0, "Anna"))
    timeline.decide(Segment(0.0, 1.0, None, 0.0, nobody="(silence)"))
    timeline.decide(Segment(1.0, 2.0, "Ben", 0.5))
    timeline.decide(Segment(2.0, 2.5, None, 0.2))
    assert timeline.columns(6, 0.5) == ["(silence)", "(silence)", "Ben", "Ben", "(unknown)", "Anna"]


def test_columns_move_on_whole_and_are_empty_before_the_beginning() -> None:
    timeline = Timeline(seconds=60)
    assert timeline.columns(2, 0.5) == ["", ""]
    timeline.report(now(0.1, "Anna"))
    timeline.report(now(1.2, "Anna"))
    assert timeline.columns(4, 0.5) == ["", "Anna", "Anna", "Anna"]
    timeline.report(now(1.5, "Anna"))
    assert timeline.columns(4, 0.5) == ["", "Anna", "Anna", "Anna"]


def test_a_short_turn_is_seen_beside_a_longer_silence() -> None:
    timeline = Timeline(seconds=60)
    timeline.decide(Segment(0.0, 0.3, None, 0.0, nobody="(silence)"))
    timeline.decide(Segment(0.3, 0.5, "Anna", 0.5))
    assert timeline.columns(1, 0.5) == ["Anna"]


def test_only_the_last_part_is_kept_however_late_a_decision_comes() -> None:
    timeline = Timeline(seconds=1)
    for tick in range(1, 101):
        timeline.report(now(tick / 10, "Anna"))
    timeline.decide(Segment(0.0, 9.5, "Ben", 0.5))
    assert timeline.columns(4, 0.5) == ["", "", "Ben", "Anna"]


def test_cleared_it_goes_on_at_the_same_time() -> None:
    timeline = Timeline(seconds=60)
    timeline.report(now(5.0, "Anna"))
    timeline.clear()
    timeline.report(now(6.0, "Ben"))
    assert timeline.columns(4, 0.5) == ["", "", "", "Ben"]


def test_a_name_that_is_only_probable_is_not_kept() -> None:
    timeline = Timeline(seconds=60)
    for time in (0.1, 0.5):
        timeline.report(Now(time, None, "probably Anna", {}, 1.2, -20.0, {}))
    assert timeline.columns(1, 0.5) == ["(listening)"]
