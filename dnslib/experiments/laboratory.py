"""A `Laboratory` trains each run of a study once, scores it once and measures it once."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from dnslib import data, export, quality
from dnslib.errors import MisuseError
from dnslib.experiments.catalogue import Catalogue
from dnslib.experiments.files import (
    read_csv,
    read_scores,
    reading,
    scores_name,
    source_digest,
    with_snr_and_noise,
    write_csv,
)
from dnslib.experiments.runs import Run, describe, identity
from dnslib.experiments.scheduling import score_all
from dnslib.experiments.streaming import enhance_clips, enhance_streaming, measured_once
from dnslib.experiments.training import train_network
from dnslib.locks import only_writer, waiting
from dnslib.model import Cruse, load_weights
from dnslib.paths import resolve
from dnslib.progress import track
from dnslib.settings import Settings
from dnslib.stft import log_power, stft

TEST_SEED = 2021  # of the test clips; every seed of the networks is scored on the same clips
NOISY = "noisy"
PLAIN = "plain"  # the form of `export.FORMS` that is the reference


class Laboratory(Catalogue):
    """The runs, test clips, scores and latencies of one study, kept under ``settings.outputs``."""

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.outputs = resolve(settings.outputs)

    # --- data -------------------------------------------------------------------------------------------------------

    @cached_property
    def clips(self) -> list[data.Clip]:
        """The test clips: speakers and noises that no training heard."""
        s = self.settings
        return data.test_clips(self.corpora.test, s.test_clips, s.clip_seconds, seed=TEST_SEED)

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
        with waiting(folder.with_name(f".{run.name}.lock"), run.name):
            if not (folder / "DONE").exists():
                train_network(run, folder, self.load, lambda: self.corpora)
        return folder

    def load(self, run: Run) -> Cruse:
        """The network of a run, in evaluation mode on the CPU; trained first if need be."""
        path = self.train(run) / "model.safetensors"
        with reading(path, path.parent):
            return load_weights(Cruse(run.widths, run.groups, run.look_ahead), path)

    def history(self, run: Run, from_random: bool = False) -> pd.DataFrame:
        """One row per step of the run itself: step, loss, learning_rate, gradient_norm.

        Steps count from 0, or with ``from_random`` from the step count of the network it starts from.
        """
        path = self.train(run) / "history.csv"
        with reading(path, path.parent):
            history = read_csv(path)
            if len(history) != run.steps:
                raise ValueError(f"it holds {len(history)} of {run.steps} steps")
        return history.assign(step=history["step"] + run.total_steps - run.steps) if from_random else history

    def summary(self, run: Run) -> dict:
        """parameters, sparsity, validation_loss, audio_seconds of a run; cpu, device and packages that finished it."""
        path = self.train(run) / "summary.json"
        with reading(path, path.parent):
            return json.loads(path.read_text(encoding="utf-8"))

    # --- quality ----------------------------------------------------------------------------------------------------

    def scores(
        self,
        run: Run,
        recordings: bool = False,
        form: str = PLAIN,
        first_clips: int | None = None,
        file: str | None = None,
    ) -> pd.DataFrame:
        """DNSMOS P.835 and SI-SDR of every test clip through a run's network, one row per clip; scored once.

        With ``recordings``, of the clips without reference in ``settings.recordings`` instead; with another ``form``,
        through the streaming file of that form; with ``first_clips``, of that many clips only. Kept in ``file`` in the
        run's folder, by default one that is named after the clips.
        """
        kind = "" if form == PLAIN else f"-{form}-{source_digest(export)}"
        description = describe(run) + ("" if form == PLAIN else f", {form}")
        folder, clips = self.train(run), self.chosen_clips(recordings)[:first_clips]
        path = folder / (file or scores_name(clips, kind))
        return self._scored(path, clips, partial(self.enhanced, run, form=form), description)

    def chosen_clips(self, recordings: bool = False) -> list[data.Clip]:
        """The test clips, or the recordings without reference."""
        return self.recordings if recordings else self.clips

    def enhanced(self, run: Run, clips: Iterable[data.Clip], form: str = PLAIN) -> list[np.ndarray]:
        """Clips through a run's network, each (samples,); ``plain`` is the network itself, in PyTorch."""
        if form == PLAIN:
            return enhance_clips(self.load(run), [clip.noisy for clip in clips])
        path = self.streaming_file(run, form)
        return [enhance_streaming(path, clip.noisy) for clip in track(clips, description=f"enhancing, {form}")]

    def noisy_scores(self, recordings: bool = False) -> pd.DataFrame:
        """The scores of the noisy clips as they are."""
        return self._as_they_are(NOISY, self.chosen_clips(recordings), lambda clips: [clip.noisy for clip in clips])

    def clean_scores(self) -> pd.DataFrame:
        """The scores of the test clips' references: what a perfect denoiser would reach."""
        return self._as_they_are("clean", self.clips, lambda clips: [clip.clean for clip in clips])

    def _as_they_are(self, name: str, clips: list[data.Clip], waveforms: Callable) -> pd.DataFrame:
        return self._scored(self.outputs / "runs" / name / scores_name(clips), clips, waveforms, name)

    def _scored(
        self,
        path: Path,
        clips: list[data.Clip],
        process: Callable[[list[data.Clip]], list[np.ndarray]],
        description: str,
    ) -> pd.DataFrame:
        """The scores kept in ``path``, made by ``process`` where they are not there yet."""
        if not path.exists():
            write_csv(path, quality.score_clips(process(clips), clips, description=f"scoring {description}"))
        return read_scores(path, clips)

    def over_seeds(
        self, make: Callable[[int], Run], recordings: bool = False, seeds: Sequence[int] | None = None
    ) -> pd.DataFrame:
        """Scores of ``make(seed)`` for every seed (by default of the settings), stacked, with a ``seed`` column."""
        seeds = self.settings.seeds if seeds is None else seeds
        return pd.concat([self.scores(make(seed), recordings).assign(seed=seed) for seed in seeds], ignore_index=True)

    def quality_table(
        self,
        rows: Mapping[str, Callable[[int], Run]],
        reference: str | None = None,
        against_noisy: bool = False,
        recordings: bool = False,
        seeds: Sequence[int] | None = None,
        label: str = "configuration",
    ) -> pd.DataFrame:
        """One row per name: clips, seeds, scores with 95 % intervals; deltas paired by clip against a row or noisy.

        ``rows`` make each row's run from a seed; their names are the first column, called ``label``. Scores are means
        over ``seeds``, by default all of the settings.
        """
        seeds = self.settings.seeds if seeds is None else seeds
        if self.settings.scheduler:  # what is not there yet is made there; without one it is made below
            score_all(self, [make(seed) for make in rows.values() for seed in seeds], recordings)
        scores = {name: self.over_seeds(make, recordings, seeds) for name, make in rows.items()}
        if reference is not None and reference not in scores:
            raise MisuseError(f"The reference {reference!r} is not among the rows {', '.join(map(str, scores))}.")
        base = self.noisy_scores(recordings) if against_noisy else scores.get(reference)
        table = pd.DataFrame([quality.summarise(score, base) for score in scores.values()]).infer_objects()
        table.insert(0, label, list(scores))
        table.insert(2, "seeds", len(seeds))
        return table

    def paired_tables(
        self, names: Sequence[str], ways: Mapping[str, Callable[..., Run]], reference: str, label: str
    ) -> pd.DataFrame:
        """`quality_table` of each configuration made in several ways, one below the other.

        ``ways`` make a run from a configuration and a seed; each is paired with the way called ``reference``.
        """
        tables = [
            self.quality_table({way: partial(make, name) for way, make in ways.items()}, reference, label=label)
            for name in names
        ]
        return pd.concat(tables, keys=names, names=["configuration", None]).reset_index(level=0).reset_index(drop=True)

    def quality_by_seed(
        self, rows: Mapping[str, Callable[[int], Run]], reference: str, label: str = "configuration"
    ) -> pd.DataFrame:
        """`quality_table` of each seed by itself, one below the other, with a ``seed`` column in place of ``seeds``.

        A network is paired with the ``reference`` of its own seed. How far the seeds lie apart is the luck of training,
        which intervals over clips do not cover. The first column is called ``label``.
        """
        seeds = self.settings.seeds
        tables = [self.quality_table(rows, reference, seeds=[seed], label=label).assign(seeds=seed) for seed in seeds]
        return pd.concat(tables, ignore_index=True).rename(columns={"seeds": "seed"})

    def scores_by_clip(self, runs: Iterable[Run]) -> pd.DataFrame:
        """What quality tables rest on: one row per network and test clip, with scores, SNR, speaker and noise.

        The first columns are those of `runs.identity`. The noisy clips and their references come last.
        """
        scores = [self.scores(run).assign(**identity(run)) for run in dict.fromkeys(runs)]
        scores += [self.noisy_scores().assign(configuration=NOISY), self.clean_scores().assign(configuration="clean")]
        table = with_snr_and_noise(pd.concat(scores), self.clips)
        return table.astype(dict.fromkeys(("steps", "total_steps", "seed"), "Int64"))  # whole numbers despite gaps

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
        begin with ``cold_``. A network that fits into the last-level cache gains from the first; one that runs
        every 10 ms beside other programs is closer to the second. With ``paced_rounds``, a third time, in that many
        rounds, one frame every 10 ms and nothing in between: ``paced_``. The machine and its load before the
        measurement are in columns of their own (`profiling.conditions` puts them into words).
        """
        return self._measured(models, paced_rounds)[0]

    def latency_rounds(self, models: Mapping[str, Run | tuple[Run, str]], paced_rounds: int = 0) -> pd.DataFrame:
        """What `latency` of the same networks rests on: the median frame of every round, in ms.

        Columns: ``way`` of measuring (back to back, cold, paced), ``model``, ``round``, ``median_ms``. The models of a
        round were timed within the same seconds, so any two can be compared round by round.
        """
        return self._measured(models, paced_rounds)[1]

    def _measured(self, models: Mapping[str, Run | tuple[Run, str]], paced_rounds: int):
        pairs = {name: model if isinstance(model, tuple) else (model, PLAIN) for name, model in models.items()}
        files = {name: self.streaming_file(*pair) for name, pair in pairs.items()}
        s = self.settings
        protocol = {"rounds": s.latency_rounds, "frames_per_round": s.frames_per_round, "seed": s.seed}
        return measured_once(self.outputs, files, protocol, paced_rounds)

    # --- results ----------------------------------------------------------------------------------------------------

    def save(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write ``results/<name>.csv``; returns the table as it is. MisuseError where a study is writing there."""
        only_writer(self.outputs)
        write_csv(self.outputs / "results" / f"{name}.csv", table)
        return table

    def discard(self, name: str) -> None:
        """Remove ``results/<name>.csv``, which an earlier run with other values left; MisuseError as in `save`."""
        only_writer(self.outputs)
        (self.outputs / "results" / f"{name}.csv").unlink(missing_ok=True)

    def result(self, name: str) -> pd.DataFrame:
        """Read ``results/<name>.csv`` of another notebook; MisuseError when that one has not run yet."""
        path = self.outputs / "results" / f"{name}.csv"
        if not path.exists():
            raise MisuseError(f"{path.name} is not there yet: run the notebook that writes it, or the whole study.")
        with reading(path):
            return read_csv(path)
