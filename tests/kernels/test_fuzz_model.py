"""Model files as anybody may have made them, by libFuzzer under the sanitizers: a short run, and ten minutes of it.

The program is ``native/fuzz_model.cpp``.
"""

import os
import shutil
from itertools import cycle, product
from pathlib import Path

import pytest
import torch

from streamdrnn import DilatedRNN, SpeakerEmbedder, save_model
from streamdrnn.audio import MFCC, LogMel, RawWaveform
from tests.compiling import LIBRARY, LIBRARY_SOURCES, OPTIMIZED, SANITIZERS, built, call, needs_compiler
from tests.properties.models import KINDS, build
from tests.strategies import CELLS, Network

pytestmark = [*needs_compiler, pytest.mark.skipif(not shutil.which("clang++"), reason="libFuzzer is a part of clang")]

FUZZ_SECONDS = int(os.environ.get("STREAMDRNN_FUZZ_SECONDS", "600"))
MOST_MEGABYTES = 1024
FRONTS = [
    RawWaveform(1),
    LogMel(n_fft=16, win_length=8, hop_length=4, n_mels=1),
    MFCC(n_fft=12, win_length=8, hop_length=4, n_mels=1, n_mfcc=1, deltas=2),
]


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Small models of all kinds."""
    folder = tmp_path / "seeds"
    folder.mkdir()
    dtypes = cycle([torch.float32, torch.float64, torch.float16, torch.bfloat16])
    for kind, cell in product(KINDS, CELLS):
        network = Network(1, (1, 2), (2, 1), cell, bias=cell != "rnn", dtype=next(dtypes))
        save_model(build(kind, network), folder / f"{kind} {cell}")
    for front in FRONTS:
        model = SpeakerEmbedder(DilatedRNN(front.num_features, 1, dilations=[1]), 1, front)
        save_model(model, folder / type(front).__name__)
    return folder


@pytest.mark.parametrize(
    "how_long",
    [
        pytest.param("-runs=5000", id="seconds"),
        pytest.param(f"-max_total_time={FUZZ_SECONDS}", id="minutes", marks=pytest.mark.full),
    ],
)
def test_no_file_brings_the_library_down(
    how_long: str, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = Path(__file__).parent / "native" / "fuzz_model.cpp"
    flags = [OPTIMIZED, *LIBRARY, *(flag.replace("address", "fuzzer-no-link,address") for flag in SANITIZERS)]
    program = built(main, tmp_path, flags, LIBRARY_SOURCES, ["-fsanitize=fuzzer"], ["clang++"], levels={})
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    options = ["-seed=1", "-max_len=4096", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    # libFuzzer's limit is one of ru_maxrss, which a program has from the process that started it: under a worker with
    # 2 GB of torch it would fail. So the sanitizer looks at what is resident now, and libFuzzer at each allocation.
    options += ["-rss_limit_mb=0", f"-malloc_limit_mb={MOST_MEGABYTES // 4}"]
    monkeypatch.setenv("ASAN_OPTIONS", f"hard_rss_limit_mb={MOST_MEGABYTES}", prepend=":")
    call(program, *options, how_long, corpus, seeds, timeout=FUZZ_SECONDS + 240)
