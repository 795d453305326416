"""Messages past ASGI: what a server's own sockets offer to the conversations on them.

Every message through ASGI wakes a task, pauses the socket and lets it go on. A conversation works without the shortcut
too, as behind Ray's proxy; with it, its messages come and go in the same order.
"""

from collections.abc import Callable
from typing import Any, Optional, Protocol, Union

EXTENSION = "streamdrnn.shortcut"
"""By which a WebSocket's ASGI scope has it, among the extensions."""


class Shortcut(Protocol):
    """A WebSocket.

    Attributes:
        hear: takes a binary message, while the application waits for the next message and none is queued for it, and
            says whether it takes more. All other messages, and all while this is None, take the way of ASGI.
        failed: the code and the reason of the close frame with which the server cut the peer off, if it has.
    """

    hear: Optional[Callable[[bytes], bool]]
    failed: Optional[tuple[int, str]]

    def say(self, message: Union[bytes, str]) -> bool:
        """Send a message now; False, and nothing is sent, if the peer has to read first or the end has begun."""


def shortcut_of(scope: Any) -> Optional[Shortcut]:
    """What a connection offers, if it does."""
    shortcut: Optional[Shortcut] = scope.get("extensions", {}).get(EXTENSION)
    return shortcut
