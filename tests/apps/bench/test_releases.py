"""The headline ratios of a release."""

import json
import shutil
from pathlib import Path

import pytest

from streamdrnn import __version__
from streamdrnn.apps.bench.releases import HEADLINES, ratios_of, write_release
from streamdrnn.errors import InputError

RESULTS = Path(__file__).parents[3] / "docs" / "results"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The committed results, and an older release that lacked a headline."""
    for device in ("cpu", "gpu"):
        (tmp_path / device).mkdir()
        shutil.copy(RESULTS / device / "results.json", tmp_path / device)
    (tmp_path / "releases").mkdir()
    old = {"release": "0.1.9", "ratios": {"cpu": {"forward, mnist": 2.5}, "gpu": {}}}
    (tmp_path / "releases" / "0.1.9.json").write_text(json.dumps(old))
    return tmp_path


def test_every_headline_is_in_the_committed_results() -> None:
    ratios = ratios_of(RESULTS)["ratios"]
    assert {(device, name) for device in ratios for name in ratios[device]} == {(h.device, h.name) for h in HEADLINES}
    means = json.loads((RESULTS / "cpu" / "results.json").read_text())["tables"]["forward_means"]["rows"]
    assert ratios["cpu"]["forward, mnist"] == pytest.approx(means[0]["geometric_mean_ratio"], abs=1e-3)
    assert ratios["gpu"]["one step, cuDNN"] > 1


def test_a_release_is_written_beside_the_older_ones_and_all_are_drawn(results: Path) -> None:
    pytest.importorskip("matplotlib")
    older = (results / "releases" / "0.1.9.json").read_bytes()
    write_release(results)
    assert json.loads((results / "releases" / f"{__version__}.json").read_text()) == ratios_of(results)
    assert (results / "releases" / "0.1.9.json").read_bytes() == older
    assert (results / "releases" / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_results_without_a_headline_are_refused(results: Path) -> None:
    path = results / "cpu" / "results.json"
    found = json.loads(path.read_text())
    found["tables"]["memory"]["rows"] = []
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match=r"expected one ratio of memory with .*, got \[\]"):
        write_release(results)
