"""Makes an engine's passes when they are due: asyncio outside, the model on a thread of its own."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from streamdrnn.apps.serving.engine import Engine, Result
from streamdrnn.apps.serving.metrics import Metrics

T = TypeVar("T")


class Batcher:
    """One engine at work.

    Args:
        name: the model's, for the metrics.
        engine: used by nobody else.
        deliver: called with every result, before anything else happens between two passes.
    """

    def __init__(self, name: str, engine: Engine, metrics: Metrics, deliver: Callable[[Result], None]) -> None:
        self.engine = engine
        self._deliver = deliver
        self._steps, self._batch = metrics.steps.labels(name), metrics.batch.labels(name)
        self._latency, self._passes = partial(metrics.latency.observe, name), metrics.passes.labels(name)
        metrics.latency.add(name)
        metrics.capacity.labels(name).set(engine.slots)
        metrics.streams.labels(name).set(0)
        metrics.waiting.labels(name).set_function(lambda: engine.waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"model {name}")
        self._wake = asyncio.Event()
        self._jobs = deque[tuple[Callable[[], Callable[[], Any]], asyncio.Future[Any]]]()

    def submit(self, slot: int, inputs: np.ndarray, ticket: Any) -> None:
        """:meth:`Engine.submit`, now."""
        # Not for every message: waking costs more than what a message adds to a pass.
        if self.engine.submit(slot, inputs, time.monotonic(), ticket):
            self._wake.set()

    async def between(self, prepare: Callable[[], Callable[[], T]]) -> T:
        """Between two passes, with all results delivered: ``prepare`` here, then what it gives on the model's thread.

        What either raises is raised here.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.append((prepare, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Work, until cancelled."""
        loop = asyncio.get_running_loop()
        results: list[Result] = []  # of the last pass
        try:
            while True:
                wait = self.engine.due(time.monotonic())
                # What comes after a message without result must not be in a pass that has begun before.
                if wait == 0 and not self._jobs and not any(result.problem for result in results):
                    batch = self.engine.gather()
                    with self._passes.time():
                        advanced = loop.run_in_executor(self._thread, self.engine.advance, batch)
                        self._count(results)  # while the model computes
                        results = await advanced
                    continue
                if results:
                    self._count(results)
                    results = []
                    continue
                if self._jobs:
                    await self._do(*self._jobs.popleft())
                    continue
                self._wake.clear()
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            self._thread.shutdown()

    async def _do(self, prepare: Callable[[], Callable[[], Any]], done: asyncio.Future[Any]) -> None:
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, prepare())
        except Exception as error:
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(result)

    def _count(self, results: list[Result]) -> None:
        if not results:
            return
        now = time.monotonic()
        self._batch.observe(len(results))
        self._steps.inc(sum(len(result.outputs) for result in results))
        self._latency([now - result.since for result in results])
        for result in results:
            self._deliver(result)
