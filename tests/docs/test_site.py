"""The site is built without a warning, and every link in it leads somewhere; no network is asked."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import ROOT


class Page(HTMLParser):
    """What a page can be linked at, and what it links to.

    Attributes:
        anchors: the ids of its elements.
        links: its links, those to other sites too.
        loaded: what a browser loads with it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = set[str](), set[str](), set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        named = dict(attributes)
        self.anchors |= {value for name in ("id", "name") if (value := named.get(name))}
        links = {value for name in ("href", "src") if (value := named.get(name))}
        self.links |= links
        self.loaded |= links if tag != "a" else set()


def build(folder: Path, *options: str) -> Path:
    """The site in a folder of its own."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "trees"), *options]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "site")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def broken(site: Path) -> list[str]:
    """The links that lead nowhere."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            at = unquote(address.fragment)
            if not target.is_file() or (at and target in pages and at not in pages[target].anchors):
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def asks_elsewhere(site: Path) -> list[str]:
    """What pages load from other sites."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    return [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc]


def test_it_is_built_without_a_warning_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    # The language of cells is known once they have run.
    site = build(tmp_path, "-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer")
    assert broken(site) == []
    assert asks_elsewhere(site) == []
    assert (site / "demo" / "index.html").is_file()
    listening = (site / "listening.html").read_text(encoding="utf-8")
    assert 'href="results/cards/speaker.html"' in listening
    runtime = (site / "runtime.html").read_text(encoding="utf-8")
    assert re.search(r'href="_downloads/\w+/stream.c"', runtime)
    (site / "demo" / "page.js").unlink()
    index = site / "index.html"
    index.write_text(index.read_text(encoding="utf-8").replace("first-steps.html", "last-steps.html"), "utf-8")
    assert {line.split(": ")[0] for line in broken(site)} == {"index.html", "demo/index.html"}


@pytest.mark.full
def test_the_tutorials_run(tmp_path: Path) -> None:
    site = build(tmp_path, "-D", f"nb_execution_cache_path={tmp_path / 'cache'}")
    same = {"from-gru": "live and batch", "forecast": "live and batch", "key-words": "live and other chunks"}
    for tutorial, two in same.items():
        shown = (site / "tutorials" / f"{tutorial}.html").read_text(encoding="utf-8")
        assert f"{two} differ by 0e+00" in shown
    assert broken(site) == []
