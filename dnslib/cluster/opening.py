"""From the text that names a scheduler to its workers: checked before a study starts, opened, and ended afterwards."""

import contextlib
import importlib.util
import logging
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from dnslib.cluster.addresses import answering, connected
from dnslib.cluster.batch import batch_cluster, merged, read_batch
from dnslib.cluster.jobs import Cluster
from dnslib.cluster.local import count_of, local_cluster
from dnslib.errors import MisuseError

MOST_DEATHS = 10  # of workers that do one job: batch jobs end at their time limit, and each one takes the job further


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


def need_dask(scheduler: str, *modules: str) -> None:
    if not all(importlib.util.find_spec(module) for module in modules):
        raise MisuseError(f"the scheduler {scheduler} needs Dask, the extra 'cluster': pip install -e '.[cluster]'")


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
