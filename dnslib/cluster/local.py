"""``local:N``: worker processes on this machine."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

from dnslib.cluster.addresses import HERE
from dnslib.errors import MisuseError
from dnslib.machine import usable_cores
from dnslib.processes import search_path
from dnslib.progress import STATUS_FILE


def count_of(scheduler: str) -> int | None:
    """N of ``local:N``; None for another kind of scheduler."""
    if scheduler != "local" and not scheduler.startswith("local:"):
        return None
    if not re.fullmatch(r"local:[1-9]\d{0,3}", scheduler):
        raise MisuseError(f"the scheduler is {scheduler!r}, but local:N needs a number of worker processes, at least 1")
    return int(scheduler.removeprefix("local:"))


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
    """This package is found, the cores are shared out among ``count`` workers, and none writes to our progress line."""
    threads = str(max(1, usable_cores() // count))
    environment = {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONPATH": search_path()}
    environment.pop(STATUS_FILE, None)
    return environment
