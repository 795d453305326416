"""Where streams wait while no server has them: one SQLite file."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

import platformdirs

_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    key BLOB PRIMARY KEY,
    claim INTEGER NOT NULL,
    saved REAL NOT NULL,
    snapshot BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS streams_by_age ON streams (saved);
"""


class Saving(NamedTuple):
    """A snapshot to be saved: of which stream, under which claim to it, and its bytes."""

    stream: str
    claim: int
    snapshot: bytes


class Claimed(NamedTuple):
    """A stream that is the caller's from now on: its claim, and its latest snapshot."""

    claim: int
    snapshot: bytes


def default_path() -> Path:
    """Where streams are kept unless the user says otherwise."""
    return Path(platformdirs.user_data_dir("streamdrnn")) / "streams.sqlite3"


class SnapshotStore:
    """The snapshots in one file, which several servers may share.

    A stream is one server's at a time: who claims it last. Of the others nothing more is saved, so that a server that
    was thought dead does not overwrite what happened since. Every call is one transaction: whole, or not at all, also
    when the process is killed.

    A stream's id is a secret, and only a digest of it is kept.

    Args:
        path: the file; made if there is none.

    Raises:
        ValueError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # what streams said is their clients' alone
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)

    def add(self, stream: str, snapshot: bytes, now: float) -> int:
        """Keep a new stream; its first claim."""
        with self._transaction() as db:
            db.execute("INSERT INTO streams VALUES (?, 1, ?, ?)", (_key(stream), now, snapshot))
        return 1

    def save(self, savings: Sequence[Saving], now: float) -> list[bool]:
        """Replace the snapshots of streams; for each, whether it was still the caller's."""
        with self._transaction() as db:
            return [
                db.execute(
                    "UPDATE streams SET snapshot = ?, saved = ? WHERE key = ? AND claim = ?",
                    (snapshot, now, _key(stream), claim),
                ).rowcount
                == 1
                for stream, claim, snapshot in savings
            ]

    def claim(self, stream: str) -> Optional[Claimed]:
        """Take a stream over, from whoever had it; None if there is no such stream."""
        with self._transaction() as db:
            row = db.execute(
                "UPDATE streams SET claim = claim + 1 WHERE key = ? RETURNING claim, snapshot", (_key(stream),)
            ).fetchone()
        return None if row is None else Claimed(*row)

    def remove(self, stream: str, claim: int) -> None:
        """Forget a stream, if it is still the caller's."""
        with self._transaction() as db:
            db.execute("DELETE FROM streams WHERE key = ? AND claim = ?", (_key(stream), claim))

    def forget(self, before: float) -> int:
        """Forget the streams that were last saved before some time; how many they were."""
        with self._transaction() as db:
            return db.execute("DELETE FROM streams WHERE saved < ?", (before,)).rowcount

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
            raise ValueError(f"{self.path}: cannot be used as a store of streams ({error})") from None


def _key(stream: str) -> bytes:
    return hashlib.sha256(stream.encode()).digest()
