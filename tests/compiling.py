"""Programs in C++ that tests compile together with the native kernels."""

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "kernels" / "cpu" / "src"
COMPILER = (
    shlex.split(os.environ.get("CXX", "")) or [path for name in ("g++", "clang++") if (path := shutil.which(name))][:1]
)
FLAGS = ["-std=c++17", "-g", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", f"-I{SOURCES}"]
LIBRARY = ["-DSTREAMDRNN_LIBRARY", "-fno-exceptions", "-fno-rtti"]
"""Flags of the C library."""
LIBRARY_SOURCES = [source for source in SOURCES.glob("*.cpp") if source.name != "interface.cpp"]
LEVELS = {"avx512": ["-mavx512f", "-mfma"], "avx2": ["-mavx2", "-mfma"], "portable": []}
OPTIMIZED = "-O1" if os.environ.get("HYPOTHESIS_PROFILE") == "full" else "-O0"
"""For short runs the compiler would take more time to make a program faster than the program then saves."""
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

needs_compiler = [
    pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler"),
    pytest.mark.skipif(platform.system() != "Linux", reason="the programs are written for Linux"),
]


def call(*command: object, check: bool = True, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=timeout)
    if check:
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done


def compiled(
    source: Path,
    folder: Path,
    flags: Sequence[str],
    compiler: Sequence[str] = COMPILER,
    levels: Mapping[str, Sequence[str]] = LEVELS,
) -> Path:
    """The object file of a source, for the instructions that it is named after."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    target = folder / f"{source.stem}.o"
    level = levels.get(source.stem, []) if x86 else []
    call(*compiler, *FLAGS, *flags, *level, "-c", source, "-o", target)
    return target


def built(
    main: Path,
    folder: Path,
    flags: Sequence[str],
    sources: Iterable[Path],
    linked_with: Sequence[str] = (),
    compiler: Sequence[str] = COMPILER,
    levels: Mapping[str, Sequence[str]] = LEVELS,
) -> Path:
    """The program of a main file and the kernels' sources, compiled with more flags and linked with yet others.

    A level of instructions that is not among ``levels`` is one that the program lacks.
    """
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}")
    if call(*compiler, *flags, empty, "-o", folder / "empty", check=False).returncode:
        pytest.skip(f"the compiler cannot {' '.join(flags)}")
    if (ran := call(folder / "empty", check=False)).returncode:
        pytest.skip(f"programs made with {' '.join(flags)} do not run here: {ran.stderr.strip()[-200:]}")
    longest_first = sorted([*sources, main], key=lambda source: source.name != "avx512.cpp")
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: compiled(source, folder, flags, compiler, levels), longest_first))
    program = folder / main.stem
    call(*compiler, *flags, *linked_with, *objects, "-o", program, "-pthread")
    return program
