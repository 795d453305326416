"""What all tests of training do without."""

from collections.abc import Iterator

import pytest

from streamdrnn.apps.training.tasks import scene_task


@pytest.fixture(scope="session", autouse=True)
def few_pieces_of_music() -> Iterator[None]:
    """Eighty for each split would take longer than the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_task, "MUSIC", 2)
        yield
