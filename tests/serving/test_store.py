"""What is saved is there, whole, and the last claim's alone."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from streamdrnn import StreamingDRNN
from streamdrnn.apps.serving.snapshots import Snapshot, model_of, read_snapshot
from streamdrnn.apps.serving.store import Saving, SnapshotStore
from tests.agreement import assert_same_bits
from tests.properties.models import KINDS, build
from tests.strategies import Network

NETWORK = Network(3, 4, (2, 3), "lstm", dtype=torch.float32)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "new folder" / "streams.sqlite3")


def test_the_last_claim_saves_and_those_before_it_do_not(store: SnapshotStore) -> None:
    first = store.add("s", b"0", now=1.0)
    assert store.save([Saving("s", first, b"1")], now=2.0) == [True]
    other = SnapshotStore(store.path).claim("s")
    assert other is not None
    assert other.snapshot == b"1"
    assert other.claim != first
    assert store.save([Saving("s", first, b"stale"), Saving("s", other.claim, b"2")], now=3.0) == [False, True]
    store.remove("s", first)
    again = store.claim("s")
    assert again is not None
    assert again.snapshot == b"2"
    store.remove("s", again.claim)
    assert store.claim("s") is None
    assert store.save([Saving("s", again.claim, b"3")], now=4.0) == [False]


def test_streams_that_nobody_continues_are_forgotten(store: SnapshotStore) -> None:
    store.add("old", b"", now=1.0)
    store.add("new", b"", now=5.0)
    assert store.forget(before=5.0) == 1
    assert store.claim("old") is None
    assert store.claim("new") is not None


def test_the_file_is_its_owners_and_does_not_know_the_ids(store: SnapshotStore) -> None:
    store.add("a very secret id", b"snapshot", now=1.0)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    for path in store.path.parent.iterdir():
        assert b"a very secret id" not in path.read_bytes()


def test_servers_at_the_same_time_lose_nothing(store: SnapshotStore) -> None:
    claims = {str(k): store.add(str(k), b"", 0.0) for k in range(8)}

    def save(n: int) -> list[bool]:
        return SnapshotStore(store.path).save([Saving(str(n % 8), claims[str(n % 8)], str(n).encode())], 1.0)

    with ThreadPoolExecutor(8) as pool:
        assert all(kept == [True] for kept in pool.map(save, range(32)))


def test_what_is_no_store_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(ValueError, match=r"notes\.txt: cannot be used as a store of streams"):
        SnapshotStore(path)
    assert path.read_text() == "not a database, " * 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_comes_back_to_the_bit(kind: str) -> None:
    live = StreamingDRNN(build(kind, NETWORK, "auto"))
    beginning = live.snapshot()
    live.push(NETWORK.x(7, 1))
    written = Snapshot("digest", "features", 9, 7, (b"", b"a result\n"), live.snapshot())
    data = written.to_bytes()
    assert model_of(data) == "digest"
    read = read_snapshot(data, beginning)
    assert read[:5] == written[:5]
    assert read.state is not None
    assert_same_bits(read.state, live.snapshot())
    assert read_snapshot(written._replace(state=None).to_bytes(), beginning).state is None


def test_damaged_snapshots_are_refused() -> None:
    model = build("tagger", NETWORK, "auto")
    beginning = StreamingDRNN(model).snapshot()
    data = Snapshot("digest", "features", 9, 8, (b"result",), beginning).to_bytes()
    another = StreamingDRNN(build("network", NETWORK, "auto")).snapshot()
    smaller = StreamingDRNN(build("tagger", Network(3, 3, (2, 3), "lstm", dtype=torch.float32), "auto")).snapshot()
    for wrong, which, problem in [
        (b"", beginning, "no header"),
        (b"[1]\n", beginning, "no header"),
        (b'{"version": 1}\n', beginning, "damaged snapshot"),
        (data.replace(b'"version": 1', b'"version": 2', 1), beginning, "version 2, this release reads 1"),
        (data[:-1], beginning, "damaged snapshot"),
        (data, another, "expected tensors"),
        (data, smaller, "of another model"),
    ]:
        with pytest.raises(ValueError, match=problem):
            read_snapshot(wrong, which)
