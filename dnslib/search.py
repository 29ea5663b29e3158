"""Which shapes are worth their time? A search over widths and GRU groups, led by latency that is measured.

A trial prunes CRUSE32 to a `Design`, trains it on for a few steps, times its streaming file against CRUSE32's in one
interleaved measurement, and takes its loss on held-out crops. Both are minimised by Optuna's tree-structured Parzen
estimator (TPE): with some sixty trials NSGA-II would spend most of them on its first populations, and TPE learns from
every trial. The widths and groups that it proposes are joint, hence the multivariate form.

The trials lie in one append-only file, ``journal.jsonl``, owned by one process at a time. The n-th proposal depends on
the seed and the n - 1 outcomes before it only, so a search that was killed and started again goes the way of one that
was not: the trial that was under way is given up, proposed again, and evaluated again.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from dnslib import data, export, paper, profiling, regrouping
from dnslib.errors import MisuseError
from dnslib.experiments import PLAIN, Laboratory, Run, configuration_name, source_digest, write_json
from dnslib.loss import compressed_spectral_loss
from dnslib.model import Cruse, apply_gain
from dnslib.progress import track
from dnslib.pruning import configure
from dnslib.quality import paired_interval
from dnslib.training import Batches

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, whose bars are not used here
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, TrialState

REFERENCE = "CRUSE32"
BASELINE = "baseline"  # CRUSE32 before its further training: its file is the one whose latency is 1
JOURNAL = "journal.jsonl"
RANDOM_TRIALS = 10  # drawn at random after the known designs, before the estimator leads
ATTEMPTS = 30  # proposals for one trial, until a design is proposed that was not evaluated before
ERROR = "error"  # user attribute of a trial that failed; one that was given up has none
VALIDATION_SEED = 1  # of the held-out crops; 0 draws those of `training.validate`

ON_FRONT, NOT_TOLD_APART, DOMINATED = "on the front", "not told apart from the front", "dominated"


@dataclass(frozen=True)
class Design:
    """Widths of the four levels and the number of disconnected GRUs."""

    widths: tuple[int, ...]
    groups: int = 4

    @property
    def name(self) -> str:
        """The paper's name, or the widths; with the groups where they are not the paper's four."""
        return configuration_name(self.widths) + ("" if self.groups == Design.groups else f" / {self.groups}")

    @property
    def is_paper_configuration(self) -> bool:
        return self.groups == Design.groups and self.widths in paper.CONFIGURATIONS.values()


@dataclass(frozen=True)
class Space:
    """Which designs are searched: each width from ``lowest`` to ``widest`` in equal steps, and the groups.

    A proposal is brought into the paper's shape by its own rule, no level wider than the next (§4). Its GRUs have no
    more weights than those of ``widest`` in four groups: fewer groups get fewer channels.
    """

    lowest: tuple[int, ...] = (8, 16, 16, 32)
    widest: tuple[int, ...] = paper.CONFIGURATIONS[REFERENCE]
    steps: tuple[int, ...] = (8, 8, 16, 16)
    groups: tuple[int, ...] = (1, 2, 4, 8)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        ranges = enumerate(zip(self.lowest, self.widest, self.steps, strict=True), start=1)
        return {f"c{level}": IntDistribution(low, high, step=step) for level, (low, high, step) in ranges} | {
            "groups": CategoricalDistribution(self.groups)
        }

    def design(self, parameters: Mapping[str, int]) -> Design:
        """The design that a proposal stands for: monotone from the right, the last level capped."""
        groups, step = parameters["groups"], self.steps[-1]
        cap = int(self.widest[-1] * (groups / Design.groups) ** 0.5) // step * step
        proposed = [parameters[f"c{level}"] for level in range(1, len(self.widest) + 1)]
        return Design(configure((*proposed[:-1], min(proposed[-1], cap)), 0), groups)

    def parameters(self, design: Design) -> dict[str, int]:
        """The proposal that stands for ``design``. Raises MisuseError for one outside the space."""
        values = {f"c{level}": width for level, width in enumerate(design.widths, start=1)} | {"groups": design.groups}
        inside = values.keys() == self.distributions.keys() and all(
            value in kind.choices
            if isinstance(kind, CategoricalDistribution)
            else kind.low <= value <= kind.high and (value - kind.low) % kind.step == 0
            for value, kind in ((values[name], kind) for name, kind in self.distributions.items())
        )
        if not inside or self.design(values) != design:
            raise MisuseError(f"{design.name} ({design.widths}, {design.groups} groups) lies outside the search space.")
        return values


@dataclass(frozen=True)
class Outcome:
    """What a trial found. Latency is a share of CRUSE32's in the same measurement, with its 95 % interval."""

    latency_ratio: float
    ci_low: float
    ci_high: float
    losses: tuple[float, ...]  # one a held-out crop, the same crops for every trial

    @property
    def validation_loss(self) -> float:
        return float(np.mean(self.losses))


Evaluate = Callable[[Design], Outcome]

# --- the search ------------------------------------------------------------------------------------------------------


def search(
    folder: Path, evaluate: Evaluate, trials: int, known: Sequence[Design] = (), space: Space | None = None, seed=0
) -> dict[Design, Outcome]:
    """Evaluate designs until ``trials`` are done in ``folder``, earlier ones included; all outcomes in their order.

    ``known`` designs come first. A RuntimeError of ``evaluate`` (a training that diverged) is a trial that failed: it
    counts, and is not repeated. Raises MisuseError when another process leads the search in this folder.
    """
    if trials < 1:
        raise MisuseError(f"A search needs at least 1 trial, not {trials}.")
    space = space or Space()
    queue = [space.parameters(design) for design in dict.fromkeys(known)]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with owned(folder):
        study = _open(folder / JOURNAL)
        _give_up(study)
        for _ in track(range(len(_finished(study)), trials), description="trials"):
            trial = _next(study, space, queue, seed)
            design = space.design(trial.params)
            try:
                outcome = evaluate(design)
            except RuntimeError as error:
                trial.set_user_attr(ERROR, str(error))
                study.tell(trial, state=TrialState.FAIL)
                print(f"trial {trial.number}, {design.name}, failed: {error}", flush=True)
                continue
            trial.set_user_attr("design", asdict(design))
            trial.set_user_attr("outcome", asdict(outcome))
            study.tell(trial, (outcome.latency_ratio, outcome.validation_loss))
        return _outcomes(study)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold a search; MisuseError in one sentence when another process does. A kill lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / ".lock"), folder / "owner.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = json.loads(owner.read_text())["process"] if owner.exists() else "unknown"
        raise MisuseError(f"The search in {folder} is led by another process ({holder}); wait until it ends.") from None
    try:
        write_json(owner, {"process": os.getpid()})
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _open(journal: Path) -> optuna.Study:
    """The study in the file, made readable again after a kill; only its owner may call this."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)  # of a process killed while it wrote
    if journal.exists():
        written = journal.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):  # a torn last line, which nothing depends on yet
            os.truncate(journal, whole)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))), study_name="search", load_if_exists=True,
        directions=["minimize", "minimize"],
    )  # fmt: skip


def _give_up(study: optuna.Study) -> None:
    """Mark what a killed process left as failed; it does not count, and is the next proposal again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count, in their order: evaluated, or failed of themselves."""
    return [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE or ERROR in t.user_attrs]


def _next(study: optuna.Study, space: Space, queue: Sequence[dict], seed: int) -> optuna.Trial:
    """A trial with all parameters set: of the first open proposal of ``queue``, then of the sampler.

    The sampler is new for every proposal and seeded by the number of trials before it. A design that was evaluated is
    passed over; after `ATTEMPTS` proposals it is taken all the same.
    """
    finished = _finished(study)
    tried = {space.design(trial.params) for trial in finished}
    known = next((proposal for proposal in queue if space.design(proposal) not in tried), None)
    for attempt in count():
        entropy = np.random.SeedSequence((seed, len(finished), attempt)).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(
            seed=int(entropy), multivariate=True, n_startup_trials=len(queue) + RANDOM_TRIALS
        )
        if known and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):  # one may wait after a kill
            study.enqueue_trial(known)
        trial = study.ask(space.distributions)
        if space.design(trial.params) not in tried or attempt + 1 == ATTEMPTS:
            return trial
        study.tell(trial, state=TrialState.FAIL)


def _outcomes(study: optuna.Study) -> dict[Design, Outcome]:
    """A design evaluated twice stands once, with what was found last."""
    outcomes = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        design, outcome = trial.user_attrs["design"], trial.user_attrs["outcome"]
        outcome |= {"losses": tuple(outcome["losses"])}
        outcomes[Design(tuple(design["widths"]), design["groups"])] = Outcome(**outcome)
    return outcomes


# --- one trial -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Protocol:
    """How a trial is evaluated: steps of fine-tuning, held-out crops, rounds and frames of the latency, file form."""

    steps: int = 40
    crops: int = 32
    rounds: int = 10
    frames_per_round: int = 50
    form: str = PLAIN


class Evaluator:
    """Evaluates designs in a laboratory; ``folder`` is where a search with this protocol lies."""

    def __init__(self, laboratory: Laboratory, protocol: Protocol):
        self.laboratory, self.protocol = laboratory, protocol
        settings = laboratory.settings
        self.batches = data.Mixtures(
            laboratory.corpora.validation, VALIDATION_SEED, settings.batch_size, settings.crop_seconds
        )

    def run(self, design: Design) -> Run:
        """CRUSE32 pruned to the design and trained on for the protocol's steps."""
        return self.laboratory.slimmed(design.widths, design.groups, self.protocol.steps)

    def __call__(self, design: Design) -> Outcome:
        run, p = self.run(design), self.protocol
        losses = crop_losses(self.laboratory.load(run), self.batches, p.crops)
        runs = {REFERENCE: self.laboratory.baseline(REFERENCE), "design": run}
        files = {name: self.laboratory.streaming_file(one, p.form) for name, one in runs.items()}
        table = profiling.measure_latency(files, p.rounds, p.frames_per_round, self_check=False).set_index("model")
        return Outcome(*_shares(table.loc["design"]), tuple(losses))

    @property
    def folder(self) -> Path:
        """Below ``outputs/search``, named by all that decides an outcome: another machine has another search."""
        about = asdict(self.protocol) | {"start": self.laboratory.baseline(REFERENCE).key}
        about |= {"crop_seconds": self.laboratory.settings.crop_seconds, "cpu": profiling.machine()["cpu"]}
        about |= {
            "code": [source_digest(module) for module in (profiling, export, regrouping)],
            "seed": VALIDATION_SEED,
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        return self.laboratory.outputs / "search" / key


def _shares(row: pd.Series) -> tuple[float, float, float]:
    """Latency as a share of the reference's, with its interval, from the speedup of a latency table."""
    return float(1 / row["speedup"]), float(1 / row["speedup_ci_high"]), float(1 / row["speedup_ci_low"])


@torch.inference_mode()
def crop_losses(model: Cruse, batches: Batches, crops: int) -> list[float]:
    """The training loss of each of the first ``crops`` held-out crops."""
    losses: list[float] = []
    for step in count():
        noisy, target = batches.batch(step)
        estimate = apply_gain(model, noisy)
        losses += [
            float(compressed_spectral_loss(*pair)) for pair in zip(estimate.split(1), target.split(1), strict=True)
        ]
        if len(losses) >= crops:
            return losses[:crops]


# --- the front -------------------------------------------------------------------------------------------------------


def non_dominated(points: Sequence[Sequence[float]]) -> np.ndarray:
    """For each point ``(n, objectives)``, all to be small: no other is as small in all and smaller in one, ``(n,)``."""
    points = np.asarray(points, dtype=float)
    no_larger = (points[:, None] <= points[None, :]).all(-1)
    smaller = (points[:, None] < points[None, :]).any(-1)
    return ~(no_larger & smaller).any(axis=0)


def trial_table(outcomes: Mapping[Design, Outcome]) -> pd.DataFrame:
    """One row a trial, in their order, with 95 % intervals: of the latency over rounds, of ``delta_loss`` over crops.

    ``delta_loss`` is the loss minus that of CRUSE32 (of the first trial where CRUSE32 is none), paired by crop.
    """
    base = outcomes.get(Design(paper.CONFIGURATIONS[REFERENCE]), next(iter(outcomes.values())))
    rows = []
    for design, outcome in outcomes.items():
        delta = paired_interval(outcome.losses, base.losses)
        row = {"configuration": design.name, "groups": design.groups}
        row |= {f"c{level}": width for level, width in enumerate(design.widths, start=1)}
        row |= {"latency_ratio": outcome.latency_ratio, "latency_ratio_ci_low": outcome.ci_low}
        row |= {"latency_ratio_ci_high": outcome.ci_high, "validation_loss": outcome.validation_loss}
        row |= {"delta_loss": delta.mean, "delta_loss_ci_low": delta.ci_low, "delta_loss_ci_high": delta.ci_high}
        rows.append(row)
    table = pd.DataFrame(rows)
    table["on_front"] = non_dominated(table[["latency_ratio", "validation_loss"]])
    table["is_paper_configuration"] = [design.is_paper_configuration for design in outcomes]
    return table


def candidates(outcomes: Mapping[Design, Outcome]) -> list[Design]:
    """CRUSE32, then what is on the front or in the paper: the designs worth another measurement."""
    table = trial_table(outcomes)
    chosen = [
        design for design, keep in zip(outcomes, table.on_front | table.is_paper_configuration, strict=True) if keep
    ]
    return sorted(chosen, key=lambda design: design.name != REFERENCE)


def remeasured(
    evaluator: Evaluator, outcomes: Mapping[Design, Outcome], rounds: int, frames_per_round: int
) -> dict[Design, Outcome]:
    """The `candidates` timed again, in one interleaved measurement: their latencies may then be compared."""
    laboratory, form = evaluator.laboratory, evaluator.protocol.form
    chosen = {design.name: design for design in candidates(outcomes)}
    files = {name: laboratory.streaming_file(evaluator.run(design), form) for name, design in chosen.items()}
    files[BASELINE] = laboratory.streaming_file(laboratory.baseline(REFERENCE), form)
    table = profiling.measure_latency(files, rounds, frames_per_round, reference=BASELINE, self_check=False)
    rows = table.set_index("model")
    return {design: Outcome(*_shares(rows.loc[name]), outcomes[design].losses) for name, design in chosen.items()}


def front_table(outcomes: Mapping[Design, Outcome]) -> pd.DataFrame:
    """`trial_table` of designs measured together, with a ``verdict`` that minds the noise, and what it rests on.

    A design is on the front when none is as fast and as good, and better in one. One that is not is *dominated* when
    some other is surely faster (the intervals of the latency are apart) and surely better (the interval of the paired
    difference of the loss lies below 0); ``dominated_by`` names the fastest such. Otherwise this measurement cannot
    tell it from the front.
    """
    table = trial_table(outcomes)
    table["dominated_by"] = [_sure_dominator(design, outcomes) for design in outcomes]
    table["verdict"] = np.where(
        table["on_front"], ON_FRONT, np.where(table["dominated_by"] == "", NOT_TOLD_APART, DOMINATED)
    )
    return table.sort_values("latency_ratio", ignore_index=True)


def _sure_dominator(design: Design, outcomes: Mapping[Design, Outcome]) -> str:
    own = outcomes[design]
    better = [
        (other.latency_ratio, name.name)
        for name, other in outcomes.items()
        if other.ci_high < own.ci_low and paired_interval(other.losses, own.losses).ci_high < 0
    ]
    return min(better)[1] if better else ""


def answer(front: pd.DataFrame) -> str:
    """One sentence on which of the paper's configurations lie on the front, from the rows of `front_table`."""
    ours = front[front["is_paper_configuration"]]
    if ours.empty:
        return "None of the paper's configurations was evaluated."
    parts = []
    for verdict in (ON_FRONT, NOT_TOLD_APART, DOMINATED):
        rows = ours[ours["verdict"] == verdict]
        names = [
            row.configuration + (f" (by {row.dominated_by})" if row.dominated_by else "") for row in rows.itertuples()
        ]
        parts.append(
            f"{len(rows)} {'is' if len(rows) == 1 else 'are'} {verdict}" + (f": {', '.join(names)}" if names else "")
        )
    return f"Of {len(ours)} configurations of the paper, " + "; ".join(parts) + "."
