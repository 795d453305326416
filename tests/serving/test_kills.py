"""Servers that are killed at any moment: of what was saved nothing is lost, and the rest is sent again."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from streamdrnn.apps.serving.store import CLOSED
from tests.serving.lives import Life, wait_until_each_has_turned
from tests.serving.processes import Restartable
from tests.serving.servers import tagger_file
from tests.waiting import PATIENCE


@pytest.mark.parametrize("kills", [pytest.param(5, id="a few"), pytest.param(300, marks=pytest.mark.full, id="many")])
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
            wait_until_each_has_turned(lives)
            time.sleep(rng.uniform(0, 0.15))
            server = servers[rng.integers(2)]
            if rng.random() < 0.2:
                server.terminate()
            else:
                server.kill()
            server.start()
        enough.set()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        enough.set()
        for server in servers:
            server.kill()
    for life in lives:
        assert life.failure is None, life.failure
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("SELECT count(*) FROM streams WHERE seq != ?", (CLOSED,)).fetchone() == (0,)
