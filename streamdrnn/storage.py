"""Safetensors files, the one format in which models and states are kept: no pickle is ever read."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import Union

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from streamdrnn.errors import InputError

logger = logging.getLogger(__name__)

_LARGEST_HEADER = 2**20
"""Bytes of names, shapes and metadata. A thousand layers have a third of it; the format itself allows a hundred times
as much, which takes gigabytes and minutes to read."""


def write_safetensors(path: Union[str, os.PathLike[str]], tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        ValueError: the metadata are longer than what is read again.
    """
    content = safetensors_content(tensors, metadata)
    _check_header(path, content[:8])
    write_whole(path, content)


def safetensors_content(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file."""
    return save(tensors, metadata=metadata)


def write_whole(path: Union[str, os.PathLike[str]], content: bytes) -> None:
    """Write a file beside its place, then move it there: a reader never sees half a file."""
    target = Path(path)
    logger.debug("writing %s", target)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def read_safetensors(
    path: Union[str, os.PathLike[str]], format_name: str, version: int
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a safetensors file of ours: its metadata and its tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, is truncated, or is of another format or version, or its header is
            longer than any of ours.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    logger.debug("reading %s", path)
    with open(path, "rb") as start:
        _check_header(path, start.read(8))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != format_name:
                raise InputError(f"{path}: not a {format_name} file (its format is {shown(metadata.get('format'))})")
            if metadata.get("version") != str(version):
                raise InputError(f"{path}: version {shown(metadata.get('version'))}, this release reads {version}")
            # Copied, as the file is only mapped into memory: what is written over it later must not change a model.
            return metadata, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged or not a safetensors file ({error})") from None


def shown(value: object) -> str:
    """A value from a file as one line of a message has room for it."""
    text = repr(value)
    return text if len(text) <= 300 else text[:300] + "..."


def _check_header(path: Union[str, os.PathLike[str]], start: bytes) -> None:
    """Refuse a file by its first 8 bytes, in which the format has the header's length."""
    if len(start) == 8 and struct.unpack("<Q", start)[0] > _LARGEST_HEADER:
        raise InputError(f"{path}: damaged or not a safetensors file of ours (a header of more than 1 MiB)")
