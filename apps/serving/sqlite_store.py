"""A store in one SQLite file, for the servers of one machine."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Optional

import platformdirs

from streamdrnn.apps.serving.store import Claimed, Saving, key_of
from streamdrnn.errors import ResourceError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    key BLOB PRIMARY KEY,
    claim INTEGER NOT NULL,
    saved REAL NOT NULL,
    snapshot BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS streams_by_age ON streams (saved);
"""


def default_path() -> Path:
    """Where streams are kept unless the user says otherwise."""
    return Path(platformdirs.user_data_dir("streamdrnn")) / "streams.sqlite3"


class SQLiteStore:
    """The snapshots in one file; see :class:`Store`. Every call is one transaction.

    Args:
        path: the file; made if there is none.
        keep_seconds: for how long a stream is kept that is not saved again.

    Raises:
        OSError: the file cannot be used.
    """

    def __init__(self, path: Path, keep_seconds: float) -> None:
        self.path = path
        self._keep_seconds = keep_seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # what streams said is their clients' alone
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)

    def add(self, stream: str, snapshot: bytes) -> int:
        now = time.time()
        with self._transaction() as db:
            db.execute("DELETE FROM streams WHERE saved < ?", (now - self._keep_seconds,))
            db.execute("INSERT INTO streams VALUES (?, 1, ?, ?)", (key_of(stream), now, snapshot))
        return 1

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        now = time.time()
        with self._transaction() as db:
            return [
                db.execute(
                    "UPDATE streams SET snapshot = ?, saved = ? WHERE key = ? AND claim = ?",
                    (snapshot, now, key_of(stream), claim),
                ).rowcount
                == 1
                for stream, claim, snapshot in savings
            ]

    def claim(self, stream: str) -> Optional[Claimed]:
        with self._transaction() as db:
            row = db.execute(
                "UPDATE streams SET claim = claim + 1 WHERE key = ? AND saved >= ? RETURNING claim, snapshot",
                (key_of(stream), time.time() - self._keep_seconds),
            ).fetchone()
        return None if row is None else Claimed(*row)

    def remove(self, stream: str, claim: int) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM streams WHERE key = ? AND claim = ?", (key_of(stream), claim))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as db, db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as db:
                yield db
        except sqlite3.Error as error:
            raise ResourceError(f"{self.path}: cannot be used as a store of streams ({error})") from None
