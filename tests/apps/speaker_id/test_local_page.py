"""The page that hears by itself: in Node against the package, from the program, as a folder, and in a browser."""

import json
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
import soundfile
import torch
from torch import Tensor
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from streamdrnn.apps.speaker_id import ear
from streamdrnn.apps.speaker_id.enrolment import enrol
from streamdrnn.apps.speaker_id.exchange import as_object, parse_recording
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.scores import THRESHOLD
from streamdrnn.apps.speaker_id.turns import Segment
from streamdrnn.apps.speaker_id.web.server import make_local_app, make_server
from streamdrnn.apps.speaker_id.web.static_page import write_page
from streamdrnn.audio import StreamingResampler
from tests.apps.speaker_id.demo_voices import conversation_samples, enrolled, model, speech_of, voices
from tests.apps.speaker_id.page_folder import modules_in
from tests.apps.speaker_id.turns import agreement, turns_of, turns_of_the_demo
from tests.browser import Browser, needs_chromium
from tests.file_server import served
from tests.node import needs_node, run_node

READY = "!document.getElementById('listen').disabled"
HEAR = Path(__file__).with_name("hear.mjs")
DEMO = Path(__file__).parents[3] / "docs" / "demo"


def hear(folder: Path, samples: Tensor, store: ProfileStore, chunks: list[int], **options: Any) -> Any:
    """The events of the page's session, for each of some lengths of chunks."""
    request = {"rate": 16_000, "samples": samples.tolist(), "losses": {}, "chunks": chunks}
    recordings = [as_object(one) for one in store.recordings()]
    return run_node(HEAR, {**request, "recordings": recordings, **options}, modules_in(folder / "page"))


def segments_of(events: list[dict[str, Any]]) -> list[Segment]:
    names = ("start", "end", "speaker", "score", "probability", "label")
    return [Segment(*(one[name] for name in names)) for one in events if one["event"] == "segment"]


def assert_the_demos_turns(segments: list[Segment]) -> None:
    """The same speakers in the same order, each from the same moment on to some ticks."""
    ours, wanted = turns_of(segments), turns_of_the_demo()
    wanted = wanted[: len(ours)]
    assert [turn.speaker for turn in ours] == [turn.speaker for turn in wanted]
    for one, other in zip(ours, wanted, strict=True):
        assert one.start == pytest.approx(other.start, abs=0.5)


@needs_node
def test_ticks_are_the_packages(tmp_path: Path) -> None:
    """Of speech, noise and sound that is too loud, with losses within a tick and over several."""
    samples = conversation_samples(12)
    samples[64_000:80_000] *= 40
    samples[96_000:112_000] = 0.02 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    cuts = [0, 1, 5_500, 33_333, 50_000, 64_000, 90_000, 90_160, 150_000, len(samples)]
    heard = [samples.clamp(-1, 1)[start:end] for start, end in pairwise(cuts)]
    parts: list[Tensor | int] = [*heard[:2], 100, heard[2], 700, *heard[3:5], 12_345, 0, heard[5], 1_600, *heard[6:]]
    request = [part if isinstance(part, int) else part.tolist() for part in parts]
    answer = run_node(HEAR.with_name("ticks.mjs"), {"parts": request}, modules_in(tmp_path / "page"))

    listener = ear.Ear(model().embedder)
    ticks = []
    for part in parts:
        ticks += listener.skip(part) if isinstance(part, int) else listener.push(part)
    ticks += listener.finish()
    assert answer["seconds"] == listener.seconds
    assert len(answer["ticks"]) == len(ticks)
    for one, tick in zip(answer["ticks"], ticks, strict=True):
        assert (one["frames"], one["spoken"], one["clipped"]) == (tick.frames, tick.spoken, tick.clipped)
        assert one["speech"] == pytest.approx(tick.speech, abs=1e-5)
        assert one["level"] == pytest.approx(tick.level, abs=1e-4)
        assert one["overlap"] == pytest.approx(tick.overlap, abs=1e-5)
        assert torch.tensor(one["total"]).sub(tick.total).norm() <= 1e-5 * (1 + tick.total.norm())
    assert any(tick.clipped for tick in ticks)
    assert 20 < ticks[-1].spoken < len(ticks) - 20


@needs_node
def test_the_demos_turns_are_heard_in_any_chunks(tmp_path: Path) -> None:
    answer = hear(tmp_path, conversation_samples(60), enrolled(tmp_path / "p.sqlite3"), [320, 5000])
    assert answer["id"] == model().id
    first, second = ([one for one in events if one["event"] != "summary"] for events in answer["answer"])
    assert first == second
    assert_the_demos_turns(segments_of(first))
    assert len(turns_of_the_demo()) >= 5
    labels = {one["label"] for one in first if one["event"] == "report"}
    assert labels >= {"(listening)", "(unknown)"}
    assert len(labels & {voice.name for voice in voices()}) >= 2


@pytest.mark.full
@needs_node
def test_a_microphone_of_another_rate_loses_some_sound(tmp_path: Path) -> None:
    """Two seconds from second 15 on are lost: the clock goes on, and who speaks after them is found."""
    up = StreamingResampler(16_000, 48_000)
    samples = torch.cat([up.push(conversation_samples(60)), up.flush()])
    kept = torch.cat([samples[: 15 * 48_000], samples[17 * 48_000 :]])
    store = enrolled(tmp_path / "p.sqlite3")
    [events] = hear(tmp_path, kept, store, [960], rate=48_000, losses={15 * 48_000: 96_000})["answer"]
    assert {"event": "gap", "time": 15, "seconds": 2} in events
    assert events[-1]["dropped"] == 2
    assert events[-1]["gaps"] == 1
    segments = segments_of(events)
    assert segments[-1].end == pytest.approx(len(samples) / 48_000, abs=1e-3)
    before = agreement([one for one in segments if one.end < 13.5], late=0)
    assert before.moments > 40
    assert before.share > 0.97
    assert turns_of(segments)[-1].speaker == turns_of_the_demo()[-1].speaker


@needs_node
def test_a_voice_enrolled_by_the_page_is_the_packages(tmp_path: Path) -> None:
    samples = speech_of(0, 20)
    empty = ProfileStore(tmp_path / "p.sqlite3")
    [events] = hear(tmp_path, samples, empty, [1600], enrol="Zoe")["answer"]
    found = next(one for one in events if one["event"] == "enrolled")
    assert found["name"] == "Zoe"
    assert found["seconds"] == 10
    assert any(one["event"] == "enrolling" and 4 < one["seconds"] < 6 for one in events)
    ours = torch.tensor([found["embedding"][str(i)] for i in range(len(found["embedding"]))])
    theirs = enrol([samples], model()).embedding
    assert float(ours @ theirs) > 0.98, "of the first ten seconds, and of all"
    [events] = hear(tmp_path, speech_of(0, 3), empty, [1600], enrol="Zoe")["answer"]
    assert events[-2]["event"] == "not enrolled"


def test_docs_demo_is_the_page(tmp_path: Path) -> None:
    write_page(tmp_path / "demo")

    def files(folder: Path) -> dict[str, bytes]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    assert files(DEMO) == files(tmp_path / "demo"), "docs/demo is of other files: make page"


class Page(NamedTuple):
    port: int
    store: ProfileStore

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    store = enrolled(tmp_path / "p.sqlite3")
    server = make_server(make_local_app(model(), asset("speaker.safetensors"), store, THRESHOLD))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Page(listening.getsockname()[1], store)
        finally:
            server.should_exit = True
            thread.join()


def test_the_program_gives_the_page_models_and_profiles_and_takes_no_sound(page: Page) -> None:
    setup = httpx2.get(f"{page.address}/setup.json")
    assert "'wasm-unsafe-eval'" in setup.headers["content-security-policy"]
    given = setup.json()
    assert given["local"]
    assert (given["threshold"], given["offset"]) == (THRESHOLD, 0.0)
    assert [parse_recording(one).name for one in given["recordings"]] == [voice.name for voice in voices()]
    for name in ("speaker", "activity", "overlap"):
        answer = httpx2.get(f"{page.address}/models/{name}.safetensors")
        assert answer.content == asset(f"{name}.safetensors").read_bytes()
    assert httpx2.get(f"{page.address}/runtime/runtime.wasm").headers["content-type"] == "application/wasm"
    with pytest.raises(InvalidStatus):
        connect(f"ws://localhost:{page.port}/listen")


def test_whom_the_page_enrols_is_kept_in_the_users_folder(page: Page) -> None:
    known = as_object(page.store.recordings()[0])

    def post(content: Any, origin: str = page.address) -> httpx2.Response:
        return httpx2.post(f"{page.address}/recordings", content=content, headers={"Origin": origin})

    assert post(json.dumps({**known, "name": "Zoe"})).status_code == 204
    assert page.store.recordings()[-1].name == "Zoe"
    before = page.store.recordings()
    for content, problem in {
        "no json": "Expecting value",
        json.dumps({**known, "name": "a\nb"}): "name: expected",
        json.dumps({**known, "embedding": [1.0]}): "was enrolled with another model",
        json.dumps({**known, "name": "Eve", "model": "0" * 16}): "was enrolled with another model",
        "[" * 100_000: "",
    }.items():
        answer = post(content)
        assert answer.status_code == 400
        assert problem in answer.text
    assert post(b" " * (1 << 20)).status_code == 413
    assert post(json.dumps({**known, "name": "Eve"}), "http://evil.example").status_code == 403
    assert len(page.store.recordings()) == len(before)


def sound_file(folder: Path, samples: Tensor) -> Path:
    """What the microphone hears, at the page's rate: the browser's resampling would damp what is above 7 kHz."""
    up = StreamingResampler(16_000, 44_100)
    samples = torch.cat([up.push(samples), up.flush()]).clamp(-1, 1)
    soundfile.write(folder / "sound.wav", samples.numpy(), 44_100, "PCM_16")
    return folder / "sound.wav"


@needs_chromium
def test_in_a_browser_the_page_names_the_demos_turns(page: Page, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile", sound_file(tmp_path, conversation_samples(60))) as browser:
        browser.open(page.address)
        browser.wait_for(READY)
        browser.run("document.getElementById('listen').click()")
        browser.wait_for("document.querySelector('#turns li')?.dataset.end >= 15")
        listed = browser.run("[...document.querySelectorAll('#turns li')].map((turn) => ({ ...turn.dataset }))")
        assert "lost 0.00 s" in browser.run("document.getElementById('health').textContent")
    turns = [(float(one["start"]), float(one["end"]), one["label"]) for one in reversed(listed)]
    segments = [Segment(start, end, None if label == "(unknown)" else label, 1.0) for start, end, label in turns]
    # Until the microphone is open some of its file may be lost.
    best = max((agreement(segments, number / 10) for number in range(-5, 20)), key=lambda found: found.share)
    assert best.moments > 60
    assert best.share > 0.97, best


@pytest.mark.full
@needs_chromium
def test_in_a_browser_the_folder_enrols_two_voices_tells_them_apart_and_works_offline(tmp_path: Path) -> None:
    sound = sound_file(tmp_path, torch.cat([speech_of(0, 18), speech_of(1, 18)]))
    write_page(tmp_path / "demo")
    now = "document.getElementById('now').textContent"

    def enrol_voice(name: str) -> None:
        browser.run("document.getElementById('name').focus()")
        browser.type(name)
        browser.press("Enter", 13)
        browser.wait_for(f"document.getElementById('enrolling').textContent.startsWith('{name}: 10.0 s of speech')")

    with Browser(tmp_path / "profile", sound) as browser:
        with served(tmp_path / "demo") as address:
            browser.open(address)
            browser.wait_for(READY)
            assert "no sound leaves your device" in browser.run("document.getElementById('privacy').textContent")
            enrol_voice("Ann")
            browser.wait_for(f"{now} === 'unknown'")
            enrol_voice("Bob")
            browser.wait_for(f"{now} === 'Bob'")
            browser.wait_for(f"{now} === 'Ann'")
            browser.run("document.getElementById('listen').click()")
            browser.run("navigator.serviceWorker.ready.then(() => true)")
        browser.open(address)  # which nobody serves any more
        browser.wait_for(READY)
        names = "[...document.querySelectorAll('#voices .name')].map((name) => name.textContent)"
        assert browser.run(names) == ["Ann", "Bob", "unknown"]
        browser.run("document.getElementById('listen').click()")
        browser.wait_for(f"['Ann', 'Bob'].includes({now})")
        browser.run("window.confirm = () => true; document.querySelector('#voices .remove').click()")
        browser.wait_for(f'JSON.stringify({names}) === \'["Bob","unknown"]\'')
        stored = json.loads(browser.run("localStorage.getItem('streamdrnn profiles')"))
    [recording] = stored["recordings"]
    assert parse_recording(recording).name == "Bob"
    assert recording["model"] == model().id


@pytest.mark.full
@needs_chromium
def test_in_a_browser_strangers_get_numbers_and_then_names(tmp_path: Path) -> None:
    write_page(tmp_path / "demo")
    names = "[...document.querySelectorAll('#voices .name')].map((name) => name.textContent)"
    turns = (
        "[...document.querySelectorAll('#turns li')].map((turn) => turn.dataset.label + turn.children[1].textContent)"
    )
    sound = sound_file(tmp_path, torch.cat([speech_of(0, 9), torch.zeros(48_000)]))
    with served(tmp_path / "demo") as address, Browser(tmp_path / "profile", sound) as browser:
        browser.open(address)
        browser.wait_for(READY)
        browser.run("document.getElementById('number').click()")
        browser.run("document.getElementById('listen').click()")
        browser.wait_for(f"{turns}.includes('Speaker 1Speaker 1')")
        browser.run("document.getElementById('number').click()")  # which begins a session
        browser.wait_for(f"!{names}.includes('Speaker 1')")
        browser.run("document.getElementById('number').click()")
        browser.wait_for(f"{names}.includes('Speaker 1')")
        before = len(browser.run(turns))
        browser.run("window.prompt = () => ' Anna '; document.querySelector('#voices .name-stranger').click()")
        browser.wait_for(f"{names}[0] === 'Anna'")
        browser.wait_for("document.getElementById('now').textContent.includes('Anna')")
        browser.wait_for(f"{turns}.includes('AnnaAnna')")
        heard = browser.run(turns)
        stored = json.loads(browser.run("localStorage.getItem('streamdrnn profiles')"))
    assert heard[-1] == "Speaker 1Speaker 1", "an earlier session's number is another's"
    assert not any("Speaker 1" in label for label in heard[:-before]), "what is past in this one has the name too"
    assert [recording["name"] for recording in stored["recordings"]] == ["Anna"]
    assert stored["recordings"][0]["seconds"] >= 2


@pytest.mark.full
@needs_chromium
def test_in_a_browser_another_voice_at_the_same_time_is_told(page: Page, tmp_path: Path) -> None:
    both = torch.cat([speech_of(0, 7) + speech_of(1, 7), torch.zeros(48_000)])
    with Browser(tmp_path / "profile", sound_file(tmp_path, both)) as browser:
        browser.open(page.address)
        browser.wait_for(READY)
        assert browser.run("document.getElementById('another').hidden")
        browser.run("document.getElementById('listen').click()")
        browser.wait_for("!document.getElementById('another').hidden")
        browser.wait_for("document.querySelector('#turns .another') !== null")
        told = browser.run("document.querySelector('#turns .another').textContent")
        browser.wait_for("document.getElementById('another').hidden")
    assert told.startswith("+ another voice for ")
