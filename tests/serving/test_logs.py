"""What a server writes down of its streams, and what it does not."""

import json
import logging
from pathlib import Path

import pytest

from streamdrnn.apps.serving import logs
from streamdrnn.client.protocol import Code
from tests.serving.servers import running, serve_one_and_refuse_one, tagger_file
from tests.waiting import wait_for


def test_a_stream_has_a_line_at_its_beginning_and_one_at_its_end_and_neither_is_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = "a token that nobody else knows"
    caplog.set_level(logging.INFO)
    with running([tagger_file(tmp_path)], tmp_path / "s", tokens=[token]) as server:
        stream = serve_one_and_refuse_one(server.url, token)
        wait_for(lambda: not server.connections)
    formatter = logs._JSON()
    told = [json.loads(formatter.format(record)) for record in caplog.records if hasattr(record, "fields")]
    begins, ends, refused = told
    assert {one["event"] for one in told} == {"stream begins", "stream ends", "refused"}
    assert (begins["model"], begins["seq"], begins["client"]) == ("tagger", 0, "127.0.0.1")
    assert (ends["stream"], ends["seq"], ends["code"]) == (begins["stream"], 1, 1000)
    assert ends["reason"] == "closed by its client"
    assert 0 <= ends["seconds"] < 1000
    assert (refused["code"], refused["reason"]) == (Code.UNAUTHORISED, "token: expected one of this server's")
    for secret in (token, "wrong", stream):
        assert secret not in json.dumps(told) + caplog.text


@pytest.mark.parametrize("format", ["text", "json"])
def test_one_event_is_one_line(format: logs.Format, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, root.handlers = (root.handlers, root.level), [logging.StreamHandler()]  # as --debug has one
    try:
        logs.configure(format, "info")
        logs.event(logging.getLogger("a"), "refused", reason="two\nlines", code=4400)
        logging.getLogger("a").debug("not this")
    finally:
        root.handlers = before[0]
        root.setLevel(before[1])
    (line,) = capsys.readouterr().err.splitlines()
    if format == "json":
        told = json.loads(line)
        assert (told["event"], told["reason"], told["code"], told["level"]) == ("refused", "two\nlines", 4400, "info")
        assert told["time"].endswith("+00:00")
    else:
        assert line.endswith('INFO a: refused reason="two\\nlines" code=4400')
