"""The page: its protocol, what it refuses, and the whole in a browser."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from streamdrnn.apps.speaker_id import session
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.scores import THRESHOLD
from streamdrnn.apps.speaker_id.sources.source import Source
from streamdrnn.apps.speaker_id.timeline import SILENT
from streamdrnn.apps.speaker_id.web import listener
from streamdrnn.apps.speaker_id.web.files import page_files
from streamdrnn.apps.speaker_id.web.server import MAX_PAGES, make_app, make_server
from tests.apps.speaker_id.demo_voices import CONVERSATION, enrolled, model, speech_of, voices
from tests.browser import Browser, needs_chromium

PATIENCE = 300.0
"""Seconds after which a test says that something hangs; how fast it is depends on what else the machine does."""


class Page(NamedTuple):
    port: int
    store: ProfileStore

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"

    def connect(self) -> ClientConnection:
        return connect(f"ws://localhost:{self.port}/listen", origin=Origin(self.address), open_timeout=PATIENCE)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setattr(listener, "IDLE_SECONDS", PATIENCE)  # pages that wait for the test are not let go
    store = enrolled(tmp_path / "p.sqlite3")
    server = make_server(make_app(model(), store, THRESHOLD))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Page(listening.getsockname()[1], store)
        finally:
            server.should_exit = True
            thread.join()


OPEN = json.dumps({"type": "open", "sample_rate": model().sample_rate})


@contextmanager
def open_stream(page: Page) -> Iterator[ClientConnection]:
    """A page that listens; where one has just left, its place is waited for."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with page.connect() as stream:
            with suppress(ConnectionClosed):  # it may be refused before it has said anything
                stream.send(OPEN)
            answer = json.loads(stream.recv(timeout=PATIENCE))
            if answer["event"] == "ready":
                assert answer["voices"] == sorted(voice.name for voice in voices())
                yield stream
                return
            assert "pages are listening already" in answer["message"]
        time.sleep(0.01)
    raise AssertionError("no place is free")


@contextmanager
def speaking(stream: ClientConnection) -> Iterator[None]:
    """Somebody speaks meanwhile, twice as fast as people do."""
    done = threading.Event()

    def speak() -> None:
        with suppress(ConnectionClosed):
            for samples in cycle(speech_of(0, 8).split(800)):
                stream.send(samples.numpy().astype("<f4").tobytes())
                if done.wait(0.025):
                    break

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def told(stream: ClientConnection, event: str) -> dict[str, Any]:
    """The next event of a kind."""
    while True:
        message: dict[str, Any] = json.loads(stream.recv(timeout=PATIENCE))
        assert message["event"] != "error" or event == "error", message
        if message["event"] == event:
            return message


def test_a_page_is_told_who_speaks_and_how_late_it_is(page: Page) -> None:
    with open_stream(page) as stream, speaking(stream):
        first = voices()[0].name
        while (report := told(stream, "report"))["speaker"] is None:
            assert report["label"] in (*SILENT, f"probably {first}")
        assert report["label"] == report["speaker"] == first
        assert set(report["probability"]) == {*report["scores"], "(unknown)"}
        assert told(stream, "summary")["p50"] > 0


def test_what_comes_faster_than_it_is_heard_is_dropped_and_counted(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def listen_late(source: Source, *options: Any) -> None:
        while not source.dropped:
            time.sleep(0.01)
        session.listen(source, *options)

    monkeypatch.setattr(listener, "listen", listen_late)
    with open_stream(page) as stream:
        for samples in speech_of(0, 20).split(1600):
            stream.send(samples.numpy().astype("<f4").tobytes())
        with speaking(stream):  # a loss is told with what comes after it
            assert told(stream, "gap")["seconds"] > 0
            assert told(stream, "summary")["dropped"] > 0


def test_a_voice_is_enrolled_from_the_page(page: Page) -> None:
    with open_stream(page) as stream, speaking(stream):
        stream.send(json.dumps({"type": "enrol", "name": "a\nb"}))
        assert told(stream, "error")["message"].startswith("name: expected")
        stream.send(json.dumps({"type": "enrol", "name": "Zoe"}))
        assert told(stream, "enrolling")["name"] == "Zoe"
        stream.send(json.dumps({"type": "stop enrolling"}))
        assert told(stream, "not enrolled")["name"] == "Zoe"
        stream.send(json.dumps({"type": "enrol", "name": "Zoe"}))
        assert told(stream, "enrolled")["seconds"] >= 10
        assert "Zoe" in told(stream, "ready")["voices"]
        stream.send(json.dumps({"type": "restart"}))
        assert told(stream, "report")
    assert "Zoe" in [profile.name for profile in page.store.profiles()]


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ("no json", "expected a JSON object"),
        ("[1]", "expected a JSON object"),
        ("[" * 900, "expected a JSON object"),
        ('{"type": "open", "x": "' + "y" * 1000 + '"}', "expected a JSON object of at most 1000 characters"),
        ("{}", "type: expected open, got None"),
        ('{"type": "enrol"}', "type: expected open, got 'enrol'"),
        ('{"type": "open"}', "sample_rate: expected an integer from 8000 to 192000, got None"),
        ('{"type": "open", "sample_rate": 1}', "sample_rate: expected"),
        ('{"type": "open", "sample_rate": 16000.5}', "sample_rate: expected"),
        ('{"type": "open", "sample_rate": true}', "sample_rate: expected"),
        (b"\0\0\0\0", "expected a JSON object"),
    ],
)
def test_a_wrong_beginning_is_refused_in_one_line(page: Page, first: str | bytes, problem: str) -> None:
    with page.connect() as stream:
        stream.send(first)
        message = told(stream, "error")["message"]
        assert problem in message
        assert "\n" not in message
        assert len(message) < 200
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=PATIENCE)
    assert stream.protocol.close_code == 1008


@pytest.mark.parametrize(
    ("then", "problem"),
    [
        (b"\0\0\0", "expected whole float32 numbers, 0.5 s at most, got 3 bytes"),
        (b"\0" * 40_000, "expected whole float32 numbers, 0.5 s at most, got 40000 bytes"),
        (np.array([0, np.nan], "<f4").tobytes(), "expected finite numbers"),
        ('{"type": "open", "sample_rate": 16000}', "type: expected enrol, stop enrolling or restart, got 'open'"),
        ('{"type": "enrol"}', "name: expected a text, got None"),
    ],
)
def test_a_wrong_message_ends_that_page_alone(page: Page, then: str | bytes, problem: str) -> None:
    with open_stream(page) as wrong, open_stream(page) as other:
        wrong.send(then)
        assert problem in told(wrong, "error")["message"]
        with pytest.raises(ConnectionClosed):
            wrong.recv(timeout=PATIENCE)
        with speaking(other):
            assert told(other, "report")


def test_a_message_too_long_for_any_page_ends_it(page: Page) -> None:
    with open_stream(page) as stream:
        stream.send(b"\0" * (1 << 20))
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=PATIENCE)


def test_a_page_that_says_nothing_more_is_let_go(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "IDLE_SECONDS", 0.3)
    with page.connect() as stream:
        stream.send(OPEN)
        assert told(stream, "error")["message"] == "nothing came for 0.3 s"


def test_a_page_that_does_not_read_is_let_go(capfd: pytest.CaptureFixture[str], page: Page) -> None:
    no_name = json.dumps({"type": "enrol", "name": "a" * (listener.MAX_TEXT - 50)})
    with suppress(ConnectionClosed), open_stream(page) as stream:
        stream.socket.settimeout(2 * listener.REFUSING_SECONDS)
        while True:  # until nobody takes it any more
            stream.send(no_name)
    with ExitStack() as others:
        for _ in range(MAX_PAGES):
            others.enter_context(open_stream(page))
    assert not capfd.readouterr().err


def test_only_so_many_pages_listen(page: Page) -> None:
    with ExitStack() as pages:
        for _ in range(MAX_PAGES - 1):
            pages.enter_context(open_stream(page))
        with open_stream(page), page.connect() as late:
            assert f"{MAX_PAGES} pages are listening already" in told(late, "error")["message"]
        with open_stream(page):  # the one that left makes room for another
            pass


@pytest.mark.parametrize("origin", [None, "http://evil.example", "http://localhost:1", "null"])
def test_other_sites_pages_are_refused(page: Page, origin: str | None) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://localhost:{page.port}/listen", origin=None if origin is None else Origin(origin))


def test_this_machine_under_another_name_is_refused(page: Page) -> None:
    answer = httpx2.get(f"{page.address}/", headers={"Host": f"evil.example:{page.port}"})
    assert answer.status_code == 400


def test_the_page_loads_nothing_from_elsewhere_and_gives_nothing_else(page: Page) -> None:
    answer = httpx2.get(f"{page.address}/")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    for name in page_files():
        part = httpx2.get(f"{page.address}/{name}")
        assert part.status_code == 200
        text = part.text.replace("http://www.w3.org/2000/svg", "").replace("ws://${location.host}", "")
        assert "://" not in text or name == "runtime/runtime.wasm"
    for path in ("/..%2fserver.py", "/%2e%2e/server.py", "/server.py", "//etc/passwd"):
        assert httpx2.get(f"{page.address}{path}").status_code == 404


@needs_chromium
def test_in_a_browser_its_microphone_is_heard_and_a_voice_enrolled(page: Page, tmp_path: Path) -> None:
    samples, rate = soundfile.read(CONVERSATION)
    soundfile.write(tmp_path / "sound.wav", samples, rate, "PCM_16")
    with Browser(tmp_path / "profile", tmp_path / "sound.wav") as browser:
        browser.open(page.address)
        browser.wait_for("!document.getElementById('listen').disabled")
        # By the keyboard alone.
        browser.press("Tab", 9)
        assert browser.run("document.activeElement.id") == "listen"
        browser.press("Enter", 13)
        browser.wait_for("document.getElementById('now').classList.contains('voice')")
        names = [voice.name for voice in voices()]
        browser.wait_for(f"{json.dumps(names)}.includes(document.getElementById('now').textContent)")
        browser.run("document.getElementById('name').focus()")
        browser.type("Zoe")
        browser.press("Enter", 13)
        browser.wait_for("document.getElementById('enrolling').textContent.startsWith('Zoe: ')")
        # A phone's screen: nothing is cut off at its side.
        browser.size(360, 740)
        assert browser.run("document.documentElement.scrollWidth") <= 360
        browser.wait_for("document.getElementById('enrolling').textContent.includes('enrolled')", 60)
        assert "Zoe" in browser.run("document.getElementById('voices').textContent")
        assert "latency" in browser.run("document.getElementById('health').textContent")
        browser.run("document.getElementById('listen').click()")
        assert browser.run("document.getElementById('now').textContent") == "not listening"
    assert "Zoe" in [profile.name for profile in page.store.profiles()]
