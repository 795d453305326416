"""What ``import streamdrnn`` brings along."""

import re
import subprocess
import sys
from pathlib import Path

import streamdrnn

SLOW = ("librosa", "soundfile", "soxr", "tyro", "rich", "sounddevice", "scipy", "numba", "matplotlib", "accelerate")


def test_importing_the_package_loads_nothing_that_is_not_needed() -> None:
    script = "import sys; from streamdrnn import *; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = result.stdout.split()
    assert {"streamdrnn", "torch"} <= set(loaded)
    assert not set(SLOW) & set(loaded)


def test_no_source_reads_pickles() -> None:
    sources = sorted(Path(streamdrnn.__file__).parent.rglob("*.py"))
    assert {"checkpoint.py", "state.py", "storage.py"} <= {source.name for source in sources}
    reads = re.compile(r"torch\.load\b|\bpickle\b|\bnp\.load\b|\bnumpy\.load\b|\bjoblib\b")
    for source in sources:
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
            assert not reads.search(line.replace("no pickle", "")), f"{source.name}:{number}: {line.strip()}"


def test_everything_that_the_package_names_is_there() -> None:
    assert all(hasattr(streamdrnn, name) for name in streamdrnn.__all__)
    assert streamdrnn.__all__ == sorted(streamdrnn.__all__)
