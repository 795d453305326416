"""Enrolled voices, in one SQLite file."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import torch
from torch import Tensor
from torch.nn.functional import normalize

MAX_NAME = 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS recordings (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    seconds REAL NOT NULL CHECK (seconds > 0),
    embedding BLOB NOT NULL
)
"""


class Recording(NamedTuple):
    """What one recording says of a voice: its length in seconds and its embedding ``(E,)``."""

    seconds: float
    embedding: Tensor


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
        raise ValueError(f"name: expected 1 to {MAX_NAME} printable characters, got {name!r}")
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
        rows = [(name, model, r.seconds, r.embedding.numpy().astype("<f4").tobytes()) for r in recordings]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            others = db.execute("SELECT 1 FROM recordings WHERE name = ? AND model != ?", (name, model)).fetchone()
            if others:
                raise ValueError(f"profile {name!r} was enrolled with another model; remove it first, then enrol again")
            db.executemany("INSERT INTO recordings (name, model, seconds, embedding) VALUES (?, ?, ?, ?)", rows)

    def remove(self, name: str) -> None:
        """Remove a profile.

        Raises:
            ValueError: there is none of this name.
        """
        if not self.path.is_file():
            raise ValueError(f"no profile {name!r}: {self.path} does not exist")
        with self._transaction() as db:
            if not db.execute("DELETE FROM recordings WHERE name = ?", (name,)).rowcount:
                raise ValueError(f"no profile {name!r} in {self.path}")

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
                raise ValueError(f"profile {name!r} was enrolled with another model; remove it, then enrol again")
            embedding = torch.from_numpy(np.frombuffer(blob, "<f4").copy())
            sums[name] = sums.get(name, torch.zeros_like(embedding)) + seconds * embedding
        return {name: normalize(total, dim=0) for name, total in sums.items()}

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as db, db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(_SCHEMA)
                yield db
        except sqlite3.Error as error:
            raise ValueError(f"{self.path}: cannot be used as a profile file ({error})") from None
