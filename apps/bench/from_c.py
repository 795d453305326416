"""Single steps from C++: our C library beside RTNeural, whose layers are compiled for their sizes.

RTNeural is compiled from a folder of the user's, with the flags that its users take for speed.
"""

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import weakref
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.apps.bench.agreement import Errors, errors_of
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.comparison import Contender
from streamdrnn.apps.bench.contenders import OURS, torch_twin
from streamdrnn.apps.bench.jobs import new_model
from streamdrnn.apps.bench.peers import CannotRunError
from streamdrnn.apps.bench.target import Target
from streamdrnn.apps.bench.workloads import Case
from streamdrnn.checkpoint import model_content
from streamdrnn.errors import InputError
from streamdrnn.kernels import CELLS, cpu
from streamdrnn.kernels.cpu import library

SOURCE = Path(__file__).with_suffix(".cpp")
# As RTNeural's users compile. What -ffast-math would link is left out: it changes arithmetic in the whole process.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffast-math", "-DNDEBUG", "-fPIC", "-w")


class Backend(NamedTuple):
    """Of RTNeural.

    Attributes:
        flags: of the compiler, beside :data:`FLAGS`.
        headers: what it includes of other libraries, in RTNeural's folder.
    """

    flags: tuple[str, ...]
    headers: Optional[str] = None


BACKENDS = {
    # Weights that lie in the object itself may have any size.
    "RTNeural Eigen": Backend(
        ("-DRTNEURAL_USE_EIGEN=1", "-DRTNEURAL_DEFAULT_ALIGNMENT=32", "-DEIGEN_STACK_ALLOCATION_LIMIT=0"),
        "modules/Eigen",
    ),
    # The alignment of the widest vectors that there are: it copies them to arrays.
    "RTNeural xsimd": Backend(("-DRTNEURAL_USE_XSIMD=1", "-DRTNEURAL_DEFAULT_ALIGNMENT=64"), "modules/xsimd/include"),
    "RTNeural STL": Backend(("-DRTNEURAL_DEFAULT_ALIGNMENT=16",)),
}


def check_folder(folder: Path) -> None:
    """Raise unless RTNeural can be compiled from it.

    Raises:
        InputError: it is another folder, or the native kernels or a compiler are missing.
    """
    if not (folder / "RTNeural" / "RTNeural.h").is_file():
        raise InputError(f"--rtneural {folder}: expected a copy of RTNeural's repository, with RTNeural/RTNeural.h")
    if why := cpu.why_not():
        raise InputError(f"--rtneural needs the native kernels: {why}")
    if not compiler():
        raise InputError("--rtneural needs a C++ compiler: g++, clang++ or what CXX names")


def contenders(case: Case) -> tuple[str, ...]:
    """Who computes it: RTNeural has no layers with dilations."""
    return (OURS, *BACKENDS) if case.workload.layers == 1 else (OURS,)


class FromC:
    """``case.workload.steps`` single steps of one stream, in a loop of a C++ program.

    Args:
        folder: RTNeural's.
        sizes: I and H of all layers that are measured: they are compiled together.
    """

    def __init__(self, target: Target, case: Case, folder: Path, sizes: Sequence[tuple[int, int]]) -> None:
        self._model = new_model(target, case)
        self._case, self._folder, self._sizes = case, folder, tuple(sizes)
        self._x = case.workload.input()
        self._y = torch.empty(*self._x.shape[:2], case.workload.hidden, dtype=torch.float32, device="cpu")
        with torch.inference_mode():
            self._expected, _ = torch_twin(self._model, torch.float64)(self._x.double())

    def contender(self, name: str, precision: Precision) -> Contender:
        if name == OURS:
            functions = compiled(self._folder, "RTNeural STL", self._sizes)
            content = model_content(self._model)
            made = functions.ours_new(content, len(content))
        else:
            functions = compiled(self._folder, name, self._sizes)
            weights = (c_void_p * 4)(*(weight.data_ptr() for weight in self._model.parameters()))
            workload = self._case.workload
            made = functions.rtneural_new(CELLS[self._case.cell].gates, workload.inputs, workload.hidden, weights)
        if not made:
            raise ValueError(f"{name}: no steps of {self._case.workload}")
        steps = Steps(functions, made)
        return Contender(lambda: self._errors(steps), lambda: steps(self._x, self._y))

    def _errors(self, steps: "Steps") -> Errors:
        steps(self._x, self._y)
        return errors_of([self._y], [self._expected])


class Steps:
    """A stream and its C++ loop."""

    def __init__(self, functions: ctypes.CDLL, made: int) -> None:
        self._run, self._made = functions.steps_run, made
        weakref.finalize(self, functions.steps_free, made)

    def __call__(self, x: Tensor, y: Tensor) -> None:
        """x ``(T, 1, I)`` to y ``(T, 1, H)``; the stream goes on."""
        self._run(self._made, x.shape[0], x.data_ptr(), y.data_ptr())


@cache
def compiled(folder: Path, name: str, sizes: tuple[tuple[int, int], ...]) -> ctypes.CDLL:
    """The program for a backend of RTNeural, as a library.

    Raises:
        CannotRunError: what the backend includes is missing, or it does not compile.
    """
    backend = BACKENDS[name]
    native = library.find()
    assert native is not None
    includes = [native.parent / "src", folder]
    if backend.headers is not None:
        includes.append(folder / backend.headers)
        if not includes[-1].is_dir() or not any(includes[-1].iterdir()):
            raise CannotRunError(f"{backend.headers} is not in RTNeural's folder: git submodule update --init")
    listed = f"-DSTREAMDRNN_SIZES={' '.join(f'SIZE({inputs}, {hidden})' for inputs, hidden in sizes)}"
    with TemporaryDirectory() as scratch:
        made, linked = Path(scratch, "from_c.o"), Path(scratch, "from_c.so")
        try:
            call(*FLAGS, *backend.flags, *(f"-I{include}" for include in includes), listed, "-c", SOURCE, "-o", made)
            call("-shared", made, native, "-o", linked)
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            raise CannotRunError("it does not compile here") from None
        functions = ctypes.CDLL(str(linked))
    functions.ours_new.restype, functions.ours_new.argtypes = c_void_p, [c_char_p, c_size_t]
    functions.rtneural_new.restype = c_void_p
    functions.rtneural_new.argtypes = [c_int, c_int, c_int, POINTER(c_void_p)]
    functions.steps_run.restype, functions.steps_run.argtypes = None, [c_void_p, c_int64, c_void_p, c_void_p]
    functions.steps_free.restype, functions.steps_free.argtypes = None, [c_void_p]
    return functions


def compiler() -> list[str]:
    """The command, or nothing."""
    named = shlex.split(os.environ.get("CXX", ""))
    return named or [path for one in ("g++", "clang++", "c++") if (path := shutil.which(one))][:1]


def call(*arguments: object) -> None:
    """Call the compiler.

    Raises:
        CalledProcessError: it fails.
    """
    subprocess.run([*compiler(), *map(str, arguments)], check=True, capture_output=True, text=True)
