"""The C library: it builds by make and by CMake, needs nothing but libc and libm, and its bits are those of Python.

The program that runs models is ``native/live.c``, in plain C.
"""

import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, StreamingDRNN, Tagger, __version__, save_model
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.audio import MFCC, LogMel, RawWaveform, load_audio
from streamdrnn.kernels.cpu.processor import levels, use_level
from tests.compiling import COMPILER, OPTIMIZED, SOURCES, call, needs_compiler
from tests.properties.models import KINDS, build
from tests.strategies import CELLS, Network, randn

pytestmark = [*needs_compiler, pytest.mark.skipif(not shutil.which("make"), reason="there is no make")]

HERE = Path(__file__).parent / "native"
LIBRARY = SOURCES.parent
EXAMPLES = LIBRARY.parents[1] / "examples" / "c"
WARNINGS = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
# Of libc and libm: no locks, no threads, no files.
MEMORY = {"malloc", "calloc", "aligned_alloc", "free", "madvise"}
BYTES = {"memcmp", "memcpy", "memmove", "memset", "qsort"}
TEXT = {"strchr", "strcmp", "strcpy", "strlen", "snprintf", "vsnprintf"}
ARITHMETIC = {"cos", "sin", "sincos", "exp", "log", "log10", "ldexp", "sqrt"}


class Library(NamedTuple):
    """The library as it was installed, and the program of ``live.c`` that is linked with it by these flags."""

    folder: Path
    program: Path
    flags: Sequence[str]
    emulator: Sequence[str] = ()

    def run(self, x: Tensor, *models: tuple[str, Path], chunk: int, mode: str = "strict") -> list[float]:
        """The outputs of models that hear x ``(N, B)`` or ``(T, B, I)`` in turns, one after the other."""
        done = self.process(x, *models, chunk=chunk, mode=mode)
        assert done.returncode == 0, done.stderr.decode()
        return torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).tolist()

    def process(
        self, x: Tensor, *models: tuple[str, Path], chunk: int, mode: str
    ) -> subprocess.CompletedProcess[bytes]:
        command = [*self.emulator, str(self.program), mode, str(chunk), str(x.shape[1])]
        command += [str(word) for model in models for word in model]
        return subprocess.run(command, input=x.numpy().tobytes(), capture_output=True, check=False, timeout=240)


def installed(folder: Path, *variables: str) -> Path:
    variables = (f"BUILD={folder}/build", f"PREFIX={folder}", f"CXXFLAGS={OPTIMIZED}", *variables)
    call("make", "-C", LIBRARY, *variables, "install")
    return folder


def linked(folder: Path, *flags: str, compiler: str = "cc") -> Library:
    program, flags = folder / "live", (f"-L{folder}/lib", *flags)
    call(compiler, *WARNINGS, f"-I{folder}/include", HERE / "live.c", *flags, "-o", program)
    return Library(folder, program, flags)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = installed(tmp_path_factory.mktemp("library"))
    return linked(folder, f"-Wl,-rpath,{folder}/lib", "-lstreamdrnn", "-lm")


FRONTS = {
    "raw": RawWaveform(3),
    "log-mel": LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8),
    "MFCC": MFCC(n_fft=60, win_length=60, hop_length=25, n_mels=12, n_mfcc=5, deltas=2),
}


def audio_models() -> list[Any]:
    """One of each front-end, under one of each head."""
    torch.manual_seed(1)
    raw, mel, mfcc = FRONTS.values()
    models = [
        Tagger(DilatedRNN(raw.num_features, 7, dilations=[1, 2, 4]), 3, raw),
        SpeakerEmbedder(DilatedRNN(mel.num_features, 20, dilations=[3, 1], cell="lstm"), 6, mel),
        Classifier(DilatedRNN(mfcc.num_features, [5, 9], dilations=[1, 2], cell="rnn"), 2, "mean", mfcc),
    ]
    for model in models:
        model.feature_mean.normal_()
        model.feature_std.uniform_(0.5, 2)
    return models


def saved(models: Sequence[Any], folder: Path) -> list[Path]:
    files = [folder / f"{i}.safetensors" for i in range(len(models))]
    for model, file in zip(models, files, strict=True):
        save_model(model, file)
    return files


def in_python(model: Any, x: Tensor, level: str) -> list[float]:
    with use_level(level):
        values: list[float] = StreamingDRNN(model, x.shape[1]).push(x).flatten().tolist()
    return values


def audio(N: int, B: int) -> Tensor:
    return randn(N, B, seed=3, dtype=torch.float32) / 4


def test_the_shared_library_needs_libc_and_libm_alone(library: Library) -> None:
    shared = library.folder / "lib" / "libstreamdrnn.so"
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", call("readelf", "-d", shared).stdout))
    assert needed == {"libc.so.6", "libm.so.6"}
    used = [line.split() for line in call("nm", "-D", "-P", "--undefined-only", shared).stdout.splitlines()]
    assert {name.split("@")[0] for name, kind, *_ in used if kind == "U"} <= MEMORY | BYTES | TEXT | ARITHMETIC


def functions(library: Library) -> set[str]:
    """Those that the header declares."""
    header = (library.folder / "include" / "streamdrnn.h").read_text("utf-8")
    return set(re.findall(r"^\w.*?[ *](streamdrnn_\w+)\(", header, re.MULTILINE))


def test_its_functions_are_those_of_its_header(library: Library) -> None:
    shared = library.folder / "lib" / "libstreamdrnn.so"
    exported = {line.split()[0] for line in call("nm", "-D", "-P", "--defined-only", shared).stdout.splitlines()}
    assert exported == functions(library)
    assert len(exported) == 15


def test_it_has_nothing_that_is_written(library: Library) -> None:
    """No globals, and no code that runs when it is loaded."""
    sections = call("size", "-A", library.folder / "lib" / "libstreamdrnn.a").stdout
    sizes = re.findall(r"^(\.\S+) +(\d+)", sections, re.MULTILINE)
    assert len(sizes) > 20
    written = (".data", ".bss", ".tdata", ".tbss", ".init_array", ".ctors")
    kept = [(name, size) for name, size in sizes if name.startswith(written) and not name.startswith(".data.rel.ro")]
    assert {size for _, size in kept} == {"0"}


def test_the_static_library_is_linked_by_a_c_compiler(library: Library, tmp_path: Path) -> None:
    program = tmp_path / "live"
    flags = [f"{library.folder}/lib/libstreamdrnn.a", "-lm"]
    call("cc", *WARNINGS, f"-I{library.folder}/include", HERE / "live.c", *flags, "-o", program)
    (model,), x = audio_models()[:1], audio(50, 1)
    (file,) = saved([model], tmp_path)
    static = library._replace(program=program)
    assert static.run(x, ("portable", file), chunk=7) == in_python(model, x, "portable")


@pytest.mark.parametrize("chunk", [1, 17, 1000])
def test_audio_models_of_several_levels_beside_each_other_give_pythons_bits(
    chunk: int, library: Library, tmp_path: Path
) -> None:
    """In real time: without memory being taken, and without calls of the system."""
    models, x = audio_models(), audio(1000, 2)
    files = saved(models, tmp_path)
    every = [(level, model, file) for level in levels() for model, file in zip(models, files, strict=True)]
    together = library.run(x, *[(level, file) for level, _, file in every], chunk=chunk)
    assert together == [value for level, model, _ in every for value in in_python(model, x, level)]


@pytest.mark.parametrize("kind", KINDS)
def test_models_without_a_front_end_give_pythons_bits(kind: str, library: Library, tmp_path: Path) -> None:
    networks = [Network(3, (6, 17), (2, 3), cell, dtype=torch.float32) for cell in CELLS]
    models = [build(kind, network, "cpu") for network in networks]
    files, x = saved(models, tmp_path), networks[0].x(30, 3)
    level = levels()[0]
    outputs = library.run(x, *[(level, file) for file in files], chunk=4)
    assert outputs == [value for model in models for value in in_python(model, x, level)]


@pytest.mark.parametrize(("mode", "code", "why"), [("memory", 3, "took memory\n"), ("system", -signal.SIGKILL, "")])
def test_what_is_not_real_time_would_be_stopped(
    mode: str, code: int, why: str, library: Library, tmp_path: Path
) -> None:
    """The test of the tests above."""
    (file,) = saved(audio_models()[:1], tmp_path)
    done = library.process(audio(10, 1), ("portable", file), chunk=10, mode=mode)
    assert (done.returncode, done.stderr.decode()) == (code, why)


def test_the_example_in_c_prints_pythons_bits(library: Library, tmp_path: Path) -> None:
    program = tmp_path / "stream"
    call("cc", *WARNINGS, f"-I{library.folder}/include", EXAMPLES / "stream.c", *library.flags, "-o", program)
    model, x = audio_models()[1], audio(1000, 1)
    (file,) = saved([model], tmp_path)
    done = subprocess.run([program, file], input=x.numpy().tobytes(), capture_output=True, check=True, timeout=60)
    values = [float(word) for word in done.stdout.split()]
    assert torch.tensor(values, dtype=torch.float32).tolist() == in_python(model, x, levels()[0])
    assert done.stdout.count(b"\n") == (1000 - 64) // 20 + 1
    refused = call(program, HERE / "live.c", check=False)
    assert (refused.returncode, refused.stderr) == (1, "damaged or not a safetensors file\n")


def test_the_example_of_an_audio_callback_knows_a_voice_again(library: Library, tmp_path: Path) -> None:
    program, shipped = tmp_path / "audio_callback", asset("speaker.safetensors")
    warnings = ["-std=c++17", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
    source = EXAMPLES / "audio_callback.cpp"
    call(*COMPILER, *warnings, f"-I{library.folder}/include", source, *library.flags, "-o", program)
    for name in ("heather", "paul"):
        samples = load_audio(asset(f"{name}.flac"), 16000)
        (tmp_path / f"{name}, first").write_bytes(samples[:48000].numpy().tobytes())
        (tmp_path / f"{name}, later").write_bytes(samples[48000:].numpy().tobytes())

    def similarity(known: str, heard: str) -> float:
        return float(call(program, shipped, tmp_path / known, tmp_path / heard).stdout)

    own, other = (similarity("heather, first", f"{name}, later") for name in ("heather", "paul"))
    assert own > 0.5
    assert other < own - 0.2


MAIN_OF_THE_GUIDE = """
#include <stdio.h>
#include <stdlib.h>
#include <streamdrnn.h>
static int run(const void *bytes, size_t size) {
%s
printf("%%d steps\\n", (int)(last - first));
return 0;
}
int main(void) {
    static char file[1 << 24];
    return run(file, fread(file, 1, sizeof file, stdin));
}
"""


def test_the_guides_code_runs(library: Library, tmp_path: Path) -> None:
    guide = (EXAMPLES.parents[1] / "docs" / "runtime.md").read_text("utf-8")
    (code,) = re.findall(r"```c\n(.*?)```", guide, re.DOTALL)
    assert set(re.findall(r"streamdrnn_\w+(?=\()", code)) == functions(library) - {"streamdrnn_model_level"}
    (tmp_path / "main.c").write_text(MAIN_OF_THE_GUIDE % code)
    call("cc", *WARNINGS, f"-I{library.folder}/include", tmp_path / "main.c", *library.flags, "-o", tmp_path / "main")
    model = asset("speaker.safetensors").read_bytes()
    done = subprocess.run([tmp_path / "main"], input=model, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"3 steps\n")


@pytest.mark.skipif(not shutil.which("cmake"), reason="there is no cmake")
def test_a_project_in_c_finds_its_cmake_package(tmp_path: Path) -> None:
    made, project = tmp_path / "made", tmp_path / "project"
    configure = ["-DCMAKE_BUILD_TYPE=Debug", "-DBUILD_SHARED_LIBS=ON", f"-DCMAKE_INSTALL_PREFIX={tmp_path}"]
    call("cmake", "-S", LIBRARY, "-B", made, *configure)
    call("cmake", "--build", made, "--parallel", "2")
    call("cmake", "--install", made)
    project.mkdir()
    (project / "main.c").write_text(
        "#include <streamdrnn.h>\n#include <stdio.h>\nint main(void) { return puts(streamdrnn_message(2)) < 0; }\n"
    )
    (project / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.16)\nproject(user C)\nfind_package(streamdrnn {__version__} REQUIRED)\n"
        "add_executable(user main.c)\ntarget_link_libraries(user streamdrnn::streamdrnn)\n"
    )
    call("cmake", "-S", project, "-B", project / "made", f"-DCMAKE_PREFIX_PATH={tmp_path}")
    call("cmake", "--build", project / "made")
    assert call(project / "made" / "user").stdout == "not enough memory\n"


ARM64 = "aarch64-linux-gnu"
lacking = [name for name in (f"{ARM64}-g++", "qemu-aarch64-static") if not shutil.which(name)]


@pytest.mark.skipif(bool(lacking), reason=f"there is no {', '.join(lacking)}")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares another machine with this one")
def test_on_arm64_the_numbers_are_those_of_x86_to_rounding(library: Library, tmp_path: Path) -> None:
    tools = [f"CXX={ARM64}-g++", f"CC={ARM64}-gcc", f"AR={ARM64}-ar"]
    folder = installed(tmp_path, *tools)
    arm64 = linked(folder, "-static", "-lstreamdrnn", "-lm", compiler=f"{ARM64}-gcc")._replace(
        emulator=["qemu-aarch64-static"]
    )
    models, x = audio_models(), audio(1000, 2)
    files = [("portable", file) for file in saved(models, tmp_path)]
    here, there = library.run(x, *files, chunk=100), arm64.run(x, *files, chunk=100, mode="free")
    relative_rms = (torch.tensor(there) - torch.tensor(here)).norm() / torch.tensor(here).norm()
    assert relative_rms < 1e-6
    assert arm64.run(x, *files, chunk=37, mode="free") == there
