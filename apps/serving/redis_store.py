"""A store in Redis, for the servers of several machines."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any, Optional, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamdrnn.apps.serving.store import CLOSED, CLOSED_SECONDS, Claimed, Saving, StoreFullError, key_of
from streamdrnn.errors import InputError, ResourceError

_TIMEOUT = 3.0
_TRIES = 20
"""How often a change is tried that others come before."""


class ChangedError(ResourceError):
    """Others changed a stream at every try."""


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
            _write(pipe, Saving(stream, 1, 0, snapshot), self._keep_ms)
            pipe.execute()
        return 1

    def save(self, savings: Sequence[Saving]) -> list[bool]:
        try:
            return self._replace(savings, self._keep_ms, tries=1)
        except ChangedError:  # the stream that somebody else claims at this moment must not hold up the others
            return [self._save_alone(saving) for saving in savings]

    def _save_alone(self, saving: Saving) -> bool:
        try:
            return self._replace([saving], self._keep_ms)[0]
        except ChangedError:
            return False

    def claim(self, stream: str) -> Optional[Claimed]:
        key = _key(stream)

        def take(pipe: Any) -> Optional[Claimed]:
            claim, seq, snapshot = pipe.hmget(key, "claim", "seq", "snapshot")
            left_ms = int(pipe.pttl(key))
            pipe.multi()
            if snapshot is None or _number(seq) == CLOSED:
                return None
            pipe.hset(key, "claim", int(claim) + 1)
            pipe.pexpire(key, self._keep_ms)
            return Claimed(int(claim) + 1, max(0, self._keep_ms - left_ms) / 1000, snapshot)

        claimed: Optional[Claimed] = self._unless_changed([key], take)
        return claimed

    def remove(self, stream: str, claim: int) -> None:
        closed = Saving(stream, claim, CLOSED, b"")
        self._replace([closed], min(self._keep_ms, round(1000 * CLOSED_SECONDS)))

    def check(self) -> int:
        with _errors():
            self._client.set(b"streamdrnn:check", 1, px=1000)
            return int(self._client.info("memory").get("used_memory", 0))

    def _replace(self, savings: Sequence[Saving], keep_ms: int, tries: int = _TRIES) -> list[bool]:
        """Write those that nothing later is kept of, all together; whether each was written."""
        keys = [_key(saving.stream) for saving in savings]

        def try_to(pipe: Any) -> list[bool]:
            with self._client.pipeline(transaction=False) as reads:
                for key in keys:
                    reads.hmget(key, "claim", "seq")
                kept = reads.execute()
            pipe.multi()
            ours = [
                claim is None or ((int(claim), _number(seq)) <= (saving.claim, saving.seq) and _number(seq) != CLOSED)
                for saving, (claim, seq) in zip(savings, kept, strict=True)
            ]
            for saving in compress(savings, ours):
                _write(pipe, saving, keep_ms)
            return ours

        written: list[bool] = self._unless_changed(keys, try_to, tries) if keys else []
        return written

    def _unless_changed(self, keys: Sequence[bytes], change: Callable[[Any], Any], tries: int = _TRIES) -> Any:
        """Make a change; what it returns.

        Raises:
            ChangedError: at every try somebody else changed the same streams in the meantime.
        """
        with _errors(), self._client.pipeline() as pipe:
            for _ in range(tries):
                try:
                    pipe.watch(*keys)
                    result = change(pipe)
                    pipe.execute()
                except redis.WatchError:
                    continue
                return result
        raise ChangedError("Redis: others change the stream all the time")


def _write(pipe: Any, saving: Saving, keep_ms: int) -> None:
    key = _key(saving.stream)
    pipe.hset(key, mapping={"claim": saving.claim, "seq": saving.seq, "snapshot": saving.snapshot})
    pipe.pexpire(key, keep_ms)


def _number(seq: Optional[bytes]) -> int:
    """The last input of a row; 0.2 kept none."""
    return int(seq or 0)


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
