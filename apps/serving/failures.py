"""Work that goes on for as long as a server does, and the errors that end it."""

import asyncio
from collections.abc import Iterable
from typing import Any, Optional


def failure_of(tasks: Iterable[asyncio.Task[Any]]) -> Optional[BaseException]:
    """The error that ended one of the tasks, if there is one."""
    errors = (task.exception() for task in tasks if task.done() and not task.cancelled())
    return next((error for error in errors if error is not None), None)
