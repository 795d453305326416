"""Who may use a server: those who know one of its tokens."""

import hashlib
import hmac
from pathlib import Path
from typing import Optional, Self

from streamdrnn.errors import InputError

SHORTEST = 16


class Tokens:
    """Tokens, of which only digests are kept: all of one length, so that comparing them tells nothing of theirs.

    Args:
        tokens: none of them means that everybody may.
    """

    def __init__(self, tokens: list[str], path: Optional[Path] = None) -> None:
        self._digests = [_digest(token) for token in tokens]
        self._path = path

    @classmethod
    def read(cls, path: Optional[Path]) -> Self:
        """The tokens in a file, one a line; empty lines and lines that begin with # are none. None is no file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has no token, or one that is too short to be hard to guess.
        """
        return cls([] if path is None else _read(path), path)

    def reload(self) -> None:
        """Read the file again; raises as :meth:`read`, and then those from before go on."""
        if self._path is not None:
            self._digests = [_digest(token) for token in _read(self._path)]

    def allow(self, token: object) -> bool:
        """Whether somebody with this token may, found in a time that says nothing of the right ones."""
        if not self._digests:
            return True
        given = _digest(token if isinstance(token, str) else "")
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0  # all are compared, always


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _read(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a text file with one token a line") from None
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise InputError(f"{path}: has no token; expected one a line")
    if any(len(token) < SHORTEST for token in tokens):
        raise InputError(f"{path}: has a token of fewer than {SHORTEST} characters, which could be guessed")
    return tokens
