"""The screen of `listen`: its parts, its keys, and the whole in a terminal."""

import asyncio
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from textual.pilot import Pilot
from textual.widgets import Static

from streamdrnn.apps.speaker_id.conversation import Conversation
from streamdrnn.apps.speaker_id.enrolment import Enrolling, Progress
from streamdrnn.apps.speaker_id.identifier import Now
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.scores import THRESHOLD
from streamdrnn.apps.speaker_id.session import Report, Summary
from streamdrnn.apps.speaker_id.sources.source import Source, SourceError
from streamdrnn.apps.speaker_id.terminal import pictures
from streamdrnn.apps.speaker_id.terminal.app import ListenApp
from streamdrnn.apps.speaker_id.terminal.screenshot import screenshot
from streamdrnn.apps.speaker_id.timeline import Timeline
from tests.apps.speaker_id.demo_voices import CONVERSATION, enrolled, model, speech_of

NAMES = ["Anna", "Ben"]
NOW = Now(2.0, "Anna", "Anna", {"Anna": 0.71, "Ben": -0.2}, 1.8, -20.0, {"Anna": 0.74, "Ben": 0.02, "(unknown)": 0.24})
REPORT = Report(NOW, 0.1)


def test_now_is_a_name_in_its_colour_or_what_else_there_is() -> None:
    shown = pictures.now(REPORT, NAMES)
    assert "Anna" in shown.plain
    assert "1.8 s of speech" in shown.plain
    assert pictures.colour("Anna", NAMES) in str(shown.style)
    both = pictures.now(REPORT._replace(now=NOW._replace(overlap=True)), NAMES)
    assert " + another voice " in both.plain
    assert "another" not in shown.plain
    probable = pictures.now(REPORT._replace(now=NOW._replace(speaker=None, label="probably Anna")), NAMES)
    assert "probably Anna" in probable.plain
    assert pictures.colour("Anna", NAMES) in str(probable.style)
    for label in ("(silence)", "(listening)", "(no speech)"):
        assert pictures.now(REPORT._replace(now=REPORT.now._replace(label=label)), NAMES).plain == label.strip("()")
    assert len({pictures.colour(name, NAMES) for name in (*NAMES, "(unknown)")}) == 3


def test_every_voice_has_its_row() -> None:
    timeline = Timeline(60)
    timeline.report(REPORT.now._replace(time=0.1, label="Ben"))
    timeline.report(REPORT.now._replace(time=1.1))
    timeline.report(REPORT.now)
    anna, ben, unknown, axis = pictures.voices(NAMES, REPORT, timeline, width=60).plain.split("\n")
    assert re.fullmatch(r"Anna +74% ━{7} +0\.71 +··██", anna), anna
    assert re.fullmatch(r"Ben +2% +-0\.20 +██··", ben), ben
    assert re.fullmatch(r"unknown +24% ━━ +····", unknown), unknown
    assert axis.strip().startswith("9.5 s ago")
    assert axis.endswith("now")
    assert {len(row) for row in (anna, ben, unknown, axis)} == {len(anna)}


def test_the_level_is_between_nothing_and_all() -> None:
    assert pictures.level(-120, 10).plain.count("█") == 0
    assert pictures.level(-30, 10).plain.count("█") == 5
    assert pictures.level(3, 10).plain.count("█") == 10


def test_losses_are_seen() -> None:
    summary = Summary(10.0, 0.101, 0.152, 0.2, 0.5, 0.0, 0, 0.05)
    fine = pictures.health(summary, 0.25)
    assert fine.plain.split("   ") == [
        "latency 101/152/200 ms (p50/p95/p99)",
        "queue 0.25 s",
        "lost 0.00 s",
        "real-time factor 0.05",
    ]
    late = pictures.health(summary._replace(dropped=1.5, gaps=2), 0.0)
    assert "lost 1.50 s" in late.plain
    assert any("red" in str(span.style) for span in late.spans)


def test_an_enrolment_says_what_it_waits_for() -> None:
    progress = Progress(2.0, -20.0, speaking=True, clipped=False)
    assert pictures.enrolling(Enrolling("Zoe", progress, 10)).plain.startswith("enrolling Zoe: 2.0 of 10 s")
    assert "too loud" in pictures.enrolling(Enrolling("Zoe", progress._replace(clipped=True), 10)).plain
    assert "waiting for speech" in pictures.enrolling(Enrolling("Zoe", progress._replace(speaking=False), 10)).plain


def shown(app: ListenApp, part: str) -> str:
    return str(app.screen_stack[0].query_one(f"#{part}", Static).render())


async def until(app: ListenApp, pilot: Pilot[None], part: str, words: str) -> None:
    for _ in range(3000):
        if words in shown(app, part):
            return
        await pilot.pause(0.1)
    raise AssertionError(f"{words!r} is not in {part}: {shown(app, part)!r}")


def say(source: Source, seconds: float, number: int = 0) -> None:
    for samples in speech_of(number, seconds).split(1600):
        source.push(samples, time.monotonic(), wait=True)


def test_a_voice_is_enrolled_with_the_keys_and_then_named(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.sqlite3")
    source = Source("here/a test", model().sample_rate)
    conversation = Conversation(model(), store, THRESHOLD, source.sample_rate, enough=3)
    app = ListenApp(source, conversation, [], None)

    async def use() -> None:
        async with app.run_test(size=(100, 24)) as pilot:
            await asyncio.to_thread(say, source, 3)
            await until(app, pilot, "now", "unknown")
            await pilot.press("e", *"Zoe", "enter")
            await asyncio.to_thread(say, source, 1.5)
            await until(app, pilot, "enrolling", "enrolling Zoe")
            await pilot.press("escape")
            await asyncio.to_thread(say, source, 0.5)
            while shown(app, "enrolling"):
                await pilot.pause(0.1)
            assert store.profiles() == []
            await pilot.press("e", *"Zoe", "enter")
            await asyncio.to_thread(say, source, 8)
            await until(app, pilot, "now", "Zoe")
            assert "Zoe" in shown(app, "voices")
            assert "latency" in shown(app, "health")
            await pilot.press("r")
            await asyncio.to_thread(source.push, torch.zeros(16000), time.monotonic(), wait=True)
            await until(app, pilot, "now", "silence")  # and not the voice of a moment ago
            await pilot.press("q")

    asyncio.run(use())
    assert [profile.name for profile in store.profiles()] == ["Zoe"]
    assert app.error is None
    assert app.summary is not None
    assert app.summary.seconds == pytest.approx(14)


def test_a_microphone_that_goes_is_told_and_what_was_heard_is_kept(tmp_path: Path) -> None:
    store = enrolled(tmp_path / "p.sqlite3")
    source = Source("a test", model().sample_rate)
    app = ListenApp(source, Conversation(model(), store, THRESHOLD, 16000), [], None)

    async def use() -> None:
        async with app.run_test() as pilot:
            await asyncio.to_thread(say, source, 1)
            source.end(SourceError("the microphone was unplugged"))
            await until(app, pilot, "now", "the microphone was unplugged")
            await pilot.press("q")

    asyncio.run(use())
    assert app.summary is not None
    assert app.summary.seconds == pytest.approx(1)


def test_the_picture_of_the_readme_is_the_screen(tmp_path: Path) -> None:
    store = enrolled(tmp_path / "p.sqlite3")
    source = Source("a test", model().sample_rate)
    conversation = Conversation(model(), store, THRESHOLD, source.sample_rate)
    source.push(speech_of(0, 1.5), time.monotonic())
    picture = asyncio.run(screenshot(ListenApp(source, conversation, [], None), conversation, 1))
    kept = (Path(__file__).parents[3] / "docs" / "listen.svg").read_text(encoding="utf-8")
    for name in [profile.name for profile in store.profiles()]:
        assert name in picture
        assert name in kept
    assert len(kept) < 150_000


def test_in_a_terminal_it_is_a_screen_and_leaves_a_summary(tmp_path: Path) -> None:
    store = enrolled(tmp_path / "p.sqlite3")
    ours, theirs = pty.openpty()
    command = [
        "-m",
        "streamdrnn.apps.cli",
        "listen",
        str(CONVERSATION),
        "--seconds",
        "8",
        "--profiles",
        str(store.path),
    ]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, *command], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    seen, until = b"", time.monotonic() + 120
    pressed = False
    while process.poll() is None and time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 1 << 16)
            except OSError:  # the other side is gone
                break
        if not pressed and b"the sound is over" in seen:
            os.write(ours, b"q")
            pressed = True
    process.kill()
    words = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen).decode(errors="replace")
    assert process.wait() == 0, words[-2000:]
    for name in ("Anders", "Deborah", "Heather", "Paul"):
        assert name in words
    assert re.search(r"listened +\d+\.\d s", words), words[-500:]
