"""Figures that pages repeat are those of the files."""

import gzip
import re

import pytest

from tests.docs.blocks import ROOT

FILES = {
    "`runtime.wasm`": "runtime/runtime.wasm",
    "the speaker model": "models/speaker.safetensors",
    "the detector of speech": "models/activity.safetensors",
    "the detector of overlapped speech": "models/overlap.safetensors",
}
"""As the page names them, in ``docs/demo``."""


@pytest.mark.parametrize("name", FILES)
def test_a_browser_loads_as_many_bytes_as_the_page_says(name: str) -> None:
    text = (ROOT / "docs" / "browser.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {name} \| ([\d,]+) \| ([\d,]+) \|$", text, re.MULTILINE)
    content = (ROOT / "docs" / "demo" / FILES[name]).read_bytes()
    sizes = [len(content), len(gzip.compress(content))]
    assert [int(said.replace(",", "")) for said in row] == pytest.approx(sizes, rel=0.01)
