"""The version is streamdrnn.__version__; what repeats it for tools that cannot read it says the same."""

import json
import re
from pathlib import Path

import pytest

from streamdrnn import __version__

ROOT = Path(__file__).parents[1]
MINOR = __version__.rpartition(".")[0]


def only(pattern: str, file: str) -> str:
    """What the one line of a file says that is of this pattern."""
    (found,) = re.findall(pattern, (ROOT / file).read_text("utf-8"), re.MULTILINE)
    return str(found)


@pytest.mark.parametrize("package", ["kernels/wasm", "streamdrnn/client/js"])
def test_packages_of_javascript_have_the_version(package: str) -> None:
    assert json.loads((ROOT / package / "package.json").read_text("utf-8"))["version"] == __version__


def test_the_c_library_and_the_guides_have_the_version() -> None:
    assert only(r"^project\(streamdrnn VERSION (\S+) ", "kernels/cpu/CMakeLists.txt") == __version__
    assert only(r"find_package\(streamdrnn (\S+) REQUIRED\)", "docs/runtime.md") == MINOR
    assert only(r'"streamdrnn": "([\d.]+)"', "docs/export.md") == __version__


def test_the_citation_and_the_changelog_are_of_the_version() -> None:
    assert only(r"^version: (\S+)$", "CITATION.cff") == __version__
    latest = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[0]
    assert latest == __version__
