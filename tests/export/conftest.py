"""Exporting takes seconds, so that each file is made once."""

from collections.abc import Callable
from functools import cache

import pytest

from streamdrnn.export import Format
from tests.export.models import Files, export


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Format, str], Files]:
    """``exported(format, name)``: a model's files."""
    return cache(lambda format, name: export(format, name, tmp_path_factory.mktemp("export")))
