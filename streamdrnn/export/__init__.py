"""Models as files that other programs run, without this package: TorchScript, ONNX, ``torch.export``'s archives, and C.

A model leaves as a *step* and a *chunk*, both with all of its state as an explicit input and output, see
``docs/export.md``; in C as a *push* that keeps the state to itself, see ``docs/runtime.md``.
"""

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Dict, Literal, NamedTuple, Optional, Tuple, Union

import torch

from streamdrnn.errors import InputError
from streamdrnn.export.c_folder import describe_in_c, to_c
from streamdrnn.export.description import describe
from streamdrnn.export.onnx_graph import to_onnx
from streamdrnn.export.program import HeadProgram, NetworkProgram, Program
from streamdrnn.export.pt2 import to_pt2
from streamdrnn.export.quiet import quiet
from streamdrnn.export.torchscript import to_torchscript
from streamdrnn.export.tracing import ENTRY_POINTS
from streamdrnn.heads import Head
from streamdrnn.network import Network, check_network, parameter_of
from streamdrnn.storage import write_whole

__all__ = ["Format", "export_model", "export_paths"]

Format = Literal["torchscript", "onnx", "pt2", "c"]


class _Writer(NamedTuple):
    """How a format is written.

    Attributes:
        ending: of its files' names; None where it is a folder, whose name is any.
        contents: the contents of the files that hold a program, by entry point; of a folder, of its files by name.
        entry_points: those that have a file of their own; without any the one file, or folder, has all.
        describe: what gives the description.
    """

    ending: Optional[str]
    contents: Callable[[Program, Dict[str, Any]], Mapping[str, Union[bytes, Mapping[str, bytes]]]]
    entry_points: Tuple[str, ...] = ENTRY_POINTS
    describe: Callable[[Program, Dict[str, str]], Dict[str, Any]] = describe


_WRITERS: Dict[str, _Writer] = {
    "torchscript": _Writer(".pt", to_torchscript, ()),
    "onnx": _Writer(".onnx", to_onnx),
    "pt2": _Writer(".pt2", to_pt2),
    "c": _Writer(None, to_c, (), describe_in_c),
}


def export_model(
    model: Union[Network, Head],
    path: Union[str, os.PathLike[str]],
    format: Format,
    notes: Optional[Dict[str, str]] = None,
    overwrite: bool = False,
) -> Dict[str, Any]:
    """Write a model's step and chunk for programs that do not have this package.

    Args:
        model: the model, float32 or float64; it stays as it is.
        path: the file, or for C the folder. Where a format has a file for each entry point, their names are in front of
            the ending: ``x.onnx`` stands for ``x.step.onnx`` and ``x.chunk.onnx``. Missing folders above are made.
        format: ``"torchscript"``, ``"onnx"``, ``"pt2"`` or ``"c"``.
        notes: what belongs to the model, as :func:`streamdrnn.model_notes` gives it, for the description in the file.
        overwrite: whether files that are there are replaced; others in a folder stay.

    Returns:
        the description that was written.

    Raises:
        FileExistsError: a file is there.
        TypeError, ValueError: the model, the format or the name's ending is none that is known, the format does not
            take the network, or ``onnx`` is not installed.
    """
    files = export_paths(path, format)
    writer = _WRITERS[format]
    if writer.ending is None and Path(path).is_file():
        raise FileExistsError(f"{path}: is a file, expected a folder")
    if not overwrite:
        for file in files.values():
            if file.exists():
                raise FileExistsError(f"{file}: is there already, and not to be overwritten (--overwrite)")
    program = _program(model)
    description = writer.describe(program, notes or {})
    with quiet():
        contents = writer.contents(program, description)
    for entry_point, file in files.items():
        _write(file, contents[entry_point])
    return description


def _write(path: Path, content: Union[bytes, Mapping[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        write_whole(path, content)
        return
    path.mkdir(exist_ok=True)
    for name, part in content.items():
        write_whole(path / name, part)


def export_paths(path: Union[str, os.PathLike[str]], format: Format) -> Dict[str, Path]:
    """The files, or the folder, that :func:`export_model` writes, by entry point; one that has all is under ``""``.

    Raises:
        ValueError: the format is unknown, or the name does not end as its files do.
    """
    if format not in _WRITERS:
        raise InputError(f"format: got {format!r}, expected one of {', '.join(_WRITERS)}")
    path, writer = Path(path), _WRITERS[format]
    if writer.ending is not None and path.suffix != writer.ending:
        raise InputError(f"{path}: expected a name that ends in {writer.ending}, as {format} files do")
    if not writer.entry_points:
        return {"": path}
    return {entry_point: path.with_suffix(f".{entry_point}{path.suffix}") for entry_point in writer.entry_points}


def _program(model: Any) -> Program:
    """A copy of a model as what is exported: for inference, computed by torch's own operations."""
    if not isinstance(model, Head):
        check_network("model", model)
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    rnn = model.rnn if isinstance(model, Head) else model
    dtype = parameter_of(rnn).dtype
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"model: expected float32 or float64 weights, got {dtype}; see model.float()")
    rnn.backend = "torch"
    return HeadProgram(model).eval() if isinstance(model, Head) else NetworkProgram(model).eval()
