"""The day's budgets, and what is left of it where something fails or hangs. No test of the kernels is run here."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamdrnn.apps.bench import suites
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.workloads import QUICK_GPU
from tests.apps.bench.stand_in import STAND_IN
from tests.gpu_day import __main__ as day
from tests.gpu_day import headline, part, small_launches
from tests.gpu_day import stages as stages_module
from tests.gpu_day.stages import MOST_BYTES, Outcome, Stage, joined, keep, run, run_all, share
from tests.kernels.cases import needs_triton

NINE_MINUTES = 540


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


SLEEP = "import time; print('asleep', flush=True); time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SLEEP}"


@pytest.fixture
def _little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_module, "GRACE", 0.2)


def test_what_a_stage_leaves_is_for_those_after_it() -> None:
    assert share(100, [20, 30, 50]) == 20
    assert share(95, [30, 50]) > 30
    assert share(70, [50]) == 70
    assert share(-1, [50]) == 0


def test_a_stage_tells_how_it_ended_and_what_was_printed() -> None:
    done = run(Stage("one", 9, [python("print('first')"), python("print('second')")]), 60)
    assert (done.ended, done.output, done.budget) == ("done", "first\nsecond\n", 60)
    assert run(Stage("one", 9, [python("1/0"), python("")]), 60).ended == "exit codes 1: 1, 0: 1"
    skipped = run(Stage("one", 9, [python("print('ran')")], why_not="there is no GPU"), 60)
    assert skipped == Outcome("one", 60, 0.0, "not run: there is no GPU", "")
    told = run(Stage("one", 9, [python("import os; print(os.environ['WORD'])")], {"WORD": "told"}), 60)
    assert told.output == "told\n"


@pytest.mark.usefixtures("_little_grace")
@pytest.mark.parametrize("program", [SLEEP, DEAF], ids=["asleep", "deaf"])
def test_a_stage_stops_at_its_budget(program: str) -> None:
    start = time.monotonic()
    stopped = run(Stage("one", 9, [python(program), python("")]), 2.0)
    assert time.monotonic() - start < 30
    assert stopped.ended == "stopped at its budget: 1 of 2 processes"
    assert stopped.output.startswith("asleep")


def test_who_interrupts_the_day_interrupts_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(processes: list[subprocess.Popen[bytes]], until: float) -> None:
        started.extend(processes)
        raise KeyboardInterrupt

    monkeypatch.setattr(stages_module, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(Stage("one", 9, [python(SLEEP)]), 60)
    assert [process.returncode for process in started] == [-signal.SIGKILL]


@pytest.mark.usefixtures("_little_grace")
def test_nothing_stops_the_next_stage() -> None:
    found: list[Outcome] = []
    failing, sleeping, good = python("1/0"), python(SLEEP), python("print('ran')")
    absent = Stage("d", 50, [good], why_not="there is no GPU")
    run_all([Stage("a", 1, [failing]), Stage("b", 1, [sleeping]), Stage("c", 2, [good]), absent], 8.0, found.append)
    assert found.pop().ended == "not run: there is no GPU"
    assert found[1].budget >= 2, "what cannot run takes no time from what can"
    assert [outcome.ended.split(":")[0] for outcome in found] == ["exit codes 1", "stopped at its budget", "done"]
    assert found[0].budget <= 2
    assert sum(outcome.took for outcome in found) < 30


def test_a_file_of_results_is_never_too_large(tmp_path: Path) -> None:
    keep(tmp_path / "log", "é" * MOST_BYTES)
    assert (tmp_path / "log").stat().st_size == MOST_BYTES


REPORT = """<testsuites><testsuite name="pytest"><testcase classname="a" name="good"/>
<testcase classname="a" name="wrong"><failure message="no">trace</failure></testcase>
<testcase classname="a" name="broken"><error message="no"/></testcase>
<testcase classname="a" name="absent"><skipped message="no GPU"/></testcase></testsuite></testsuites>"""


def test_reports_become_one(tmp_path: Path) -> None:
    files = [tmp_path / "1.xml", tmp_path / "2.xml"]
    for file in files:
        file.write_text(REPORT, encoding="utf-8")
    text, counts, failed = joined(files)
    assert counts == {"passed": 2, "failed": 4, "skipped": 2}
    assert failed == ["a::wrong", "a::broken"] * 2
    assert text.count("<testsuite ") == 2


def test_what_a_killed_process_leaves_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "tests-01.xml").write_text(REPORT, encoding="utf-8")
    (tmp_path / "tests-02.xml").write_text(REPORT[:99], encoding="utf-8")
    (tmp_path / "bench.json").write_text('{"tables": {"yesterday', encoding="utf-8")
    today = day.Day(tmp_path, tmp_path, [])
    assert not (tmp_path / "bench.json").exists(), "another day's"
    whole = '{"kernel": "forward", "spill_stores": 0}'
    for name, output in (("compile", f"{whole}\n{whole[:20]}"), ("tests", ""), ("compile", whole + whole)):
        today.ended(Outcome(name, 60, 9, "stopped at its budget: 1 of 2 processes", output))
    (tmp_path / "bench.json").write_text('{"tables": {"cut', encoding="utf-8")
    today.ended(Outcome("bench", 60, 9, "done", ""))
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "compile: 1 kernels, 0 with spilled registers" in text
    assert "tests: 1 passed, 2 failed, 1 skipped, 1 reports cut short, in 2 reports" in text
    for name in ("compile", "bench"):
        assert f"{name}: its results cannot be read: JSONDecodeError" in text


class Item:
    """A test as far as the plugin looks at it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_closest_marker(self, name: str) -> object:
        return name if name == "cuda" and self.number % 3 == 0 else None


class Config:
    """Of a run of one part."""

    def __init__(self, chosen: str) -> None:
        self.chosen, self.hook = chosen, self

    def getoption(self, name: str) -> str:
        return self.chosen

    def pytest_deselected(self, items: list[Item]) -> None:
        self.deselected = items


def test_parts_are_all_tests_once_with_those_for_a_gpu_first() -> None:
    seen: list[int] = []
    for number in range(1, 5):
        items, config = [Item(n) for n in range(30)], Config(f"{number}/4")
        part.pytest_collection_modifyitems(config, items)  # type: ignore[arg-type]
        assert len(items) + len(config.deselected) == 30
        need = [item.number % 3 == 0 for item in items]
        assert need == sorted(need, reverse=True)
        seen += [item.number for item in items]
    assert sorted(seen) == list(range(30))


def test_the_stages_fit_into_nine_minutes_and_their_files_exist(tmp_path: Path) -> None:
    found = day.stages(tmp_path, tmp_path, tmp_path, 16, "90", gpu=True)
    assert sum(stage.seconds for stage in found) == day.SECONDS < NINE_MINUTES - 15
    assert [len(stage.commands) for stage in found[:3]] == [17, 16, 16]
    for name in (*day.TESTS, *day.SKEWED_TESTS):
        file, _, test = name.partition("::")
        assert f"def {test}" in (day.ROOT / file).read_text(encoding="utf-8")
    for stage in day.stages(tmp_path, tmp_path, tmp_path, 2, "90", gpu=False)[-3:]:
        assert "there is no GPU" in stage.why_not


def test_a_tool_may_come_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(day, "TOOLS", ())
    assert (
        "compute-sanitizer is not installed" in day.stages(tmp_path, tmp_path, tmp_path, 2, "90", gpu=True)[5].why_not
    )
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.write_text("#!/bin/sh\n", encoding="utf-8")
    stage = day.stages(tmp_path, tmp_path, tmp_path, 2, "90", gpu=True)[5]
    assert stage.why_not == ""
    assert stage.commands[0][0] == str(tool)


def test_the_summary_is_there_after_each_stage(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    today = day.Day(tmp_path, work, ["GPU: none"])
    today.ended(Outcome("compile", 60, 9, "done", '{"kernel": "forward", "spill_stores": 0}\n'))
    (work / "tests-01.xml").write_text(REPORT, encoding="utf-8")
    (work / "tests-skewed-01.xml").write_text(REPORT, encoding="utf-8")
    today.ended(Outcome("tests", 60, 9, "exit codes 1: 1", "FAILED\n"))
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "compile: 1 kernels, 0 with spilled registers" in text
    assert "tests: 1 passed, 2 failed, 1 skipped, in 1 reports" in text
    assert "- a::broken" in text
    today.ended(Outcome("memcheck", 60, 9, "done", "x\n========= ERROR SUMMARY: 0 errors\n"))
    assert "memcheck: ========= ERROR SUMMARY: 0 errors" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert today.failed
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert files == ["kernels.jsonl", "log.txt", "summary.md", "tests.xml"]


def test_the_headline_is_written_after_each_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bench.json"
    seen: list[tuple[float, int]] = []

    def measured(session: Session) -> list[Table]:
        kept = json.loads(file.read_text(encoding="utf-8"))["tables"] if file.exists() else {}
        seen.append((session.target.total_seconds, len(kept)))
        work = "nine layers" if session.sizes.sequences else "a layer"
        row: Row = {"work": work, "cell": "gru", "precision": "tf32", "contender": "ours", "ms": 1.25, "why_not": ""}
        return [Table(f"{work} {len(seen)}", "Times", [row]), Table("empty", "None", [])]

    monkeypatch.setattr(suites, "SUITES", {"cuda": {n: suites.Suite(measured) for n in ("forward", "train", "stream")}})
    today = day.Day(tmp_path, tmp_path, [])
    assert headline.measure(STAND_IN, QUICK_GPU, 80, file) == []
    assert seen == [(60, 0), (60, 1), (60, 2), (20, 3), (20, 4)]
    today.ended(Outcome("bench", 60, 9, "done", ""))
    assert "| a layer 5 | a layer | gru | tf32 | ours | 1.25 ms |" in (tmp_path / "summary.md").read_text(
        encoding="utf-8"
    )


@needs_triton
@pytest.mark.full
def test_every_kernel_is_launched() -> None:
    small_launches.main(2, 2)
