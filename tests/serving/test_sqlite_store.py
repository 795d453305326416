"""The store in a file: its clock, its size, who may read it, and what happens to it while servers run."""

import secrets
import sqlite3
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from streamdrnn.apps.serving import sqlite_store
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.store import Saving, StoreFullError, key_of

KEEP = 60.0
DAY = 24 * 3600.0


@pytest.mark.parametrize("jump", [-DAY - 3600, DAY + 3600])
def test_a_jump_of_the_time_of_day_makes_no_stream_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Neither for the servers that run nor for those that come, also where one began before the clock was set."""
    before = SQLiteStore(tmp_path / "streams.sqlite3", DAY)
    claim = before.add("s", b"0")
    later = time.time() + jump
    monkeypatch.setattr(time, "time", lambda: later)
    after = SQLiteStore(tmp_path / "streams.sqlite3", DAY)
    other = after.add("of the new server", b"")
    before.add("another", b"")
    assert before.save([Saving("s", claim, 1, b"1")]) == [True]
    after.add("yet another", b"")
    assert before.save([Saving("of the new server", other, 1, b"1")]) == [True]
    for stream in ("s", "of the new server"):
        claimed = after.claim(stream)
        assert claimed is not None
        assert claimed.snapshot == b"1"


def test_a_stream_that_is_saved_after_the_machine_slept_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that was not saved since is as old as it is."""
    before = SQLiteStore(tmp_path / "streams.sqlite3", DAY)
    claim = before.add("s", b"0")
    before.add("old", b"0")
    clock, now, awake = time.clock_gettime, time.time(), time.monotonic()
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 2 * DAY)
    monkeypatch.setattr(time, "time", lambda: now + 2 * DAY)
    monkeypatch.setattr(time, "monotonic", lambda: awake)
    assert before.save([Saving("s", claim, 1, b"1")]) == [True]
    after = SQLiteStore(tmp_path / "streams.sqlite3", DAY)
    after.add("another", b"")
    assert after.claim("s") is not None
    assert after.claim("old") is None


def test_servers_share_the_clock_where_nothing_tells_that_the_machine_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 10 * DAY
    monkeypatch.setattr(sqlite_store, "uptime", lambda: now)
    monkeypatch.setattr(sqlite_store, "boot", secrets.token_hex)
    before = SQLiteStore(tmp_path / "streams.sqlite3", DAY)
    claim = before.add("s", b"0")
    now += 0.9 * DAY
    after = SQLiteStore(tmp_path / "streams.sqlite3", DAY)
    now += 0.9 * DAY
    assert before.save([Saving("s", claim, 1, b"1")]) == [True]
    after.add("another", b"")
    assert after.claim("s") is not None
    now += 1.1 * DAY
    before.check()
    assert after.claim("s") is None


@pytest.mark.parametrize("up", [1.0, 100 * DAY], ids=["restarted", "of another machine"])
def test_streams_grow_older_where_the_machine_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, up: float
) -> None:
    path, now = tmp_path / "streams.sqlite3", 10 * DAY
    monkeypatch.setattr(sqlite_store, "uptime", lambda: now)
    store = SQLiteStore(path, DAY)
    store.add("old", b"")
    now += 0.5 * DAY
    store.add("young", b"")
    now += 0.2 * DAY
    store.check()
    monkeypatch.setattr(sqlite_store, "boot", lambda: "another")
    now = up
    store = SQLiteStore(path, DAY)
    for days, kept in ((0.2, 2), (0.2, 1), (0.5, 0)):  # old: 0.9, 1.1, 1.6 days; young: 0.4, 0.6, 1.1
        now += days * DAY
        SQLiteStore(path, DAY).check()
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM streams").fetchone() == (kept,)


def test_a_store_has_a_limit_in_bytes_and_goes_on_with_what_it_has(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "streams.sqlite3", KEEP, most_bytes=2_000_000)
    claims = list[int]()
    with pytest.raises(StoreFullError, match=r"no room for further streams, \d+ of 2000000 bytes taken"):  # noqa: PT012
        for number in range(30):
            claims.append(store.add(str(number), bytes(100_000)))
    assert 15 <= len(claims) <= 18
    assert store.save([Saving("0", claims[0], 1, bytes(100_000))]) == [True]
    with pytest.raises(StoreFullError):
        store.check()
    store.remove("1", claims[1])
    store.add("another", b"")
    assert 0 < store.check() < 2_000_000
    with pytest.raises(OSError, match="full"):
        store.save([Saving("0", claims[0], 1, bytes(3_000_000))])
    claimed = store.claim("0")
    assert claimed is not None
    assert claimed.snapshot == bytes(100_000)


def test_a_store_that_is_full_of_old_streams_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks whether there is room is told so, without a stream that is opened: none would be, in a cluster."""
    now = 1000.0
    monkeypatch.setattr(sqlite_store, "uptime", lambda: now)
    store = SQLiteStore(tmp_path / "streams.sqlite3", KEEP, most_bytes=2_000_000)
    with pytest.raises(StoreFullError):  # noqa: PT012
        for number in range(30):
            store.add(str(number), bytes(100_000))
    with pytest.raises(StoreFullError):
        store.check()
    now += 2 * KEEP
    assert store.check() < 100_000
    assert store.add("another", b"") == 1


def test_the_file_is_its_owners_and_does_not_know_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "streams.sqlite3"
    path.touch(mode=0o644)
    store = SQLiteStore(path, KEEP)
    store.add("a very secret id", b"snapshot")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    store.add("another", b"")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for file in tmp_path.iterdir():
        assert b"a very secret id" not in file.read_bytes()


def test_a_file_of_0_2_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "streams.sqlite3"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE streams (key BLOB PRIMARY KEY, claim INTEGER, saved REAL, snapshot BLOB)")
        db.execute("INSERT INTO streams VALUES (?, 3, ?, ?)", (key_of("s"), time.time(), b"0"))
    SQLiteStore(path, KEEP)
    store = SQLiteStore(path, KEEP)
    claimed = store.claim("s")
    assert claimed is not None
    assert claimed.snapshot == b"0"
    assert store.save([Saving("s", claimed.claim, 1, b"1")]) == [True]


def test_a_file_is_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that finds the tables finds the clock, too, by which streams are saved."""
    path, found = tmp_path / "streams.sqlite3", list[int]()

    def boot() -> str:
        with closing(sqlite3.connect(path)) as db:
            found.extend(db.execute("SELECT count(*) FROM sqlite_master").fetchone())
        return "this one"

    monkeypatch.setattr(sqlite_store, "boot", boot)
    assert SQLiteStore(path, KEEP).add("s", b"0") == 1
    assert found == [0]


def test_servers_that_begin_at_once_wait_for_each_other(tmp_path: Path) -> None:
    busy, broken = sqlite3.OperationalError("database is locked"), sqlite3.OperationalError("disk I/O error")
    busy.sqlite_errorcode, broken.sqlite_errorcode = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR
    db = Mock(**{"execute.side_effect": [busy, busy, None]})
    sqlite_store._write_ahead(db)
    assert db.execute.call_count == 3
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        sqlite_store._write_ahead(Mock(**{"execute.side_effect": broken}))
    for number in range(5):
        path = tmp_path / str(number)
        with ThreadPoolExecutor(4) as threads:
            for store in threads.map(lambda _, path=path: SQLiteStore(path, KEEP), range(4)):
                assert store.claim("s") is None


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """By another store, for everybody to read."""
    other = path.with_name("other")
    SQLiteStore(other, KEEP)
    other.chmod(0o644)
    other.replace(path)


@pytest.mark.parametrize("lose", [empty, remove, replace])
def test_a_file_that_is_lost_is_made_again(
    tmp_path: Path, lose: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "streams.sqlite3"
    store, other = SQLiteStore(path, KEEP), SQLiteStore(path, KEEP)
    claim = store.add("s", b"0")
    assert other.check() > 0
    assert not caplog.records
    lose(path)
    assert store.save([Saving("s", claim, 1, b"1")]) == [True]
    claimed = other.claim("s")
    assert claimed is not None
    assert claimed.snapshot == b"1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert 1 <= len(caplog.records) <= 2  # once for each store
    store.check()
    other.check()
    assert len(caplog.records) <= 2
