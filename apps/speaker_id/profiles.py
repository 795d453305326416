"""Enrolled voices, in one SQLite file."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import platformdirs
import torch
from torch import Tensor
from torch.nn.functional import normalize

from streamdrnn.errors import InputError

MAX_NAME = 64
_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS recordings (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    seconds REAL NOT NULL CHECK (seconds > 0),
    embedding BLOB NOT NULL
)
""",
    """
CREATE TABLE IF NOT EXISTS thresholds (
    model TEXT PRIMARY KEY,
    cosine REAL NOT NULL CHECK (cosine BETWEEN -1 AND 1)
)
""",
)


class Recording(NamedTuple):
    """What one recording says of a voice: its length in seconds and its embedding ``(E,)``."""

    seconds: float
    embedding: Tensor


class StoredRecording(NamedTuple):
    """A recording as it is kept: whose, and which model heard it."""

    name: str
    model: str
    recording: Recording


class Profile(NamedTuple):
    """A voice: its name, its number of recordings, their seconds in all, and the model that heard them."""

    name: str
    recordings: int
    seconds: float
    model: str


def default_path() -> Path:
    """Where profiles are kept unless the user says otherwise."""
    return Path(platformdirs.user_data_dir("streamdrnn")) / "profiles.sqlite3"


def model_id(path: Path) -> str:
    """What tells one model's embeddings from another's: a digest of its file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def check_name(name: str) -> str:
    """``name`` if it can be a profile's.

    Raises:
        ValueError: it is empty, too long, or has characters that cannot be printed on one line.
    """
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InputError(f"name: expected 1 to {MAX_NAME} printable characters, got {name!r}")
    return name


class ProfileStore:
    """The profiles in one file; made on the first enrolment.

    Every change is one transaction: another process sees all of it or nothing.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str, model: str, recordings: list[Recording]) -> None:
        """Add recordings to a profile, or make it.

        Raises:
            ValueError: the name cannot be one, or the profile was made with another model.
        """
        check_name(name)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            _check_model(db, name, model)
            _insert(db, [StoredRecording(name, model, recording) for recording in recordings])

    def check_model(self, name: str, model: str) -> None:
        """Check that recordings by this model can be added to a profile.

        Raises:
            ValueError: it was made with another one.
        """
        if self.path.is_file():
            with self._transaction() as db:
                _check_model(db, name, model)

    def remove(self, name: str) -> None:
        """Remove a profile.

        Raises:
            ValueError: there is none of this name.
        """
        self._check_file(name)
        with self._transaction() as db:
            if not db.execute("DELETE FROM recordings WHERE name = ?", (name,)).rowcount:
                raise InputError(f"no profile {name!r} in {self.path}")

    def rename(self, name: str, new: str) -> None:
        """Give a profile another name.

        Raises:
            ValueError: there is none of this name, or one of the new name, or the new name cannot be one.
        """
        check_name(new)
        self._check_file(name)
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM recordings WHERE name = ?", (new,)).fetchone():
                raise InputError(f"there is a profile {new!r} already in {self.path}")
            if not db.execute("UPDATE recordings SET name = ? WHERE name = ?", (new, name)).rowcount:
                raise InputError(f"no profile {name!r} in {self.path}")

    def recordings(self) -> list[StoredRecording]:
        """All that is kept, in the order in which it was added."""
        if not self.path.is_file():
            return []
        with self._transaction() as db:
            rows = db.execute("SELECT name, model, seconds, embedding FROM recordings ORDER BY id").fetchall()
        return [
            StoredRecording(name, model, Recording(seconds, _embedding(blob))) for name, model, seconds, blob in rows
        ]

    def restore(self, recordings: list[StoredRecording]) -> None:
        """Add what :meth:`recordings` gave, here or elsewhere; what is there already is not added again.

        Raises:
            ValueError: a profile was made with another model; nothing has been added.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            for one in recordings:
                check_name(one.name)
                _check_model(db, one.name, one.model)
                _insert(db, [one])

    def threshold(self, model: str) -> Optional[float]:
        """The threshold that was calibrated for a model; None if none was."""
        if not self.path.is_file():
            return None
        with self._transaction() as db:
            row = db.execute("SELECT cosine FROM thresholds WHERE model = ?", (model,)).fetchone()
        return None if row is None else float(row[0])

    def set_threshold(self, model: str, cosine: float) -> None:
        """Keep a calibrated threshold.

        Raises:
            ValueError: it is no cosine.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO thresholds (model, cosine) VALUES (?, ?)", (model, cosine))

    def profiles(self) -> list[Profile]:
        """All profiles by name."""
        if not self.path.is_file():
            return []
        with self._transaction() as db:
            rows = db.execute(
                "SELECT name, count(*), sum(seconds), min(model) FROM recordings GROUP BY name ORDER BY name"
            ).fetchall()
        return [Profile(*row) for row in rows]

    def voices(self, model: str) -> dict[str, Tensor]:
        """The embedding ``(E,)`` of each profile, the mean of its recordings by their lengths.

        Raises:
            ValueError: some profile was made with another model.
        """
        if not self.path.is_file():
            return {}
        with self._transaction() as db:
            rows = db.execute("SELECT name, model, seconds, embedding FROM recordings ORDER BY name, id").fetchall()
        sums: dict[str, Tensor] = {}
        for name, made_with, seconds, blob in rows:
            if made_with != model:
                raise InputError(f"profile {name!r} was enrolled with another model; remove it, then enrol again")
            embedding = _embedding(blob)
            sums[name] = sums.get(name, torch.zeros_like(embedding)) + seconds * embedding
        return {name: normalize(total, dim=0) for name, total in sums.items()}

    def _check_file(self, name: str) -> None:
        if not self.path.is_file():
            raise InputError(f"no profile {name!r}: {self.path} does not exist")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as db, db:
                db.execute("BEGIN IMMEDIATE")
                for table in _SCHEMA:
                    db.execute(table)
                yield db
        except sqlite3.Error as error:
            raise InputError(f"{self.path}: cannot be used as a profile file ({error})") from None


def _check_model(db: sqlite3.Connection, name: str, model: str) -> None:
    if db.execute("SELECT 1 FROM recordings WHERE name = ? AND model != ?", (name, model)).fetchone():
        raise InputError(f"profile {name!r} was enrolled with another model; remove it first, then enrol again")


def _insert(db: sqlite3.Connection, recordings: list[StoredRecording]) -> None:
    """Insert what is not there yet."""
    for name, model, (seconds, embedding) in recordings:
        row = (name, model, seconds, embedding.numpy().astype("<f4").tobytes())
        known = "SELECT 1 FROM recordings WHERE (name, model, seconds, embedding) = (?, ?, ?, ?)"
        if not db.execute(known, row).fetchone():
            db.execute("INSERT INTO recordings (name, model, seconds, embedding) VALUES (?, ?, ?, ?)", row)


def _embedding(blob: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(blob, "<f4").copy())
