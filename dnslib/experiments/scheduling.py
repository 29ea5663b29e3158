"""Several runs trained or scored in one call: here one after another, or as jobs of the settings' scheduler."""

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dnslib import cluster
from dnslib.errors import MisuseError
from dnslib.experiments.files import outlines, scores_name
from dnslib.experiments.runs import Run
from dnslib.paths import resolve
from dnslib.progress import track

if TYPE_CHECKING:
    from dnslib.experiments.laboratory import Laboratory

JOB = "dnslib.experiments:do_job"  # what a worker calls
FILE_SECONDS = 120.0  # that a shared file system may take to show what another machine wrote; NFS caches for up to 60


def train_all(laboratory: "Laboratory", runs: Iterable[Run]) -> None:
    """Train several runs, with one overall progress line: one after another, or where the settings' scheduler says."""
    if laboratory.settings.scheduler:
        return do_elsewhere(laboratory, training_jobs(laboratory, runs))
    for run in track(list(runs), description="networks"):
        laboratory.train(run)


def score_all(laboratory: "Laboratory", runs: Iterable[Run], recordings: bool = False) -> None:
    """Train several runs and score each, as `train_all` and `Laboratory.scores` would."""
    runs = list(runs)
    if laboratory.settings.scheduler:
        jobs = training_jobs(laboratory, runs) | scoring_jobs(laboratory, runs, recordings)
        return do_elsewhere(laboratory, jobs)
    for run in track(runs, description="networks"):
        laboratory.scores(run, recordings)


def training_jobs(laboratory: "Laboratory", runs: Iterable[Run]) -> dict[Path, cluster.Job]:
    """What is to be trained, by the file that marks it as done; a run waits for the one it starts from."""
    jobs = {}
    for run in runs:
        done = laboratory.folder(run) / "DONE"
        if done in jobs or done.exists():
            continue
        after = ()
        if run.start:
            jobs |= training_jobs(laboratory, [run.start])
            after = (job_name("training", run.start),)
        jobs[done] = cluster.Job(job_name("training", run), job_record(laboratory, run, {"task": "train"}), after)
    return jobs


def scoring_jobs(laboratory: "Laboratory", runs: Iterable[Run], recordings: bool) -> dict[Path, cluster.Job]:
    """What is to be scored, by the file that holds the scores; each waits for its training.

    Workers are told the name of the file, as it depends on the last bits of the clips, and these on the processor.
    """
    runs, jobs = list(runs), {}
    if not runs:
        return jobs
    clips = laboratory.chosen_clips(recordings)
    file, outlined = scores_name(clips), outlines(clips)
    for run in runs:
        scores = laboratory.folder(run) / file
        if not scores.exists():
            task = {"task": "score", "recordings": recordings, "file": file, "clips": outlined}
            record = job_record(laboratory, run, task)
            jobs[scores] = cluster.Job(job_name("scoring", run), record, (job_name("training", run),))
    return jobs


def job_name(task: str, run: Run) -> str:
    return f"{task}-{run.name}"


def job_record(laboratory: "Laboratory", run: Run, task: dict) -> dict:
    """All that a worker needs, as values of JSON; folders are absolute, as its working folder is another one."""
    settings = laboratory.settings.model_dump() | {"scheduler": ""}
    settings |= {name: str(resolve(settings[name])) for name in ("data", "recordings", "outputs") if settings[name]}
    return task | {"run": asdict(run), "name": run.name, "settings": settings}


def do_elsewhere(laboratory: "Laboratory", jobs: dict[Path, cluster.Job]) -> None:
    """Have jobs done by the workers of the settings' scheduler, with one progress line; they are gone afterwards.

    So what is measured next is alone on this machine, unless the workers of a ``tcp://`` scheduler run here too.
    """
    if not jobs:
        return
    scheduler, files = laboratory.settings.scheduler, {job.name: file for file, job in jobs.items()}
    where = scheduler if "://" in scheduler else Path(scheduler).name
    with cluster.opened(scheduler, laboratory.outputs / "workers") as workers:
        finished = workers.finished(JOB, list(jobs.values()))
        for name in track(finished, len(jobs), f"trainings and scorings on {where}", workers.status):
            expect(files[name])


def expect(file: Path) -> None:
    """Wait for a file that a worker wrote; MisuseError when it does not appear."""
    deadline = time.monotonic() + FILE_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise MisuseError(f"a worker wrote {file}, which is not here: the outputs must be on a shared file system")
        time.sleep(0.5)
