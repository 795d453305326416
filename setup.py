"""The native CPU kernels as an optional extension; everything else about the package is in pyproject.toml.

The library is plain C to its callers and knows nothing of Python, so it exports no module. Each file of kernels is
compiled for the instructions that it is named after: one build serves every processor of its kind, and the library
picks among them when it is loaded. Without a compiler the package installs all the same and computes with torch.
"""

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("kernels/cpu/src")
# -ffp-contract=off: multiply-adds are written out; what a compiler would fuse besides could differ from loop to loop.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]
LEVELS = {"avx512.cpp": ["-mavx512f", "-mfma"], "avx2.cpp": ["-mavx2", "-mfma"]}


class BuildByLevel(build_ext):
    """Compiles each source with the flags of its level."""

    def build_extension(self, ext: Extension) -> None:
        x86 = platform.machine().lower() in ("x86_64", "amd64")

        def compiled(source: str) -> list[str]:
            flags = FLAGS + (LEVELS.get(Path(source).name, []) if x86 else [])
            return self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=flags)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [path for paths in pool.map(compiled, ext.sources) for path in paths]
        target = self.get_ext_fullpath(ext.name)
        self.compiler.link_shared_object(objects, target, extra_postargs=["-pthread"], target_lang="c++")


setup(
    ext_modules=[
        Extension(
            "streamdrnn.kernels.cpu._native",
            sources=sorted(map(str, SOURCES.glob("*.cpp"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildByLevel},
)
