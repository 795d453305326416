"""What is saved is there, whole, and the last claim's alone."""

import json
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import fakeredis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from streamdrnn import StreamingDRNN
from streamdrnn.apps.serving import redis_store, sqlite_store
from streamdrnn.apps.serving.redis_store import RedisStore
from streamdrnn.apps.serving.snapshots import Snapshot, model_of, read_snapshot, to_bytes_together
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.store import Saving, Store, StoreFullError, key_of, open_store
from streamdrnn.client.protocol import Result, pack_result
from streamdrnn.state import check_fits
from streamdrnn.streaming import State
from tests.agreement import assert_same_bits
from tests.properties.models import KINDS, build
from tests.strategies import Network, examples

NETWORK = Network(3, 4, (2, 3), "lstm", dtype=torch.float32)


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


def test_servers_at_the_same_time_lose_nothing(another: Open) -> None:
    claims = {str(k): another().add(str(k), b"") for k in range(8)}

    def save(n: int) -> list[bool]:
        return another().save([Saving(str(n % 8), claims[str(n % 8)], 1, str(n).encode())])

    with ThreadPoolExecutor(8) as pool:
        assert all(kept == [True] for kept in pool.map(save, range(32)))


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_comes_back_to_the_bit(kind: str) -> None:
    live = StreamingDRNN(build(kind, NETWORK, "auto"))
    beginning = live.snapshot()
    live.push(NETWORK.x(7, 1))
    results = pack_result(Result(8, b"")), pack_result(Result(9, b"numbers\n"))
    written = Snapshot("digest", "features", 9, 7, results, live.snapshot(), 12.5, 3)
    data = written.to_bytes()
    assert model_of(data) == "digest"
    read = read_snapshot(data, beginning)
    assert read._replace(state=None) == written._replace(state=None)
    assert read.state is not None
    assert_same_bits(read.state, live.snapshot())
    assert read_snapshot(Snapshot("digest", "features", 0, 0, (), None).to_bytes(), beginning).state is None


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_that_are_written_together_are_those_of_each_alone(kind: str) -> None:
    live = StreamingDRNN(build(kind, NETWORK, "auto"), 3)
    live.push(torch.cat([NETWORK.x(7, 1, seed) for seed in range(3)], dim=1))
    results = (pack_result(Result(9, b"numbers!")),)
    alone = [Snapshot("digest", "features", 9, 8, results, live.snapshot(i)) for i in (2, 0)]
    begun = Snapshot("digest", "features", 0, 0, (), None)
    together = to_bytes_together([*alone, begun], live.state, [2, 0, 1])
    assert together == [snapshot.to_bytes() for snapshot in (*alone, begun)]
    assert alone[0].state is not None
    tensors = {name: tensor.contiguous() for name, tensor in alone[0].state.tensors().items()}
    assert together[0].endswith(save(tensors))
    assert to_bytes_together([], live.state, []) == []


def snapshot_data() -> tuple[bytes, State]:
    """A good snapshot, and the beginning of a stream of its model."""
    beginning = StreamingDRNN(build("tagger", NETWORK, "auto")).snapshot()
    return Snapshot("digest", "features", 9, 8, (pack_result(Result(9, b"numbers!")),), beginning).to_bytes(), beginning


def test_damaged_snapshots_are_refused() -> None:
    data, beginning = snapshot_data()
    another = StreamingDRNN(build("network", NETWORK, "auto")).snapshot()
    smaller = StreamingDRNN(build("tagger", Network(3, 3, (2, 3), "lstm", dtype=torch.float32), "auto")).snapshot()
    for wrong, which, problem in [
        (b"", beginning, "no header"),
        (b"[1]\n", beginning, "no header"),
        (b'{"version": 1}\n', beginning, "damaged snapshot"),
        (b"[" * 50_000 + b"\n", beginning, "no header"),
        (b'{"version": 1, "model": "' + b"x" * 10_000_000 + b'"}\n', beginning, "no header"),
        (data.replace(b'"version": 1', b'"version": 2', 1), beginning, "version 2, this release reads 1"),
        (data[:-1], beginning, "damaged snapshot"),
        (data[: data.index(b"numbers!") + 8], beginning, "damaged snapshot: no state"),
        (data, another, "expected tensors"),
        (data, smaller, "of another model"),
    ]:
        with pytest.raises(ValueError, match=problem):
            read_snapshot(wrong, which)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("version", [None, "1", "x" * 10_000, [], float("nan")]),
        ("model", [None, 3, ["digest"], {}]),
        ("format", [None, "mp3", ["features"], {}, 1]),
        ("seq", [None, "9", 9.0, True, -1, 8, 10, 2**63, 10**400, float("nan"), float("inf"), [9]]),
        ("ack", [None, "8", 8.0, False, -1, 7, 9, 10, 2**64, [8]]),
        (
            "results",
            [None, 16, "16", [], [16, 16], [-16], [16.0], ["16"], [True], [10**30], [float("nan")], [[16]], [7]],
        ),
    ],
)
def test_a_header_that_was_tampered_with_is_refused(field: str, values: list[object]) -> None:
    data, beginning = snapshot_data()
    line, _, rest = data.partition(b"\n")
    good = json.loads(line)
    assert good["results"] == [16]
    for value in values:
        wrong = json.dumps(good | {field: value}).encode() + b"\n" + rest
        missing = json.dumps({name: kept for name, kept in good.items() if name != field}).encode() + b"\n" + rest
        for tampered in (wrong, missing):
            with pytest.raises(ValueError, match="snapshot") as refusal:
                read_snapshot(tampered, beginning)
            assert "\n" not in str(refusal.value)
            assert len(str(refusal.value)) < 1000


def test_a_snapshot_of_0_2_goes_on_with_what_it_says_is_left() -> None:
    data, beginning = snapshot_data()
    line, _, rest = data.partition(b"\n")
    header = json.loads(line)
    del header["claim"]
    for steps, left in ((None, 0.0), (7.5, 7.5)):
        read = read_snapshot(json.dumps(header | {"steps": steps}).encode() + b"\n" + rest, beginning)
        assert (read.steps, read.claim) == (left, 0)
    for wrong in (None, -1, 1.5, "1", [1]):
        with pytest.raises(ValueError, match="damaged snapshot"):
            read_snapshot(json.dumps(header | {"claim": wrong}).encode() + b"\n" + rest, beginning)


@examples(100)
@given(
    at=st.floats(0, 1, exclude_max=True),
    length=st.integers(0, 40),
    instead=st.binary(max_size=40),
)
def test_bytes_that_were_tampered_with_are_refused_or_make_a_state_of_the_model(
    at: float, length: int, instead: bytes
) -> None:
    data, beginning = snapshot_data()
    start = int(at * len(data))
    try:
        read = read_snapshot(data[:start] + instead + data[start + length :], beginning)
        if read.state is not None:
            StreamingDRNN(build("tagger", NETWORK, "auto")).restore(read.state)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either will do)
    else:
        assert 0 <= read.ack <= read.seq
        assert len(read.results) == read.seq - read.ack
        if read.state is not None:
            check_fits("state", read.state, beginning, beginning.device, beginning.batch_size)


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
