"""Installs the wheel in a folder (``dist``) that fits this machine into an empty environment, and runs the demo there.

    python .ci/try_wheel.py [FOLDER]

What it depends on comes from the package index, in the versions of constraints.txt.
"""

import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def wheel_for_this_machine(folder: Path) -> Path:
    """The one with native kernels if there is one, else the one for every machine."""
    endings = [f"_{platform.machine()}"] if sys.platform == "linux" else []
    for ending in (*endings, "-any"):
        if found := [path for path in folder.glob("*.whl") if path.stem.endswith(ending)]:
            break
    if len(found) != 1:
        sys.exit(f"{folder}: expected one wheel for this machine, got {[path.name for path in found]}")
    return found[0].resolve()


def main() -> None:
    wheel = wheel_for_this_machine(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")

        def run(program: str, *words: str) -> None:
            print("+", program, *words, flush=True)
            subprocess.run([str(programs / program), *words], cwd=folder, check=True)

        run("python", "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel))
        run("python", "-c", "import sys; from streamdrnn import kernels; print(sys.version, kernels.available())")
        run("streamdrnn", "demo")


if __name__ == "__main__":
    main()
