"""Jobs: their owner hands them to workers one by one and learns what became of each; a worker calls them by name."""

import contextlib
import importlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnslib.cluster.addresses import POLL_SECONDS
from dnslib.errors import MisuseError
from dnslib.machine import environment
from dnslib.progress import STATUS_FILE, look

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE_SECONDS = 60.0  # without any worker, before saying so
MOST_SHOWN = 3  # running jobs whose progress is shown
_turn = threading.Lock()


class ClusterError(RuntimeError):
    """The scheduler or its workers are gone; one sentence. What was finished is kept."""


@dataclass(frozen=True)
class Job:
    """``arguments`` are values of JSON; ``after`` are names of jobs that must be finished before."""

    name: str
    arguments: dict
    after: tuple[str, ...] = ()


@dataclass
class Cluster:
    """A connection to workers. ``wanted`` is how many of them there is work for; ``logs`` is a folder that they see."""

    name: str
    client: "Client"
    logs: Path
    wanted: int = 0
    problems: list[Exception] = field(default_factory=list)  # of a batch system
    running: dict["Future", Job] = field(default_factory=dict)

    def finished(self, function: str, jobs: Sequence[Job]) -> Iterator[str]:
        """Do ``function`` ("module:name") for the arguments of every job; yields the names as jobs finish.

        Raises what a job raised, and ClusterError where the scheduler is gone or worker after worker died.
        """
        names = {job.name for job in jobs}
        waiting, done = list(jobs), set()
        running = self.running = {}
        seen = time.monotonic()
        self.logs.mkdir(parents=True, exist_ok=True)
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
                look()

    def submit(self, function: str, job: Job):
        """One job to a free worker; only as many are sent as there are workers, so none waits behind a long one."""
        self.status_file(job).unlink(missing_ok=True)  # of a study that was killed
        key = f"{job.name}-{secrets.token_hex(4)}"
        arguments = (function, json.dumps(job.arguments), str(self.status_file(job)))
        return self.client.submit(perform, *arguments, key=key, pure=False)

    def status_file(self, job: Job) -> Path:
        """Where the worker that does a job says how far it has got."""
        return self.logs / f"{job.name}.status"

    def status(self) -> str:
        """How far the first few of the running jobs have got."""
        said = []
        for job in list(self.running.values())[:MOST_SHOWN]:
            with contextlib.suppress(OSError):  # not begun, or the file system is slow
                said.append(self.status_file(job).read_text(encoding="utf-8", errors="replace"))  # half written, maybe
        return " · ".join(filter(None, said))

    def workers(self) -> int:
        """How many there are now. Raises where the scheduler is gone or the batch system refused a job."""
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
        """When a worker was seen last; says once in a while that there is none."""
        now = time.monotonic()
        if workers:
            return now
        if now - seen > PATIENCE_SECONDS:
            print(f"no worker of {self.name} is there yet, still waiting; logs, if any, are in {self.logs}", flush=True)
            return now
        return seen

    def judge(self, future, job: Job) -> None:
        """Nothing for a job that is finished; raises otherwise."""
        self.status_file(job).unlink(missing_ok=True)
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


def perform(function: str, arguments: str, status_file: str) -> Any:
    """Call ``function`` ("module:name") with a mapping from JSON; its progress goes to ``status_file``. One at a time,
    whatever threads the worker has: torch's seed belongs to the process."""
    module, _, name = function.partition(":")
    with _turn, ending_with_worker(), environment({STATUS_FILE: status_file}):
        return getattr(importlib.import_module(module), name)(json.loads(arguments))


@contextlib.contextmanager
def ending_with_worker() -> Iterator[None]:
    """End the process when its worker closes: it would wait for the job, which nobody needs without the scheduler.

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
