"""A store in one SQLite file, for the servers of one machine."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Optional

import platformdirs

from streamdrnn.apps.serving.store import CLOSED, CLOSED_SECONDS, Claimed, Saving, StoreFullError, key_of
from streamdrnn.errors import ResourceError

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    key BLOB PRIMARY KEY,
    claim INTEGER NOT NULL,
    saved REAL NOT NULL,
    snapshot BLOB NOT NULL,
    seq INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS streams_by_age ON streams (saved);
CREATE TABLE IF NOT EXISTS checks (id INTEGER PRIMARY KEY CHECK (id = 1), at REAL NOT NULL);
"""
_COLUMN_SINCE_0_2 = "ALTER TABLE streams ADD COLUMN seq INTEGER NOT NULL DEFAULT 0"
_LOCKED_SECONDS = 4.0
"""How long a call waits for other processes that write."""
_FOR_NEW_STREAMS = 0.9
"""The share of the file's bytes that new streams may take; the rest is for those there are."""


def default_path() -> Path:
    """Where streams are kept unless the user says otherwise."""
    return Path(platformdirs.user_data_dir("streamdrnn")) / "streams.sqlite3"


def steady_clock() -> Callable[[], float]:
    """Seconds since 1970 without later jumps of the time of day, by which streams that live would be too old."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class SQLiteStore:
    """The snapshots in one file; see :class:`Store`. Every call is one transaction.

    A file that is removed is made again.

    Args:
        path: the file; made if there is none. Only its owner may read it.
        keep_seconds: for how long a stream is kept that is not saved again.
        most_bytes: of the file.

    Raises:
        OSError: the file cannot be used.
    """

    def __init__(self, path: Path, keep_seconds: float, most_bytes: int = 2**30) -> None:
        self.path = path
        self.keep_seconds, self._most_bytes = keep_seconds, most_bytes
        self._now = steady_clock()
        self._make()

    def add(self, stream: str, snapshot: bytes) -> int:
        now = self._now()
        with self._transaction() as db:
            taken = self._forget_old(db, now)
            if not self._is_full(taken):
                _put(db, Saving(stream, 1, 0, snapshot), now)
        self._check_room(taken)
        return 1

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        now = self._now()
        with self._transaction() as db:
            return [_put(db, saving, now) for saving in savings]

    def claim(self, stream: str) -> Optional[Claimed]:
        with self._transaction() as db:
            row = db.execute(
                "UPDATE streams SET claim = claim + 1, saved = ? WHERE key = ? AND seq != ? RETURNING claim, snapshot",
                (self._now(), key_of(stream), CLOSED),
            ).fetchone()
        return None if row is None else Claimed(*row)

    def remove(self, stream: str, claim: int) -> None:
        forgotten = self._now() - self.keep_seconds + min(CLOSED_SECONDS, self.keep_seconds)
        with self._transaction() as db:
            _put(db, Saving(stream, claim, CLOSED, b""), forgotten)

    def check(self) -> int:
        now = self._now()
        with self._transaction() as db:
            taken = self._forget_old(db, now)
            db.execute("REPLACE INTO checks VALUES (1, ?)", (now,))
        self._check_room(taken)
        return taken

    def _forget_old(self, db: sqlite3.Connection, now: float) -> int:
        """Forget the streams that are too old; the bytes that the others take."""
        db.execute("DELETE FROM streams WHERE saved < ?", (now - self.keep_seconds,))
        return _bytes_of(db)

    def _is_full(self, taken: int) -> bool:
        return taken > _FOR_NEW_STREAMS * self._most_bytes

    def _check_room(self, taken: int) -> None:
        if self._is_full(taken):
            full = f"{self.path}: no room for further streams, {taken} of {self._most_bytes} bytes taken"
            raise StoreFullError(full, taken)

    def _make(self) -> None:
        if self.path.exists() and not self.path.is_file():
            raise ResourceError(f"{self.path}: expected a file, for the store of streams")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(mode=0o600)  # what streams said is their clients' alone
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
            with db:
                db.execute("BEGIN IMMEDIATE")
                if "seq" not in [name for _, name, *_ in db.execute("PRAGMA table_info (streams)")]:
                    db.execute(_COLUMN_SINCE_0_2)
        self.path.chmod(0o600)  # whatever it was; only now is it known to be a store

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            logger.error("%s was removed; it is made again, and filled by the streams that live", self.path)
            self._make()
        with self._connection() as db, db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.absolute().as_uri()}?mode=rw"  # else it would be made, for everybody to read
        try:
            with closing(sqlite3.connect(uri, timeout=_LOCKED_SECONDS, uri=True)) as db:
                pages = self._most_bytes // int(db.execute("PRAGMA page_size").fetchone()[0])
                db.execute(f"PRAGMA max_page_count = {pages}")
                yield db
        except sqlite3.Error as error:
            raise ResourceError(f"{self.path}: cannot be used as a store of streams ({error})") from None


def _put(db: sqlite3.Connection, saving: Saving, saved: float) -> bool:
    """Write a row, unless the one there was claimed later, is closed or has later inputs; whether it was written."""
    written = db.execute(
        "INSERT INTO streams (key, claim, saved, snapshot, seq) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
        " SET claim = excluded.claim, saved = excluded.saved, snapshot = excluded.snapshot, seq = excluded.seq"
        " WHERE (claim, seq) <= (excluded.claim, excluded.seq) AND seq != ?",
        (key_of(saving.stream), saving.claim, saved, saving.snapshot, saving.seq, CLOSED),
    )
    return written.rowcount == 1


def _bytes_of(db: sqlite3.Connection) -> int:
    size, pages, free = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count", "freelist_count")
    )
    return size * (pages - free)
