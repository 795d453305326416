"""The JavaScript client's Exchange passes the tests of Python's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest

from streamdrnn.client.exchange import RefusedError
from tests.node import Node, needs_node
from tests.serving import test_exchange
from tests.serving.javascript.package import PACKAGE

pytestmark = needs_node


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(Path(__file__).with_name("exchange.mjs"), PACKAGE / "exchange.js") as node:
        yield node


@pytest.fixture(autouse=True)
def _javascript(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_exchange, "Exchange", lambda *arguments: Exchange(node, *arguments))


class Exchange:
    """The one in JavaScript, with the names of Python's."""

    def __init__(self, node: Node, model: str, input_format: str) -> None:
        self._node = node
        self._call("open", model, input_format)

    def greeting(self) -> str:
        return str(self._call("greeting"))

    def add(self, inputs: np.ndarray) -> tuple[int, int]:
        first, last = self._call("add", inputs.ravel().tolist())
        return first, last

    def add_reset(self) -> int:
        return int(self._call("add_reset"))

    def next_message(self) -> Union[bytes, str, float, None]:
        message: Union[dict[str, list[int]], str, float, None] = self._call("next_message")
        return bytes(message["bytes"]) if isinstance(message, dict) else message

    def receive(self, message: Union[bytes, str]) -> None:
        self._call("receive", message if isinstance(message, str) else {"bytes": list(message)})

    def answered(self, seq: int) -> bool:
        return bool(self._call("answered", seq))

    def take(self, first: int, last: int) -> np.ndarray:
        return np.array(self._call("take", first, last), np.float32).reshape(-1, 1)

    def _call(self, name: str, *values: Any) -> Any:
        answer = self._node.ask([name, *values])
        if "error" not in answer:
            return answer.get("value")
        if answer["error"] == "RefusedError":
            raise RefusedError(answer["code"], answer["message"])
        assert answer["error"] == "ConnectionError", answer
        raise ConnectionError(answer["message"])


def test_no_result_is_lost_or_wrong_or_comes_twice() -> None:
    test_exchange.test_no_result_is_lost_or_wrong_or_comes_twice()


def test_a_server_that_does_not_keep_to_the_protocol_is_noticed() -> None:
    test_exchange.test_a_server_that_does_not_keep_to_the_protocol_is_noticed()


def test_what_is_sent_again_keeps_to_the_window_of_the_new_connection() -> None:
    test_exchange.test_what_is_sent_again_keeps_to_the_window_of_the_new_connection()
