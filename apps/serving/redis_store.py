"""A store in Redis, for the servers of several machines."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional, Self

import redis

from streamdrnn.apps.serving.store import Claimed, Saving, key_of
from streamdrnn.errors import InputError, ResourceError

_TIMEOUT = 5.0


class RedisStore:
    """The snapshots in one Redis database, a hash each; see :class:`Store`.

    What Redis keeps when it is restarted itself, its own configuration says.

    Args:
        client: of the database.
        keep_seconds: for how long a stream is kept that is not saved again.
    """

    def __init__(self, client: Any, keep_seconds: float) -> None:
        self._client = client
        self._keep_ms = max(1, round(1000 * keep_seconds))

    @classmethod
    def at(cls, url: str, keep_seconds: float) -> Self:
        """The store at a URL, ``redis://HOST:PORT/DB``.

        Raises:
            OSError: no Redis answers there.
            ValueError: the URL is malformed.
        """
        try:
            client: Any = redis.Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
        except ValueError as error:
            raise InputError(f"store: {error}") from None
        with _errors():
            client.ping()
        return cls(client, keep_seconds)

    def add(self, stream: str, snapshot: bytes) -> int:
        with _errors(), self._client.pipeline() as pipe:
            self._write(pipe, _key(stream), {"claim": 1, "snapshot": snapshot})
            pipe.execute()
        return 1

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        return [self._save(saving) for saving in savings]

    def claim(self, stream: str) -> Optional[Claimed]:
        key = _key(stream)

        def take(pipe: Any) -> Optional[Claimed]:
            claim, snapshot = pipe.hmget(key, "claim", "snapshot")
            pipe.multi()
            if claim is None or snapshot is None:
                return None
            pipe.hset(key, "claim", int(claim) + 1)
            return Claimed(int(claim) + 1, snapshot)

        claimed: Optional[Claimed] = self._unless_changed(key, take)
        return claimed

    def remove(self, stream: str, claim: int) -> None:
        self._if_claimed(stream, claim, lambda pipe, key: pipe.delete(key))

    def _save(self, saving: Saving) -> bool:
        def write(pipe: Any, key: bytes) -> None:
            self._write(pipe, key, {"snapshot": saving.snapshot})

        return self._if_claimed(saving.stream, saving.claim, write)

    def _if_claimed(self, stream: str, claim: int, change: Callable[[Any, bytes], Any]) -> bool:
        key = _key(stream)

        def try_to(pipe: Any) -> bool:
            ours: bool = pipe.hget(key, "claim") == str(claim).encode()
            pipe.multi()
            if ours:
                change(pipe, key)
            return ours

        return bool(self._unless_changed(key, try_to))

    def _unless_changed(self, key: bytes, change: Callable[[Any], Any]) -> Any:
        """Make a change, once more if somebody else changed the same stream in the meantime; what it returns."""
        with _errors():
            return self._client.transaction(change, key, value_from_callable=True)

    def _write(self, pipe: Any, key: bytes, fields: dict[str, Any]) -> None:
        pipe.hset(key, mapping=fields)
        pipe.pexpire(key, self._keep_ms)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise ResourceError(f"Redis cannot be used as a store of streams ({error})") from None


def _key(stream: str) -> bytes:
    return b"streamdrnn:stream:" + key_of(stream)
