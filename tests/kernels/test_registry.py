"""Which backend computes."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from streamdrnn import DilatedRNN, StreamingDRNN, kernels
from streamdrnn.kernels import BACKEND_NAMES, BACKENDS, Backend, available, check_backend, registry, resolve
from streamdrnn.kernels.cpu import library
from tests.kernels.cases import DEVICE, NATIVE, TRITON, Case, device_of, needs_native, needs_triton
from tests.strategies import Network

FLOAT = torch.zeros(1)
NOT_COMPILED = "its library was not compiled"


def test_available_says_of_every_backend_whether_and_why_not() -> None:
    found = available()
    assert list(found) == list(BACKENDS) == list(BACKEND_NAMES[1:])
    assert found["reference"].usable
    assert found["torch"].usable
    for usable, reason in found.values():
        assert usable != bool(reason)


def test_auto_resolves_to_a_usable_backend() -> None:
    for x in (FLOAT, FLOAT.double(), FLOAT.bfloat16(), FLOAT.to("meta")):
        assert available()[resolve("auto", x).name].usable


@needs_native
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_native_code_takes_float32_on_the_cpu_and_torch_the_rest(name: str) -> None:
    assert resolve(name, FLOAT) is BACKENDS["cpu"]
    for x in (FLOAT.double(), FLOAT.bfloat16(), FLOAT.half(), FLOAT.to("meta")):
        assert resolve(name, x) is BACKENDS["torch"]


@needs_triton
def test_triton_takes_float32_where_its_kernels_run_and_torch_the_rest() -> None:
    there = FLOAT.to(DEVICE)
    assert resolve("triton", there) is BACKENDS["triton"]
    for x in (there.double(), there.bfloat16(), there.half(), there.long(), FLOAT.to("meta")):
        assert resolve("triton", x) is BACKENDS["torch"]
    if DEVICE.type == "cuda":
        assert resolve("triton", FLOAT) is BACKENDS["torch"]
        assert resolve("auto", there) is BACKENDS["triton"]


def in_a_fresh_process(script: str, **environment: str) -> Any:
    """What a script prints as JSON, where Triton has not been told of its interpreter unless here."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", "import json, torch; from streamdrnn import kernels\n" + script]
    done = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@needs_triton
def test_auto_never_takes_the_interpreter() -> None:
    script = "print(json.dumps([kernels.resolve(name, torch.zeros(1)).name for name in ('auto', 'triton')]))"
    assert in_a_fresh_process(script, TRITON_INTERPRET="1") == [resolve("auto", FLOAT).name, "triton"]


@pytest.mark.parametrize(
    ("hide", "reason"),
    [
        ("pass", "there is no CUDA device"),
        ("import importlib.util; importlib.util.find_spec = lambda name: None", "Triton is not installed"),
        ("torch.cuda.is_available = lambda: True; torch.cuda.get_device_capability = lambda: (7, 5)",
         "the GPU has compute capability 7.5, 8.0 is needed"),
    ],
)  # fmt: skip
def test_triton_says_why_it_cannot_be_used(hide: str, reason: str) -> None:
    if "find_spec" not in hide and importlib.util.find_spec("triton") is None:
        reason = "Triton is not installed"
    script = f"""
{hide}
try:
    kernels.resolve("triton", torch.zeros(1))
except ValueError as error:
    print(json.dumps([*kernels.available()["triton"], kernels.resolve("auto", torch.zeros(1)).name, str(error)]))
"""
    usable, why, auto, refused = in_a_fresh_process(script, CUDA_VISIBLE_DEVICES="")
    assert not usable
    assert why == reason
    assert auto == resolve("auto", FLOAT).name
    assert refused == f"backend 'triton' is not available: {reason}; \"auto\" picks one that is"


def test_importing_the_package_does_not_import_triton() -> None:
    """Which takes a while, and need not be installed."""
    assert in_a_fresh_process("import sys; print(json.dumps('triton' in sys.modules))") is False


@pytest.mark.parametrize("name", ["reference", "torch"])
def test_a_usable_name_resolves_to_itself(name: str) -> None:
    check_backend(name)
    assert resolve(name, FLOAT) is BACKENDS[name]


@pytest.mark.parametrize("name", ["cuda", "", "Torch", None])
def test_an_unknown_backend_is_refused(name: str) -> None:
    message = r"^backend: got .*expected one of auto, reference, torch, cpu, triton$"
    with pytest.raises(ValueError, match=message):
        check_backend(name)
    with pytest.raises(ValueError, match=message):
        resolve(name, FLOAT)
    with pytest.raises(ValueError, match=message):
        Case().run(Case().arguments(), name)


@pytest.mark.parametrize("name", ["cpu", "triton"])
def test_an_unavailable_backend_is_refused_with_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "there is none"
    monkeypatch.setattr(BACKENDS[name], "why_not", lambda: reason)
    for refused in (
        lambda: check_backend(name),
        lambda: resolve(name, FLOAT),
        lambda: DilatedRNN(3, 4, 2, backend=name),
    ):
        with pytest.raises(ValueError, match="backend") as caught:
            refused()
        assert str(caught.value).startswith(f"backend {name!r} is not available: {reason}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["auto", "torch", "reference", NATIVE, TRITON])
def test_the_backend_asked_for_computes(backend: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    there = device_of(backend)
    expected = resolve(backend, torch.zeros(1, dtype=dtype, device=there))
    called = []
    for one in BACKENDS.values():

        def counted(*arguments: object, one: Backend = one, compute: Any = one.stack) -> object:
            called.append(one)
            return compute(*arguments)

        monkeypatch.setattr(one, "stack", counted)
    case = Case(dtype=dtype)
    case.run(case.arguments(), backend)
    model = DilatedRNN(3, 4, 2, backend=backend, dtype=dtype, device=there)
    x = torch.zeros(5, 2, 3, dtype=dtype, device=there)
    _, state = model(x)
    model.step(x[0], state)
    assert called == [expected] * 3


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the package had been installed without a compiler."""

    monkeypatch.setattr(library, "find", lambda: None)
    monkeypatch.setattr(library, "_found", None)
    registry._warn_that_torch_computes.cache_clear()
    yield
    registry._warn_that_torch_computes.cache_clear()


def test_without_the_library_torch_computes_and_says_so_once(without_library: None) -> None:
    network = Network(dilations=(2, 3), dtype=torch.float32)
    x = network.x(7, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = network.build("auto")
        y, state = model(x)
        live = StreamingDRNN(network.build("auto"), 2)
        pushed = live.push(x)
        model.step(x[0], state)
        resolve("auto", x)
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "torch computes" in str(caught[0].message)
    assert NOT_COMPILED in str(caught[0].message)
    want = network.build("torch")(x)[0]
    assert torch.equal(y, want)
    assert torch.equal(pushed, StreamingDRNN(network.build("torch"), 2).push(x))


def test_without_the_library_the_cpu_backend_is_refused(without_library: None) -> None:
    usable, reason = available()["cpu"]
    assert not usable
    assert NOT_COMPILED in reason
    message = rf"^backend 'cpu' is not available: {NOT_COMPILED}"
    with pytest.raises(ValueError, match=message):
        DilatedRNN(3, 4, 2, backend="cpu")
    with pytest.raises(ValueError, match=message):
        Case().run(Case(dtype=torch.float32).arguments(), "cpu")


def test_float64_needs_no_library_and_no_warning(without_library: None) -> None:
    network = Network()
    network.build("auto")(network.x(3, 1))


@pytest.mark.parametrize(("content", "reason"), [(None, NOT_COMPILED), (b"not a library", "does not load")])
def test_an_installation_without_a_library_that_loads(content: bytes | None, reason: str, tmp_path: Path) -> None:
    root = Path(kernels.__file__).resolve().parent.parent
    package = tmp_path / "streamdrnn"
    for source, target in ((root / "streamdrnn", package), (root / "kernels", package / "kernels")):
        no = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "kernels", "apps")
        shutil.copytree(source, target, ignore=no, dirs_exist_ok=True)
    found = library.find()
    if content is not None:
        if found is None:
            pytest.skip("there is no compiled library whose name could be taken")
        (package / "kernels" / "cpu" / found.name).write_bytes(content)
    script = """
import json, warnings, torch, streamdrnn
from streamdrnn import kernels
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    y, _ = streamdrnn.DilatedRNN(3, 4, 2)(torch.zeros(5, 2, 3))
    streamdrnn.StreamingDRNN(streamdrnn.DilatedRNN(3, 4, 2)).step(torch.zeros(1, 3))
try:
    streamdrnn.DilatedRNN(3, 4, 2, backend="cpu")
    refused = ""
except ValueError as error:
    refused = str(error)
warned = [str(w.message) for w in caught if "native" in str(w.message)]
print(json.dumps([streamdrnn.__file__, list(y.shape), warned, refused, kernels.available()["cpu"]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, shape, warned, refused, (usable, why) = json.loads(done.stdout)
    assert Path(where).is_relative_to(tmp_path)
    assert shape == [5, 2, 4]
    assert len(warned) == 1
    assert not usable
    for text in (*warned, refused, why):
        assert reason in text
