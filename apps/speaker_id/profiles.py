"""Enrolled voices, in one SQLite file."""

import hashlib
import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

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
CREATE TABLE IF NOT EXISTS offsets (
    model TEXT PRIMARY KEY,
    log_ratio REAL NOT NULL CHECK (abs(log_ratio) <= 100)
)
""",
)


class Recording(NamedTuple):
    """What one recording says of a voice.

    Attributes:
        seconds: of clear speech.
        embedding: ``(E,)``.
        warnings: what makes it less than good to know the voice by, a line each; not kept.
    """

    seconds: float
    embedding: Tensor
    warnings: tuple[str, ...] = ()


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


def clean_name(name: str) -> str:
    """A name as profiles have it: without spaces around it, accents composed (Unicode's NFC).

    Raises:
        ValueError: it is empty, too long, has characters that cannot be printed on one line, or is in brackets as the
            labels are that are nobody's name.
    """
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not cleaned or len(cleaned) > MAX_NAME or not cleaned.isprintable():
        raise InputError(f"name: expected 1 to {MAX_NAME} printable characters, got {name!r}")
    if cleaned.startswith("(") and cleaned.endswith(")"):
        raise InputError(f"name: {cleaned!r} could be a label such as (unknown), expected no brackets around it")
    return cleaned


class ProfileStore:
    """The profiles in one file; made on the first enrolment.

    Every change is one transaction: another process sees all of it or nothing.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str, model: str, recordings: list[Recording]) -> str:
        """Add recordings to a profile, or make it.

        Returns:
            the name that the profile has: cleaned, and of a known profile as that writes it ("anna" is "Anna").

        Raises:
            ValueError: the name cannot be one, or the profile was made with another model.
        """
        clean_name(name)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            name = _spelling(db, name)
            _check_model(db, name, model)
            _insert(db, [StoredRecording(name, model, recording) for recording in recordings])
        return name

    def check_model(self, name: str, model: str) -> None:
        """Check that recordings by this model can be added to a profile.

        Raises:
            ValueError: it was made with another one.
        """
        if self.path.is_file():
            with self._transaction() as db:
                _check_model(db, _spelling(db, name), model)

    def remove(self, name: str) -> None:
        """Remove a profile.

        Raises:
            ValueError: there is none of this name.
        """
        self._check_file(name)
        with self._transaction() as db:
            if not db.execute("DELETE FROM recordings WHERE name = ?", (_spelling(db, name),)).rowcount:
                raise InputError(f"no profile {name!r} in {self.path}")

    def rename(self, name: str, new: str) -> None:
        """Give a profile another name.

        Raises:
            ValueError: there is none of this name, or one of the new name, or the new name cannot be one.
        """
        new = clean_name(new)
        self._check_file(name)
        with self._transaction() as db:
            name, taken = _spelling(db, name), _spelling(db, new)
            if taken != name and db.execute("SELECT 1 FROM recordings WHERE name = ?", (taken,)).fetchone():
                raise InputError(f"there is a profile {taken!r} already in {self.path}")
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
                clean_name(one.name)
                named = one._replace(name=_spelling(db, one.name))
                _check_model(db, named.name, named.model)
                _insert(db, [named])

    def offset(self, model: str) -> float:
        """What the user's calibration adds to a model's log likelihood ratios; 0 if there is none."""
        if not self.path.is_file():
            return 0.0
        with self._transaction() as db:
            row = db.execute("SELECT log_ratio FROM offsets WHERE model = ?", (model,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def set_offset(self, model: str, log_ratio: float) -> None:
        """Keep what a calibration found; 0 is as if there were none.

        Raises:
            ValueError: it is beyond all reason.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO offsets (model, log_ratio) VALUES (?, ?)", (model, log_ratio))

    def profiles(self) -> list[Profile]:
        """All profiles by name."""
        if not self.path.is_file():
            return []
        with self._transaction() as db:
            rows = db.execute(
                "SELECT name, count(*), sum(seconds), min(model) FROM recordings GROUP BY name ORDER BY name"
            ).fetchall()
        return [Profile(*row) for row in rows]

    def voices(self, model: str) -> dict[str, Recording]:
        """The recordings of each profile as one: their seconds in all, and the mean of their embeddings by length.

        Raises:
            ValueError: some profile was made with another model.
        """
        if not self.path.is_file():
            return {}
        with self._transaction() as db:
            rows = db.execute("SELECT name, model, seconds, embedding FROM recordings ORDER BY name, id").fetchall()
        sums: dict[str, Recording] = {}
        for name, made_with, seconds, blob in rows:
            if made_with != model:
                raise InputError(f"profile {name!r} was enrolled with another model; remove it, then enrol again")
            embedding = _embedding(blob)
            before = sums.get(name, Recording(0.0, torch.zeros_like(embedding)))
            sums[name] = Recording(before.seconds + seconds, before.embedding + seconds * embedding)
        return {name: Recording(one.seconds, normalize(one.embedding, dim=0)) for name, one in sums.items()}

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


def _spelling(db: sqlite3.Connection, name: str) -> str:
    """A name as a profile writes it that differs by case, spaces or composition only; cleaned if there is none."""

    def plain(text: str) -> str:
        return unicodedata.normalize("NFC", text).strip().casefold()

    known = [row[0] for row in db.execute("SELECT DISTINCT name FROM recordings ORDER BY name")]
    if name in known:
        return name
    return next((one for one in known if plain(one) == plain(name)), unicodedata.normalize("NFC", name).strip())


def _insert(db: sqlite3.Connection, recordings: list[StoredRecording]) -> None:
    """Insert what is not there yet."""
    for name, model, (seconds, embedding, _) in recordings:
        row = (name, model, seconds, embedding.numpy().astype("<f4").tobytes())
        known = "SELECT 1 FROM recordings WHERE (name, model, seconds, embedding) = (?, ?, ?, ?)"
        if not db.execute(known, row).fetchone():
            db.execute("INSERT INTO recordings (name, model, seconds, embedding) VALUES (?, ?, ?, ?)", row)


def _embedding(blob: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(blob, "<f4").copy())
