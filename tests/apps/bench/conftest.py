"""What the tests of the benchmark share."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from streamdrnn.apps.bench import target, workloads
from streamdrnn.apps.cli import main
from tests.apps.bench.stand_in import STAND_IN

Outcome = tuple[int, str, str]


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The command: its arguments to its exit code, output and errors."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main(["bench", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def _compiler_forgets() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.fixture
def _cpu_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled takes too long for a test of the rest; oneDNN's LSTM has no bfloat16 on processors of AVX2."""
    monkeypatch.setitem(target.TARGETS, "cuda", lambda: STAND_IN)
    monkeypatch.setitem(sys.modules, "flashrnn", None)  # its kernel needs a GPU, wherever it is installed
    quick = workloads.QUICK_GPU
    quick = quick._replace(compiled=None, stream=quick.stream._replace(compiled=()))
    monkeypatch.setitem(workloads.QUICK_SIZES, "cuda", quick)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
