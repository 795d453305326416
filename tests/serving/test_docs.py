"""docs/serving.md says what is so."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from streamdrnn.apps.serving.command import Serve
from streamdrnn.client.protocol import Code
from tests.browser import Browser, needs_chromium
from tests.serving.servers import assert_same, inputs, offline, running, tagger_file

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


(JAVASCRIPT,) = re.findall(r"```javascript\n(.*?)```", PAGE, re.DOTALL)


def test_the_client_in_javascript_is_short() -> None:
    assert len([line for line in JAVASCRIPT.splitlines() if not line.startswith("//")]) <= 30


@contextmanager
def web_page(folder: Path) -> Iterator[str]:
    """The origin of a page in a web server of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>a page</title>", encoding="utf-8")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(folder))) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{pages.server_port}"
        finally:
            pages.shutdown()
            thread.join()


@needs_chromium
def test_the_client_in_javascript_hears_every_result_once_though_its_server_leaves(tmp_path: Path) -> None:
    model, x = tagger_file(tmp_path), inputs(60)

    def send(browser: Browser, part: np.ndarray) -> None:
        for message in part.reshape(-1, 5, 3):
            browser.run(f"stream.send(new Float32Array({json.dumps(message.flatten().tolist())}))")

    def outputs(browser: Browser, count: int) -> np.ndarray:
        browser.wait_for(f"heard.length >= {count}")
        return np.array(browser.run("heard.map(o => Array.from(o)).flat()"), np.float32).reshape(-1, 2)

    with web_page(tmp_path / "page") as origin, Browser(tmp_path / "chromium") as browser:
        browser.open(origin)
        with running([model], tmp_path / "s", origins=[origin]) as server:
            browser.run(f"{JAVASCRIPT}; var heard = [], stream;")
            browser.run(f"stream = openStream('{server.url}', 'tagger', 'features', o => heard.push(o))")
            send(browser, x[:30])
            assert_same(outputs(browser, 6), offline(model, x[:30]))
        send(browser, x[30:45])  # while there is no server
        with running([model], tmp_path / "s", origins=[origin], port=server.port):
            send(browser, x[45:])
            assert_same(outputs(browser, 12), offline(model, x))
            assert browser.run("heard.length") == 12


def test_every_option_is_described_and_there() -> None:
    described = set(re.findall(r"`--([a-z-]+)", PAGE))
    options = {name.replace("_", "-") for name in Serve.__dataclass_fields__} - {"models"}
    assert described == options


def test_every_code_is_described_and_there() -> None:
    rows = re.findall(r"^\| ((?:\d{4}(?:, )?)+) \|", PAGE, re.MULTILINE)
    described = {int(code) for row in rows for code in row.split(", ")}
    assert described == {int(code) for code in Code} | {1008, 1009}
