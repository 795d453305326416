"""docs/serving.md says what is so."""

import re
from pathlib import Path

from streamdrnn.apps.serving.command import Serve
from streamdrnn.client.protocol import Code

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_client_in_javascript_is_short() -> None:
    (client,) = re.findall(r"```javascript\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in client.splitlines() if not line.startswith("//")]) <= 30


def test_every_option_is_described_and_there() -> None:
    described = set(re.findall(r"`--([a-z-]+)", PAGE))
    options = {name.replace("_", "-") for name in Serve.__dataclass_fields__} - {"models"}
    assert described == options


def test_every_code_is_described_and_there() -> None:
    rows = re.findall(r"^\| ((?:\d{4}(?:, )?)+) \|", PAGE, re.MULTILINE)
    described = {int(code) for row in rows for code in row.split(", ")}
    assert described == {int(code) for code in Code} | {1009}
