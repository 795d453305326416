"""Where streams wait while no server has them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Protocol

from streamdrnn.client.protocol import MAX_SEQUENCE
from streamdrnn.errors import InputError, ResourceError, installing

CLOSED, CLOSED_SECONDS = MAX_SEQUENCE, 600.0
"""Kept as the last input of a closed stream, for so many seconds: a server that was cut off must not save it again."""


class StoreFullError(ResourceError):
    """The store has as many bytes as it may; what it has can still be continued and removed.

    Attributes:
        taken: the bytes, if they are known.
    """

    def __init__(self, message: str, taken: Optional[int] = None) -> None:
        super().__init__(message)
        self.taken = taken


class Saving(NamedTuple):
    """A snapshot to be saved: of which stream, under which claim to it, the last input in it, and its bytes."""

    stream: str
    claim: int
    seq: int
    snapshot: bytes


class Claimed(NamedTuple):
    """A stream that is the caller's from now on.

    Attributes:
        claim: its new one.
        away: seconds since it was last saved or claimed.
        snapshot: the latest.
    """

    claim: int
    away: float
    snapshot: bytes


class Store(Protocol):
    """Snapshots that several servers may share.

    A stream is one server's at a time: who claims it last. Of the others nothing more is saved, so that a server that
    was thought dead does not overwrite what happened since. Nor does a call that its caller no longer waits for: of one
    claim no snapshot replaces one with later inputs. Each stream is saved whole or not at all, also when the process is
    killed. Streams that were not saved for long enough are forgotten; so is everything when the store itself
    is lost. Whoever has a stream writes it again with its next snapshot.

    Every method may raise ``OSError``: the store cannot be used.

    Attributes:
        keep_seconds: for how long a stream is kept that is not saved again.
    """

    keep_seconds: float

    def add(self, stream: str, snapshot: bytes) -> int:
        """Keep a new stream; its first claim.

        Raises:
            StoreFullError: there is no room for further streams.
        """

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        """Replace the snapshots of streams, or keep them anew.

        Returns:
            for each, False if the stream was claimed since, closed, or saved with later inputs.
        """

    def claim(self, stream: str) -> Optional[Claimed]:
        """Take a stream over, from whoever had it; None if there is no such stream."""

    def remove(self, stream: str, claim: int) -> None:
        """Forget a stream, if it is still the caller's."""

    def check(self) -> int:
        """Try to write; the bytes that the store takes."""


def open_store(where: Optional[str], keep_seconds: float, most_bytes: int) -> Store:
    """The store at a place.

    Args:
        where: the path of a file, or ``redis://HOST:PORT/DB`` (``rediss`` with TLS); None is a file of the user's own.
        keep_seconds: for how long a stream is kept that is not saved again.
        most_bytes: of a file; Redis has a limit of its own (``maxmemory``).

    Raises:
        OSError: it cannot be used.
        ValueError: its URL is malformed or of another kind, or it needs what is not installed.
    """
    if where is not None and where.startswith(("redis://", "rediss://")):
        try:
            from streamdrnn.apps.serving.redis_store import RedisStore
        except ModuleNotFoundError as error:
            raise InputError(f"{error}; a Redis store needs it: {installing('redis')}") from None
        return RedisStore.at(where, keep_seconds)
    if where is not None and (not where or "://" in where):
        raise InputError(f"store: expected the path of a file, redis://HOST:PORT/DB or rediss://..., got {where}")
    from streamdrnn.apps.serving.sqlite_store import SQLiteStore, default_path

    return SQLiteStore(default_path() if where is None else Path(where), keep_seconds, most_bytes)


def key_of(stream: str) -> bytes:
    """What a store calls a stream: a digest, as the id is a secret."""
    return hashlib.sha256(stream.encode("utf-8", "surrogatepass")).digest()
