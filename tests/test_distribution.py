"""The source distribution and the wheels: what is in them, and for whom they are."""

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from streamdrnn import __version__

ROOT = Path(__file__).parents[1]
FOR_DEVELOPERS = {f"streamdrnn/kernels/cpu/{name}" for name in ("CMakeLists.txt", "Makefile")} | {
    f"streamdrnn/kernels/wasm/{name}"
    for name in ("Makefile", "README.md", "package.json", "sources.sha256", "streamdrnn.d.ts")
}
"""Files that a clone has and a wheel has not."""
MADE = {"__pycache__", "build"}
"""Folders that are no part of a clone: Python's, and that of ``make -C kernels/cpu``."""


def setup(folder: Path, *words: str, **environment: str) -> None:
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet", *words]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a copy of the clone."""
    folder = tmp_path_factory.mktemp("distribution")
    ignored = shutil.ignore_patterns("*.so", *MADE)
    for name in ("streamdrnn", "kernels", "apps"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in (
        "CHANGELOG.md",
        "LICENSE",
        "MANIFEST.in",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
        "setup.py",
    ):
        shutil.copy(ROOT / name, folder)
    (folder / "tests").mkdir()
    shutil.copy(__file__, folder / "tests")
    # What setuptools remembers of a version that named its sources by the folders that the links lead to.
    (folder / "streamdrnn.egg-info").mkdir()
    remembered = "".join(f"{path.relative_to(folder)}\n" for path in (folder / "kernels").rglob("*.cpp"))
    (folder / "streamdrnn.egg-info" / "SOURCES.txt").write_text(remembered)
    setup(folder, "sdist")
    return folder / "dist" / f"streamdrnn-{__version__}.tar.gz"


@pytest.fixture
def source(archive: Path, tmp_path: Path) -> Path:
    """The source distribution, unpacked."""
    with tarfile.open(archive) as file:
        assert all(member.isfile() or member.isdir() for member in file)
        file.extractall(tmp_path, filter="data")
    return tmp_path / f"streamdrnn-{__version__}"


def wheel_of(source: Path, folder: Path, **environment: str) -> Path:
    setup(source, "bdist_wheel", "--dist-dir", str(folder), **environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


def files_of(top: str) -> set[str]:
    """The files under a folder of the clone, as an installed package has them."""
    paths = [path.relative_to(ROOT) for path in (ROOT / top).rglob("*") if path.is_file()]
    inside = {path.as_posix() for path in paths if path.suffix != ".so" and MADE.isdisjoint(path.parts)}
    return inside if top == "streamdrnn" else {f"streamdrnn/{name}" for name in inside}


def test_a_wheel_without_a_compiler_is_for_every_machine_and_has_all_that_the_package_needs(
    source: Path, tmp_path: Path
) -> None:
    wheel = wheel_of(source, tmp_path, CC="none", CXX="none")
    assert wheel.name == f"streamdrnn-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert b"Root-Is-Purelib: true" in archive.read(f"streamdrnn-{__version__}.dist-info/WHEEL")
        names = {name for name in archive.namelist() if not name.endswith("/") and ".dist-info/" not in name}
    assert names == (files_of("streamdrnn") | files_of("apps") | files_of("kernels")) - FOR_DEVELOPERS


def test_the_source_distribution_has_no_tests_and_every_source_once(source: Path) -> None:
    assert not list(source.rglob("test*.py"))
    assert len(list(source.rglob("levels.cpp"))) == 1
    assert (source / "constraints.txt").is_file()


@pytest.mark.skipif(platform.system() != "Linux", reason="the compiler is a stand-in for one on Linux")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_wheel_with_the_library_is_for_every_python_on_its_kind_of_machine(
    machine: str, source: Path, tmp_path: Path
) -> None:
    """By a compiler that writes down how it was called."""
    compiler, calls = tmp_path / "compiler", tmp_path / "calls"
    compiler.write_text(f"""#!/bin/sh
echo "$@" >> {calls}
while [ $# -gt 0 ]; do
    [ "$1" = -o ] && echo compiled > "$2"
    shift
done
""")
    compiler.chmod(0o755)
    tools = {"CC": str(compiler), "CXX": str(compiler), "_PYTHON_HOST_PLATFORM": f"linux-{machine}"}
    wheel = wheel_of(source, tmp_path, **tools)
    assert wheel.name == f"streamdrnn-{__version__}-py3-none-linux_{machine}.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("streamdrnn/kernels/cpu/_native.so") == b"compiled\n"
    (avx2,) = (line for line in calls.read_text().splitlines() if "src/avx2.cpp" in line)
    assert ("-mavx2" in avx2) == (machine == "x86_64")
