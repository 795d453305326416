"""The native kernels' C interface under the sanitizers, and what single steps take from the system.

The program is ``native/exercise.cpp``; it is compiled here together with the kernels.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings

from tests.compiling import LEVELS, SANITIZERS, SOURCES, built, call, compiled, needs_compiler

MAIN = Path(__file__).parent / "native" / "exercise.cpp"
COUNTED = ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "mmap", "_Znwm", "_Znam"]

pytestmark = needs_compiler


def build(folder: Path, flags: list[str]) -> Path:
    return built(MAIN, folder, flags, SOURCES.glob("*.cpp"), [f"-Wl,--wrap={name}" for name in COUNTED])


@pytest.mark.parametrize(
    "level", [pytest.param(level, marks=[] if flags else pytest.mark.full) for level, flags in LEVELS.items()]
)
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


@pytest.mark.full
def test_the_sanitizers_find_nothing_and_single_steps_take_no_memory(tmp_path: Path) -> None:
    """Of memory and of undefined behaviour. What the program itself looks at is written there."""
    program = build(tmp_path, ["-O0", *SANITIZERS])
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
