"""A plugin of pytest: ``--part 3/16`` runs the third of sixteen parts of the tests, first those that need a GPU."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", default="1/1", help="3/16: the third of sixteen parts of the tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number, parts = map(int, config.getoption("--part").split("/"))
    ordered = sorted(items, key=lambda item: item.get_closest_marker("cuda") is None)
    chosen = ordered[number - 1 :: parts]
    of_others = set(items) - set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item in of_others])
    items[:] = chosen
