"""One trial after another: which design comes next, and what is noted about it."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from dnslib.errors import MisuseError
from dnslib.progress import track
from dnslib.search.designs import Design, Evaluate, Outcome, Space
from dnslib.search.journal import ERROR, JOURNAL, finished_trials, give_up, open_study, outcomes_of, owned
from dnslib.training import Diverged

RANDOM_TRIALS = 10  # drawn at random after the known designs, before the estimator leads
ATTEMPTS = 30  # proposals for one trial, until a design is proposed that was not evaluated before


def search(
    folder: Path, evaluate: Evaluate, trials: int, known: Sequence[Design] = (), space: Space | None = None, seed=0
) -> dict[Design, Outcome]:
    """Evaluate designs until ``trials`` are done in ``folder``, earlier ones included; returns all outcomes in order.

    ``known`` designs come first. A training that `Diverged` is a trial that failed: it counts, and is not
    repeated; any other error ends the search. Raises MisuseError when another process leads the search in this folder.
    """
    if trials < 1:
        raise MisuseError(f"A search needs at least 1 trial, not {trials}.")
    space = space or Space()
    queue = [space.parameters(design) for design in dict.fromkeys(known)]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with owned(folder):
        study = open_study(folder / JOURNAL)
        give_up(study)
        for _ in track(range(len(finished_trials(study)), trials), description="trials"):
            trial = _next(study, space, queue, seed)
            design = space.design(trial.params)
            try:
                outcome = evaluate(design)
            except Diverged as error:
                trial.set_user_attr(ERROR, str(error))
                study.tell(trial, state=TrialState.FAIL)
                print(f"trial {trial.number}, {design.name}, failed: {error}", flush=True)
                continue
            trial.set_user_attr("design", asdict(design))
            trial.set_user_attr("outcome", asdict(outcome))
            study.tell(trial, (outcome.latency_ratio, outcome.validation_loss))
        return outcomes_of(study)


def _next(study: optuna.Study, space: Space, queue: Sequence[dict], seed: int) -> optuna.Trial:
    """A trial with all parameters set: of the first open proposal of ``queue``, then of the sampler.

    The sampler is new for every proposal and seeded by the number of trials before it. A design that was evaluated is
    passed over; after `ATTEMPTS` proposals it is taken all the same.
    """
    finished = finished_trials(study)
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
