"""What a server says of itself, and what it does when its store does not."""

import json
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from streamdrnn.apps.serving import keeper, service, sqlite_store
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.store import Saving
from streamdrnn.client.protocol import Code
from tests.serving.servers import Running, Wire, assert_same, get, inputs, offline, refused, running
from tests.waiting import PATIENCE, wait_for


def test_health_models_metrics_and_openapi(server: Running, wire: Wire) -> None:
    stream = wire.open()["stream"]
    assert json.loads(get(f"{server.http}/healthz")[1]) == {"status": "ok"}
    assert json.loads(get(f"{server.http}/readyz")[1]) == {"status": "ready"}
    for page in ("healthz", "readyz"):
        request = urllib.request.Request(f"{server.http}/{page}", method="HEAD")
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            assert response.status == 200
    assert get(f"{server.http}/docs")[0] == get(f"{server.http}/redoc")[0] == 404  # they load scripts of others
    described = json.loads(get(f"{server.http}/v1/models")[1])
    assert {model["model"]: model["formats"] for model in described} == {
        "tagger": ["features"],
        "audio": ["float32", "pcm16"],
    }
    metrics = get(f"{server.http}/metrics")[1].decode()
    assert 'streamdrnn_streams{model="tagger"} 1.0' in metrics
    assert 'streamdrnn_streams{model="audio"} 0.0' in metrics  # though none was ever open
    assert stream not in metrics
    for name in ("capacity", "waiting", "pass_seconds", "store_bytes", "store_seconds"):
        assert f"streamdrnn_{name}" in metrics
    assert "process_resident_memory_bytes" in metrics
    paths = json.loads(get(f"{server.http}/openapi.json")[1])["paths"]
    assert {"/healthz", "/readyz", "/metrics", "/v1/models"} <= paths.keys()


def test_a_stream_is_forgotten_before_its_client_hears_that_it_is_closed(server: Running, wire: Wire) -> None:
    stream = wire.open()["stream"]
    wire.send(1, inputs(2))
    assert wire.result()[0] == 1
    wire.say(type="close")
    assert wire.hear()["type"] == "closed"
    assert server.service._keeper._store.claim(stream) is None


def test_a_snapshot_that_was_tampered_with_is_refused_and_costs_no_place(models: list[Path], tmp_path: Path) -> None:
    with running(models, tmp_path / "s", Limits(streams=1)) as server:
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            wire.send(1, inputs(3))
            wire.result()
        server.wait_until_let_go()
        store = server.service._keeper._store
        good = store.claim(stream)
        assert good is not None
        header, _, rest = good.snapshot.partition(b"\n")
        fields = json.loads(header)
        claim = good.claim
        for wrong in (
            b"x",
            b"[" * 60_000 + b"\n",
            b'{"version": 1}\n',
            json.dumps(fields | {"format": "pcm16"}).encode() + b"\n" + rest,
            json.dumps(fields | {"seq": 2**63}).encode() + b"\n" + rest,
            json.dumps(fields | {"model": ["x"]}).encode() + b"\n" + rest,
            good.snapshot[:-4] + b"\0\0\xc0\x7f",
        ):
            assert store.save([Saving(stream, claim, 1, wrong)]) == [True]
            with Wire(server.url) as wire:
                wire.say(type="restore", version=1, stream=stream, ack=1)
                refused(wire, Code.UNKNOWN_STREAM, "stream: cannot be continued: ")
            claim += 1
        assert store.save([Saving(stream, claim, 1, good.snapshot)]) == [True]
        with Wire(server.url) as wire:
            assert wire.restore(stream, 1)["seq"] == 1


def test_a_stream_that_the_store_lost_lives_on_and_is_kept_again(models: list[Path], tmp_path: Path) -> None:
    x = inputs(9)
    with running(models, tmp_path / "s", snapshot_seconds=0.05) as server:
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            for file in tmp_path.glob("s*"):
                file.unlink()
            wire.send(1, x[:5])
            first = wire.result()[1]
            assert wire.hear() == {"type": "snapshot", "seq": 1}
            for file in tmp_path.glob("s*"):
                file.unlink()
        server.wait_until_let_go()
        with Wire(server.url) as wire:
            assert wire.restore(stream, 1)["seq"] == 1
            wire.send(2, x[5:], 1)
            assert_same(np.concatenate([first, wire.result()[1]]), offline(models[0], x))


def locked(store: Path) -> sqlite3.Connection:
    """Somebody else who writes and writes."""
    db = sqlite3.connect(store, isolation_level=None, check_same_thread=False)
    db.execute("BEGIN EXCLUSIVE")
    return db


def test_a_store_that_does_not_work_makes_the_server_not_ready_and_says_why(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To anybody that it is the store, and to the log alone which one and why."""
    monkeypatch.setattr(sqlite_store, "_LOCKED_SECONDS", 0.1)
    monkeypatch.setattr(keeper, "_CHECK_SECONDS", 0.05)
    with running(models, tmp_path / "s", Limits(streams=1)) as server:
        assert get(f"{server.http}/readyz")[0] == 200
        with closing(locked(tmp_path / "s")), Wire(server.url) as wire:
            wait_for(lambda: get(f"{server.http}/readyz")[0] == 503)
            said = json.loads(get(f"{server.http}/readyz")[1])["detail"]
            assert said == "the store does not work; the server's log says why"
            assert "database is locked" in caplog.text
            wire.say(type="open", version=1, model="tagger", format="features")
            refused(wire, Code.STORE_FAILED, "the server could not save the stream")
        wait_for(lambda: get(f"{server.http}/readyz")[0] == 200)
        with Wire(server.url) as one, Wire(server.url) as two:
            one.open()
            assert get(f"{server.http}/readyz")[0] == 200
            two.open("audio", "pcm16")
            assert b"all 1 streams of each model are in use" in get(f"{server.http}/readyz")[1]


def test_a_full_store_refuses_new_streams_and_serves_those_there_are(models: list[Path], tmp_path: Path) -> None:
    x = inputs(9)
    with running(models, tmp_path / "s", snapshot_seconds=0.05) as server, Wire(server.url) as wire:
        stream = wire.open()["stream"]
        store = server.service._keeper._store
        assert isinstance(store, SQLiteStore)
        store._most_bytes = 8192
        with Wire(server.url) as late:
            late.say(type="open", version=1, model="tagger", format="features")
            refused(late, Code.TOO_MANY_STREAMS, "the server's store is full")
        said = json.loads(get(f"{server.http}/readyz")[1])["detail"]
        assert said == "the store has no room for further streams"
        store._most_bytes = 2**20
        wire.send(1, x)
        assert_same(wire.result()[1], offline(models[0], x))
        wire.close()
        with Wire(server.url) as again:
            assert again.restore(stream, 1)["seq"] == 1


def test_a_server_leaves_in_time_whatever_its_store_does(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 12
    monkeypatch.setattr(keeper, "_TOGETHER", 1)
    monkeypatch.setattr(sqlite_store, "_LOCKED_SECONDS", 1.0)
    monkeypatch.setattr(service, "DRAIN_SECONDS", 1.5)
    with running(models, tmp_path / "s", Limits(streams=count)) as server, ExitStack() as held:
        for _ in range(count):
            wire = held.enter_context(Wire(server.url))
            wire.open()
            wire.send(1, inputs(1))
            assert wire.result()[0] == 1
        with closing(locked(tmp_path / "s")):
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 6  # and not a second for each


def test_who_opens_streams_and_says_nothing_hardly_fills_the_store(server: Running) -> None:
    with Wire(server.url) as wire:
        stream = wire.open()["stream"]
    server.wait_until_let_go()
    claimed = server.service._keeper._store.claim(stream)
    assert claimed is not None
    assert len(claimed.snapshot) < 300  # no state
    with Wire(server.url) as wire:
        assert wire.restore(stream, 0)["seq"] == 0
        wire.say(type="close")
        assert wire.hear()["type"] == "closed"
