"""Replicas on a local Ray cluster: streams go on when theirs is killed, and when there are to be fewer."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from streamdrnn.client import connect
from tests.serving.servers import assert_same, offline, tagger_file
from tests.waiting import PATIENCE, wait_for

ray = pytest.importorskip("ray", reason="a cluster needs the extra scale")
serve = pytest.importorskip("ray.serve", reason="a cluster needs the extra scale")
from streamdrnn.apps.serving import ray_app  # noqa: E402

STREAMS = 8


class Cluster(NamedTuple):
    url: str
    model: Path
    store: Path

    def run(self, replicas: int) -> None:
        settings = ray_app.Settings(
            models=[str(self.model)],
            store=str(self.store),
            replicas=replicas,
            snapshot_seconds=0.5,
            max_streams=STREAMS,
        )
        serve.run(ray_app.build(settings), logging_config={"log_level": "ERROR"})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written into the home folder
        # On a loaded machine Ray gives its proxy up before that has begun.
        patch.setattr("ray.serve._private.api.HTTP_PROXY_TIMEOUT", PATIENCE)
        for check in ("READY", "HEALTH"):
            patch.setenv(f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S", str(PATIENCE))
        ray.init(
            num_cpus=4, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False, logging_level=40
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield Cluster(f"ws://127.0.0.1:{port}", tagger_file(folder), folder / "streams.sqlite3")
            serve.shutdown()
        finally:
            ray.shutdown()


def replicas() -> set[int]:
    """The processes of this cluster's replicas: other tests on the machine may have clusters too."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "".join(process.cmdline()).startswith("ray::ServeReplica:"):
                found.add(process.pid)
    return found


class Talker(threading.Thread):
    """A stream that goes on until it is told that it is enough."""

    def __init__(self, cluster: Cluster, seed: int, enough: threading.Event) -> None:
        super().__init__()
        self._cluster, self._random, self._enough = cluster, np.random.default_rng(seed), enough
        self._said = list[np.ndarray]()
        self._heard = list[np.ndarray]()

    @property
    def heard(self) -> int:
        return len(self._heard)

    def run(self) -> None:
        with connect(self._cluster.url, model="tagger", format="features", give_up_after=PATIENCE) as stream:
            while not self._enough.is_set():
                self._said.append(self._random.standard_normal((self._random.integers(0, 9), 3)).astype(np.float32))
                self._heard.append(stream.push(self._said[-1]))
                time.sleep(0.01)

    def check(self) -> None:
        assert len(self._said) == len(self._heard)
        assert_same(np.concatenate(self._heard), offline(self._cluster.model, np.concatenate(self._said)))


@pytest.mark.full
def test_streams_go_on_when_replicas_are_killed_and_when_there_are_to_be_fewer(cluster: Cluster) -> None:
    cluster.run(replicas=2)
    enough = threading.Event()
    talkers = [Talker(cluster, seed, enough) for seed in range(STREAMS)]
    for talker in talkers:
        talker.start()

    def all_hear_more() -> None:
        before = [talker.heard for talker in talkers]
        wait_for(lambda: all(talker.heard > b + 20 for talker, b in zip(talkers, before, strict=True)))

    try:
        all_hear_more()
        first, second = sorted(replicas())
        psutil.Process(first).kill()
        all_hear_more()
        wait_for(lambda: len(replicas() - {first}) == 2)  # another one in its place
        psutil.Process(second).kill()  # so every stream has lost its replica by now
        all_hear_more()
        wait_for(lambda: len(replicas() - {first, second}) == 2)
        cluster.run(replicas=1)
        wait_for(lambda: len(replicas()) == 1)
        all_hear_more()
    finally:
        enough.set()
        for talker in talkers:
            talker.join()
    for talker in talkers:
        talker.check()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"models": []}, "models"),
        ({"models": "a,b", "replicas": 0}, "replicas"),
        ({"models": "a", "model": "b"}, "model"),
        ({"models": "a", "snapshot_seconds": 0}, "snapshot_seconds"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ray_app.Settings.model_validate(settings)


def test_models_are_separated_by_commas() -> None:
    assert ray_app.Settings.model_validate({"models": "a,b"}).models == ["a", "b"]
