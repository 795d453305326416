"""A store in one SQLite file, for the servers of one machine."""

import logging
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
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
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL,
    began REAL NOT NULL,
    checked REAL NOT NULL
);
"""
_FROM_0_2 = (
    "ALTER TABLE streams ADD COLUMN seq INTEGER NOT NULL DEFAULT 0",
    "UPDATE streams SET saved = 0",  # by the time of day, as each server had it
    "DROP TABLE IF EXISTS checks",
)
_START_CLOCK = """
INSERT INTO clock SELECT 1, :boot, coalesce(max(saved), 0) - :uptime, 0 FROM streams WHERE true
ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, began = max(excluded.began, checked - :uptime)
WHERE boot != excluded.boot
"""
"""The machine was started since: the clock goes on from where it was when the file was last written."""
_LOCKED_SECONDS = 4.0
"""How long a call waits for other processes that write."""
_FOR_NEW_STREAMS = 0.9
"""The share of the file's bytes that new streams may take; the rest is for those there are."""


def default_path() -> Path:
    """Where streams are kept unless the user says otherwise."""
    return Path(platformdirs.user_data_dir("streamdrnn")) / "streams.sqlite3"


def uptime() -> float:
    """Seconds since the machine was started, those in which it slept among them; the same for all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def boot() -> str:
    """A name of this run of the machine. Where it has none each call gives another: a clock may stop, but not jump."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return secrets.token_hex()


class SQLiteStore:
    """The snapshots in one file; see :class:`Store`. Every call is one transaction.

    A file that is removed, emptied or replaced is made again.

    Streams grow old by a clock of the file's own, which counts the time in which the machine runs or sleeps. The time
    of day may be set while servers run, and a server that began before would have another one.

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
        self._file: Optional[tuple[int, int]] = None
        self._make()

    def add(self, stream: str, snapshot: bytes) -> int:
        with self._transaction() as db:
            taken = self._forget_old(db)
            if not self._is_full(taken):
                _put(db, Saving(stream, 1, 0, snapshot), _now(db))
        self._check_room(taken)
        return 1

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        with self._transaction() as db:
            now = _now(db)
            return [_put(db, saving, now) for saving in savings]

    def claim(self, stream: str) -> Optional[Claimed]:
        key = key_of(stream)
        with self._transaction() as db:
            now = _now(db)
            row = db.execute(
                "SELECT claim + 1, max(0, ? - saved), snapshot FROM streams WHERE key = ? AND seq != ?",
                (now, key, CLOSED),
            ).fetchone()
            db.execute("UPDATE streams SET claim = claim + 1, saved = ? WHERE key = ? AND seq != ?", (now, key, CLOSED))
        return None if row is None else Claimed(*row)

    def remove(self, stream: str, claim: int) -> None:
        younger = min(CLOSED_SECONDS, self.keep_seconds) - self.keep_seconds
        with self._transaction() as db:
            _put(db, Saving(stream, claim, CLOSED, b""), _now(db) + younger)

    def check(self) -> int:
        with self._transaction() as db:
            taken = self._forget_old(db)
            db.execute("UPDATE clock SET checked = ?", (_now(db),))
        self._check_room(taken)
        return taken

    def _forget_old(self, db: sqlite3.Connection) -> int:
        """Forget the streams that are too old; the bytes that the others take."""
        db.execute("DELETE FROM streams WHERE saved < ?", (_now(db) - self.keep_seconds,))
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
            _write_ahead(db)
            with db:  # at once: who finds a table finds the clock, too
                db.executescript("BEGIN IMMEDIATE;" + _SCHEMA)
                if "seq" not in [name for _, name, *_ in db.execute("PRAGMA table_info (streams)")]:
                    for statement in _FROM_0_2:
                        db.execute(statement)
                db.execute(_START_CLOCK, {"boot": boot(), "uptime": uptime()})
        self.path.chmod(0o600)  # whatever it was; only now is it known to be a store
        self._file = self._found()

    def _found(self) -> Optional[tuple[int, int]]:
        """Which file is at the path; None if there is none, or nothing in it."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino) if found.st_size else None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._file is None or self._found() != self._file:
            logger.error("%s was removed or replaced; it is made again, and filled by the streams that live", self.path)
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


def _write_ahead(db: sqlite3.Connection) -> None:
    """Let readers and a writer not wait for each other; this itself does not wait for others who do the same."""
    until = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _now(db: sqlite3.Connection) -> float:
    """The time by the file's clock."""
    (began,) = db.execute("SELECT began FROM clock").fetchone()
    return float(began) + uptime()


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
