"""Packages import one another in one direction: apps, then streamdrnn, then kernels, and never in a circle."""

import ast
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Graph = Mapping[str, Mapping[str, str]]
"""What each package imports, and (for people) an import that shows it."""


def own_modules() -> dict[str, Path]:
    """The modules of the package, by name."""
    paths = [path for top in ("streamdrnn", "kernels", "apps") for path in (ROOT / top).rglob("*.py")]
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name if name.split(".")[0] == "streamdrnn" else f"streamdrnn.{name}": path for name, path in named.items()}


MODULES = own_modules()


def imported(source: str) -> Iterator[str]:
    """The modules of ours that a source imports, at the top or in a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import of {node.module}, expected an absolute one"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module or "" for name in names if node.module in MODULES)


def package_of(module: str) -> str:
    """The folder of streamdrnn, kernels or apps that a module is in; one that lies beside these stands for itself."""
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[1:2] in (["apps"], ["kernels"]) else 2])


def graph_of(modules: Mapping[str, Path]) -> Graph:
    """What the packages of these modules import of one another."""
    graph: dict[str, dict[str, str]] = {}
    for module, path in modules.items():
        importer = graph.setdefault(package_of(module), {})
        for name in imported(path.read_text(encoding="utf-8")):
            if package_of(name) != package_of(module):
                importer.setdefault(package_of(name), f"{module} imports {name}")
    return graph


def cycle_in(graph: Graph) -> list[str]:
    """The imports of a cycle, if there is one."""
    done = set[str]()

    def search(package: str, path: list[str]) -> list[str]:
        if package in path:
            circle = [*path[path.index(package) :], package]
            return [graph[a][b] for a, b in pairwise(circle)]
        for other in () if package in done else graph.get(package, ()):
            if found := search(other, [*path, package]):
                return found
        done.add(package)
        return []

    return next((found for package in graph if (found := search(package, []))), [])


def test_packages_import_one_another_in_no_circle() -> None:
    graph = graph_of(MODULES)
    assert len(graph) > 40, graph
    circle = cycle_in(graph)
    assert not circle, "\n".join(circle)


@pytest.mark.parametrize(
    ("top", "below"),
    [("streamdrnn.kernels", ["streamdrnn.kernels"]), ("streamdrnn", ["streamdrnn", "streamdrnn.kernels"])],
)
def test_what_is_below_imports_nothing_from_above(top: str, below: list[str]) -> None:
    def house(module: str) -> str:
        parts = module.split(".")
        return ".".join(parts[:2]) if parts[1:2] in (["apps"], ["kernels"]) else "streamdrnn"

    modules = [module for module in MODULES if house(module) == top]
    assert len(modules) > 5
    for module in modules:
        for name in imported(MODULES[module].read_text(encoding="utf-8")):
            assert house(name) in below, f"{module} imports {name}"


def test_a_circle_is_found_and_told_by_its_imports() -> None:
    graph = {"a": {"b": "a.x imports b"}, "b": {"d": "b imports d", "c": "b imports c"}, "c": {"b": "c imports b.y"}}
    assert cycle_in(graph) == ["b imports c", "c imports b.y"]
    assert not cycle_in({**graph, "c": {"d": "c imports d"}})
    source = "def f():\n    from streamdrnn import apps, load_model\n    import streamdrnn.kernels, torch\n"
    assert sorted(set(imported(source))) == ["streamdrnn", "streamdrnn.apps", "streamdrnn.kernels"]
    assert package_of("streamdrnn.apps.training.tasks.task") == "streamdrnn.apps.training"
    assert package_of("streamdrnn.kernels.weights") == "streamdrnn.kernels.weights"
