"""Servers for a long time, and for many connections: nothing grows."""

import asyncio
import gc
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
import pytest

from streamdrnn.apps.bench.serving.sounds import Sounds
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.store import CLOSED
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.apps.weights import load_to_run
from streamdrnn.client import connect_async
from streamdrnn.heads import Head
from tests.serving.lives import Life
from tests.serving.processes import Restartable
from tests.serving.raw import HANDSHAKE, LEAVE, PLACES_TO_LEAVE, connected
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
        _, tasks = held()
        with connected(server.port, HANDSHAKE):  # with the first one libuv opens a file that it keeps
            pass
        wait_for(lambda: held()[1] <= tasks)
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
            assert db.execute("SELECT count(*) FROM streams WHERE seq != ?", (CLOSED,)).fetchone() == (0,)
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


@pytest.mark.full
def test_ten_minutes_of_five_hundred_voices_whose_servers_are_killed(tmp_path: Path) -> None:
    """In the first half servers die in turn, and all results are those of the whole sounds; then nothing grows."""
    model, messages = asset("speaker.safetensors"), round(SOAK_SECONDS / 0.1)
    loaded = load_to_run(model)
    assert isinstance(loaded, Head)
    sounds = Sounds.make(loaded, "int8", 4, messages, 1600)
    options = {"store": str(tmp_path / "streams.sqlite3"), "weights": "int8", "max_streams": VOICES}
    servers = [Restartable([model], **options) for _ in range(2)]
    dying = threading.Thread(target=die_in_turn, args=(servers, SOAK_SECONDS / 2))
    try:
        dying.start()
        sizes = asyncio.run(
            speak([server.url for server in servers], sounds, [partial(rss, server) for server in servers])
        )
    finally:
        dying.join()
        for server in servers:
            server.kill()
    seconds, *memory = (np.array(column) for column in zip(*sizes, strict=True))
    calm = seconds > seconds[0] + 0.6 * SOAK_SECONDS
    growth = [float(np.polyfit(seconds[calm], one[calm], 1)[0] * np.ptp(seconds[calm])) for one in memory]
    said = f"memory at most {max(map(max, memory)) / 2**20:.0f} MiB, growth {[round(g / 2**20, 2) for g in growth]} MiB"
    print(said)
    assert max(growth) < MOST_GROWTH, said


VOICES = 500


def die_in_turn(servers: list[Restartable], seconds: float) -> None:
    """Ten times, one server after the other, each begun anew."""
    for i in range(10):
        time.sleep(seconds / 10)
        servers[i % 2].kill()
        servers[i % 2].start()


def rss(server: Restartable) -> int:
    """Bytes; none of a server that has just died."""
    with suppress(psutil.NoSuchProcess):
        return int(psutil.Process(server.pid).memory_info().rss)
    return 0


async def speak(urls: list[str], sounds: Sounds, sizes: list[Callable[[], int]]) -> list[tuple[float, ...]]:
    """All voices at once, as fast as people speak; each result is compared. Gives sizes over time."""
    loop = asyncio.get_running_loop()
    begin, told = loop.time() + 1, list[tuple[float, ...]]()

    async def voice(k: int) -> None:
        expected, at = sounds.expected[k % len(sounds.expected)], 0
        both = urls[k % 2 :] + urls[: k % 2]
        async with await connect_async(both, "speaker", "pcm16", give_up_after=120.0) as stream:
            for i, message in enumerate(sounds.of(k)):
                await asyncio.sleep(begin + 0.1 * (i + k / VOICES) - loop.time())
                if loop.time() > begin + SOAK_SECONDS:  # the machine does not keep up; what was said was right
                    return
                y = await stream.push(message)
                assert len(y)
                assert np.array_equal(y, expected[at : at + len(y)])
                at += len(y)

    async def look() -> None:
        while True:
            told.append((loop.time(), *(size() for size in sizes)))
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as all_:
        looking = all_.create_task(look())
        async with asyncio.TaskGroup() as voices:
            for k in range(VOICES):
                voices.create_task(voice(k))
        looking.cancel()
    return told
