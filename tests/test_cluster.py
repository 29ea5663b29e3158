"""Jobs elsewhere: the same files as here, a killed worker loses nothing, no process is left, one line for misuse."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import test_experiments as small
import torch
import yaml
from safetensors.torch import load_file

from dnslib import cluster, data, experiments, export, progress, quality, training
from dnslib.cluster import ClusterError, Job, addresses, batch_script, check, local, opened, opening
from dnslib.errors import MisuseError
from dnslib.experiments import Laboratory, do_job, job_record, run_of, score_all, train_all
from dnslib.experiments.files import outlines, scores_name
from dnslib.paths import PROJECT
from dnslib.training import CHECKPOINT

EXAMPLE = PROJECT / "notebooks" / "parameters" / "cluster-slurm.yaml"
HELD_STEP = 6


# --- what workers do ------------------------------------------------------------------------------------------------


def stand_in(replace) -> None:
    """Tiny networks, tiny data, and scores that are known functions of the waveform."""

    def score(enhanced, clips, description=""):
        power = [float(np.mean(np.square(waveform))) for waveform in enhanced]
        columns = {metric: [(k + 1) * value for value in power] for k, metric in enumerate(quality.METRICS)}
        return pd.DataFrame({"clip": [clip.name for clip in clips], **columns})

    small.stand_in(replace)
    replace(quality, "score_clips", score)


def do_small_job(record: dict) -> None:
    """`do_job` with tiny networks that save at every step; the first of all waits in its middle to be killed.

    It does so when as many processes are at work as the file ``hold`` says.
    """
    stand_in(setattr)
    training.CHECKPOINT_SECONDS = -1.0
    outputs = Path(record["settings"]["outputs"])
    about = [record["task"], record["name"]]

    def hook(step: int) -> None:
        note(outputs, [*about, step])
        if step != HELD_STEP:
            return
        with contextlib.suppress(FileNotFoundError):  # nobody shall wait, or another one does
            wanted = int((outputs / "hold").read_text())
            small.until(lambda: notes(outputs)["pid"].nunique() >= wanted)
            (outputs / "hold").rename(outputs / "held")
            note(outputs, [*about, "held"])
            time.sleep(120)

    small.Mixtures.hook = staticmethod(hook)
    note(outputs, [*about, "begins"])
    do_job(record)
    note(outputs, [*about, "ends"])


def note(outputs: Path, words: list) -> None:
    with (outputs / "notes.jsonl").open("a") as file:
        file.write(json.dumps([time.monotonic(), os.getpid(), *words]) + "\n")


def notes(outputs: Path) -> pd.DataFrame:
    rows = [json.loads(line) for line in (outputs / "notes.jsonl").read_text().splitlines()]
    return pd.DataFrame(rows, columns=["time", "pid", "task", "run", "what"])


LIGHT_JOBS = '''
import os, pathlib, signal, time

def wait(arguments):
    """Say who waits, and wait to be killed."""
    pathlib.Path(arguments["file"]).write_text(str(os.getpid()))
    time.sleep(120)

def write(arguments):
    pathlib.Path(arguments["file"]).touch()

def die(arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def fail(arguments):
    raise ValueError(arguments["words"])

def count(arguments):
    """Five steps of half a second, with progress."""
    from dnslib.progress import track
    for _ in track(range(5), description=arguments["words"]):
        time.sleep(0.5)
'''  # a module of its own, so that workers start without torch


# --- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def workers_find_their_jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("light")
    (folder / "light_jobs.py").write_text(LIGHT_JOBS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (PROJECT, Path(__file__).parent, folder))))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(experiments.scheduling, "JOB", "test_cluster:do_small_job")
        yield


@pytest.fixture(scope="module", autouse=True)
def small_world():
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch.setattr)
        yield


def runs_of(laboratory: Laboratory) -> list:
    """One that others start from, two that start from it, and one that stands alone."""
    names = ("CRUSE32", "P.500", "CRUSE16")
    return [*map(laboratory.network, names), laboratory.pruned("P.500")]


def laboratory(outputs: Path, scheduler: str = "") -> Laboratory:
    outputs.mkdir(exist_ok=True)
    return Laboratory(small.settings(outputs, scheduler=scheduler))


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Laboratory:
    """Everything trained and scored in this process."""
    lab = laboratory(tmp_path_factory.mktemp("here"))
    score_all(lab, runs_of(lab))
    return lab


class Killer(threading.Thread):
    """Kills the worker that waits in the middle of its training; what listened where is kept."""

    def __init__(self, outputs: Path):
        super().__init__(daemon=True)
        self.outputs, self.killed, self.listening = outputs, 0, []

    def run(self) -> None:
        small.until((self.outputs / "held").exists)
        small.until(lambda: "held" in set(notes(self.outputs)["what"]))
        row = notes(self.outputs).query("what == 'held'").iloc[0]
        small.until((self.outputs / "runs" / row["run"] / CHECKPOINT).exists)
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        found = [one for process in processes for one in process.net_connections("inet")]
        self.listening = [one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN]
        self.killed = int(row["pid"])
        os.kill(self.killed, signal.SIGKILL)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> tuple[Laboratory, Killer]:
    """The same by two worker processes, of which one is killed in the middle of a training."""
    outputs = tmp_path_factory.mktemp("elsewhere")
    (outputs / "hold").write_text("2")
    lab, killer = laboratory(outputs, "local:2"), Killer(outputs)
    killer.start()
    score_all(lab, runs_of(lab))
    killer.join(10)
    return lab, killer


def line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- in this process ------------------------------------------------------------------------------------------------


def test_without_a_scheduler_dask_is_not_even_imported():
    code = (
        "import sys; from dnslib import cluster, experiments; cluster.check('');"
        "print([name for name in ('dask', 'distributed', 'dask_jobqueue') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_survives_json(here):
    for run in runs_of(here):
        record = json.loads(json.dumps(job_record(here, run, {"task": "train"})))
        assert run_of(record["run"]) == run
        assert run_of(record["run"]).name == record["name"]


def test_keys_of_runs_and_data_do_not_know_the_scheduler(here):
    other = laboratory(here.outputs, "local:3")
    assert [run.name for run in runs_of(other)] == [run.name for run in runs_of(here)]
    record = job_record(other, runs_of(other)[0], {"task": "train"})
    assert record == job_record(here, runs_of(here)[0], {"task": "train"})


def test_what_is_there_starts_no_worker(here, monkeypatch):
    monkeypatch.setattr(cluster, "opened", lambda *_: pytest.fail("a cluster was opened for nothing"))
    lab = laboratory(here.outputs, "local:2")
    train_all(lab, runs_of(lab))
    table = lab.quality_table({name: lambda seed, name=name: lab.network(name, seed) for name in ("CRUSE32", "P.500")})
    assert table["clips"].tolist() == [3, 3]


def test_latency_is_measured_here_whatever_the_scheduler(tmp_path, monkeypatch):
    where = []
    monkeypatch.setattr(export, "export_streaming", lambda model, path, form: path)

    def measure(*_):
        where.append(os.getpid())
        table = pd.DataFrame({"model": ["CRUSE32"]})
        return table, table

    monkeypatch.setattr(experiments.streaming, "measure_everywhere", measure)
    lab = laboratory(tmp_path, "tcp://127.0.0.1:1")  # nobody answers there
    lab.latency({"CRUSE32": lab.untrained("CRUSE32")})
    assert where == [os.getpid()]


def test_a_worker_with_other_code_says_so(here):
    record = job_record(here, runs_of(here)[0], {"task": "train"})
    with pytest.raises(MisuseError, match="another version of dnslib") as error:
        do_job(record | {"name": "CRUSE32-seed0-0123456789ab"})
    assert socket.gethostname() in line(error)


def test_a_worker_without_the_shared_folder_says_so(tmp_path):
    lab = laboratory(tmp_path / "gone")
    record = job_record(lab, runs_of(lab)[0], {"task": "train"})
    (tmp_path / "gone").rmdir()
    with pytest.raises(MisuseError, match=r"does not see .*gone"):
        do_job(record)
    assert not (tmp_path / "gone").exists()


def test_a_worker_keeps_scores_where_it_is_told_to(here):
    """The name holds the last bits of the clips, which another processor computes otherwise."""
    run = runs_of(here)[0]
    task = {"task": "score", "recordings": False, "file": "scores-told.csv"}
    record = json.loads(json.dumps(job_record(here, run, task | {"clips": outlines(here.clips)})))
    do_job(record)
    told = here.folder(run) / "scores-told.csv"
    assert pd.read_csv(told).equals(pd.read_csv(here.folder(run) / scores_name(here.clips)))
    (name, samples, rms), *rest = record["clips"]
    do_job(record | {"clips": [[name, samples, rms * 1.00001], *rest]})  # as another processor mixes it
    for other in ([name, samples, rms * 1.01], [name, samples + 1, rms], ["other", samples, rms]):
        with pytest.raises(MisuseError, match="reads other data"):
            do_job(record | {"clips": [other, *rest]})
    told.unlink()


def test_a_worker_that_outlives_a_study_reads_changed_data_again(here, monkeypatch):
    """And trains on nothing else than what the run's key says."""
    record, trained = job_record(here, runs_of(here)[0], {"task": "train"}), []
    monkeypatch.setattr(Laboratory, "train", lambda lab, run: trained.append((run.data, lab.corpora.digest)))
    do_job(record)
    more = SimpleNamespace(**vars(here.corpora) | {"digest": "more"})
    monkeypatch.setattr(data, "prepare", lambda settings: more)
    run = replace(run_of(record["run"]), data="more")
    do_job(record | {"run": asdict(run), "name": run.name})
    assert trained == [(here.corpora.digest,) * 2, ("more", "more")]
    with pytest.raises(MisuseError, match="reads other data"):
        do_job(record)


# --- two processes, one killed --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(here, elsewhere):
    """Weights bit for bit those of an uninterrupted training; another process went on where the killed one was."""
    lab, killer = elsewhere
    for run in runs_of(here):
        ours, theirs = (load_file(one.folder(run) / "model.safetensors") for one in (here, lab))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        pd.testing.assert_frame_equal(here.history(run), lab.history(run))
    noted = notes(lab.outputs)
    held = noted.query("what == 'held'").iloc[0]["run"]
    steps = noted[(noted["run"] == held) & noted["what"].map(lambda what: isinstance(what, int))]
    resumed = steps[steps["pid"] != killer.killed]["what"]
    assert resumed.min() > 0
    assert resumed.max() == small.STEPS - 1


@pytest.mark.slow
def test_scores_are_those_of_this_process(here, elsewhere):
    lab, _ = elsewhere
    files = [
        sorted(path.relative_to(one.outputs) for path in one.outputs.glob("runs/*/scores-*")) for one in (here, lab)
    ]
    assert len(files[0]) == 4
    assert files[0] == files[1]
    for file in files[0]:
        pd.testing.assert_frame_equal(pd.read_csv(here.outputs / file), pd.read_csv(lab.outputs / file))


@pytest.mark.slow
def test_a_run_waits_for_the_one_it_starts_from_and_the_workers_share_the_work(elsewhere):
    lab, _ = elsewhere
    noted = notes(lab.outputs)
    held = noted.loc[noted["what"] == "held", "time"].item()
    assert noted.loc[noted["time"] <= held, "pid"].nunique() == 2
    assert os.getpid() not in set(noted["pid"])
    noted = noted.set_index(["task", "run", "what"]).sort_index()
    first = lab.network("CRUSE32").name
    ready = noted.loc[("train", first, "ends"), "time"].max()
    for name in (lab.network("P.500").name, lab.pruned("P.500").name):
        assert noted.loc[("train", name, "begins"), "time"].min() > ready


@pytest.mark.slow
def test_workers_are_reached_from_this_machine_only_and_end_with_the_work(elsewhere):
    lab, killer = elsewhere
    assert len(killer.listening) >= 3  # the scheduler and two workers
    assert set(killer.listening) == {"127.0.0.1"}
    left = [child for child in psutil.Process().children(recursive=True) if "distributed" in " ".join(child.cmdline())]
    assert left == []
    assert list((lab.outputs / "workers").glob("worker-*.log"))


@pytest.mark.slow
def test_a_job_that_fails_raises_here_and_what_is_finished_is_kept(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    jobs = [
        Job("a", {"file": str(first)}),
        Job("b", {"words": "too loud"}, ("a",)),
        Job("c", {"file": str(second)}, ("b",)),
    ]
    with opened("local:1", tmp_path) as workers:
        assert list(workers.finished("light_jobs:write", jobs[:1])) == ["a"]
        with pytest.raises(ValueError, match="too loud"):
            list(workers.finished("light_jobs:fail", jobs[1:2]))
        assert list(workers.finished("light_jobs:write", jobs[2:])) == ["c"]  # what it waits for is not among these


@pytest.mark.slow
def test_the_progress_of_a_running_job_is_shown_here(tmp_path, monkeypatch):
    """While it is not finished; nothing of it is left."""
    told = []
    monkeypatch.setattr(progress, "tell_runner", told.append)
    with opened("local:1", tmp_path / "workers") as workers:
        finished = workers.finished("light_jobs:count", [Job("a", {"words": "sorting"})])
        assert list(progress.track(finished, 1, "jobs", workers.status)) == ["a"]
    shown = [line for line in told if "sorting" in line]
    assert shown
    assert all(re.match(r"jobs: 0 of 1 · sorting: [1-5] of 5", line) for line in shown)
    assert not list(tmp_path.rglob("*.status"))


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "MOST_DEATHS", 0)
    with opened("local:1", tmp_path) as workers, pytest.raises(ClusterError) as error:
        list(workers.finished("light_jobs:die", [Job("training-P.500", {})]))
    assert "worker after worker died during training-P.500" in line(error)


@pytest.mark.slow
def test_workers_end_with_a_killed_owner(tmp_path):
    code = (
        "import sys; from pathlib import Path; from dnslib.cluster import Job, opened\n"
        "with opened('local:1', Path(sys.argv[1])) as workers:\n"
        "    list(workers.finished('light_jobs:wait', [Job('a', {'file': sys.argv[1] + '/pid'})]))"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        small.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    finally:
        owner.kill()
        owner.wait()
    worker = int((tmp_path / "pid").read_text())
    small.until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE, 30)


# --- a scheduler that runs already ----------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path):
    """A scheduler and a worker with two threads, as a person would start them; their address, and the scheduler."""
    dask, here = [sys.executable, "-m"], ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    about, noted = {"cwd": tmp_path, "stderr": subprocess.DEVNULL}, tmp_path / "scheduler.json"
    free_port = ["--port", "0", "--scheduler-file", str(noted)]
    scheduler = subprocess.Popen([*dask, "distributed.cli.dask_scheduler", *free_port, *here], **about)
    worker = ["--scheduler-file", str(noted), "--nthreads", "2", "--no-nanny", *here]  # which waits for the file
    worker = subprocess.Popen([*dask, "distributed.cli.dask_worker", *worker], **about)
    small.until(lambda: noted.exists() and noted.read_text().endswith("}"))
    yield json.loads(noted.read_text())["address"], scheduler
    for process in (worker, scheduler):
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        return check(address) == address
    except MisuseError:
        return False


@pytest.mark.slow
def test_a_scheduler_that_dies_while_jobs_run(here, running, tmp_path):
    """One line, soon; what was finished is kept, and the same call, here or there, goes on from it."""
    address, scheduler = running
    small.until(lambda: answers(address))
    lab = laboratory(tmp_path / "outputs", address)
    train_all(lab, [lab.network("CRUSE16")])
    (lab.outputs / "hold").write_text("1")
    small_deaths = threading.Thread(target=lambda: small.until((lab.outputs / "held").exists) or scheduler.kill())
    small_deaths.start()
    with pytest.raises(ClusterError) as error:
        train_all(lab, [lab.network("CRUSE16"), lab.network("CRUSE32")])
    small_deaths.join()
    assert line(error).startswith(f"the scheduler {address} is gone; what is finished is kept")
    assert (lab.folder(lab.network("CRUSE16")) / "DONE").exists()
    assert not (lab.folder(lab.network("CRUSE32")) / "DONE").exists()
    with pytest.raises(MisuseError, match="no scheduler answers"):
        train_all(lab, [lab.network("CRUSE32")])
    again = laboratory(lab.outputs)
    train_all(again, [again.network("CRUSE32")])
    ours, theirs = (load_file(one.folder(one.network("CRUSE32")) / "model.safetensors") for one in (here, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- misuse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ("local:0", "at least 1"),
        ("local:x", "at least 1"),
        ("local:-2", "at least 1"),
        ("local", "at least 1"),
        ("node1:8786", "must be local:N, tcp://HOST:PORT or a .yaml file"),
        ("tcp://node1", "tcp://HOST:PORT, such as"),
        ("tcp://node1:many", "tcp://HOST:PORT, such as"),
        ("tcp://:8786", "tcp://HOST:PORT, such as"),
        ("no/such/file.yaml", "no/such/file.yaml does not exist"),
    ],
)
def test_a_scheduler_that_is_none(scheduler, words):
    with pytest.raises(MisuseError) as error:
        check(scheduler)
    assert words in line(error)


def test_a_port_where_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening
        begun = time.monotonic()
        with pytest.raises(MisuseError) as error:
            check(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    assert "connection refused" in line(error)
    assert time.monotonic() - begun < 2 * addresses.CONNECT_SECONDS


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_a_port_where_another_program_listens(says, monkeypatch):
    monkeypatch.setattr(addresses, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        answering = threading.Thread(target=lambda: other.accept()[0].sendall(says))
        answering.start()
        with pytest.raises(MisuseError) as error:
            check(address)
        answering.join()
    assert line(error).startswith(f"no scheduler answers at {address} (another program listens there)")


@pytest.mark.parametrize("scheduler", ["local:2", "tcp://node1:8786", str(EXAMPLE)])
def test_dask_is_not_installed(scheduler, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MisuseError) as error:
        check(scheduler)
    assert "pip install -e '.[cluster]'" in line(error)


SLURM = "jobqueue: {slurm: {cores: 2, memory: 1GB"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobqueue: {slurm: [", "is not YAML"),
        ("", "needs a section jobqueue:"),
        ("- slurm", "needs a section jobqueue:"),
        ("jobqueue: {}", "needs a section jobqueue:"),
        ("jobqueue: {slurm: {}, pbs: {}}", "needs a section jobqueue:"),
        ("jobqueue: {slrum: {cores: 2, memory: 1GB}}", "did you mean slurm?"),
        (SLURM + ", quue: long}}", "did you mean queue?"),
        (SLURM + "}}\njob: 3", "did you mean jobs?"),
        (SLURM + "}}\njobs: 0", "at least 1"),
        ("jobqueue: {slurm: {memory: 1GB}}", "must say cores"),
        ("jobqueue: {slurm: {cores: two, memory: 1GB}}", "must say cores"),
        ("jobqueue: {slurm: {cores: 2}}", "must say memory"),
        ("jobqueue: {slurm: {cores: 0, memory: 1GB}}", "must say cores"),
        (SLURM + ", job-script-prologue: module load cuda}}", "must say a list, such as [module load cuda]"),
        (SLURM + ", worker-extra-args: --nanny}}", "must say a list"),
        (SLURM + ", processes: '2'}}", "must say a number, at least 1"),
        (SLURM + ", scheduler-options: eth0}}", "must say names and values"),
        (SLURM + ", 3: x}}", "unknown setting 3:"),
    ],
)
def test_a_cluster_file_that_is_wrong(text, words, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(MisuseError) as error:
        check(str(file))
    assert words in line(error)
    assert "mine.yaml" in line(error)


def test_a_machine_without_the_batch_system(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(MisuseError, match=r"asks for slurm, but this machine has no command sbatch"):
        check(str(EXAMPLE))


# --- batch systems --------------------------------------------------------------------------------------------------


def options(command: str) -> dict[str, list[str]]:
    """``--name value`` pairs of a command line, in order."""
    found = defaultdict(list)
    for name, value in re.findall(r"(--[a-z-]+)(?: ([^-\s]\S*))?", command):
        found[name].append(value)
    return found


def test_the_batch_script_of_the_example_asks_for_what_the_file_says():
    about = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["jobqueue"]["slurm"]
    lines = batch_script(str(EXAMPLE)).splitlines()
    assert lines[0].startswith("#!")
    directives = {one.split()[1].partition("=")[0]: one for one in lines if one.startswith("#SBATCH")}
    assert directives["-p"].split()[-1] == about["queue"]
    assert directives["-t"].split()[-1] == about["walltime"]
    assert directives["-J"].split()[-1] == about["name"]
    assert directives["--cpus-per-task"].endswith(f"={about['cores']}")
    assert directives["--mem"].endswith("=15G")  # 16 GB of 1000^3 bytes are 14.9 GiB
    command = options(lines[-1])
    assert lines[-1].startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    assert command["--nthreads"][-1] == "1"  # the last one counts: one network at a time, on all cores
    assert "--nworkers" not in command
    assert f"export OMP_NUM_THREADS={about['cores']}" in lines
    assert any(one.startswith("export PYTHONPATH=") and str(PROJECT) in one for one in lines)


def test_two_processes_in_a_batch_job_share_its_cores(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "jobqueue: {pbs: {cores: 8, processes: 2, memory: 16GB, job-script-prologue: [module load python]}}"
    )
    lines = batch_script(str(file)).splitlines()
    assert "export OMP_NUM_THREADS=4" in lines
    assert lines.index("module load python") > lines.index("export OMP_NUM_THREADS=4")  # so that it can say otherwise
    assert options(lines[-1])["--nworkers"] == ["2"]


def slurm_file(folder: Path, **values) -> Path:
    """One core, whatever partition there is."""
    about = {"cores": 1, "memory": "3GB", "walltime": "00:05:00", "interface": "lo"} | values
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump({"jobs": 1, "jobqueue": {"slurm": about}}))
    return file


def queued() -> list[str]:
    done = subprocess.run(["squeue", "--noheader", "--format=%i %T"], capture_output=True, text=True, check=True)
    return [one for one in done.stdout.splitlines() if "COMPLETING" not in one]


def slurm_answers() -> bool:
    """Installed alone is not enough: a package of Slurm starts nothing without a configuration."""
    if shutil.which("sbatch") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0


needs_slurm = pytest.mark.skipif(not slurm_answers(), reason="no Slurm answers on this machine")


@pytest.mark.slow
@pytest.mark.slurm
@needs_slurm
def test_slurm_trains_the_same_networks_also_when_a_batch_job_is_cancelled(here, tmp_path):
    """Cancelled in the middle of a training, which another batch job finishes; none is left in the queue."""
    before = queued()
    lab = laboratory(tmp_path / "outputs", str(slurm_file(tmp_path)))
    (lab.outputs / "hold").write_text("1")

    def cancel() -> None:
        small.until((lab.outputs / "held").exists, 120)
        row = notes(lab.outputs).query("what == @HELD_STEP").iloc[-1]
        small.until((lab.outputs / "runs" / row["run"] / CHECKPOINT).exists)
        job = Path(f"/proc/{row['pid']}/environ").read_bytes().split(b"SLURM_JOB_ID=")[1].split(b"\0")[0].decode()
        subprocess.run(["scancel", job], check=True)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    score_all(lab, runs_of(lab))
    canceller.join()
    for run in runs_of(here):
        ours, theirs = (load_file(one.folder(run) / "model.safetensors") for one in (here, lab))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        scores = [next(one.folder(run).glob("scores-*.csv")) for one in (here, lab)]
        pd.testing.assert_frame_equal(*map(pd.read_csv, scores))
    small.until(lambda: queued() == before)


@pytest.mark.slow
@pytest.mark.slurm
@needs_slurm
def test_slurm_refuses_a_partition_that_is_none(tmp_path):
    lab = laboratory(tmp_path / "outputs", str(slurm_file(tmp_path, queue="nowhere")))
    with pytest.raises(MisuseError) as error:
        train_all(lab, [lab.network("CRUSE32")])
    assert "the batch system refused a job of cluster.yaml" in line(error)
    assert "invalid partition" in line(error)


@pytest.mark.parametrize(
    ("workers", "asked", "threads"), [(2, None, "4"), (3, None, "2"), (20, None, "1"), (2, "7", "7")]
)
def test_workers_share_the_cores_out_unless_told_otherwise(workers, asked, threads, monkeypatch):
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert local.worker_environment(workers)["OMP_NUM_THREADS"] == threads
