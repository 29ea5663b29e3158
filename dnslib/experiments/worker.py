"""A worker's side of a job: the laboratory and the run back from JSON, and the work done."""

import json
import math
import platform
from collections.abc import Sequence
from functools import lru_cache

from dnslib.errors import MisuseError
from dnslib.experiments.files import outlines
from dnslib.experiments.laboratory import Laboratory
from dnslib.experiments.runs import Run
from dnslib.loss import LossWeights
from dnslib.settings import Settings


def do_job(record: dict) -> None:
    """On a worker: train or score the run of a `job_record`."""
    run = run_of(record["run"])
    if run.name != record["name"]:
        raise MisuseError(f"the worker on {platform.node()} has another version of dnslib: update it, start it again")
    laboratory = laboratory_for(record, run)
    if record["task"] == "train":
        laboratory.train(run)
    else:
        laboratory.scores(run, record["recordings"], file=record["file"])


def laboratory_for(record: dict, run: Run) -> Laboratory:
    """The laboratory of a job; raises MisuseError where it has other data than the one that handed the job out.

    A worker may outlive a study: data that changed since are read again.
    """
    settings = json.dumps(record["settings"], sort_keys=True)
    for _ in range(2):
        laboratory = laboratory_of(settings)
        if not laboratory.outputs.is_dir():
            raise MisuseError(f"the worker on {platform.node()} does not see {laboratory.outputs}: it must be shared")
        if same_data(laboratory, record, run):
            return laboratory
        laboratory_of.cache_clear()
    raise MisuseError(f"the worker on {platform.node()} reads other data than the study: folders must be shared")


def same_data(laboratory: Laboratory, record: dict, run: Run) -> bool:
    """Whether a worker's data are those that the job was made for."""
    if run.data and laboratory.corpora.digest != run.data:
        return False
    if record["task"] == "train":
        return True
    ours, theirs = outlines(laboratory.chosen_clips(record["recordings"])), record["clips"]
    return len(ours) == len(theirs) and all(map(alike, ours, theirs))


def alike(ours: Sequence, theirs: Sequence) -> bool:
    """Whether two `outlines` are of the same clip, mixed by any processor."""
    (*about, rms), (*wanted, wanted_rms) = ours, theirs
    return about == wanted and math.isclose(rms, wanted_rms, rel_tol=1e-4)


@lru_cache(maxsize=1)
def laboratory_of(settings: str) -> Laboratory:
    """The laboratory of settings in JSON; kept, as its corpora and clips take a while."""
    return Laboratory(Settings(**json.loads(settings)))


def run_of(record: dict) -> Run:
    """The run of its ``asdict``, back from JSON."""
    start = record["start"]
    nested = {"start": start and run_of(start), "loss": LossWeights(**record["loss"])}
    return Run(**record | {"widths": tuple(record["widths"])} | nested)
