"""What the tests of serving share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.servers import LIMITS, Running, Wire, audio_file, running, tagger_file


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model that takes features, and one that takes samples."""
    folder = tmp_path_factory.mktemp("models")
    return [tagger_file(folder), audio_file(folder)]


@pytest.fixture(scope="module")
def server(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(models, tmp_path_factory.mktemp("store") / "streams.sqlite3", LIMITS) as server:
        yield server


@pytest.fixture
def wire(server: Running) -> Iterator[Wire]:
    with Wire(server.url) as wire:
        yield wire
