"""A headless Chromium, driven over its DevTools protocol; its microphone hears a file."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, Self

import pytest
from websockets.sync.client import connect

from tests.waiting import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium, and none is installed")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
)


class Browser:
    """One page.

    Args:
        profile: a folder for what the browser keeps.
        sound: the WAV file that its microphone hears, over and over, if not tones.
        width, height: of the page.
    """

    def __init__(self, profile: Path, sound: Optional[Path] = None, width: int = 1000, height: int = 760) -> None:
        assert CHROMIUM is not None
        self._open = ExitStack()
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"]
        command += [] if sound is None else [f"--use-file-for-fake-audio-capture={sound}"]
        process = subprocess.Popen(
            [*command, f"--window-size={width},{height}", "about:blank"], stderr=subprocess.PIPE, text=True
        )
        self._open.enter_context(process)
        self._open.callback(process.kill)
        assert process.stderr is not None
        address = next(match[1] for line in process.stderr if (match := re.search(r"listening on (ws://\S+)", line)))
        self._numbers = itertools.count()
        self._socket = self._open.enter_context(connect(address, max_size=1 << 26))
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._open.close()

    def open(self, address: str) -> None:
        """Go to a page."""
        self._call("Page.enable")
        self._call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.protocol === 'http:'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = PATIENCE) -> Any:
        """Wait until an expression is true; give its value."""
        until = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < until, (
                f"{script} is not true after {seconds} s: {self.run('document.body.innerText')}"
            )
            time.sleep(0.1)
        return value

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)

    def size(self, width: int, height: int) -> None:
        """Make the page as large as a phone's screen, say."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)

    def screenshot(self, path: Path) -> None:
        """Write a PNG file."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
