"""The store as the event loop uses it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

from opentelemetry.context import Context

from streamdrnn.apps.serving.limits import RefusalError
from streamdrnn.apps.serving.metrics import Metrics
from streamdrnn.apps.serving.session import Session
from streamdrnn.apps.serving.snapshots import Snapshot, to_bytes_together
from streamdrnn.apps.serving.store import Claimed, Saving, Store, StoreFullError
from streamdrnn.apps.serving.traces import TRACER
from streamdrnn.client.protocol import Code

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""How long the store may take to answer."""
_THREADS = 4
_TOGETHER = 32
"""Streams that are saved at a time: more would hold up the next pass."""
_CHECK_SECONDS = 1.0
"""For how long it is believed that the store works, or does not."""


class Keeper:
    """Asks a store on threads of its own, each time for a bounded time; saves together what is saved at the same time.

    Every method but :meth:`problem` may raise ``RefusalError``: the store fails, is full, or does not answer in time.
    """

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self._to_save: list[tuple[Session, asyncio.Future[None]]] = []
        self._saver: Optional[asyncio.Task[None]] = None
        self._problem = ""
        self._checked = -_CHECK_SECONDS
        self._checking = asyncio.Lock()

    async def add(self, stream: str, snapshot: bytes) -> int:
        """:meth:`Store.add`."""
        claim: int = await self._ask(self._store.add, stream, snapshot)
        return claim

    async def claim(self, stream: str) -> Optional[Claimed]:
        """:meth:`Store.claim`."""
        claimed: Optional[Claimed] = await self._ask(self._store.claim, stream)
        return claimed

    async def remove(self, stream: str, claim: int) -> None:
        """:meth:`Store.remove`."""
        await self._ask(self._store.remove, stream, claim)

    async def save(self, session: Session) -> None:
        """Save a stream as it soon is, and tell its client; if it was continued elsewhere, end it.

        Once asked for it is done, also if the caller is cancelled.
        """
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_save.append((session, saved))
        if self._saver is None or self._saver.done():
            self._saver = asyncio.create_task(self._save_all())
        await saved

    async def problem(self) -> str:
        """Why streams cannot be opened or saved; empty while they can."""
        async with self._checking:  # many may ask at the same time
            if time.monotonic() > self._checked + _CHECK_SECONDS:
                with contextlib.suppress(RefusalError):  # it is remembered as the problem
                    self._metrics.store_bytes.set(await self._ask(self._store.check))
            return self._problem

    def close(self) -> None:
        """Ask no more. Does not wait for what the store was asked last."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _save_all(self) -> None:
        while self._to_save:
            model = self._to_save[0][0].model
            together: list[tuple[Session, asyncio.Future[None]]] = []
            later: list[tuple[Session, asyncio.Future[None]]] = []
            for waiting in self._to_save:
                (together if waiting[0].model is model and len(together) < _TOGETHER else later).append(waiting)
            self._to_save = later
            problem: Optional[BaseException] = None
            try:
                # No connection's span is above it: these may be streams of many.
                with TRACER.start_as_current_span("save", Context(), attributes={"streamdrnn.streams": len(together)}):
                    await self._save([session for session, _ in together])
            except Exception as error:  # each caller gets it
                problem = error
            for _, saved in together:
                if not saved.done():
                    saved.set_result(None) if problem is None else saved.set_exception(problem)

    async def _save(self, sessions: Sequence[Session]) -> None:
        model = sessions[0].model
        found: list[tuple[Session, Snapshot]] = []

        def prepare() -> Callable[[], list[Saving]]:
            found.extend((s, s.snapshot()) for s in sessions if not (s.gone.is_set() or s.closed))

            def write() -> list[Saving]:
                slots = [session.slot for session, _ in found]
                written = to_bytes_together([snapshot for _, snapshot in found], model.engine.state, slots)
                return [
                    Saving(session.stream, session.claim, snapshot.seq, data)
                    for (session, snapshot), data in zip(found, written, strict=True)
                ]

            return write

        # Written out on the model's thread: a third one that wants the interpreter would hold up the other two.
        savings = await model.batcher.between(prepare)
        for (session, snapshot), kept in zip(found, await self._ask(self._store.save, savings), strict=True):
            if kept:
                session.tell_saved(snapshot.seq)
                self._metrics.snapshots.inc()
            elif not session.closed:
                session.end(RefusalError(Code.REPLACED, "the stream was continued on another server"))

    async def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.monotonic()
        try:
            with TRACER.start_as_current_span(f"store {call.__name__}"):
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        except StoreFullError as error:
            if error.taken is not None:
                self._metrics.store_bytes.set(error.taken)
            self._failed(str(error), "the store has no room for further streams")
            raise RefusalError(
                Code.TOO_MANY_STREAMS, "the server's store is full; close streams, or try later"
            ) from None
        except OSError as error:  # TimeoutError is one
            reason = str(error) or f"it did not answer within {ANSWER_SECONDS:g} s"
            self._failed(reason, "the store does not work; the server's log says why")
            raise RefusalError(Code.STORE_FAILED, "the server could not save the stream; try another") from None
        finally:
            self._metrics.store_seconds.labels(call.__name__).observe(time.monotonic() - began)
        if call in (self._store.add, self._store.check):  # a full store saves what it has
            self._problem, self._checked = "", time.monotonic()
        return answer

    def _failed(self, reason: str, problem: str) -> None:
        """Remember a problem as anybody may read it; the reason may name files and hosts of the server's."""
        self._problem, self._checked = problem, time.monotonic()
        self._metrics.store_failures.inc()
        logger.error("the store failed: %s", reason)
