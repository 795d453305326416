"""Where streams wait while no server has them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Protocol

from streamdrnn.errors import InputError


class Saving(NamedTuple):
    """A snapshot to be saved: of which stream, under which claim to it, and its bytes."""

    stream: str
    claim: int
    snapshot: bytes


class Claimed(NamedTuple):
    """A stream that is the caller's from now on: its claim, and its latest snapshot."""

    claim: int
    snapshot: bytes


class Store(Protocol):
    """Snapshots that several servers may share.

    A stream is one server's at a time: who claims it last. Of the others nothing more is saved, so that a server that
    was thought dead does not overwrite what happened since. Each stream is saved whole or not at all, also when the
    process is killed. Streams that were not saved for long enough are forgotten.

    Every method may raise ``OSError``: the store cannot be used.
    """

    def add(self, stream: str, snapshot: bytes) -> int:
        """Keep a new stream; its first claim."""

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        """Replace the snapshots of streams; for each, whether it was still the caller's."""

    def claim(self, stream: str) -> Optional[Claimed]:
        """Take a stream over, from whoever had it; None if there is no such stream."""

    def remove(self, stream: str, claim: int) -> None:
        """Forget a stream, if it is still the caller's."""


def open_store(where: Optional[str], keep_seconds: float) -> Store:
    """The store at a place.

    Args:
        where: the path of a file, or ``redis://HOST:PORT/DB`` (``rediss`` with TLS); None is a file of the user's own.
        keep_seconds: for how long a stream is kept that is not saved again.

    Raises:
        OSError: it cannot be used.
        ValueError: its URL is malformed, or it needs what is not installed.
    """
    if where is not None and where.startswith(("redis://", "rediss://")):
        try:
            from streamdrnn.apps.serving.redis_store import RedisStore
        except ModuleNotFoundError as error:
            raise InputError(f"{error}; a Redis store needs it: pip install 'streamdrnn[redis]'") from None
        return RedisStore.at(where, keep_seconds)
    from streamdrnn.apps.serving.sqlite_store import SQLiteStore, default_path

    return SQLiteStore(default_path() if where is None else Path(where), keep_seconds)


def key_of(stream: str) -> bytes:
    """What a store calls a stream: a digest, as the id is a secret."""
    return hashlib.sha256(stream.encode("utf-8", "surrogatepass")).digest()
