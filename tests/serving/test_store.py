"""What is saved is there, whole, and the last claim's alone, in a store of either kind."""

import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fakeredis
import pytest

from streamdrnn.apps.serving import redis_store, sqlite_store
from streamdrnn.apps.serving.redis_store import RedisStore
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.store import Saving, Store, open_store

KEEP = 60.0
Open = Callable[..., Store]


@pytest.fixture(params=["sqlite", "redis"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a store, the same each time."""
    if request.param == "sqlite":
        return lambda keep=KEEP: SQLiteStore(tmp_path / "new folder" / "streams.sqlite3", keep)
    server = fakeredis.FakeServer()
    return lambda keep=KEEP: RedisStore(fakeredis.FakeRedis(server=server), keep)


def test_the_last_claim_saves_and_those_before_it_do_not(another: Open) -> None:
    store = another()
    first = store.add("s", b"0")
    assert store.save([Saving("s", first, 1, b"1")]) == [True]
    other = another().claim("s")
    assert other is not None
    assert other.snapshot == b"1"
    assert other.claim != first
    assert store.save([Saving("s", first, 1, b"stale"), Saving("s", other.claim, 1, b"2")]) == [False, True]
    store.remove("s", first)
    again = store.claim("s")
    assert again is not None
    assert again.snapshot == b"2"
    store.remove("s", again.claim)
    assert store.claim("s") is None
    assert store.save([Saving("s", again.claim, 1, b"3")]) == [False]


def test_a_store_says_how_long_a_stream_was_away(another: Open) -> None:
    store, touched = another(), time.monotonic()
    claim = store.add("s", b"0")
    for is_saved in (False, True, False):
        if is_saved:
            time.sleep(0.1)
            touched = time.monotonic()
            assert store.save([Saving("s", claim, 1, b"1")]) == [True]
        time.sleep(0.1)
        asked = time.monotonic()
        claimed = store.claim("s")
        assert claimed is not None
        assert 0.09 < claimed.away <= time.monotonic() - touched + 0.01
        claim, touched = claimed.claim, asked


def test_a_save_that_comes_late_replaces_no_later_one(another: Open) -> None:
    """Its caller has given it up, saved the stream again since, and told the client so."""
    store = another()
    claim, other = store.add("s", b"0"), store.add("other", b"0")
    assert store.save([Saving("s", claim, 2, b"2")]) == [True]
    assert store.save([Saving("s", claim, 1, b"1"), Saving("other", other, 1, b"1")]) == [False, True]
    assert store.save([Saving("s", claim, 2, b"the same inputs, acknowledged")]) == [True]
    claimed = store.claim("s")
    assert claimed is not None
    assert claimed.snapshot == b"the same inputs, acknowledged"
    assert store.save([Saving("s", claim, 3, b"by a server that was cut off")]) == [False]
    assert store.save([Saving("s", claimed.claim, 2, b"2 again")]) == [True]
    assert store.save([]) == []


def test_streams_that_the_store_lost_are_kept_again_with_their_last_claim(another: Open) -> None:
    store, emptied = another(), another()
    first = store.add("s", b"0")
    last = store.claim("s")
    assert last is not None
    forget_all(emptied)
    assert store.claim("s") is None
    assert store.save([Saving("s", first, 1, b"by a server that was cut off")]) == [True]
    assert store.save([Saving("s", last.claim, 1, b"1")]) == [True]
    assert store.save([Saving("s", first, 1, b"by a server that was cut off")]) == [False]
    again = store.claim("s")
    assert again is not None
    assert again.claim > last.claim
    assert again.snapshot == b"1"


def test_a_stream_that_was_closed_when_the_store_had_lost_it_stays_closed(another: Open) -> None:
    store = another()
    claim = store.add("s", b"0")
    forget_all(store)
    store.remove("s", claim)
    assert store.save([Saving("s", claim, 1, b"by a server that was cut off")]) == [False]
    assert store.claim("s") is None


def forget_all(store: Store) -> None:
    """What a Redis without persistence does when it is restarted, and whoever removes the file."""
    if isinstance(store, SQLiteStore):
        for file in store.path.parent.iterdir():
            file.unlink()
    else:
        assert isinstance(store, RedisStore)
        store._client.flushall()


def test_streams_that_nobody_continues_are_forgotten(another: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # of the pretended Redis
    monkeypatch.setattr(sqlite_store, "uptime", lambda: now)
    store = another(keep=1.5)
    store.add("old", b"")
    kept, closed = store.add("kept", b""), store.add("closed", b"")
    store.remove("closed", closed)
    for _ in range(4):
        now += 0.4
        assert store.save([Saving("kept", kept, 1, b"")]) == [True]
    store.add("new", b"")
    assert store.claim("old") is None
    assert store.claim("kept") is not None
    assert store.save([Saving("closed", closed, 1, b"")]) == [True]  # it is not remembered that it was closed


def test_servers_at_the_same_time_lose_nothing(another: Open) -> None:
    claims = {str(k): another().add(str(k), b"") for k in range(8)}

    def save(n: int) -> list[bool]:
        return another().save([Saving(str(n % 8), claims[str(n % 8)], 1, str(n).encode())])

    with ThreadPoolExecutor(8) as pool:
        assert all(kept == [True] for kept in pool.map(save, range(32)))


def test_of_those_who_claim_at_the_same_time_the_last_one_has_it(another: Open) -> None:
    another().add("s", b"")
    with ThreadPoolExecutor(8) as pool:
        claims = [claimed.claim for claimed in pool.map(lambda _: another().claim("s"), range(16)) if claimed]
    assert len(set(claims)) == 16
    assert another().save([Saving("s", claim, 1, b"") for claim in sorted(claims)]) == [False] * 15 + [True]


def test_what_is_no_store_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(OSError, match=r"notes\.txt: cannot be used as a store of streams"):
        open_store(str(path), KEEP, 10**9)
    assert path.read_text() == "not a database, " * 100
    (tmp_path / "folder").mkdir(mode=0o755)
    for wrong in (tmp_path / "folder", Path("/dev/null")):
        mode = wrong.stat().st_mode
        with pytest.raises(OSError, match="expected a file, for the store of streams"):
            open_store(str(wrong), KEEP, 10**9)
        assert wrong.stat().st_mode == mode
    path.chmod(0o644)
    with pytest.raises(OSError, match="cannot be used"):
        open_store(str(path), KEEP, 10**9)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(ValueError, match="store: expected the path"):
        open_store("", KEEP, 10**9)
    with pytest.raises(ValueError, match=r"store: expected the path of a file, redis://HOST:PORT/DB"):
        open_store("postgres://host/db", KEEP, 10**9)
    with pytest.raises(OSError, match="Redis cannot be used as a store of streams"):
        open_store("redis://127.0.0.1:9/0", KEEP, 10**9)


def test_a_stream_that_others_claim_all_the_time_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    server = fakeredis.FakeServer()
    store, other = (RedisStore(fakeredis.FakeRedis(server=server), KEEP) for _ in range(2))
    taken, fine = store.add("taken", b"0"), store.add("fine", b"0")
    write, tries = redis_store._write, list[str]()

    def meddle(pipe: object, saving: Saving, keep_ms: int) -> None:
        tries.append(saving.stream)
        if len(tries) < 50:
            other.claim("taken")
        write(pipe, saving, keep_ms)

    monkeypatch.setattr(redis_store, "_write", meddle)
    assert store.save([Saving("taken", taken, 1, b"1"), Saving("fine", fine, 1, b"1")]) == [False, True]
    assert tries == ["taken", "fine", "fine"]
    tries.clear()
    claimed = store.claim("taken")
    assert claimed is not None
    with pytest.raises(OSError, match="others change the stream all the time"):
        store.remove("taken", claimed.claim + 100)  # as if it had been claimed meanwhile
    assert len(tries) == redis_store._TRIES
