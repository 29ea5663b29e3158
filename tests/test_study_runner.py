"""Execution: order, rerun only what changed, failures, kills, the lock. Toy notebooks, real kernels."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from conftest import signals_of_a_terminal
from nbformat.sign import NotebookNotary

import dnslib
from dnslib import __main__ as commands
from dnslib.__main__ import main
from dnslib.errors import MisuseError
from dnslib.machine import cpu_model, usable_cores
from dnslib.study import provenance
from dnslib.study.provenance import shared_settings
from dnslib.study.runner import judge, locked

CELL = 'outputs: str = "outputs/quick"\nprofile: str = "quick"\n'
WRITE = """from pathlib import Path
Path(outputs, "results").mkdir(exist_ok=True)
Path(outputs, "results", "table_1.csv").write_text(f"{start}")"""
READ = """from pathlib import Path
Path(outputs, "results", "sum.csv").write_text(Path(outputs, "results", "table_1.csv").read_text() + "+1")"""


def command(folder: Path, *arguments: str) -> list[str]:
    return ["run", *arguments, "--notebooks-dir", str(folder / "notebooks"), "--outputs", str(folder / "out")]


def finished(folder: Path) -> dict[str, str]:
    """When the runner noted each executed notebook; a notebook that runs again gets another start time."""
    return {
        path.stem: nbformat.read(path, as_version=4).metadata.papermill.start_time
        for path in (folder / "out").glob("[!.]*.ipynb")
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory, make_notebook):
    """A study of two notebooks: 01 reads what 02 writes, so 02 comes first. Executed once."""
    folder = tmp_path_factory.mktemp("study")
    about = {"reads": ["results/table_*.csv"], "writes": ["results/sum.csv"]}
    make_notebook(folder / "notebooks", "01_sum", CELL, READ, heading="The sum", **about)
    make_notebook(folder / "notebooks", "02_table", CELL + "start: int = 1", WRITE, writes=["results/table_1.csv"])
    assert main(command(folder)) == 0
    return folder


def test_the_writer_runs_first_and_results_are_there(study):
    assert (study / "out" / "results" / "sum.csv").read_text() == "1+1"
    facts = json.loads((study / "out" / "results" / "provenance.json").read_text())
    assert facts["profile"] == "quick"
    assert facts["seeds"] == [0]
    assert set(facts["notebooks"]) == {"01_sum", "02_table"}
    assert "The sum" in (study / "out" / "report.html").read_text()


def test_executed_notebooks_are_trusted(study):
    executed = nbformat.read(study / "out" / "02_table.ipynb", as_version=4)
    assert NotebookNotary().check_signature(executed)


def test_unchanged_notebooks_are_not_run_again(study, capsys):
    before = finished(study)
    assert main(command(study)) == 0
    assert finished(study) == before
    assert "nothing to do" in capsys.readouterr().out


def test_a_new_value_runs_the_notebook_and_its_reader_again(study):
    before = finished(study)
    assert main(command(study, "-p", "start", "5")) == 0
    assert (study / "out" / "results" / "sum.csv").read_text() == "5+1"
    assert all(finished(study)[name] != before[name] for name in before)


def test_a_lost_result_is_made_again_and_nothing_else_runs(study):
    assert main(command(study, "-p", "start", "5")) == 0
    before = finished(study)
    (study / "out" / "results" / "sum.csv").unlink()
    assert main(command(study, "-p", "start", "5")) == 0
    assert (study / "out" / "results" / "sum.csv").exists()
    assert {name for name, when in finished(study).items() if when != before[name]} == {"01_sum"}


def test_list_says_what_run_would_do(study, capsys):
    assert main(command(study, "-p", "start", "5")) == 0
    capsys.readouterr()
    assert main(["list", *command(study, "-p", "start", "5")[1:]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["notebook", "01_sum", "02_table"]
    assert all(re.search(r"up to date  \d{4}-\d\d-\d\d \d\d:\d\d, \d+ s$", line) for line in lines[1:])
    assert main(["list", *command(study, "-p", "start", "6")[1:]]) == 0
    assert "changed (parameters)" in capsys.readouterr().out


def test_a_failure_names_notebook_and_cell_and_keeps_the_evidence(tmp_path, make_notebook, capsys):
    make_notebook(tmp_path / "notebooks", "01_fails", CELL, "x = 1", "# why\nx / 0")
    make_notebook(tmp_path / "notebooks", "02_later", CELL)
    assert main(command(tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        "notebook 01_fails, cell [4] `x / 0`: ZeroDivisionError: division by zero" in error
    )  # the injected cell is one of them
    assert (tmp_path / "out" / "01_fails.failed.ipynb").exists()
    assert not (tmp_path / "out" / "01_fails.ipynb").exists()
    assert not (tmp_path / "out" / "results" / "provenance.json").exists()  # there is no result
    assert main(["list", *command(tmp_path)[1:]]) == 0
    assert "failed" in capsys.readouterr().out


def test_a_result_of_an_earlier_run_is_none_of_this_one(tmp_path, make_notebook, capsys):
    make_notebook(tmp_path / "notebooks", "01_forgets", CELL, "x = 1", writes=["results/table_1.csv"])
    (tmp_path / "out" / "results").mkdir(parents=True)
    (tmp_path / "out" / "results" / "table_1.csv").write_text("of yesterday")
    os.utime(tmp_path / "out" / "results" / "table_1.csv", (1, 1))
    assert main(command(tmp_path)) == 1
    assert "01_forgets, it did not write results/table_1.csv" in capsys.readouterr().err


def test_a_lost_report_is_made_again_from_what_was_executed(study, capsys):
    (study / "out" / "report.html").unlink()
    assert main(["report", *command(study)[1:]]) == 0
    assert "The sum" in (study / "out" / "report.html").read_text(encoding="utf-8")


def test_a_report_says_quick_where_the_results_do(study, capsys):
    for profile in ("quick", "full"):
        assert main(["report", *command(study)[1:], "--profile", profile]) == 0
        assert "Quick run." in (study / "out" / "report.html").read_text(encoding="utf-8")


def test_an_interrupted_report_is_made_by_the_next_run(study, monkeypatch):
    report = study / "out" / "report.html"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commands, "write_report", interrupt)
        assert main(command(study, "-p", "start", "7")) == 130
    before = report.stat().st_mtime_ns
    assert main(command(study, "-p", "start", "7")) == 0
    assert report.stat().st_mtime_ns > before
    before = report.stat().st_mtime_ns
    assert main(command(study, "-p", "start", "7")) == 0
    assert report.stat().st_mtime_ns == before


def test_a_notebook_that_was_only_saved_again_keeps_its_provenance(study):
    """Whose commit and machine are those of its run, not of the moment when somebody looked at it."""
    provenance_file = study / "out" / "results" / "provenance.json"
    assert main(command(study)) == 0
    before = provenance_file.read_text()
    later = time.time() + 60
    os.utime(study / "out" / "01_sum.ipynb", (later, later))
    assert main(command(study)) == 0
    assert provenance_file.read_text() == before
    provenance_file.write_text("{}")  # damaged
    assert main(command(study)) == 0
    assert set(json.loads(provenance_file.read_text())["notebooks"]) == {"01_sum", "02_table"}


def test_what_ran_before_a_failure_has_its_provenance(tmp_path, make_notebook):
    make_notebook(tmp_path / "notebooks", "01_runs", CELL, "x = 1")
    make_notebook(tmp_path / "notebooks", "02_fails", CELL, "1 / 0")
    assert main(command(tmp_path)) == 1
    facts = json.loads((tmp_path / "out" / "results" / "provenance.json").read_text())
    assert facts["notebooks"]["01_runs"]["seconds"] > 0
    assert facts["notebooks"]["02_fails"] is None


def test_what_failed_first_is_what_is_told(tmp_path, make_notebook, capsys, monkeypatch):
    """Also where the provenance cannot be written after it."""
    make_notebook(tmp_path / "notebooks", "01_runs", CELL, "x = 1")
    make_notebook(tmp_path / "notebooks", "02_fails", CELL, "1 / 0")

    def refuse(*arguments):
        raise MisuseError("An older notebook holds a value that is not allowed any more.")

    monkeypatch.setattr(provenance, "write", refuse)
    assert main(command(tmp_path)) == 1
    assert "notebook 02_fails" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_provenance_names_commit_packages_and_machine(tmp_path, monkeypatch):
    """The commit of the checkout, wherever it is asked from, and whether a file differs from it."""

    def git(*arguments: str) -> str:
        own = (option for one in ("user.name=a", "user.email=a@b", "commit.gpgsign=false") for option in ("-c", one))
        command = ["git", *own, *arguments]
        return subprocess.run(command, cwd=tmp_path / "checkout", capture_output=True, text=True, check=True).stdout

    def facts() -> dict:
        return provenance.collect([], {"05_0": {"seed": 7, "seed_count": 2}}, tmp_path, "full")

    (tmp_path / "checkout").mkdir()
    monkeypatch.setattr(provenance, "PROJECT", tmp_path / "checkout")
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    clean = facts()
    assert (clean["commit"], clean["dirty"]) == (git("rev-parse", "HEAD").strip(), False)
    (tmp_path / "checkout" / "new.py").touch()
    assert facts() == clean | {"dirty": True}
    assert clean["packages"]["torch"] == metadata.version("torch")
    assert clean["python"] == sys.version.split()[0]
    assert (clean["cpu"], clean["threads"]) == (cpu_model(), usable_cores())
    assert (clean["profile"], clean["seeds"], clean["settings"]["seed"]) == ("full", [7, 8], 7)
    (tmp_path / "checkout" / "unpacked").mkdir()
    monkeypatch.setattr(provenance, "PROJECT", tmp_path / "checkout" / "unpacked")
    assert facts()["commit"] == ""  # not that of the repository around it


@pytest.mark.parametrize(
    ("second", "common"),
    [({"commit": "aaa", "dirty": False}, {"commit": "aaa", "dirty": False}),
     ({"commit": "bbb", "dirty": False}, {"commit": "several", "dirty": False}),
     ({"commit": "aaa", "dirty": True}, {"commit": "aaa", "dirty": True}),
     ({}, {"commit": "aaa", "dirty": False})],
)  # fmt: skip
def test_the_commit_is_that_which_the_notebooks_ran_by(second, common):
    assert provenance.common_code([{"commit": "aaa", "dirty": False}, second]) == common


def test_the_machine_is_that_which_the_notebooks_ran_on():
    one = {"cpu": "A", "cpu_count": 2, "threads": 2}
    assert provenance.common_processor([]) == provenance.processor()
    assert provenance.common_processor([one, {}]) == one  # an earlier run told none
    assert provenance.common_processor([one, one | {"cpu": "B"}]) == one | {"cpu": "several"}


def test_the_seeds_are_those_of_the_notebooks_that_have_some():
    trained, timed = (
        SimpleNamespace(name=n, parameter=lambda name, has=has: has) for n, has in (("a", 1), ("b", None))
    )
    runs = {"a": {"parameters": {"seed_count": 2}}, "b": {"parameters": {"seed": 7}}}
    assert provenance.seeds_of([trained, timed], runs) == [0, 1]
    assert provenance.seeds_of([timed], runs) == []


def test_a_rerun_of_one_notebook_does_not_hide_with_what_the_others_ran():
    """Settings that only the other notebook was given stay; where both were given one, the rerun's counts."""
    runs = {"05_0": {"parameters": {"baseline_steps": 9, "latency_rounds": 40}}, "04_2": None}
    found = shared_settings(runs, {"04_2": {"latency_rounds": 100, "profile": "full", "own": 1}})
    assert (found.baseline_steps, found.latency_rounds, found.profile) == (9, 100, "full")


def test_a_users_mistake_found_inside_a_notebook_is_misuse(tmp_path, make_notebook, capsys):
    code = "from dnslib.errors import MisuseError\nraise MisuseError('the clip a.wav is silent')"
    make_notebook(tmp_path / "notebooks", "01_clips", CELL, code)
    assert main(command(tmp_path)) == 2
    assert capsys.readouterr().err == "dnslib: the clip a.wav is silent (notebook 01_clips)\n"


def test_a_kernel_that_dies_is_a_failure(tmp_path, make_notebook, capsys):
    make_notebook(tmp_path / "notebooks", "01_dies", CELL, "import os\nos._exit(1)")
    assert main(command(tmp_path)) == 1
    assert "notebook 01_dies, cell `import os`: " in (error := capsys.readouterr().err)
    assert "the kernel died" in error


def test_a_result_that_was_promised_and_not_written_is_a_failure(tmp_path, make_notebook, capsys):
    make_notebook(tmp_path / "notebooks", "01_forgets", CELL, writes=["results/table_1.csv"])
    assert main(command(tmp_path)) == 1
    assert "it did not write results/table_1.csv" in capsys.readouterr().err


@pytest.fixture
def sleeper(tmp_path, make_notebook):
    """A study whose second notebook sleeps unless told not to; it writes its kernel's process number."""
    make_notebook(tmp_path / "notebooks", "01_quick", CELL)
    nap = (
        "import os, time\nfrom pathlib import Path\nPath(outputs, 'pid').write_text(str(os.getpid()))\ntime.sleep(nap)"
    )
    make_notebook(tmp_path / "notebooks", "02_sleeps", CELL + "nap: int = 120", nap)
    with signals_of_a_terminal():
        runner = subprocess.Popen(
            [sys.executable, "-m", "dnslib", *command(tmp_path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    pid = tmp_path / "out" / "pid"
    until(lambda: pid.exists() and pid.read_text())
    yield runner, psutil.Process(int(pid.read_text()))
    runner.kill()
    runner.communicate()


def until(condition, seconds: float = 60) -> None:
    """Wait for a condition; fail when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_killed_study_leaves_no_kernel_and_resumes(sleeper, tmp_path, capsys):
    runner, kernel = sleeper
    before = finished(tmp_path)
    assert main(command(tmp_path)) == 2  # while it runs, nobody else may write
    error = capsys.readouterr().err
    assert f"process {runner.pid} on " in error
    assert error.count("\n") == 1
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    until(lambda: ended(kernel))
    assert main(command(tmp_path, "-p", "nap", "0")) == 0
    assert before.keys() == {"01_quick"}
    assert finished(tmp_path) == before | {"02_sleeps": finished(tmp_path)["02_sleeps"]}


def test_an_interrupted_study_says_so_in_one_line(sleeper):
    runner, kernel = sleeper
    runner.send_signal(signal.SIGINT)
    _, error = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert error.startswith("dnslib: interrupted")
    assert error.count("\n") == 1
    until(lambda: ended(kernel))


def test_what_a_dead_run_left_does_not_lock(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock.json").write_text('{"pid": 1, "host": "elsewhere", "since": "long ago"}')
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".lock.json").exists()


def code_cell(source="1", count=1, outputs=(), tags=()):
    return nbformat.v4.new_code_cell(
        source, execution_count=count, outputs=list(outputs), metadata={"tags": list(tags)}
    )


def test_judging_outputs():
    error = nbformat.v4.new_output("error", ename="E", evalue="two\nlines", traceback=[])

    def verdict(*cells):
        return judge(nbformat.v4.new_notebook(cells=list(cells)))

    assert verdict(code_cell(), nbformat.v4.new_markdown_cell("x"), code_cell(source="  ", count=None)) == ""
    assert verdict(code_cell(), code_cell("f()", 2, [error])) == "cell [2] `f()`: E: two lines"
    assert verdict(code_cell(outputs=[error], tags=["raises-exception"])) == ""
    assert verdict(code_cell(), code_cell("g()", None)) == "cell [*] `g()`: it was not executed"


WHERE = """import os, sys, dnslib
from pathlib import Path
Path(outputs, "results").mkdir(exist_ok=True)
Path(outputs, "results", "where.csv").write_text("\\n".join([os.getcwd(), sys.executable, dnslib.__file__]))"""


def test_a_kernel_is_this_interpreter_in_the_notebooks_folder_whatever_python3_means_to_jupyter(
    tmp_path, make_notebook, monkeypatch
):
    """Somebody's `ipython kernel install --name python3` of another environment stands first in Jupyter's folders."""
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    about = {"argv": ["no-such-python", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    make_notebook(tmp_path / "notebooks", "01_where", CELL, WHERE, writes=["results/where.csv"])
    assert main(command(tmp_path)) == 0
    found = (tmp_path / "out" / "results" / "where.csv").read_text().splitlines()
    assert found == [str(tmp_path / "notebooks"), sys.executable, dnslib.__file__]
