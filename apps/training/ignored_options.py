"""Options of a recipe that its other options leave without effect: nobody may ask for them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from streamdrnn.errors import InputError


class Options(Protocol):
    """Options of which some may be without effect."""

    def ignored(self) -> tuple[str, Mapping[str, Any]]:
        """The name of that which has no use for some options, and these, each with the value that stands for none."""


T = TypeVar("T", bound=Options)


def refuse_ignored(options: Options) -> None:
    """Raise ``ValueError`` if an option that has no effect was asked for."""
    who, ignored = options.ignored()
    for name, none in ignored.items():
        if getattr(options, name) != none:
            raise InputError(f"{name}: {who} has none, expected {none}")


def without_ignored(options: T, default: T) -> T:
    """The same without the options that have no effect and that the default has: nobody asked for them."""
    _, ignored = options.ignored()
    unasked = {name: none for name, none in ignored.items() if getattr(options, name) == getattr(default, name)}
    return replace(options, **unasked)  # type: ignore[type-var]
