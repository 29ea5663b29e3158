"""A worker's side of a job: the laboratory and the run back from JSON, and the work done."""

import json
import platform
from functools import lru_cache

from dnslib.errors import MisuseError
from dnslib.experiments.laboratory import Laboratory
from dnslib.experiments.runs import Run
from dnslib.loss import LossWeights
from dnslib.settings import Settings


def do_job(record: dict) -> None:
    """On a worker: train or score the run of a `job_record`."""
    laboratory, run = laboratory_of(json.dumps(record["settings"], sort_keys=True)), run_of(record["run"])
    if run.name != record["name"]:
        raise MisuseError(f"the worker on {platform.node()} has another version of dnslib: update it, start it again")
    if not laboratory.outputs.is_dir():
        raise MisuseError(f"the worker on {platform.node()} does not see {laboratory.outputs}: it must be shared")
    if record["task"] == "train":
        laboratory.train(run)
    else:
        laboratory.scores(run, record["recordings"])


@lru_cache(maxsize=1)
def laboratory_of(settings: str) -> Laboratory:
    """The laboratory of settings in JSON; kept, as its corpora and clips take a while."""
    return Laboratory(Settings(**json.loads(settings)))


def run_of(record: dict) -> Run:
    """The run of its ``asdict``, back from JSON."""
    start = record["start"]
    nested = {"start": start and run_of(start), "loss": LossWeights(**record["loss"])}
    return Run(**record | {"widths": tuple(record["widths"])} | nested)
