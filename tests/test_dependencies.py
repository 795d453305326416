"""Every version that is installed with an extra is one that the tests passed with."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
EXTRAS: dict[str, list[str]] = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def pins() -> dict[str, Version]:
    """The versions in constraints.txt."""
    found = dict[str, Version]()
    for line in LINES:
        if line and not line.startswith("#"):
            pin = re.fullmatch(r"([\w.-]+)==([\w.+]+)", line)
            assert pin, f"expected NAME==VERSION, got {line!r}"
            assert canonicalize_name(pin[1]) not in found, f"{pin[1]} is there twice"
            found[canonicalize_name(pin[1])] = Version(pin[2])
    return found


PINS = pins()
OF_CUDA = ("nvidia-", "cuda-")
"""What torch brings along where it is built for GPUs, in versions of its own."""


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
def test_whatever_an_extra_installs_is_pinned_to_a_version_that_it_allows(extra: str, python: str) -> None:
    """What its dependencies depend on, too, as far as they are installed here."""
    waiting = [Requirement(line) for line in EXTRAS[extra]]
    seen = set[str]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen or name.startswith(OF_CUDA):
            continue
        seen.add(str(requirement))
        if name == "streamdrnn":
            waiting += [Requirement(line) for extra in requirement.extras for line in EXTRAS[extra]]
            continue
        assert name in PINS, f"{name}: not in constraints.txt"
        assert PINS[name] in requirement.specifier, f"{requirement}: constraints.txt has {PINS[name]}"
        waiting += dependencies(name, requirement.extras, python)


def dependencies(name: str, extras: set[str], python: str) -> list[Requirement]:
    """What a package that is installed here depends on, on Linux."""
    try:
        found = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return []
    where = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": python,
        "python_full_version": f"{python}.9",
    }
    return [
        one for one in found if not one.marker or any(one.marker.evaluate(where | {"extra": e}) for e in ("", *extras))
    ]


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_allowed() -> None:
    """``make check-oldest`` has them."""
    (line,) = re.findall(r"^OLDEST := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    oldest = dict(pin.split("==") for pin in line.split())
    for requirement in map(Requirement, EXTRAS[""]):
        if requirement.name in ("torch", "triton"):
            (specifier,) = requirement.specifier
            assert (specifier.operator, Version(specifier.version)) == (">=", Version(oldest[requirement.name]))
        elif requirement.name in oldest:
            assert Version(oldest[requirement.name]) in requirement.specifier
