"""The native kernels' C interface under the sanitizers, and what single steps take from the system.

The program is ``native/exercise.cpp``; it is compiled here together with the kernels.
"""

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent / "native"
SOURCES = Path(__file__).resolve().parents[2] / "kernels" / "cpu" / "src"
FOUND = [path for name in ("g++", "clang++") if (path := shutil.which(name))]
COMPILER = shlex.split(os.environ.get("CXX", "")) or FOUND[:1]
FLAGS = ["-std=c++17", "-g", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", f"-I{SOURCES}"]
LEVELS = {"avx512": ["-mavx512f", "-mfma"], "avx2": ["-mavx2", "-mfma"], "portable": []}
COUNTED = ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "mmap", "_Znwm", "_Znam"]

pytestmark = [
    pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler"),
    pytest.mark.skipif(platform.system() != "Linux", reason="the program is written for Linux"),
]


def call(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=240)
    if check:
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done


def compiled(source: Path, folder: Path, flags: Sequence[str]) -> Path:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    target = folder / f"{source.stem}.o"
    level = LEVELS.get(source.stem, []) if x86 else []
    call(*COMPILER, *FLAGS, *flags, *level, "-c", source, "-o", target)
    return target


def build(folder: Path, flags: Sequence[str]) -> Path:
    """The program, compiled and linked with more flags."""
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}")
    if call(*COMPILER, *flags, empty, "-o", folder / "empty", check=False).returncode:
        pytest.skip(f"the compiler cannot {' '.join(flags)}")
    if (ran := call(folder / "empty", check=False)).returncode:
        pytest.skip(f"programs made with {' '.join(flags)} do not run here: {ran.stderr.strip()[-200:]}")
    sources = [*SOURCES.glob("*.cpp"), HERE / "exercise.cpp"]
    sources.sort(key=lambda s: s.name != "avx512.cpp")  # the longest first
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: compiled(source, folder, flags), sources))
    program = folder / "exercise"
    call(*COMPILER, *flags, *[f"-Wl,--wrap={name}" for name in COUNTED], *objects, "-o", program, "-pthread")
    return program


@pytest.mark.parametrize("level", LEVELS)
def test_code_of_a_level_is_in_a_namespace_of_its_own(level: str, tmp_path: Path) -> None:
    """The linker keeps one copy of what several files compile, and it may need instructions that others lack.

    For the same reason no code runs when the library is loaded.
    """
    made = compiled(SOURCES / f"{level}.cpp", tmp_path, ["-O0"])  # where nothing is inlined
    symbols = [line.split()[:2] for line in call("nm", "-P", "--defined-only", made).stdout.splitlines()]
    code = [name for name, kind in symbols if kind in "TtW"]
    assert [name for name in code if f"10streamdrnn{len(level)}{level}" not in name] == [
        f"_ZN10streamdrnn{len(level) + len('_kernels')}{level}_kernelsEv"
    ]


def test_the_sanitizers_find_nothing_and_single_steps_take_no_memory(tmp_path: Path) -> None:
    """Of memory and of undefined behaviour. What the program itself looks at is written there."""
    program = build(tmp_path, ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
    call(program, "steps")
    levels = call(program, "levels").stdout.split()
    assert "portable" in levels
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda level: call(program, "run", level), levels):
            assert done.stdout == ""


@pytest.mark.skipif(settings().max_examples < 1000, reason="part of make check-full: HYPOTHESIS_PROFILE=full")
def test_the_thread_sanitizer_finds_nothing(tmp_path: Path) -> None:
    program = build(tmp_path, ["-O1", "-fsanitize=thread"])
    for level in call(program, "levels").stdout.split():
        call(program, "threads", level)
