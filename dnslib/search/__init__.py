"""Which shapes are worth their time? A search over widths and GRU groups, led by measured latency.

A trial prunes CRUSE32 to a `Design`, trains it on for a few steps, times its streaming file against CRUSE32's in one
interleaved measurement, and takes its loss on held-out crops. Both are minimised by Optuna's tree-structured Parzen
estimator (TPE): with some sixty trials NSGA-II would spend most of them on its first populations, and TPE learns from
every trial. It proposes widths and groups jointly, hence the multivariate form.

The trials lie in one append-only file, ``journal.jsonl``, owned by one process at a time. The n-th proposal depends on
the seed and the n - 1 outcomes before it only, so a search that was killed and started again goes the same way as one
that was not: the trial that was under way is given up, proposed again, and evaluated again.

``designs``: what is searched; ``journal``: that file; ``trials``: proposal after proposal; ``evaluation``: a trial's
network, latency and loss; ``front``: what follows from all trials.
"""

from dnslib.search.designs import REFERENCE, Design, Evaluate, Outcome, Space
from dnslib.search.evaluation import Evaluator, Protocol, crop_losses
from dnslib.search.front import (
    DOMINATED,
    NOT_TOLD_APART,
    ON_FRONT,
    answer,
    candidates,
    front_table,
    non_dominated,
    remeasured,
    trial_table,
)
from dnslib.search.journal import JOURNAL
from dnslib.search.trials import RANDOM_TRIALS, search

__all__ = [
    "DOMINATED", "JOURNAL", "NOT_TOLD_APART", "ON_FRONT", "RANDOM_TRIALS", "REFERENCE", "Design", "Evaluate",
    "Evaluator", "Outcome", "Protocol", "Space", "answer", "candidates", "crop_losses", "front_table", "non_dominated",
    "remeasured", "search", "trial_table",
]  # fmt: skip
