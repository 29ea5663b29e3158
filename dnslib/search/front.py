"""The front of latency and loss, from the trials and from one more measurement of the best, with verdicts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dnslib import paper, profiling
from dnslib.intervals import median_interval, paired_interval
from dnslib.search.designs import REFERENCE, Design, Outcome
from dnslib.search.evaluation import Evaluator, latency_shares

BASELINE = "baseline"  # CRUSE32 before its further training: its file is the one whose latency is 1
TRIAL_LUCK = 1.3  # a trial's latency was off by up to this factor when it was measured again
ON_FRONT, NOT_TOLD_APART, DOMINATED = "on the front", "not told apart from the front", "dominated"


def non_dominated(points: Sequence[Sequence[float]]) -> np.ndarray:
    """For each point ``(n, objectives)``, to minimise: whether none is as small in all and smaller in one, ``(n,)``."""
    points = np.asarray(points, dtype=float)
    no_larger = (points[:, None] <= points[None, :]).all(-1)
    smaller = (points[:, None] < points[None, :]).any(-1)
    return ~(no_larger & smaller).any(axis=0)


def trial_table(outcomes: Mapping[Design, Outcome]) -> pd.DataFrame:
    """One row per trial, in their order, with 95 % intervals: of the latency over rounds, of ``delta_loss`` over crops.

    ``delta_loss`` is the loss minus that of CRUSE32 (of the first trial where there is no CRUSE32), paired by crop.
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
    """CRUSE32, then what is near the front or in the paper: the designs worth another measurement.

    Trials are timed minutes apart, by few rounds. So a design stays unless some other was better and `TRIAL_LUCK` times
    as fast: one lucky trial must not hide its neighbours.
    """
    chosen = [
        design
        for design, own in outcomes.items()
        if design.is_paper_configuration
        or not any(
            other.latency_ratio * TRIAL_LUCK < own.latency_ratio and other.validation_loss < own.validation_loss
            for other in outcomes.values()
        )
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
    times_ns = profiling.measure_times(files, rounds, frames_per_round, reference=BASELINE)
    rows = profiling.latency_table(times_ns, BASELINE).set_index("model")
    medians = profiling.round_medians_ms(times_ns)
    return {
        design: Outcome(*latency_shares(rows.loc[name]), outcomes[design].losses, tuple(medians[name]))
        for name, design in chosen.items()
    }


def front_table(outcomes: Mapping[Design, Outcome]) -> pd.DataFrame:
    """`trial_table` of designs measured together, with a ``verdict`` that allows for noise, and what it rests on.

    A design is on the front when none is as fast and as good, and better in one. One that is not is *dominated* when
    some other is surely faster (the interval of the ratio of their latencies in the same rounds excludes 1; for
    trials, which share none, the two intervals do not overlap) and surely better (the interval of the paired difference
    of the loss lies below 0, at 95 % for all comparisons of a design together: Bonferroni); ``dominated_by`` names the
    fastest such design. Otherwise this measurement cannot tell it from the front.
    """
    table = trial_table(outcomes)
    table["dominated_by"] = [_sure_dominator(design, outcomes) for design in outcomes]
    table["verdict"] = np.where(
        table["on_front"], ON_FRONT, np.where(table["dominated_by"] == "", NOT_TOLD_APART, DOMINATED)
    )
    return table.sort_values("latency_ratio", ignore_index=True)


def _sure_dominator(design: Design, outcomes: Mapping[Design, Outcome]) -> str:
    own = outcomes[design]
    faster = {name: other for name, other in outcomes.items() if name != design and surely_faster(other, own)}
    confidence = 1 - 0.05 / max(len(faster), 1)  # else luck would make the best of many sure in a third of the cases
    better = [
        (other.latency_ratio, name.name)
        for name, other in faster.items()
        if paired_interval(other.losses, own.losses, confidence).ci_high < 0
    ]
    return min(better)[1] if better else ""


def surely_faster(one: Outcome, other: Outcome) -> bool:
    """By the ratio of the two in the same rounds; where these are not known, by intervals that do not overlap."""
    if not (one.rounds_ms and other.rounds_ms):
        return one.ci_high < other.ci_low
    return median_interval(np.divide(other.rounds_ms, one.rounds_ms))[0] > 1


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
