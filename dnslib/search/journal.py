"""The trials in their file, ``journal.jsonl``: who owns it, how it is opened after a kill, what it holds."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from dnslib.locks import exclusive
from dnslib.search.designs import Design, Outcome

JOURNAL = "journal.jsonl"
ERROR = "error"  # user attribute of a trial that failed; one that was given up has none


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold a search; MisuseError in one sentence when another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock", lambda holder: f"The search in {folder} is led by {holder}; wait until it ends."):
        yield


def open_study(journal: Path) -> optuna.Study:
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


def give_up(study: optuna.Study) -> None:
    """Mark what a killed process left as failed; it does not count, and is the next proposal again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count, in their order: evaluated, or failed by themselves."""
    return [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE or ERROR in t.user_attrs]


def outcomes_of(study: optuna.Study) -> dict[Design, Outcome]:
    """The outcome of each design; of one that was evaluated twice, the last."""
    outcomes = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        design, outcome = trial.user_attrs["design"], trial.user_attrs["outcome"]
        outcome |= {name: tuple(outcome[name]) for name in ("losses", "rounds_ms")}
        outcomes[Design(tuple(design["widths"]), design["groups"])] = Outcome(**outcome)
    return outcomes
