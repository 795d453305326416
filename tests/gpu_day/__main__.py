"""``make gpu-day``: what a GPU lent for nine minutes can tell of the kernels, riskiest first, in a folder of few files.

It needs torch, triton, numpy, safetensors, pytest and hypothesis, and a folder of wheels for what else is imported.
Tests that need more (audio, browsers, other people's libraries) are left out by name. Without a GPU it is a rehearsal:
Triton's interpreter runs the tests.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.gpu_day.stages import Outcome, Stage, joined, keep, run_all

ROOT = Path(__file__).parents[2]
SECONDS = 520.0
"""In all; nine minutes have some left for what is before and after the stages."""

SKEWED, BY_PHASES = {"STREAMDRNN_SKEWED": "1"}, {"STREAMDRNN_SKEWED": "0"}
TESTS = [f"tests/kernels/test_gpu_{name}.py" for name in ("device", "stream", "scan", "op", "newton")]
"""In the order of risk; those of one layer before those of stacks."""
SKEWED_TESTS = ["tests/kernels/test_gpu_skewed.py", TESTS[0], f"{TESTS[1]}::test_a_graph_replays_the_step"]
"""Other tests of streams are about the kernel that steps them by phases."""

PACKAGES = ("torch", "triton", "numpy", "safetensors", "pytest", "hypothesis", "tyro", "flashrnn")
TOOLS = ("/usr/local/cuda/bin", "/opt/nvidia/nsight-compute", "/usr/local/cuda/compute-sanitizer")
"""Where NVIDIA's tools are, if not among the programs."""
BENCHES = ("bench", "bench-skewed")
KERNELS = "regex:^(forward|backward|step|linear)$"


def stages(work: Path, out: Path, packages: Path, parts: int, capability: str, gpu: bool) -> list[Stage]:
    """What is done, in order; the seconds are the budgets."""
    python = sys.executable

    def tests(name: str, files: Sequence[str], seconds: float, **environment: str) -> Stage:
        options = ["-v", "--tb=short", "--maxfail=1000", "-p", "no:cacheprovider", "-p", "tests.gpu_day.part", *files]
        numbered = [(number, f"{number}/{parts}") for number in range(1, parts + 1)]
        commands = [
            [python, "-m", "pytest", *options, "--part", part, f"--junit-xml={work / f'{name}-{number:02}.xml'}"]
            for number, part in numbered
        ]
        return Stage(name, seconds, commands, environment)

    def watched(name: str, seconds: float, tool: str, *options: str) -> Stage:
        found = shutil.which(
            tool, path=os.pathsep.join([os.environ.get("PATH", ""), *TOOLS, *folders_of(tool, packages)])
        )
        why_not = "" if gpu else "there is no GPU"
        why_not = why_not if found else f"{tool} is not installed" + (f", and {why_not}" if why_not else "")
        command = [found or tool, *options, python, "-m", "tests.gpu_day.small_launches"]
        return Stage(name, seconds, [command], why_not=why_not)

    def headline(name: str, **environment: str) -> Stage:
        command = [python, "-m", "tests.gpu_day.headline", "55", str(out / f"{name}.json")]
        return Stage(name, 75, [command], environment)

    compiled = [python, "-m", "tests.kernels.compile_kernels", capability, "skewed", "forward", "backward", "step"]
    sanitizer = ("--target-processes=all", "--print-limit=20", "--error-exitcode=9")
    metrics = "gpu__time_duration.sum,launch__registers_per_thread,sm__cycles_active.avg,smsp__inst_executed.sum"
    compilers = [[*compiled, f"{number}/{parts}"] for number in range(1, parts + 1)]
    compilers += [[python, "-m", "tests.gpu_day.small_launches"]] if gpu else []  # for the tools that launch them again
    return [
        Stage("compile", 60, compilers),
        tests("tests-skewed", SKEWED_TESTS, 110, **SKEWED),
        tests("tests", TESTS, 85, **BY_PHASES),
        headline(BENCHES[0], **BY_PHASES),
        headline(BENCHES[1], **SKEWED),
        watched("memcheck", 40, "compute-sanitizer", "--tool=memcheck", *sanitizer),
        watched("racecheck", 40, "compute-sanitizer", "--tool=racecheck", *sanitizer),
        watched("profile", 35, "ncu", "--csv", "--page=raw", f"--kernel-name={KERNELS}", f"--metrics={metrics}"),
    ]


def folders_of(tool: str, packages: Path) -> Iterator[str]:
    """Where a wheel has brought a tool, which is made executable: a wheel's files are not."""
    for found in packages.rglob(tool):
        if found.is_file():
            found.chmod(0o755)
            yield str(found.parent)


def unpack(wheels: Path, packages: Path) -> None:
    """Wheels as a folder of Python's path. They are not installed, so that the machine stays as it is."""
    for wheel in sorted(wheels.glob("*.whl")):
        try:
            with zipfile.ZipFile(wheel) as file:
                file.extractall(packages)
        except zipfile.BadZipFile:
            sys.exit(f"gpu-day: {wheel}: expected a wheel, got another kind of file")


def facts(gpu: bool) -> list[str]:
    """The machine, for the summary."""
    import torch

    name = torch.cuda.get_device_name() if gpu else "none: this is a rehearsal, and no result is a GPU's"
    return [
        f"GPU: {name}",
        f"cores: {os.cpu_count()}",
        f"python: {platform.python_version()}",
        *map(version_of, PACKAGES),
    ]


def version_of(package: str) -> str:
    try:
        return f"{package}: {version(package)}"
    except PackageNotFoundError:
        return f"{package}: not installed"


class Day:
    """The folder of results, whose summary is written after each stage."""

    def __init__(self, out: Path, work: Path, heading: Sequence[str]) -> None:
        self.out, self.work = out, work
        self.heading = ["# GPU day", "", *(f"- {line}" for line in heading), ""]
        self.heading += ["| stage | budget, s | took, s | ended |", "| --- | ---: | ---: | --- |"]
        self.rows: list[str] = []
        self.details: list[str] = []
        self.log = ""
        self.failed = False
        for name in BENCHES:  # another day's, which a benchmark that fails would leave
            (out / f"{name}.json").unlink(missing_ok=True)

    def ended(self, outcome: Outcome) -> None:
        """Take down what a stage gave."""
        name = outcome.name
        self.failed |= outcome.ended != "done" and not outcome.ended.startswith("not run")
        self.rows.append(f"| {name} | {outcome.budget:.0f} | {outcome.took:.0f} | {outcome.ended} |")
        print(f"{name}: {outcome.ended} ({outcome.took:.0f} s)", flush=True)
        self.log += f"===== {name}: {outcome.ended}\n{outcome.output}\n"
        keep(self.out / "log.txt", self.log)
        try:
            self.results(outcome)
        except Exception as error:  # whatever a stage has left, the next one is to run
            self.failed = True
            self.details += ["", f"{name}: its results cannot be read: {type(error).__name__}: {error}"]
        keep(self.out / "summary.md", "\n".join([*self.heading, *self.rows, *self.details]) + "\n")

    def results(self, outcome: Outcome) -> None:
        name = outcome.name
        if name == "compile":
            self.kernels(outcome.output)
        elif name.startswith("tests"):
            self.tests(name)
        elif name.startswith("bench"):
            self.times(name)
        elif outcome.output:
            last = [line for line in outcome.output.splitlines() if "SUMMARY" in line or line.startswith("==ERROR==")]
            self.details += ["", f"{name}: {'; '.join(last) or 'no summary'}"]
        if name == "profile" and outcome.output:
            keep(self.out / "profile.csv", outcome.output)

    def kernels(self, output: str) -> None:
        # The others are words of the compiler, or were cut off with their process.
        lines = [line for line in output.splitlines() if line.startswith("{") and line.endswith("}")]
        keep(self.out / "kernels.jsonl", "".join(f"{line}\n" for line in lines))
        spilled = sum(json.loads(line)["spill_stores"] > 0 for line in lines)
        self.details += ["", f"compile: {len(lines)} kernels, {spilled} with spilled registers"]

    def tests(self, name: str) -> None:
        reports = sorted(self.work.glob(f"{name}-[0-9]*.xml"))
        text, counts, failed = joined(reports)
        keep(self.out / f"{name}.xml", text)
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        self.details += ["", f"{name}: {said}, in {len(reports)} reports", "", *(f"- {one}" for one in failed[:100])]

    def times(self, name: str) -> None:
        file = self.out / f"{name}.json"
        if not file.exists():
            return
        tables = json.loads(file.read_text(encoding="utf-8"))["tables"]
        self.details += [
            "",
            f"{name}:",
            "",
            "| suite | work | cell | precision | contender | |",
            "| --- " * 5 + "| ---: |",
        ]
        for suite, table in tables.items():
            for row in table["rows"]:
                time = next(
                    (f"{row[key]:.4g} {unit}" for key, unit in (("ms", "ms"), ("p50_us", "us")) if row.get(key)), ""
                )
                if "contender" in row and (time or row.get("why_not")):
                    work = row.get("work", row.get("streams"))
                    cells = (suite, work, row["cell"], row["precision"], row["contender"], time or row["why_not"])
                    self.details.append(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make gpu-day", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder of results: at most 8 files of at most 16 MiB")
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="a folder of wheels")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="in all")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    if out.exists() and not out.is_dir():
        parser.error(f"{out}: expected a folder, got a file")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work, packages = Path(folder), Path(folder) / "packages"
        packages.mkdir()
        unpack(arguments.wheels, packages)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(packages), os.environ.get("PYTHONPATH", "")])
        os.environ |= {"TRITON_CACHE_DIR": str(work / "triton"), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        sys.path[:0] = [str(ROOT), str(packages)]
        os.chdir(ROOT)
        missing = [name for name in PACKAGES[:-1] if importlib.util.find_spec(name) is None]
        if missing:
            sys.exit(f"gpu-day: {', '.join(missing)}: not installed, and no wheel in {arguments.wheels}")
        import torch

        gpu = torch.cuda.is_available()
        capability = "".join(map(str, torch.cuda.get_device_capability())) if gpu else "90"
        day = Day(out, work, facts(gpu))
        parts = len(os.sched_getaffinity(0))
        run_all(stages(work, day.out, packages, parts, capability, gpu), arguments.seconds, day.ended)
    print(f"see {out / 'summary.md'}")
    sys.exit(1 if day.failed else 0)


if __name__ == "__main__":
    main()
