"""Jobs done by other processes and machines, through Dask: a job is plain data, its result lies in files.

A scheduler is named by one text: ``local:2`` (two worker processes on this machine), ``tcp://host:port`` (one that runs
already) or a dask-jobqueue file such as ``notebooks/parameters/cluster-slurm.yaml`` (Slurm, PBS, …). All processes
share the folder of the outputs. A worker does one job at a time; the job of a worker that was killed is done again by
another one. Dask is imported when a scheduler is named, never before.

Dask's messages are pickles: whoever can reach a scheduler can run code on its workers, and the other way round. So
``local:N`` listens on this machine only, and the others belong on a network that is trusted.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from dnslib.errors import MisuseError
from dnslib.paths import PROJECT, resolve
from dnslib.progress import STATUS_FILE
from dnslib.settings import unknown

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 60.0  # without any worker, until that is said
MOST_DEATHS = 10  # of workers that do one job: batch jobs end at their time limit, and each one brings the job further
SYSTEMS = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster", "oar": "OARCluster",
    "moab": "MoabCluster", "htcondor": "HTCondorCluster",
}  # fmt: skip
HERE = "127.0.0.1"
_GREETING = b"pickle-protocol"  # Dask's, which tells what it can read
_turn = threading.Lock()


class ClusterError(RuntimeError):
    """The scheduler or its workers are gone; one sentence. What was finished is kept."""


@dataclass(frozen=True)
class Job:
    """``arguments`` are values of JSON; ``after`` are names of jobs that must be finished before."""

    name: str
    arguments: dict
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What a dask-jobqueue file says: the batch system, its cluster's arguments, Dask's settings, jobs at once."""

    path: Path
    system: str
    settings: dict
    arguments: dict
    jobs: int | None  # None: as many as there is work for

    @property
    def kind(self) -> type:
        """The class of dask-jobqueue."""
        return getattr(importlib.import_module("dask_jobqueue"), SYSTEMS[self.system])


# --- what a scheduler is called -------------------------------------------------------------------------------------


def check(scheduler: str) -> str:
    """The text with an absolute path. Raises MisuseError for one that is wrong, or where nobody answers."""
    if not scheduler:
        return ""
    if count_of(scheduler) is not None:
        need_dask(scheduler, "distributed")
    elif scheduler.startswith("tcp://"):
        need_dask(scheduler, "distributed")
        answering(scheduler)
    elif scheduler.endswith((".yaml", ".yml")):
        need_dask(scheduler, "distributed", "dask_jobqueue")
        batch = read_batch(scheduler)
        command = shlex.split(batch.kind.job_cls.submit_command)[0]
        if shutil.which(command) is None:
            raise MisuseError(f"{batch.path.name} asks for {batch.system}, but this machine has no command {command}")
        return str(batch.path)
    else:
        raise MisuseError(f"the scheduler is {scheduler!r}, but must be local:N, tcp://HOST:PORT or a .yaml file")
    return scheduler


def count_of(scheduler: str) -> int | None:
    """N of ``local:N``; None for another kind of scheduler."""
    if not scheduler.startswith("local"):
        return None
    if not re.fullmatch(r"local:[1-9]\d{0,3}", scheduler):
        raise MisuseError(f"the scheduler is {scheduler!r}, but local:N needs a number of worker processes, at least 1")
    return int(scheduler.removeprefix("local:"))


def need_dask(scheduler: str, *modules: str) -> None:
    if not all(importlib.util.find_spec(module) for module in modules):
        raise MisuseError(f"the scheduler {scheduler} needs Dask, the extra 'cluster': pip install -e '.[cluster]'")


def answering(address: str) -> None:
    """Raises MisuseError unless a scheduler of Dask listens at ``tcp://host:port``."""
    try:
        host, port = urlsplit(address).hostname, urlsplit(address).port
    except ValueError:
        host = port = None
    if not host or not port:
        raise MisuseError(f"the scheduler is {address!r}, but an address is tcp://HOST:PORT, such as tcp://node1:8786")
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            heard = greeting(connection)
    except OSError as error:
        raise no_answer(address, (error.strerror or str(error)).lower()) from None
    if _GREETING not in heard:
        raise no_answer(address, "another program listens there")


def greeting(connection: socket.socket) -> bytes:
    """What the other side says first. Dask's client would wait for ever for a program that says nothing."""
    heard, deadline = b"", time.monotonic() + CONNECT_SECONDS
    with contextlib.suppress(TimeoutError):
        while _GREETING not in heard and time.monotonic() < deadline:
            piece = connection.recv(4096)
            if not piece:
                break
            heard += piece
    return heard


def no_answer(address: str, reason: str) -> MisuseError:
    return MisuseError(f"no scheduler answers at {address} ({reason}); `dask scheduler` starts one")


def read_batch(scheduler: str) -> Batch:
    """A dask-jobqueue file, checked. Raises MisuseError that names the file and what is wrong in it."""
    path = resolve(scheduler)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MisuseError(f"the cluster file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"the cluster file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise MisuseError(f"the cluster file {path} is not YAML: {' '.join(str(error).split())}") from None
    sections = content.get("jobqueue") if isinstance(content, dict) else None
    if not isinstance(sections, dict) or len(sections) != 1 or not isinstance(next(iter(sections.values())), dict):
        raise MisuseError(f"the cluster file {path} needs a section jobqueue: with one of {', '.join(SYSTEMS)} in it")
    ((system, values),) = sections.items()
    known(path, content, ("jobs", "jobqueue", "distributed"))
    known(path, sections, SYSTEMS)
    jobs = content.pop("jobs", None)
    if jobs is not None and (type(jobs) is not int or jobs < 1):
        raise MisuseError(f"the cluster file {path} says jobs: {jobs!r}, but must say a number, at least 1")
    return Batch(path, system, content, batch_arguments(path, system, values), jobs)


def known(path: Path, given, names) -> None:
    for name in given:
        if name not in names:
            raise MisuseError(f"the cluster file {path}: {unknown('setting', str(name), names)}")


def batch_arguments(path: Path, system: str, values: dict) -> dict:
    """Arguments of a cluster of dask-jobqueue beyond what its file says: one job at a time, this package found."""
    import dask
    import dask_jobqueue  # noqa: F401 - brings the defaults

    values = {name.replace("_", "-"): value for name, value in values.items()}
    defaults = {name.replace("_", "-"): value for name, value in dask.config.get(f"jobqueue.{system}").items()}
    known(path, values, defaults)
    values = defaults | values
    for name, kind in {"cores": int, "memory": str}.items():
        if type(values[name]) is not kind:
            raise MisuseError(f"the cluster file {path} must say {name} of a batch job, such as cores: 8, memory: 16GB")
    processes = values["processes"] or 1
    threads = max(1, values["cores"] // processes)
    own_options = {"dashboard": False, "dashboard_address": f"{HERE}:0"}
    found = f"export PYTHONPATH={shlex.quote(str(PROJECT))}${{PYTHONPATH:+:$PYTHONPATH}}"
    return {
        "processes": processes,
        "worker_extra_args": [*(values["worker-extra-args"] or ()), "--nthreads", "1", "--no-dashboard"],
        "job_script_prologue": [found, f"export OMP_NUM_THREADS={threads}", *(values["job-script-prologue"] or ())],
        "scheduler_options": own_options | (values["scheduler-options"] or {}),
    }  # fmt: skip


def batch_script(scheduler: str) -> str:
    """The script that is submitted for every batch job of a dask-jobqueue file."""
    import dask

    batch = read_batch(scheduler)
    with dask.config.set(merged(batch)):
        arguments = {name: value for name, value in batch.arguments.items() if name != "scheduler_options"}
        return batch.kind.job_cls("tcp://SCHEDULER", name="NAME", **arguments).job_script()


def merged(batch: Batch) -> dict:
    """Dask's configuration with the file's settings in it."""
    import dask

    return dask.config.merge(dask.config.config, batch.settings)


# --- the owner's side -----------------------------------------------------------------------------------------------


@dataclass
class Cluster:
    """A connection to workers. ``wanted`` is how many of them there is work for."""

    name: str
    client: "Client"
    logs: Path
    wanted: int = 0
    problems: list[Exception] = field(default_factory=list)  # of a batch system

    def finished(self, function: str, jobs: Sequence[Job]) -> Iterator[str]:
        """Do ``function`` ("module:name") for the arguments of every job; gives the names as they are finished.

        Raises what a job raised, and ClusterError where the scheduler is gone or worker after worker died.
        """
        names = {job.name for job in jobs}
        waiting, running, done = list(jobs), {}, set()
        seen = time.monotonic()
        while waiting or running:
            ready = [job for job in waiting if done >= names & set(job.after)]
            self.wanted = len(ready) + len(running)
            workers = self.workers()
            seen = self.tell_when_alone(workers, seen)
            for job in ready[: max(0, workers - len(running))]:
                running[self.submit(function, job)] = job
                waiting.remove(job)
            ended = [future for future in running if future.done()]
            for future in ended:
                job = running.pop(future)
                self.judge(future, job)
                done.add(job.name)
                yield job.name
            if not ended:
                time.sleep(POLL_SECONDS)

    def submit(self, function: str, job: Job):
        """One job to a free worker; only as many are sent as there are workers, so none waits behind a long one."""
        key = f"{job.name}-{secrets.token_hex(4)}"
        return self.client.submit(perform, function, json.dumps(job.arguments), key=key, pure=False)

    def workers(self) -> int:
        """How many there are now. Raises where there is no scheduler any more or the batch system refused a job."""
        if self.problems:
            text = str(self.problems[0]).rpartition("stderr:")[2]
            raise MisuseError(f"the batch system refused a job of {self.name}: {' '.join(text.split())}")
        try:
            if self.client.status == "running":
                return len(self.client.nthreads())
        except (OSError, TimeoutError, RuntimeError):
            pass
        raise self.gone()

    def gone(self) -> ClusterError:
        return ClusterError(
            f"the scheduler {self.name} is gone; what is finished is kept, the same command goes on from there"
        )

    def tell_when_alone(self, workers: int, seen: float) -> float:
        """When a worker was seen last; says once a while that there is none."""
        now = time.monotonic()
        if workers:
            return now
        if now - seen > PATIENCE_SECONDS:
            print(f"no worker of {self.name} is there yet, still waiting; logs, if any, are in {self.logs}", flush=True)
            return now
        return seen

    def judge(self, future, job: Job) -> None:
        """Nothing for a job that is finished; raises otherwise."""
        if future.status == "finished":
            return
        if future.status != "error":  # cancelled or lost
            raise self.gone()
        from distributed.scheduler import KilledWorker

        error = future.exception()
        if isinstance(error, KilledWorker):
            raise ClusterError(
                f"worker after worker died during {job.name}; too little memory is the usual reason, logs are in "
                f"{self.logs}; what is finished is kept, the same command goes on from there"
            )
        raise error


@contextlib.contextmanager
def opened(scheduler: str, logs: Path) -> Iterator[Cluster]:
    """Workers of a scheduler; those that were started for it are ended when the context is left, however it is left.

    ``logs`` is a folder for what they print. Raises MisuseError as `check` does.
    """
    scheduler = check(scheduler)
    import dask
    import distributed  # noqa: F401 - brings defaults, which would be lost if they came inside the context

    own = {
        "distributed.scheduler.allowed-failures": MOST_DEATHS,
        "distributed.deploy.lost-worker-timeout": "5s",  # then another one is started
        "distributed.scheduler.dashboard.link": "",
    }
    with quiet(), dask.config.set(own):
        if scheduler.startswith("tcp://"):
            with connected(scheduler) as client:
                yield Cluster(scheduler, client, logs)
        elif count := count_of(scheduler):
            with adapting(local_cluster(count, logs), scheduler, logs, [], count) as cluster:
                yield cluster
        else:
            batch, problems = read_batch(scheduler), []
            with (
                dask.config.set(merged(batch)),
                adapting(batch_cluster(batch, logs, problems), batch.path.name, logs, problems, batch.jobs) as cluster,
            ):
                yield cluster


@contextlib.contextmanager
def connected(address) -> "Iterator[Client]":
    """A client of a cluster or of ``tcp://host:port``."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise no_answer(str(address), f"{type(error).__name__}: {' '.join(str(error).split())[:100]}") from None
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):  # nothing is lost with a connection
            client.close(timeout=CONNECT_SECONDS)
        time.sleep(POLL_SECONDS)  # its last words come from another thread, and are not for a person


@contextlib.contextmanager
def adapting(spec_cluster, name: str, logs: Path, problems: list, most: int | None) -> Iterator[Cluster]:
    """A cluster with as many workers as there is work for, ``most`` at most; lost ones are replaced."""
    from distributed.deploy.adaptive import Adaptive

    with spec_cluster, connected(spec_cluster) as client:
        cluster = Cluster(name, client, logs, problems=problems)

        class Wanted(Adaptive):
            async def target(self) -> int:
                return cluster.wanted

        limits = {"minimum": 0} | ({} if most is None else {"maximum": most * spec_cluster.processes_per_job})
        spec_cluster.adapt(Adaptive=Wanted, interval="1s", **limits)
        yield cluster


def local_cluster(count: int, logs: Path):
    """A scheduler in this process, reached from this machine only, and plain subprocesses as workers.

    dask.distributed.LocalCluster starts its workers by multiprocessing, which imports the caller's main script again.
    """
    from distributed import Scheduler
    from distributed.deploy.spec import ProcessInterface, SpecCluster

    class WorkerProcess(ProcessInterface):
        def __init__(self, scheduler: str, name: str):
            super().__init__(scheduler, name)
            self.scheduler, self.name, self.process = scheduler, name, None

        async def start(self) -> None:
            logs.mkdir(parents=True, exist_ok=True)
            with (logs / f"worker-{self.name}.log").open("wb") as log:
                self.process = subprocess.Popen(
                    worker_command(self.scheduler, self.name), env=worker_environment(count), stdin=subprocess.DEVNULL,
                    stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            await super().start()

        async def close(self) -> None:
            if self.process:
                self.process.kill()  # what it does can be resumed
                self.process.wait()
            await super().close()

    class LocalProcesses(SpecCluster):
        processes_per_job = 1

    options = {"host": HERE, "port": 0, "dashboard": False, "dashboard_address": f"{HERE}:0"}
    scheduler = {"cls": Scheduler, "options": options}
    return LocalProcesses(scheduler=scheduler, worker={"cls": WorkerProcess}, silence_logs=logging.CRITICAL)


def worker_command(scheduler: str, name: str) -> list[str]:
    """A worker that does one job at a time and ends with its scheduler."""
    return [
        sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--name", str(name), "--nthreads", "1",
        "--no-nanny", "--no-dashboard", "--dashboard-address", f"{HERE}:0", "--host", HERE, "--memory-limit", "0",
        "--death-timeout", "60",
    ]  # fmt: skip


def worker_environment(count: int) -> dict[str, str]:
    """This package is found, the cores are shared out among ``count`` workers, and none writes into our progress."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    search = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"OMP_NUM_THREADS": str(max(1, cores // count))} | os.environ | {"PYTHONPATH": search}
    environment.pop(STATUS_FILE, None)
    return environment


def batch_cluster(batch: Batch, logs: Path, problems: list):
    """A scheduler in this process, reached through the network, and batch jobs as workers."""
    import dask
    from distributed import Status

    class Reporting(batch.kind.job_cls):
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                problems.append(error)
                self.status = Status.failed
                raise

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    class BatchJobs(batch.kind):
        processes_per_job = batch.arguments["processes"]

    folder = dask.config.get(f"jobqueue.{batch.system}.log-directory") or str(logs)
    return BatchJobs(job_cls=Reporting, log_directory=folder, silence_logs=logging.CRITICAL, **batch.arguments)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A worker that dies is dealt with here and needs no page of log."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado.application")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


# --- the worker's side ----------------------------------------------------------------------------------------------


def perform(function: str, arguments: str) -> Any:
    """Call ``function`` ("module:name") with a mapping from JSON. One at a time, whatever threads the worker has:
    torch's seed belongs to the process."""
    os.environ.pop(STATUS_FILE, None)
    module, _, name = function.partition(":")
    with _turn, ending_with_worker():
        return getattr(importlib.import_module(module), name)(json.loads(arguments))


@contextlib.contextmanager
def ending_with_worker() -> Iterator[None]:
    """End the process when its worker closes, which would wait for the job: the scheduler is gone, nobody asks for it.

    What the job did is in its files, and the next scheduler's worker goes on from there.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # called directly
        yield
        return
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(1.0):
            if worker.status.name in ("closing", "closed", "failed"):
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        finished.set()
