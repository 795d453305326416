"""What every test runs under: Hypothesis profiles, and fresh memory that is poisoned."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Without a GPU the Triton kernels run in Triton's interpreter, which has to be known before they are imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# On a GPU, cuBLAS refuses deterministic algorithms without this.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

settings.register_profile("default", deadline=None, max_examples=30, print_blob=True)
settings.register_profile("full", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_finish() -> None:
    """Spare garbage collections, of which a library may ask for one after each training, all that was imported."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("full") and os.environ.get("HYPOTHESIS_PROFILE") != "full":
        pytest.skip("takes minutes: make check-full runs it")


@pytest.fixture(scope="session", autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fill fresh tensors with NaN (integers with their largest value): what reads them unwritten is seen."""
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """Undo how a command that ran in this process, such as `serve`, settled it for itself: others would be slow."""
    threads, switching, thresholds = torch.get_num_threads(), sys.getswitchinterval(), gc.get_threshold()
    yield
    torch.set_num_threads(threads)
    sys.setswitchinterval(switching)
    gc.set_threshold(*thresholds)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the data sets that some tests measure on."""
    folder = os.environ.get("STREAMDRNN_DATA")
    if not folder:
        pytest.skip("STREAMDRNN_DATA is not set: it names the folder of the data sets that this test needs")
    return Path(folder)
