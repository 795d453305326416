"""What a server writes down: one line for each stream that begins, ends or is refused; no sound, no token, no id.

A stream is named by the first characters of the digest that the store has as its key, so that its lines can be found.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

from streamdrnn.apps.serving.store import key_of

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
_FIELDS = "fields"
"""The attribute of a log record that has what is beside its message."""


def configure(format: Format, level: Level) -> None:
    """Write to standard error from a level up."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JSON() if format == "json" else _Text("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)  # in place of what --debug set up


def event(logger: logging.Logger, what: str, **fields: Any) -> None:
    """Write one line: what happened, and to what."""
    logger.info(what, extra={_FIELDS: fields})


def name_of(stream: str) -> str:
    """A stream's name in the log, which is no secret."""
    return key_of(stream).hex()[:12]


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, _FIELDS, {})
        return " ".join([super().format(record), *(f"{name}={json.dumps(value)}" for name, value in fields.items())])


class _JSON(logging.Formatter):
    """A JSON object a line, with the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)
