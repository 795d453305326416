"""What the tests of serving share."""

from pathlib import Path

import pytest

from tests.serving.servers import audio_file, tagger_file


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model that takes features, and one that takes samples."""
    folder = tmp_path_factory.mktemp("models")
    return [tagger_file(folder), audio_file(folder)]
