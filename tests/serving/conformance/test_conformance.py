"""Every client holds the conversations of conversations.json, each with servers that keep to the conversation's script.

A conversation has what a client is asked, one call after another, and the connections of its servers (scripted.py). A
call is followed by what it leads to: ``outputs``; ``refused`` with a code, or ``lost``, and a part of the ``message``.
``clients`` names those that can be asked this; if not told, all can. A name with ``{code}`` stands for as many
conversations as there are ``codes``.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest

from streamdrnn.client import AsyncStream, RefusedError, Stream, connect, connect_async
from tests.browser import Browser, needs_chromium
from tests.file_server import served as served_files
from tests.node import Node, needs_node
from tests.serving.conformance.scripted import Connection, Script, served
from tests.serving.javascript.package import CLIENT, install

HERE = Path(__file__).parent
FILE = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
Fields = Mapping[str, Any]
Talk = Callable[[Sequence[str], Fields, Sequence[Fields]], list[dict[str, Any]]]
"""Makes a client do what it is asked, given the URLs and the other options; a report of each call."""


def conversations() -> Iterator[dict[str, Any]]:
    for conversation in FILE["conversations"]:
        for code in conversation.get("codes", [None]):
            text = json.dumps(conversation).replace('"{code}"', str(code)).replace("{code}", str(code))
            yield json.loads(text)


CONVERSATIONS = {conversation["name"]: conversation for conversation in conversations()}


def held_by(client: str) -> pytest.MarkDecorator:
    names = [name for name, it in CONVERSATIONS.items() if client in it.get("clients", [client])]
    return pytest.mark.parametrize("name", names)


def hold(name: str, talk: Talk) -> None:
    conversation = CONVERSATIONS[name]
    connections = [Connection(**it) if isinstance(it, dict) else Connection(it) for it in conversation["connections"]]
    opened = {**FILE["opened"], **conversation.get("opened", {})}
    script = Script(opened, connections)
    options = {"model": opened["model"], "format": opened["format"], **conversation.get("options", {})}
    with served(script, conversation.get("servers", 1)) as urls:
        reports = talk(urls, options, conversation["asks"])
        script.check()
    compare(reports, conversation["asks"])


def compare(reports: Sequence[Fields], asks: Sequence[Fields]) -> None:
    for report, ask in zip(reports, asks, strict=True):
        if ask["call"] == "together":
            compare(report["reports"], ask["calls"])
            continue
        want = {key: value for key, value in ask.items() if key in ("outputs", "refused", "lost")}
        if ask["call"] == "connect" and not want:
            want = {"stream": FILE["opened"]["stream"], "output_size": FILE["opened"]["output_size"]}
        assert {key: value for key, value in report.items() if key != "message"} == want, (ask, report)
        assert ask.get("message", "") in report.get("message", ""), (ask, report)


def reports_of(do: Callable[[Fields], dict[str, Any]], asks: Sequence[Fields]) -> list[dict[str, Any]]:
    reports = []
    for ask in asks:
        try:
            report = do(ask)
        except RefusedError as error:
            report = {"refused": error.code, "message": str(error)}
        except ConnectionError as error:
            report = {"lost": True, "message": str(error)}
        reports.append(report)
    return reports


def opened(stream: Union[Stream, AsyncStream]) -> dict[str, Any]:
    return {"stream": stream.id, "output_size": stream.model["output_size"]}


def rows(inputs: Sequence[float]) -> np.ndarray:
    return np.array(inputs, np.float32).reshape(-1, 1)


def talk_blocking(urls: Sequence[str], options: Fields, asks: Sequence[Fields]) -> list[dict[str, Any]]:
    streams = list[Stream]()

    def do(ask: Fields) -> dict[str, Any]:
        if ask["call"] == "connect":
            streams.append(connect(urls, **options))
            return opened(streams[0])
        if ask["call"] == "push":
            return {"outputs": streams[0].push(rows(ask["inputs"])).ravel().tolist()}
        getattr(streams[0], ask["call"])()
        return {}

    return reports_of(do, asks)


def talk_asyncio(urls: Sequence[str], options: Fields, asks: Sequence[Fields]) -> list[dict[str, Any]]:
    streams = list[AsyncStream]()

    async def do(ask: Fields) -> dict[str, Any]:
        if ask["call"] == "connect":
            streams.append(await connect_async(urls, **options))
            return opened(streams[0])
        if ask["call"] == "push":
            return {"outputs": (await streams[0].push(rows(ask["inputs"]))).ravel().tolist()}
        await getattr(streams[0], ask["call"])()
        return {}

    with asyncio.Runner() as runner:
        return reports_of(lambda ask: runner.run(do(ask)), asks)


def in_javascript(urls: Sequence[str], options: Fields, asks: Sequence[Fields]) -> dict[str, Any]:
    names = {"give_up_after": "giveUpAfter"}
    return {"urls": urls, "options": {names.get(key, key): value for key, value in options.items()}, "asks": asks}


@pytest.fixture(scope="module")
def node() -> Iterator[Talk]:
    with Node(HERE / "in_node.mjs", CLIENT) as process:  # which ends: streams that ended leave nothing behind
        yield lambda *conversation: process.ask(in_javascript(*conversation))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("page")
    install(folder)
    (folder / "converse.mjs").write_bytes((HERE / "converse.mjs").read_bytes())
    (folder / "index.html").write_text("<!doctype html><title>conversations</title>", encoding="utf-8")
    with served_files(folder) as address, Browser(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(address)
        yield browser


@held_by("blocking")
def test_the_blocking_client(name: str) -> None:
    hold(name, talk_blocking)


@held_by("asyncio")
def test_the_asyncio_client(name: str) -> None:
    hold(name, talk_asyncio)


@needs_node
@held_by("javascript")
def test_the_javascript_client_in_node(name: str, node: Talk) -> None:
    hold(name, node)


@needs_chromium
@held_by("javascript")
def test_the_javascript_client_in_a_browser(name: str, page: Browser) -> None:
    def talk(urls: Sequence[str], options: Fields, asks: Sequence[Fields]) -> list[dict[str, Any]]:
        request = json.dumps(in_javascript(urls, options, asks))
        modules = "Promise.all([import('/converse.mjs'), import('/streamdrnn.js')])"
        reports: list[dict[str, Any]] = page.run(
            f"{modules}.then(([talk, client]) => talk.converse({request}, client))"
        )
        return reports

    hold(name, talk)
