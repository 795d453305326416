"""Servers in processes of their own that begin at once, as what they import is imported already."""

import io
import multiprocessing
import socket
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE

# A process that does nothing but import these, and that others are forked from: it has no threads yet.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["streamdrnn.apps.serving.server", "streamdrnn.apps.serving.sqlite_store", __name__])


def serve(options: dict[str, Any]) -> None:
    from streamdrnn.apps.serving.command import Serve

    with redirect_stdout(io.StringIO()):
        Serve(**options).run()


class Restartable:
    """A server at one address that can be killed, and begun anew.

    Args:
        models: its files.
        options: of :class:`streamdrnn.apps.serving.command.Serve`.
    """

    def __init__(self, models: list[Path], **options: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self._options = {"models": models, "port": self.port, **options}
        self.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def start(self) -> None:
        process = _processes.Process(target=serve, args=(self._options,))
        process.start()
        self._process = process  # only now does it have a number, which others may ask for

    def kill(self) -> None:
        """As a machine dies: nothing is saved any more."""
        self._process.kill()
        self._process.join()

    def terminate(self) -> None:
        """Ask it to leave, and wait until it has."""
        self._process.terminate()
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None
