"""Archives of ``torch.export`` compile to machine code."""

import shutil
from pathlib import Path

import pytest
import torch

from streamdrnn import StreamingDRNN
from streamdrnn.export.quiet import quiet
from tests.agreement import assert_close
from tests.export.models import Export, initial_state, inputs


@pytest.mark.full
def test_aotinductor_compiles_a_step_for_any_batch(exported: Export, tmp_path: Path) -> None:
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs a C++ compiler")
    model, _, files, description = exported("pt2", "classifier")
    with quiet():
        archive = torch.export.load(files["step"])
        package = torch._inductor.aoti_compile_and_package(archive, package_path=str(tmp_path / "step.aoti.pt2"))
        step = torch._inductor.aoti_load_package(package)
        for batch_size in (1, 3):
            stream, state = StreamingDRNN(model, batch_size), initial_state(description, batch_size)
            for t, x in enumerate(inputs(model, 200, batch_size)):
                y, state = step(x, state)
                assert_close(y, stream.step(x), f"y after step {t}")
