"""docs/serving.md says what is so."""

import json
import re
from pathlib import Path

from streamdrnn.apps.serving.command import Serve
from streamdrnn.apps.serving.limits import Cut
from streamdrnn.client.protocol import Code
from tests.browser import Browser, needs_chromium
from tests.file_server import served
from tests.serving.javascript.package import MANIFEST, install
from tests.serving.servers import audio_file, running

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


@needs_chromium
def test_the_example_in_javascript_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```javascript\n(.*?)```", PAGE, re.DOTALL)
    imports = json.dumps({"imports": {MANIFEST["name"]: "/streamdrnn.js"}})
    page = tmp_path / "page"
    install(page)
    (page / "index.html").write_text(f'<!doctype html><script type="importmap">{imports}</script>', encoding="utf-8")
    with (
        served(page) as origin,
        running([audio_file(tmp_path, "speaker")], tmp_path / "s", origins=[origin]) as server,
        Browser(tmp_path / "chromium") as browser,
    ):
        example = example.replace("console.log(", "said.push(").replace("ws://127.0.0.1:8765", server.url)
        (page / "example.js").write_text(f"export const said = [];\n{example}", encoding="utf-8")
        browser.open(origin)
        assert browser.run("import('/example.js').then(({ said }) => said)") == [400, "steps"]


def test_every_option_is_described_and_there() -> None:
    described = set(re.findall(r"`--([a-z-]+)", PAGE))
    options = {name.replace("_", "-") for name in Serve.__dataclass_fields__} - {"models"}
    assert described == options


def test_every_code_is_described_and_there() -> None:
    rows = re.findall(r"^\| ((?:\d{4}(?:, )?)+) \|", PAGE, re.MULTILINE)
    described = {int(code) for row in rows for code in row.split(", ")}
    assert described == {int(code) for code in Code} | {1008, 1009, 1011}


def test_every_reason_of_a_refusal_is_described_and_there() -> None:
    section = PAGE[PAGE.index("### Refusals") : PAGE.index("## A client in JavaScript")]
    described = set(re.findall(r"`([a-z_]+)`", section)) - {"streamdrnn_refusals_total", "code", "open", "restore"}
    assert described == {why.name.lower() for why in (*Code, *Cut)}
