"""Clients that do what clients do for as long as they are let, and compare all that they get with the whole offline."""

import socket
import threading
import time
from pathlib import Path

import numpy as np

from streamdrnn.client import connect
from streamdrnn.client.blocking import Stream
from tests.serving.servers import assert_same, inputs, offline
from tests.waiting import wait_for


class Life:
    """A client that pushes, resets and asks for snapshots by chance, and what it got since its last reset.

    Args:
        model: the file that the server answers with.
        seed: of what it sends, and of chance.
        rest: seconds between two turns.
        cuts: how likely it loses its connection in a turn.

    Attributes:
        turns: how often it did something.
        cut: how often it lost its connection.
        failure: why it ended before it was to.
    """

    def __init__(self, model: Path, seed: int, rest: float = 0.0, cuts: float = 0.0) -> None:
        self._model, self._seed = model, seed
        self._rest, self._cuts = rest, cuts
        self._rng = np.random.default_rng(seed)
        self._given = list[np.ndarray]()
        self._got = list[np.ndarray]()
        self.turns = self.cut = 0
        self.failure: Exception | None = None

    def live(self, urls: list[str], enough: threading.Event) -> None:
        try:
            with connect(urls, "tagger", "features", give_up_after=300.0) as stream:
                while not enough.is_set():
                    self._turn(stream)
                    self.turns += 1
                    time.sleep(self._rest)
            self._compare()
        except Exception as error:
            self.failure = error

    def _turn(self, stream: Stream) -> None:
        if self._rng.random() < self._cuts:
            lose_connection(stream)
            self.cut += 1
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


def lose_connection(stream: Stream) -> None:
    if stream._socket is not None:
        stream._socket.socket.shutdown(socket.SHUT_RDWR)


def wait_until_each_has_turned(lives: list[Life]) -> None:
    before = [life.turns for life in lives]
    wait_for(lambda: all(life.failure or life.turns > n for life, n in zip(lives, before, strict=True)))
    assert not any(life.failure for life in lives), [life.failure for life in lives]
