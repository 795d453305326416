"""The streams of a server: opened, continued from the store, saved into it, and let go."""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional
from weakref import WeakValueDictionary

from streamdrnn.apps.serving.engine import Result
from streamdrnn.apps.serving.failures import failure_of
from streamdrnn.apps.serving.keeper import Keeper
from streamdrnn.apps.serving.limits import Budget, Limits, RefusalError
from streamdrnn.apps.serving.metrics import Metrics
from streamdrnn.apps.serving.served_model import ServedModel
from streamdrnn.apps.serving.session import Session
from streamdrnn.apps.serving.snapshots import Snapshot, model_of, read_snapshot
from streamdrnn.apps.serving.store import Store
from streamdrnn.client.protocol import Code
from streamdrnn.errors import InputError
from streamdrnn.kernels import AS_THEY_ARE

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""How long a server that leaves takes at most to process what it has and to save its streams."""
_LINES_PER_SECOND, _MOST_LINES = 1.0, 60.0
"""Lines in the log about connections that are refused, on average and at once: strangers can cause them."""
_SAVE_SECONDS = 0.1
"""How often those are found that are due to be saved."""
_CHECK_SECONDS = 0.25


class Service:
    """All that a server does, but for sockets.

    Args:
        models: files, by whose names clients ask for them.
        store: where streams are kept.
        limits: what each client may ask for.
        max_wait: seconds that a message waits for others, at the longest.
        snapshot_seconds: how often the streams are saved.
        weights: how the models' weights are held, see :class:`Engine`.

    Raises:
        FileNotFoundError, ValueError: a file is no model, or two have the same name.
    """

    def __init__(
        self,
        models: Sequence[Path],
        store: Store,
        limits: Limits,
        max_wait: float = 0.005,
        snapshot_seconds: float = 5.0,
        weights: str = AS_THEY_ARE,
    ) -> None:
        self.metrics = Metrics()
        self.refusal_lines = Budget(_LINES_PER_SECOND, _MOST_LINES, time.monotonic())
        self.limits = limits
        self.models: dict[str, ServedModel] = {}
        for path in models:
            model = ServedModel(path, limits, max_wait, self.metrics, _deliver, weights)
            if model.name in self.models:
                raise InputError(f"{path}: there is another model of the name {model.name!r}; rename the file")
            self.models[model.name] = model
        if not self.models:
            raise InputError("models: expected one file or more, got none")
        self._keeper = Keeper(store, self.metrics)
        self._snapshot_seconds = snapshot_seconds
        self._refresh_seconds = store.keep_seconds / 4  # what lives must not grow too old
        self._live: dict[str, Session] = {}
        self._continuing = WeakValueDictionary[str, asyncio.Lock]()
        self._leave_by: Optional[float] = None
        self._random = random.Random()  # not the program's, which others may draw from and seed
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False

    async def start(self) -> None:
        """Begin to work; in the event loop that the streams are served in."""
        work = [model.batcher.run for model in self.models.values()]
        self._tasks = [asyncio.create_task(run()) for run in (*work, self._save_now_and_then, self._end_idle)]

    async def drain(self) -> None:
        """Accept no more streams; process what the open ones sent, save them, and let them go."""
        self.draining = True
        self._leave_by = asyncio.get_running_loop().time() + DRAIN_SECONDS
        sessions = list(self._live.values())
        for session in sessions:
            session.end(RefusalError(Code.SERVER_LEAVES, "the server is leaving; restore the stream on another"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._leave_by + 1):
                await asyncio.gather(*(session.gone.wait() for session in sessions))

    async def stop(self) -> None:
        """End the work that :meth:`start` began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._keeper.close()

    @property
    def ready(self) -> bool:
        """Whether the server works, and is not about to leave."""
        return not self.draining and bool(self._tasks) and not any(task.done() for task in self._tasks)

    @property
    def failure(self) -> Optional[BaseException]:
        """The error that ended some of its work, if there is one: a bug."""
        return failure_of(self._tasks)

    async def why_not(self) -> str:
        """Why no stream can be opened now; empty if one can."""
        if not self.ready:
            return "leaving" if self.draining else "failed"
        problem = await self._keeper.problem()
        if not problem and all(model.engine.streams == model.engine.slots for model in self.models.values()):
            return f"all {self.limits.streams} streams of each model are in use"
        return problem

    async def open(self, name: str, input_format: str) -> Session:
        """A new stream.

        Raises:
            RefusalError: there is no such model or format, no free slot, or the store fails.
        """
        model = self.models.get(name)
        if model is None:
            raise RefusalError(Code.UNKNOWN_MODEL, f"model: expected one of {sorted(self.models)}, got {name[:64]!r}")
        if input_format not in model.formats:
            raise RefusalError(
                Code.BAD_MESSAGE, f"format: expected one of {list(model.formats)}, got {input_format[:64]!r}"
            )
        stream = secrets.token_urlsafe(32)
        snapshot = Snapshot(model.digest, input_format, 0, 0, (), None, self.limits.first_steps())
        with self._slot(model) as slot:
            # Kept from the beginning, so that there is always something to continue from.
            claim = await self._keeper.add(stream, snapshot.to_bytes())
            return await self._begin(stream, claim, 0.0, model, slot, snapshot)

    async def restore(self, stream: str) -> Session:
        """A stream that this or another server had, from its latest snapshot; whoever has it now loses it.

        Raises:
            RefusalError: there is no such stream, its model is not served here, no slot is free, or the store fails.
        """
        # One after the other, or two that come at the same time would both have the stream.
        async with self._continuing.setdefault(stream, asyncio.Lock()):
            return await self._continue(stream)

    async def _continue(self, stream: str) -> Session:
        session = self._live.get(stream)
        if session is not None:
            session.end(RefusalError(Code.REPLACED, "the stream was continued by another connection"))
            await session.gone.wait()
        self._check_takes_streams()  # before it is claimed: whoever has it would lose it for nothing
        claimed = await self._keeper.claim(stream)
        if claimed is None:
            raise RefusalError(Code.UNKNOWN_STREAM, "stream: there is none of this id; it was closed, or is too old")
        try:
            digest = model_of(claimed.snapshot)
            model = next((model for model in self.models.values() if model.digest == digest), None)
            if model is None:
                raise RefusalError(Code.UNKNOWN_MODEL, "stream: its model is not served here")
            with self._slot(model) as slot:
                snapshot = read_snapshot(claimed.snapshot, model.engine.beginning())
                if snapshot.format not in model.formats:
                    raise ValueError(f"damaged snapshot: {snapshot.format} is no format of its model")
                return await self._begin(stream, claimed.claim, claimed.away, model, slot, snapshot)
        except ValueError as error:
            raise RefusalError(Code.UNKNOWN_STREAM, f"stream: cannot be continued: {error}") from None

    async def leave(self, session: Session) -> None:
        """Let a stream go: saved to be continued, unless its client closed it."""
        session.end(None)  # nothing more is heard
        try:
            async with asyncio.timeout_at(self._leave_by):
                await session.settled()
                if not session.closed:
                    await self._keeper.save(session)
        except RefusalError as refusal:
            logger.error("a stream could not be saved: %s", refusal)
        except TimeoutError:
            logger.error("a stream could not be saved in the %g s that a server has to leave", DRAIN_SECONDS)
        finally:
            model = session.model
            model.engine.release(session.slot)
            self.metrics.streams.labels(model.name).set(model.engine.streams)
            if self._live.get(session.stream) is session:
                del self._live[session.stream]
            session.gone.set()

    async def close(self, session: Session) -> None:
        """Forget a stream, when all that was received is processed. It is in no store any more when this returns.

        Raises:
            RefusalError: the store fails.
        """
        await session.settled()
        session.closed = True  # first: it must not be saved at the same time
        try:
            await self._keeper.remove(session.stream, session.claim)
        except RefusalError:
            session.closed = False
            raise

    async def save(self, session: Session) -> None:
        """Save a stream as it is when all that was received is processed, and tell its client.

        Raises:
            RefusalError: the store fails.
        """
        await session.settled()
        await self._keeper.save(session)

    def _check_takes_streams(self) -> None:
        """Raise ``RefusalError`` if no stream can begin here, of whatever model."""
        if self.draining:
            raise RefusalError(Code.SERVER_LEAVES, "the server is leaving; try another")
        if all(model.engine.streams == model.engine.slots for model in self.models.values()):
            raise RefusalError(Code.TOO_MANY_STREAMS, f"all {self.limits.streams} streams of each model are in use")

    @contextlib.contextmanager
    def _slot(self, model: ServedModel) -> Iterator[int]:
        """A free slot, given back if what it is for fails."""
        self._check_takes_streams()
        slot = model.engine.acquire()
        if slot is None:
            raise RefusalError(Code.TOO_MANY_STREAMS, f"all {self.limits.streams} streams of {model.name} are in use")
        try:
            yield slot
        except BaseException:
            model.engine.release(slot)
            raise

    async def _begin(
        self, stream: str, claim: int, away: float, model: ServedModel, slot: int, snapshot: Snapshot
    ) -> Session:
        await model.batcher.between(lambda: lambda: model.engine.put(slot, snapshot.state))
        if self.draining:
            raise RefusalError(Code.SERVER_LEAVES, "the server is leaving; try another")
        session = Session(stream, claim, away, model, slot, snapshot, self.limits)
        session.save_at = time.monotonic() + self._random.uniform(0, self._snapshot_seconds)
        self._live[stream] = session
        self.metrics.streams.labels(model.name).set(model.engine.streams)
        return session

    async def _save_now_and_then(self) -> None:
        """Save every stream once in a period, each at a moment of its own: all at once would hold up the passes."""
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            now = time.monotonic()
            due = [
                s
                for s in self._live.values()
                if s.save_at <= now and (s.processed > s.saved or now > s.saved_at + self._refresh_seconds)
            ]
            for session in due:
                session.save_at = now + self._snapshot_seconds
            for outcome in await asyncio.gather(*map(self._keeper.save, due), return_exceptions=True):
                if isinstance(outcome, RefusalError):
                    logger.error("a stream could not be saved: %s", outcome)
                elif outcome is not None:
                    raise outcome
            if due:
                await self._keeper.problem()  # and so the metrics have the size of the store

    async def _end_idle(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            before = time.monotonic() - self.limits.idle_seconds
            for session in self._live.values():
                if session.heard < before:
                    session.end(RefusalError(Code.IDLE, f"nothing came for {self.limits.idle_seconds:g} s"))


def _deliver(result: Result) -> None:
    session, seq = result.ticket
    session.answered(seq, result)
