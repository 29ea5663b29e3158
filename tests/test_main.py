"""The command line: every misuse is one line, a status, no traceback, and starts no kernel."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from conftest import signals_of_a_terminal
from filelock import FileLock

from dnslib import __main__ as command_line
from dnslib import published
from dnslib.__main__ import main
from dnslib.errors import MisuseError
from dnslib.paths import PROJECT
from dnslib.study import state as states
from dnslib.study.runner import StudyError

CELL = 'data: str = ""\noutputs: str = "outputs/quick"\nprofile: str = "quick"\nseed: int = 0\n'


@pytest.fixture
def folder(tmp_path, make_notebook, monkeypatch):
    """A study that must not start: executing a notebook would fail the test."""
    make_notebook(tmp_path / "notebooks", "04_1_profile", CELL + 'configurations: list = ["P.500"]')
    make_notebook(tmp_path / "notebooks", "05_3_sparsity", CELL)

    def no_kernel(*_, **__):
        raise AssertionError("a kernel would have been started")

    monkeypatch.setattr("dnslib.study.runner.execute", no_kernel)
    return tmp_path


def within(folder) -> list[str]:
    return ["--notebooks-dir", str(folder / "notebooks"), "--outputs", str(folder / "out")]


def one_line(capsys) -> str:
    """What stands on the error stream, which must be one line; nothing on the other stream."""
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["05_3_sparsty"], "unknown notebook 05_3_sparsty: did you mean 05_3_sparsity?"),
        (["-p", "sed", "3"], "unknown parameter sed: did you mean seed?"),
        (["-p", "seed", "three"], "parameter seed is 'three', but must be int, at least 0"),
        (["-p", "seed", "-3"], "parameter seed is -3, but must be int, at least 0"),
        (["-p", "configurations", "[P.600]"], "unknown configuration P.600: did you mean P.500?"),
        (["05_3_sparsity", "-p", "configurations", "[]"], "unknown parameter configurations"),
        (["-p", "seed"], "argument -p"),
        (["--profile", "slow"], "invalid choice: 'slow' (choose from"),
        (["--data", "no/such/folder"], "no/such/folder does not exist"),
        (["--date", "x"], "unrecognized arguments: --date"),
        (["--scheduler", "local:0"], "local:N needs a number of worker processes, at least 1"),
        (["--scheduler", "local:x"], "local:N needs a number of worker processes, at least 1"),
        (["--scheduler", "tcp://127.0.0.1:1"], "no scheduler answers at tcp://127.0.0.1:1 (connection refused)"),
        (["--scheduler", "no/such.yaml"], "no/such.yaml does not exist"),
        (["-p", "scheduler", "local:2"], "give scheduler by --scheduler, not by -p"),
    ],
)
def test_misuse_of_run(folder, capsys, arguments, words):
    assert main(["run", *arguments, *within(folder)]) == 2
    assert words in one_line(capsys)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["ran"], ["list", "05_3_sparsity"]])
def test_misuse_of_commands(capsys, arguments):
    assert main(arguments) == 2
    assert "--help" in one_line(capsys)


def test_a_report_of_nothing(folder, capsys):
    assert main(["report", *within(folder)]) == 2
    assert "no executed notebook" in one_line(capsys)


def test_a_data_folder_that_is_empty_or_holds_other_files(folder, capsys):
    for kind in ("speech", "noise"):
        (folder / "data" / kind).mkdir(parents=True)
    assert main(["run", "--data", str(folder / "data"), *within(folder)]) == 2
    assert "speech holds no recording" in one_line(capsys)


def test_an_outputs_folder_that_is_a_file(folder, capsys):
    (folder / "out").touch()
    assert main(["run", *within(folder)]) == 2
    assert "results cannot be written to" in one_line(capsys)


def test_outputs_held_by_another_run(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / ".lock.json").write_text('{"pid": 42, "host": "lab", "since": "noon"}')
    with FileLock(folder / "out" / ".lock"):
        assert main(["run", *within(folder)]) == 2
    assert "is being written by process 42 on lab since noon" in one_line(capsys)


def test_a_full_disk(folder, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command_line, "run", full)
    assert main(["run", *within(folder)]) == 1
    assert "the disk is full" in one_line(capsys)


def test_the_command_from_another_folder_lists_the_notebooks_of_the_project(tmp_path):
    if not list((PROJECT / "notebooks").glob("*.ipynb")):
        pytest.skip("the project has no notebook yet")
    done = subprocess.run([sys.executable, "-m", "dnslib", "list"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert names == sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb"))


def test_the_scheduler_reaches_the_notebooks_that_have_it_and_changes_no_result(folder, make_notebook, monkeypatch):
    make_notebook(folder / "notebooks", "05_1_ablation", CELL + 'scheduler: str = ""')
    given = {}

    def stop(notebooks, values, outputs, *_):
        given.update(
            {one.name: (values[one.name], states.fingerprint(one, values[one.name], outputs)) for one in notebooks}
        )
        raise StudyError("seen enough")

    monkeypatch.setattr(command_line, "run", stop)
    assert main(["run", *within(folder)]) == 1
    (alone, before), (others, _) = given["05_1_ablation"], given["05_3_sparsity"]
    assert "scheduler" not in alone.keys() | others.keys()
    assert main(["run", "--scheduler", "local:2", *within(folder)]) == 1
    (helped, after), (others, _) = given["05_1_ablation"], given["05_3_sparsity"]
    assert helped == alone | {"scheduler": "local:2"}
    assert "scheduler" not in others
    assert after == before


def test_a_cluster_file_is_looked_for_where_the_command_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line.absolute("mine.yaml") == str(tmp_path / "mine.yaml")
    assert command_line.absolute("local:2") == "local:2"


@pytest.mark.parametrize("arguments", [["enhance", ""], ["run", "--outputs", ""], ["benchmark", ""]])
def test_an_empty_path_is_not_the_working_folder(arguments, capsys):
    assert main(arguments) == 2
    assert "a path is needed, not an empty text" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["enhance", "~nobody-of-that-name/x.wav"], ["benchmark", "~nobody-of-that-name/x"]]
)
def test_a_home_folder_of_nobody_is_a_name_like_any_other(arguments, capsys):
    assert main(arguments) == 2
    assert "~nobody-of-that-name" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_closed_pipe_ends_in_silence():
    """As of ``| head``, which has gone when the output is written: all at once, as it is buffered."""
    end, start = os.pipe()
    os.close(end)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "dnslib", "list"]
    done = subprocess.run(command, stdout=start, stderr=subprocess.PIPE, cwd=PROJECT, env=environment)
    os.close(start)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_other_encodings_get_escapes():
    """``list`` writes §, which ASCII does not have."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "dnslib", "list"], capture_output=True, cwd=PROJECT, env=environment)
    assert done.returncode == 0
    assert b"\\xa7" in done.stdout


def test_the_name_of_a_configuration_is_no_file_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "P.750").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = []

    def noted(model, *_):
        asked.append(model)
        raise MisuseError("seen")

    monkeypatch.setattr("dnslib.enhancing.Denoisers", noted)
    for name in ("a.wav", "net.onnx"):
        (tmp_path / name).touch()
    for model in ("P.750", "net.onnx"):
        assert main(["enhance", "a.wav", "--model", model]) == 2
    assert asked == [published.WEIGHTS / "P.750.safetensors", tmp_path / "net.onnx"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_while_the_imports_run_ends_without_a_traceback():
    """-X importtime tells when the imports have begun; NumPy's and pydantic's take long enough to be hit."""
    command = [sys.executable, "-X", "importtime", "-m", "dnslib", "list"]
    with signals_of_a_terminal():
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        if "pydantic._internal" in line:
            break
    process.send_signal(signal.SIGINT)
    said += process.stderr.readlines()
    process.wait(timeout=60)
    assert "Traceback" not in "".join(said)
    assert process.returncode in (-signal.SIGINT, 130)


def test_more_frames_than_memory_holds_are_refused(tmp_path, capsys):
    assert main(["benchmark", str(tmp_path / "x.onnx"), "--rounds", "100000000"]) == 2
    assert "100000000 rounds of 100 frames are more than" in one_line(capsys)
