"""Servers that are killed at any moment: of what was saved nothing is lost, and the rest is sent again."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from streamdrnn.client import connect
from streamdrnn.client.blocking import Stream
from tests.serving.processes import Restartable
from tests.serving.servers import assert_same, inputs, offline, tagger_file


class Life:
    """A client that pushes, resets and asks for snapshots by chance, and what it got since its last reset.

    Attributes:
        turns: how often it did something.
        failure: why it ended before it was to.
    """

    def __init__(self, model: Path, seed: int) -> None:
        self._model, self._seed = model, seed
        self._rng = np.random.default_rng(seed)
        self._given = list[np.ndarray]()
        self._got = list[np.ndarray]()
        self.turns = 0
        self.failure: Exception | None = None

    def live(self, urls: list[str], enough: threading.Event) -> None:
        try:
            with connect(urls, "tagger", "features", give_up_after=300.0) as stream:
                while not enough.is_set():
                    self._turn(stream)
                    self.turns += 1
            self._compare()
        except Exception as error:
            self.failure = error

    def _turn(self, stream: Stream) -> None:
        chance = self._rng.random()
        if chance < 0.02 or sum(map(len, self._given)) > 5000:
            self._compare()
            stream.reset()
        elif chance < 0.05:
            stream.snapshot()
        elif chance < 0.06:
            time.sleep(0.02)
        else:
            # At times as much as several windows, so that a kill comes in the middle of it.
            steps = int(self._rng.integers(0, 400 if chance < 0.1 else 30))
            self._given.append(inputs(steps, self._seed * 1_000_000 + self.turns))
            self._got.append(stream.push(self._given[-1]))

    def _compare(self) -> None:
        nothing = np.zeros((0, 3), np.float32)
        assert_same(
            np.concatenate([nothing[:, :2], *self._got]), offline(self._model, np.concatenate([nothing, *self._given]))
        )
        self._given, self._got = [], []


@pytest.mark.parametrize("kills", [pytest.param(8, id="a few"), pytest.param(500, marks=pytest.mark.full, id="many")])
def test_killed_at_any_moment(tmp_path: Path, kills: int) -> None:
    model, store = tagger_file(tmp_path), tmp_path / "streams.sqlite3"
    options = {"store": str(store), "snapshot_seconds": 0.05, "max_rate": 1e6, "max_frame_steps": 10}
    servers = [Restartable([model], **options) for _ in range(2)]
    lives = [Life(model, seed) for seed in range(4)]
    urls = [server.url for server in servers]
    enough, rng = threading.Event(), np.random.default_rng(kills)
    threads = [
        threading.Thread(target=life.live, args=(urls[k % 2 :] + urls[: k % 2], enough)) for k, life in enumerate(lives)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            # Not before each has done something since the last kill, then at any moment.
            before = [life.turns for life in lives]
            wait_until(lives, lambda before=before: all(life.turns > n for life, n in zip(lives, before, strict=True)))
            time.sleep(rng.uniform(0, 0.15))
            server = servers[rng.integers(2)]
            if rng.random() < 0.2:
                server.terminate()
            else:
                server.kill()
            server.start()
        enough.set()
        for thread in threads:
            thread.join(120)
    finally:
        enough.set()
        for server in servers:
            server.kill()
    for life in lives:
        assert life.failure is None, life.failure
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("SELECT count(*) FROM streams").fetchone() == (0,)


def wait_until(lives: list[Life], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert not any(life.failure for life in lives), [life.failure for life in lives]
        time.sleep(0.005)
