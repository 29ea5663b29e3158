"""Batch jobs as workers: a dask-jobqueue file, checked, and the cluster that it describes."""

import importlib
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from dnslib.cluster.addresses import HERE
from dnslib.errors import MisuseError, unknown
from dnslib.paths import PROJECT, resolve

SYSTEMS = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster", "oar": "OARCluster",
    "moab": "MoabCluster", "htcondor": "HTCondorCluster",
}  # fmt: skip


def is_count(value) -> bool:
    return type(value) is int and value >= 1


def is_texts(value) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


OPTIONAL = {  # settings that are used here: what fits, and how to say it
    "processes": (is_count, "a number, at least 1"),
    "worker-extra-args": (is_texts, "a list, such as [--resources, GPU=1]"),
    "job-script-prologue": (is_texts, "a list, such as [module load cuda]"),
    "scheduler-options": (lambda value: isinstance(value, dict), "names and values, such as {interface: eth0}"),
}


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
    """Arguments of a dask-jobqueue cluster beyond what its file says: one job at a time, this package importable."""
    import dask
    import dask_jobqueue  # noqa: F401 - brings the defaults

    values = {str(name).replace("_", "-"): value for name, value in values.items()}
    defaults = {name.replace("_", "-"): value for name, value in dask.config.get(f"jobqueue.{system}").items()}
    known(path, values, defaults)
    values = defaults | values
    for name, fits in {"cores": is_count, "memory": lambda value: type(value) is str}.items():
        if not fits(values[name]):
            raise MisuseError(f"the cluster file {path} must say {name} of a batch job, such as cores: 8, memory: 16GB")
    for name, (fits, wanted) in OPTIONAL.items():
        if values[name] is not None and not fits(values[name]):
            raise MisuseError(f"the cluster file {path} says {name}: {values[name]!r}, but must say {wanted}")
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
