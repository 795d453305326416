"""Servers for a long time, and for many connections: nothing grows."""

import asyncio
import gc
import os
import sqlite3
import threading
import time
from contextlib import closing, suppress
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
import pytest

from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.store import CLOSED
from tests.serving.lives import Life
from tests.serving.processes import Restartable
from tests.serving.raw import LEAVE, PLACES_TO_LEAVE, connected
from tests.serving.servers import running, tagger_file
from tests.waiting import PATIENCE, wait_for

SOAK_SECONDS = float(os.environ.get("STREAMDRNN_SOAK_SECONDS", "600"))
MOST_GROWTH = 8 * 2**20
"""Bytes: what allocators take without anything being kept."""


def size_of(file: Path) -> int:
    """Bytes; none if it is gone, as SQLite's log is when nobody has the store open."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


FEW = pytest.param(200, id="200")
MANY = pytest.param(10_000, id="10000", marks=pytest.mark.full)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_connects_and_disconnects_leave_nothing(tmp_path: Path, count: int) -> None:
    """All ways to leave at all moments in turn; memory, files and tasks after them as after the first hundred."""
    process = psutil.Process()
    ways = cycle([(sent, leave) for sent in PLACES_TO_LEAVE.values() for leave in LEAVE.values()])

    def come_and_go(times: int) -> None:
        for sent, leave in islice(ways, times):
            with connected(server.port, *sent) as peer, suppress(ConnectionError):
                leave(peer)
            wait_for(lambda: len(server.connections) < 50)

    def held() -> tuple[int, int]:
        """Files and tasks when nothing is under way: a connection may still wait to be accepted."""
        wait_for(lambda: not server.connections and not server.service._live)
        return process.num_fds(), len(asyncio.all_tasks(loop))

    def as_before() -> bool:
        files, tasks = held()
        return files <= before[0] and tasks <= before[1]

    with running([tagger_file(tmp_path)], tmp_path / "s", Limits(streams=100)) as server:
        loop = server.service._tasks[0].get_loop()
        before = held()
        come_and_go(100)
        wait_for(as_before)
        memory = process.memory_info().rss
        come_and_go(count)
        wait_for(as_before)
        gc.collect()
        growth = process.memory_info().rss - memory
        print(f"{count} connections: memory {growth / 2**20:+.2f} MiB, files and tasks as before")
        assert growth < MOST_GROWTH
        assert server.count("streamdrnn_streams", model="tagger") == 0


@pytest.mark.full
def test_ten_minutes_of_streams_that_push_and_reset_and_are_cut(tmp_path: Path) -> None:
    """Results are those of the whole sequences; the server's memory has no slope, its store no more than it needs."""
    model, store = tagger_file(tmp_path), tmp_path / "streams.sqlite3"
    server = Restartable([model], store=str(store), snapshot_seconds=0.5, max_rate=1e6)
    lives = [Life(model, seed, rest=0.05, cuts=0.02) for seed in range(20)]
    enough = threading.Event()
    threads = [threading.Thread(target=life.live, args=([server.url], enough)) for life in lives]
    process = psutil.Process(server.pid)
    seconds, memory, files, stored = list[float](), list[int](), list[int](), list[int]()
    try:
        for thread in threads:
            thread.start()
        until = time.monotonic() + SOAK_SECONDS
        while time.monotonic() < until and not any(life.failure for life in lives):
            time.sleep(0.5)
            seconds.append(time.monotonic())
            memory.append(process.memory_info().rss)
            files.append(process.num_fds())
            stored.append(sum(map(size_of, tmp_path.glob("streams.sqlite3*"))))
        enough.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert [life.failure for life in lives if life.failure] == []
        with closing(sqlite3.connect(store)) as db:
            assert db.execute("SELECT count(*) FROM streams WHERE snapshot != ?", (CLOSED,)).fetchone() == (0,)
    finally:
        enough.set()
        server.terminate()
    warm = len(seconds) // 5
    slope, _ = np.polyfit(seconds[warm:], memory[warm:], 1)
    growth = slope * (seconds[-1] - seconds[warm])
    said = (
        f"{sum(life.turns for life in lives)} turns, {sum(life.cut for life in lives)} cuts; memory "
        f"{min(memory) / 2**20:.1f} to {max(memory) / 2**20:.1f} MiB, growth {growth / 2**20:+.2f} MiB; files at most "
        f"{max(files)}; store at most {max(stored) / 2**10:.0f} KiB"
    )
    print(said)
    assert growth < MOST_GROWTH, said
    assert max(files) < 50 + 2 * len(lives), said
    assert max(stored) < 2**16 * len(lives), said
