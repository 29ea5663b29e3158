"""Trained networks as files: a `Run` says all that decides a network, a `Laboratory` trains it once and scores it once.

A run is a frozen record; a run that starts from another one holds it. Its folder, ``<outputs>/runs/<name>-<hash>``,
is keyed by the record and by the source code that matters:

    config.json   history.csv   model.safetensors   summary.json   scores-<test set>.csv   DONE

Notebooks ask for the runs they need, so a network that two notebooks need is trained once, and any notebook works
alone. Killed and started again, a run continues at its checkpoint.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from dnslib import cluster, data, export, paper, profiling, quality, regrouping
from dnslib.errors import MisuseError
from dnslib.machine import last_level_cache_mb
from dnslib.model import Cruse, enhance_many, load_weights, parameter_count
from dnslib.paths import remove, resolve, write_atomically
from dnslib.progress import track
from dnslib.pruning import sparsify, sparsity
from dnslib.regrouping import shrink
from dnslib.settings import Settings
from dnslib.stft import istft, log_power, stft
from dnslib.training import CHECKPOINT, Recipe, train, validate

TEST_SEED = 2021  # of the test clips; every seed of the networks is scored on the same clips
NOISY = "noisy"
PLAIN = "plain"  # the form of `export.FORMS` that is the reference
FRAME_MS = 10.0
PACED_FRAMES = 10  # frames in a paced round, each takes 10 ms
COLD_FRAMES_SHARE = 10  # one frame in ten is timed with evicted caches too: filling them takes longer than a frame
CYCLE_SEEDS = 1000  # between the seeds of a baseline's cycles: no seed of a study is as large
HISTORY = ("step", "loss", "learning_rate", "gradient_norm")  # columns; no row for a network that took no step
_CODE = (  # what the data hold is in their own digest
    "gru.py", "model.py", "stft.py", "loss.py", "training.py", "pruning.py", "data/mixing.py", "data/mixtures.py",
    "data/corpora.py",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """All that decides a network's weights. ``steps`` 0 is a network not trained (further)."""

    widths: tuple[int, ...]
    steps: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    batch_size: int = 32
    crop_seconds: float = 4.0
    seed: int = 0
    data: str = ""  # digest of the corpora
    sparsity: float = 0.0  # share of GRU weights set to zero at the start, and kept there
    start: "Run | None" = None  # the network this one is pruned from; None: random weights
    groups: int = 4

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of the record and the code that trains it."""
        text = json.dumps(asdict(self), sort_keys=True) + code_digest()
        if self.start and self.groups != self.start.groups:
            text += source_digest(regrouping)  # decides the weights of such runs only
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def total_steps(self) -> int:
        """Optimiser steps from random weights to these."""
        return self.steps + (self.start.total_steps if self.start else 0)

    @property
    def name(self) -> str:
        """A folder name that a person recognises: configuration, what was done, hash."""
        sparse = f"-sparse{self.sparsity:g}" if self.sparsity else ""
        tuned = "-tuned" if self.start and self.steps else "-pruned" if self.start else ""
        groups = f"-{self.groups}groups" if self.groups != Run.groups else ""
        return f"{configuration_name(self.widths)}{groups}{sparse}{tuned}-seed{self.seed}-{self.key}"


def configuration_name(widths: tuple[int, ...]) -> str:
    """The paper's name of these widths, or the widths joined by x."""
    names = {value: name for name, value in paper.CONFIGURATIONS.items()}
    return names.get(tuple(widths), "x".join(map(str, widths)))


@cache
def code_digest() -> str:
    """Digest of the sources that decide a trained network: changed code never finds an old network."""
    package = Path(__file__).parent
    files = sorted(path for pattern in _CODE for path in package.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class Laboratory:
    """The runs, test clips, scores and latencies of one study, kept under ``settings.outputs``."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.outputs = resolve(settings.outputs)

    # --- which runs there are ---------------------------------------------------------------------------------------

    def untrained(self, name: str) -> Run:
        """Random weights of a configuration: enough for parameters, memory and latency. Needs no data."""
        return Run(widths_of(name), seed=self.settings.seed)

    def baseline(self, name: str = "CRUSE32", seed: int | None = None, steps: int | None = None) -> Run:
        """A configuration trained from scratch, in the settings' cycles; ``steps`` are those of the last one.

        Every cycle begins with the weights of the one before, a fresh schedule and batches of its own, so a finished
        training is made longer by asking for one cycle more (warm restarts, arXiv 1608.03983).
        """
        s, run = self.settings, None
        first = s.seed if seed is None else seed
        for cycle in range(s.baseline_cycles):
            run = self._trained(widths_of(name), first + cycle * CYCLE_SEEDS, s.baseline_steps, run)
        return replace(run, steps=steps or s.baseline_steps)

    def direct(self, name: str, seed: int | None = None) -> Run:
        """Trained from scratch for as many steps as the baseline and the fine-tuning together (Table 3)."""
        return self.baseline(name, seed, self.settings.baseline_steps + self.settings.fine_tuning_steps)

    def pruned(self, name: str, seed: int | None = None) -> Run:
        """CRUSE32 sliced to a configuration, not fine-tuned (Table 6)."""
        return self._trained(widths_of(name), seed, 0, start=self.baseline(seed=seed))

    def fine_tuned(self, name: str, seed: int | None = None, learning_rate: float | None = None) -> Run:
        """CRUSE32 sliced to a configuration and trained on, by default with the original hyper-parameters."""
        start = self.baseline(seed=seed)
        return self._trained(widths_of(name), seed, self.settings.fine_tuning_steps, start, learning_rate)

    def sparse(self, fraction: float, fine_tuned: bool, seed: int | None = None) -> Run:
        """CRUSE32 with this share of its GRU weights set to zero (Table 7)."""
        start, steps = self.baseline(seed=seed), self.settings.fine_tuning_steps if fine_tuned else 0
        return self._trained(start.widths, seed, steps, start, sparsity=fraction)

    def network(self, name: str, seed: int | None = None) -> Run:
        """What Figure 1 shows under a name: the baselines from scratch, the others pruned and fine-tuned."""
        return self.fine_tuned(name, seed) if name in paper.PRUNED else self.baseline(name, seed)

    def slimmed(self, widths: tuple[int, ...], groups: int, steps: int, seed: int | None = None) -> Run:
        """CRUSE32 pruned to any widths and number of GRUs (`regrouping.shrink`), and trained on for ``steps``."""
        return replace(self._trained(widths, seed, steps, self.baseline(seed=seed)), groups=groups)

    def _trained(self, widths, seed, steps, start=None, learning_rate=None, sparsity=0.0) -> Run:
        s = self.settings
        return Run(
            tuple(widths), steps, s.learning_rate if learning_rate is None else learning_rate, s.weight_decay,
            s.batch_size, s.crop_seconds, s.seed if seed is None else seed, self.corpora.digest, sparsity, start,
        )  # fmt: skip

    # --- data -------------------------------------------------------------------------------------------------------

    @cached_property
    def corpora(self) -> data.Corpora:
        """The training, validation and test material; prepared once."""
        return data.prepare(self.settings)

    @cached_property
    def clips(self) -> list[data.Clip]:
        """The test clips: speakers and noises that no training heard."""
        return data.test_clips(
            self.corpora.test, self.settings.test_clips, self.settings.clip_seconds, seed=TEST_SEED
        )  # fmt: skip

    @cached_property
    def recordings(self) -> list[data.Clip]:
        """Noisy clips without a reference, from the folder ``settings.recordings``: a blind set, your own calls."""
        if not self.settings.recordings:
            raise MisuseError("No folder of noisy recordings is named: set the parameter recordings.")
        return data.noisy_clips(self.settings.recordings)

    # --- training ---------------------------------------------------------------------------------------------------

    def folder(self, run: Run) -> Path:
        """Where the run lies, trained or not."""
        return self.outputs / "runs" / run.name

    def train(self, run: Run) -> Path:
        """The folder of the run; trains it first (and the run it starts from) if that was not done before.

        Another process training the same run is waited for.
        """
        folder = self.folder(run)
        if (folder / "DONE").exists():
            return folder
        if run.start:
            self.train(run.start)
        folder.mkdir(parents=True, exist_ok=True)
        with waiting_lock(folder.with_name(f".{run.name}.lock")):
            if not (folder / "DONE").exists():
                self._train(run, folder)
        return folder

    def _train(self, run: Run, folder: Path) -> None:
        for leftover in folder.glob(".*.part*"):  # of a process that was killed while it wrote
            remove(leftover)
        write_json(folder / "config.json", asdict(run) | {"code": code_digest()})
        started = time.perf_counter()
        model, history = self._start(run), []
        if run.steps:
            recipe = Recipe(run.steps, run.learning_rate, run.weight_decay, freeze_zeros=run.sparsity > 0)
            batches = data.Mixtures(self.corpora.train, run.seed, run.batch_size, run.crop_seconds, device())
            history = train(model.to(device()), batches, recipe, folder, description=f"training {describe(run)}")
        model = model.cpu()
        write_csv(folder / "history.csv", pd.DataFrame(history, columns=HISTORY))
        with write_atomically(folder / "model.safetensors") as path:
            save_file(model.state_dict(), path)
            path.chmod(0o644)  # safetensors makes it readable by its owner only
        write_json(folder / "summary.json", self._summary(run, model, time.perf_counter() - started))
        (folder / CHECKPOINT).unlink(missing_ok=True)
        (folder / "DONE").touch()

    def _start(self, run: Run) -> Cruse:
        """The network before its first step."""
        if run.start is None:
            torch.manual_seed(run.seed)
            model = Cruse(run.widths, run.groups)
        else:
            model = shrink(self.load(run.start), run.widths, run.groups)
        return sparsify(model, run.sparsity) if run.sparsity else model

    def _summary(self, run: Run, model: Cruse, seconds: float) -> dict:
        summary = {
            "parameters": parameter_count(model),
            "sparsity": sparsity(model),
            "seconds_of_last_session": seconds,
        }
        if run.data:
            held_out = data.Mixtures(self.corpora.validation, 0, run.batch_size, run.crop_seconds)
            summary["validation_loss"] = validate(model, held_out)
        summary["audio_seconds"] = run.steps * run.batch_size * run.crop_seconds
        return summary

    def load(self, run: Run) -> Cruse:
        """The network of a run, in evaluation mode on the CPU; trained first if need be."""
        return load_weights(Cruse(run.widths, run.groups), self.train(run) / "model.safetensors")

    def history(self, run: Run) -> pd.DataFrame:
        """One row a step: step, loss, learning_rate, gradient_norm."""
        return pd.read_csv(self.train(run) / "history.csv")

    def summary(self, run: Run) -> dict:
        """parameters, sparsity, validation_loss, audio_seconds of a run."""
        return json.loads((self.train(run) / "summary.json").read_text())

    # --- quality ----------------------------------------------------------------------------------------------------

    def scores(
        self, run: Run, recordings: bool = False, form: str = PLAIN, first_clips: int | None = None
    ) -> pd.DataFrame:
        """DNSMOS P.835 and SI-SDR of every test clip through a run's network, one row a clip; scored once.

        With ``recordings``, of the clips without reference in ``settings.recordings`` instead; with another ``form``,
        through the streaming file of that form; with ``first_clips``, of so many clips only.
        """
        kind = "" if form == PLAIN else f"-{form}-{source_digest(export)}"
        description = describe(run) + ("" if form == PLAIN else f", {form}")
        enhanced = partial(self.enhanced, run, form=form)
        return self._scores(self.train(run), enhanced, description, recordings, kind, first_clips)

    def enhanced(self, run: Run, clips: Iterable[data.Clip], form: str = PLAIN) -> list[np.ndarray]:
        """Clips through a run's network, each (samples,); ``plain`` is the network itself, in PyTorch."""
        if form == PLAIN:
            return enhance_many(self.load(run), [clip.noisy for clip in clips])
        path = self.streaming_file(run, form)
        return [enhance_streaming(path, clip.noisy) for clip in track(clips, description=f"enhancing, {form}")]

    def noisy_scores(self, recordings: bool = False) -> pd.DataFrame:
        """The scores of the clips as they are."""
        return self._scores(self.outputs / "runs" / NOISY, lambda clips: [c.noisy for c in clips], NOISY, recordings)

    def clean_scores(self) -> pd.DataFrame:
        """The scores of the test clips' references: what a perfect denoiser would reach."""
        return self._scores(self.outputs / "runs" / "clean", lambda clips: [c.clean for c in clips], "clean", False)

    def _scores(
        self,
        folder: Path,
        process: Callable[[list[data.Clip]], list[np.ndarray]],
        description: str,
        recordings: bool,
        kind: str = "",
        first_clips: int | None = None,
    ) -> pd.DataFrame:
        clips = (self.recordings if recordings else self.clips)[:first_clips]
        path = folder / scores_name(clips, kind)
        if not path.exists():
            write_csv(path, quality.score_clips(process(clips), clips, description=f"scoring {description}"))
        return pd.read_csv(path, dtype={"clip": str})

    def over_seeds(self, make: Callable[[int], Run], recordings: bool = False) -> pd.DataFrame:
        """Scores of ``make(seed)`` for every seed of the settings, stacked, with a ``seed`` column."""
        seeds = self.settings.seeds
        return pd.concat([self.scores(make(seed), recordings).assign(seed=seed) for seed in seeds], ignore_index=True)

    def quality_table(
        self,
        rows: Mapping[str, Callable[[int], Run]],
        reference: str | None = None,
        against_noisy: bool = False,
        recordings: bool = False,
    ) -> pd.DataFrame:
        """One row a name: clips, seeds, scores with 95 % intervals; deltas paired by clip against a row or noisy."""
        if self.settings.scheduler:  # what is not there yet is made there; without one it is made below
            score_all(self, [make(seed) for make in rows.values() for seed in self.settings.seeds], recordings)
        scores = {name: self.over_seeds(make, recordings) for name, make in rows.items()}
        if reference is not None and reference not in scores:
            raise MisuseError(f"The reference {reference!r} is not among the rows {', '.join(map(str, scores))}.")
        base = self.noisy_scores(recordings) if against_noisy else scores.get(reference)
        table = pd.DataFrame([quality.summarise(score, base) for score in scores.values()]).astype({"clips": int})
        table.insert(0, "model", list(scores))
        table.insert(2, "seeds", self.settings.seed_count)
        return table

    # --- speed ------------------------------------------------------------------------------------------------------

    def streaming_file(self, run: Run, form: str = PLAIN) -> Path:
        """The streaming ONNX file of a run's network in one of `export.FORMS`, written once."""
        kind = "" if form == PLAIN else f"-{form}"
        path = self.train(run) / f"streaming-{source_digest(export)}{kind}.onnx"
        return path if path.exists() else export.export_streaming(self.load(run), path, form)

    def training_frames(self, crops: int = 2, seconds: float = 4.0) -> np.ndarray:
        """Log power ``(T, 161)`` of some training mixtures, one after another: what a form is chosen on."""
        noisy, _ = data.Mixtures(self.corpora.train, self.settings.seed, crops, seconds).batch(0)
        return log_power(stft(noisy)).flatten(0, 1).cpu().numpy()

    def latency(self, models: Mapping[str, Run | tuple[Run, str]], paced_rounds: int = 0) -> pd.DataFrame:
        """`profiling.measure_latency` of several networks in one interleaved measurement; measured once, then read.

        A model is a run, in plain form, or a run and a form; the first one is the reference of the speedups. Measured
        back to back, and a second time with the caches filled with other data before every frame: the columns that
        begin with ``cold_``. A network that the last-level cache holds gains from the first, one that runs once in
        10 ms beside other programs lives nearer to the second. With ``paced_rounds``, a third time, in so many rounds,
        one frame each 10 ms and nothing in between: ``paced_``.
        """
        pairs = {name: model if isinstance(model, tuple) else (model, PLAIN) for name, model in models.items()}
        files = {name: self.streaming_file(*pair) for name, pair in pairs.items()}
        s = self.settings
        protocol = {"rounds": s.latency_rounds, "frames_per_round": s.frames_per_round, "seed": s.seed}
        about = {name: str(path.relative_to(self.outputs)) for name, path in files.items()}
        about |= {"protocol": protocol, "code": source_digest(profiling), "cpu": profiling.machine()["cpu"]}
        about |= {"paced_rounds": paced_rounds} if paced_rounds else {}
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        path = self.outputs / "latency" / f"{key}.csv"
        if not path.exists():
            write_csv(path, measure_everywhere(files, protocol, paced_rounds))
        return pd.read_csv(path)

    # --- results ----------------------------------------------------------------------------------------------------

    def save(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write ``results/<name>.csv``; returns the table as it is."""
        write_csv(self.outputs / "results" / f"{name}.csv", table)
        return table

    def result(self, name: str) -> pd.DataFrame:
        """Read ``results/<name>.csv`` of another notebook; MisuseError when that one did not run yet."""
        path = self.outputs / "results" / f"{name}.csv"
        if not path.exists():
            raise MisuseError(f"{path.name} is not there yet: run the notebook that writes it, or the whole study.")
        return pd.read_csv(path)


def scores_name(clips: Iterable[data.Clip], kind: str = "") -> str:
    """Name of the file that holds the scores of these clips."""
    return f"scores-{digest_of_clips(clips)}{kind}.csv"


def digest_of_clips(clips: Iterable[data.Clip]) -> str:
    """Twelve hexadecimal digits of clips and scoring code: scores are found again for the same only."""
    digest = hashlib.sha256(source_digest(quality).encode())
    for clip in clips:
        digest.update(clip.name.encode())
        for waveform in (clip.noisy, clip.clean):
            digest.update(b"" if waveform is None else np.ascontiguousarray(waveform).tobytes())
    return digest.hexdigest()[:12]


def enhance_streaming(path: Path, noisy: np.ndarray) -> np.ndarray:
    """`dnslib.enhance` with the gains of a streaming file: a waveform (samples,) frame by frame."""
    spectrum = stft(torch.from_numpy(np.ascontiguousarray(noisy, dtype=np.float32)))
    gain = torch.from_numpy(export.run_streaming(path, log_power(spectrum).numpy()))
    return istft(spectrum * gain, len(noisy)).numpy()


def measure_everywhere(files: Mapping[str, Path], protocol: Mapping[str, int], paced_rounds: int = 0) -> pd.DataFrame:
    """The latency table back to back, joined by ``cold_…`` columns: the same with evicted caches, on fewer frames; and
    by ``paced_…`` columns where there are such rounds."""
    table = profiling.measure_latency(files, **protocol)
    frames = max(1, protocol["frames_per_round"] // COLD_FRAMES_SHARE)
    evict_mb = 2 * last_level_cache_mb()
    fewer = {**protocol, "frames_per_round": frames, "warmup_frames": frames}
    cold = profiling.measure_latency(files, **fewer, evict_mb=evict_mb)
    table = join_prefixed(table, cold, "cold_").assign(cold_evicted_mb=evict_mb)
    if paced_rounds:
        paced = {**protocol, "rounds": paced_rounds, "frames_per_round": PACED_FRAMES, "warmup_frames": PACED_FRAMES}
        table = join_prefixed(table, profiling.measure_latency(files, **paced, pace_ms=FRAME_MS), "paced_")
    return table


def join_prefixed(table: pd.DataFrame, other: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The columns of another measurement of the same models beside those of a table."""
    other = other.drop(columns=["rounds"]).rename(columns=lambda name: name if name == "model" else f"{prefix}{name}")
    return table.merge(other, on="model", validate="1:1")


def widths_of(name: str) -> tuple[int, ...]:
    """The widths of a named configuration; MisuseError with the known names for another."""
    if name not in paper.CONFIGURATIONS:
        raise MisuseError(f"Unknown configuration {name!r}; known: {', '.join(paper.CONFIGURATIONS)}.")
    return paper.CONFIGURATIONS[name]


def describe(run: Run) -> str:
    """A run in a few words, for progress lines."""
    words = [configuration_name(run.widths)]
    words += [f"in {run.groups} groups"] if run.groups != Run.groups else []
    words += [f"{run.sparsity:.0%} sparse"] if run.sparsity else []
    if run.start and run.steps and not run.sparsity:
        words.append("trained on" if run.start.widths == run.widths else "after pruning")
    return " ".join(words) + (f", seed {run.seed}" if run.seed else "")


def device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def source_digest(module) -> str:
    """Eight hexadecimal digits of the source of a module, or of all files of a package."""
    file = Path(module.__file__)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def waiting_lock(path: Path) -> FileLock:
    """A lock on ``path``; says so once when another process holds it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except Timeout:
        print(f"{path.name} is held by another process, waiting for it …", flush=True)
    return lock


def write_json(path: Path, value) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with write_atomically(path) as temporary:
        table.to_csv(temporary, index=False)


# --- several runs at once -------------------------------------------------------------------------------------------

JOB = "dnslib.experiments:do_job"  # what a worker calls
FILE_SECONDS = 30.0  # that a shared file system may take to show what another machine wrote


def train_all(laboratory: Laboratory, runs: Iterable[Run]) -> None:
    """Train several runs, with one overall progress line: one after another, or where the settings' scheduler says."""
    if laboratory.settings.scheduler:
        return do_elsewhere(laboratory, training_jobs(laboratory, runs))
    for run in track(list(runs), description="networks"):
        laboratory.train(run)


def score_all(laboratory: Laboratory, runs: Iterable[Run], recordings: bool = False) -> None:
    """Train several runs and score each, as `train_all` and `Laboratory.scores` would."""
    runs = list(runs)
    if laboratory.settings.scheduler:
        jobs = training_jobs(laboratory, runs) | scoring_jobs(laboratory, runs, recordings)
        return do_elsewhere(laboratory, jobs)
    for run in track(runs, description="networks"):
        laboratory.scores(run, recordings)


def training_jobs(laboratory: Laboratory, runs: Iterable[Run]) -> dict[Path, cluster.Job]:
    """What is to be trained, by the file that says that it is done; a run waits for the one it starts from."""
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


def scoring_jobs(laboratory: Laboratory, runs: Iterable[Run], recordings: bool) -> dict[Path, cluster.Job]:
    """What is to be scored, by the file that holds the scores; each waits for its training."""
    runs, jobs = list(runs), {}
    file = scores_name(laboratory.recordings if recordings else laboratory.clips) if runs else ""
    for run in runs:
        scores = laboratory.folder(run) / file
        if not scores.exists():
            record = job_record(laboratory, run, {"task": "score", "recordings": recordings})
            jobs[scores] = cluster.Job(job_name("scoring", run), record, (job_name("training", run),))
    return jobs


def job_name(task: str, run: Run) -> str:
    return f"{task}-{run.name}"


def job_record(laboratory: Laboratory, run: Run, task: dict) -> dict:
    """All that a worker needs, as values of JSON; folders are absolute, as its working folder is another one."""
    settings = laboratory.settings.model_dump() | {"scheduler": ""}
    settings |= {name: str(resolve(settings[name])) for name in ("data", "recordings", "outputs") if settings[name]}
    return task | {"run": asdict(run), "name": run.name, "settings": settings}


def do_elsewhere(laboratory: Laboratory, jobs: dict[Path, cluster.Job]) -> None:
    """Have jobs done by the workers of the settings' scheduler, with one progress line; they are gone afterwards.

    So what is measured next is alone on this machine, unless the workers of a ``tcp://`` scheduler run here too.
    """
    if not jobs:
        return
    scheduler, files = laboratory.settings.scheduler, {job.name: file for file, job in jobs.items()}
    where = scheduler if "://" in scheduler else Path(scheduler).name
    with cluster.opened(scheduler, laboratory.outputs / "workers") as workers:
        finished = workers.finished(JOB, list(jobs.values()))
        for name in track(finished, len(jobs), f"trainings and scorings on {where}"):
            expect(files[name])


def expect(file: Path) -> None:
    """Wait for a file that a worker wrote; MisuseError when it does not show."""
    deadline = time.monotonic() + FILE_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise MisuseError(f"a worker wrote {file}, which is not here: the outputs must be on a shared file system")
        time.sleep(0.5)


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
    return Run(**record | {"widths": tuple(record["widths"]), "start": start and run_of(start)})
