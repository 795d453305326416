"""The README's example runs as printed, its links lead somewhere, and it is short."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_shows_what_is_claimed() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"loss (\S+), live and batch differ by (\S+)\n", done.stdout)
    assert found, done.stdout
    assert float(found[1]) < 0.1
    assert float(found[2]) <= 1e-5


def test_the_example_is_short() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 15


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert local
    for target in local:
        assert (ROOT / target.split("#")[0]).exists(), target


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 90
