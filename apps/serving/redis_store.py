"""A store in Redis, for the servers of several machines."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamdrnn.apps.serving.store import CLOSED, CLOSED_SECONDS, Claimed, Saving, StoreFullError, key_of
from streamdrnn.errors import InputError, ResourceError

_TIMEOUT = 3.0


class RedisStore:
    """The snapshots in one Redis database, a hash each; see :class:`Store`.

    Redis' own configuration says how much it may keep (``maxmemory``, with ``noeviction``), and what is left when it is
    restarted.

    Args:
        client: of the database.
        keep_seconds: for how long a stream is kept that is not saved again.
    """

    def __init__(self, client: Any, keep_seconds: float) -> None:
        self._client, self.keep_seconds = client, keep_seconds
        self._keep_ms = max(1, round(1000 * keep_seconds))

    @classmethod
    def at(cls, url: str, keep_seconds: float) -> Self:
        """The store at a URL, ``redis://HOST:PORT/DB``.

        Raises:
            OSError: no Redis answers there.
            ValueError: the URL is malformed.
        """
        try:
            client: Any = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=Retry(NoBackoff(), 0),  # whoever asks knows whether to ask again
            )
        except ValueError as error:
            raise InputError(f"store: {error}") from None
        with _errors():
            client.ping()
        return cls(client, keep_seconds)

    def add(self, stream: str, snapshot: bytes) -> int:
        with _errors(), self._client.pipeline() as pipe:
            _write(pipe, _key(stream), 1, snapshot, self._keep_ms)
            pipe.execute()
        return 1

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        return [self._replace(*saving, self._keep_ms) for saving in savings]

    def claim(self, stream: str) -> Optional[Claimed]:
        key = _key(stream)

        def take(pipe: Any) -> Optional[Claimed]:
            claim, snapshot = pipe.hmget(key, "claim", "snapshot")
            pipe.multi()
            if claim is None or snapshot in (None, CLOSED):
                return None
            pipe.hset(key, "claim", int(claim) + 1)
            pipe.pexpire(key, self._keep_ms)
            return Claimed(int(claim) + 1, snapshot)

        claimed: Optional[Claimed] = self._unless_changed(key, take)
        return claimed

    def remove(self, stream: str, claim: int) -> None:
        self._replace(stream, claim, CLOSED, min(self._keep_ms, round(1000 * CLOSED_SECONDS)))

    def check(self) -> int:
        with _errors():
            self._client.set(b"streamdrnn:check", 1, px=1000)
            return int(self._client.info("memory").get("used_memory", 0))

    def _replace(self, stream: str, claim: int, snapshot: bytes, keep_ms: int) -> bool:
        key = _key(stream)

        def try_to(pipe: Any) -> bool:
            latest, now = pipe.hmget(key, "claim", "snapshot")
            pipe.multi()
            ours = latest is None or (int(latest) <= claim and now != CLOSED)
            if ours:
                _write(pipe, key, claim, snapshot, keep_ms)
            return ours

        return bool(self._unless_changed(key, try_to))

    def _unless_changed(self, key: bytes, change: Callable[[Any], Any]) -> Any:
        """Make a change, again as often as somebody else changed the same stream in the meantime; what it returns."""
        with _errors():
            return self._client.transaction(change, key, value_from_callable=True)


def _write(pipe: Any, key: bytes, claim: int, snapshot: bytes, keep_ms: int) -> None:
    pipe.hset(key, mapping={"claim": claim, "snapshot": snapshot})
    pipe.pexpire(key, keep_ms)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except redis.OutOfMemoryError as error:
        raise StoreFullError(f"Redis has no room for further streams ({error})") from None
    except redis.RedisError as error:
        raise ResourceError(f"Redis cannot be used as a store of streams ({error})") from None


def _key(stream: str) -> bytes:
    return b"streamdrnn:stream:" + key_of(stream)
