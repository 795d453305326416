"""The native CPU kernels as an optional extension; everything else about the package is in pyproject.toml.

The library is plain C to its callers and knows nothing of Python, so it exports no module, and one wheel serves every
version of Python. Each file of kernels is compiled for the instructions that it is named after: one build serves every
processor of its kind, and the library picks among them when it is loaded. Without a compiler the package installs all
the same and computes with torch; a wheel of it is one for every machine.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sysconfig import get_platform

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NAME = "streamdrnn.kernels.cpu._native"
# Through the link in a clone; a source distribution has folders in the places of links.
FOLDER = Path("streamdrnn/kernels/cpu")
OLD_SYMBOLS = FOLDER / "old_symbols.h"
# -ffp-contract=off: multiply-adds are written out; what a compiler would fuse besides could differ from loop to loop.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]
FLAGS += ["-include", str(OLD_SYMBOLS)]
LEVELS = {"avx512.cpp": ["-mavx512f", "-mfma"], "avx2.cpp": ["-mavx2", "-mfma"]}


class BuildByLevel(build_ext):
    """Compiles each source with the flags of its level."""

    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', os.sep)}.so"

    def build_extension(self, ext: Extension) -> None:
        x86 = get_platform().endswith(("x86_64", "amd64"))

        def compiled(source: str) -> list[str]:
            flags = FLAGS + (LEVELS.get(Path(source).name, []) if x86 else [])
            return self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=flags)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [path for paths in pool.map(compiled, ext.sources) for path in paths]
        target = self.get_ext_fullpath(ext.name)
        self.compiler.link_shared_object(objects, target, extra_postargs=["-pthread"], target_lang="c++")


class WheelForEveryPython(bdist_wheel):
    """A wheel that is named after the machine if it has the library, and after nothing if it has not."""

    def run(self) -> None:
        self.run_command("build")
        self.skip_build = True
        if not Path(self.get_finalized_command("build_ext").get_ext_fullpath(NAME)).is_file():
            self.distribution.ext_modules = None
            self.root_is_pure = True
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        *_, platform = super().get_tag()
        return "py3", "none", platform


setup(
    ext_modules=[
        Extension(
            NAME,
            sources=sorted(map(str, FOLDER.glob("src/*.cpp"))),
            depends=sorted(map(str, [*FOLDER.glob("src/*.h"), OLD_SYMBOLS])),
            optional=True,
        )
    ],
    cmdclass={"bdist_wheel": WheelForEveryPython, "build_ext": BuildByLevel},
)
