"""Servers that strangers come to, and the rule that they leave nothing behind."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamdrnn.apps.serving import sockets, websocket
from streamdrnn.apps.serving.limits import Limits
from tests.serving.servers import Running, running, tagger_file
from tests.serving.strangers.watching import SOON, status, wait_until_nobody_is_there


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tagger_file(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running([model], tmp_path_factory.mktemp("store") / "s") as server:
        yield server


@pytest.fixture(scope="module")
def strict_server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(idle_seconds=SOON, open_seconds=SOON)
    with running([model], tmp_path_factory.mktemp("store") / "s", limits) as server:
        yield server


@pytest.fixture
def impatient(strict_server: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A server in which whatever has a limit in time has a short one."""
    monkeypatch.setattr(sockets, "HTTP_SECONDS", SOON)
    monkeypatch.setattr(websocket, "LEAVE_SECONDS", SOON)
    return strict_server


@pytest.fixture(autouse=True)
def nothing_is_left(server: Running, strict_server: Running, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each test the servers are as before it: all places given back, ready, and no traceback in the log."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)
    for one in (server, strict_server):
        wait_until_nobody_is_there(one)
        assert status(one) == 200
    records = caplog.get_records("call") + caplog.records
    assert not [record.getMessage() for record in records if record.exc_info]
