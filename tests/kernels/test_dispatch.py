"""Which backend computes."""

import pytest
import torch

from streamdrnn import kernels
from streamdrnn.kernels import BACKENDS, available, resolve
from streamdrnn.kernels import pytorch as torch_backend
from streamdrnn.kernels import reference as reference_backend
from tests.kernels.cases import Case


def test_available_says_of_every_backend_whether_and_why_not() -> None:
    found = available()
    assert set(found) == set(BACKENDS) - {"auto"}
    assert found["reference"].usable
    assert found["torch"].usable
    for usable, reason in found.values():
        assert usable != bool(reason)


def test_auto_resolves_to_a_usable_backend() -> None:
    assert available()[resolve("auto")].usable


@pytest.mark.parametrize("name", ["reference", "torch"])
def test_a_usable_name_resolves_to_itself(name: str) -> None:
    assert resolve(name) == name


@pytest.mark.parametrize("name", ["cuda", "", "Torch", None])
def test_an_unknown_backend_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^backend: got .*expected one of auto, reference, torch, cpu, triton$"):
        resolve(name)
    with pytest.raises(ValueError, match=r"^backend: got"):
        Case().run(Case().arguments(), name)


@pytest.mark.parametrize("name", sorted(name for name, (usable, _) in available().items() if not usable))
def test_an_unavailable_backend_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=f"backend '{name}' is not available: {available()[name].reason}"):
        resolve(name)


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
def test_the_backend_asked_for_computes(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = torch_backend if backend == "reference" else reference_backend
    for name in ("layer", "step"):
        monkeypatch.setattr(other, name, lambda *_: pytest.fail("the other backend was called"))
    arguments = Case().arguments()
    Case().run(arguments, backend)
    h = torch.zeros(2, Case().H, dtype=torch.float64)
    kernels.cell_step("gru", arguments.x[0], arguments.weights, h, None, backend=backend)
