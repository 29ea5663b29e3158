"""What the rules are made of: estimates with intervals, their comparisons, and the judgement of a claim."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "not decided by this run"

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Judgement:
    """What was measured, with its interval; the verdict; its reason; the clips and seeds that it rests on."""

    measured: str
    verdict: str
    reason: str
    clips: int | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Estimate:
    """A measured value and its 95 % interval; comparisons with NaN bounds stay undecided."""

    value: float
    low: float
    high: float

    def above(self, limit: float) -> str:
        """Reproduced when all of the interval is above the limit, not reproduced when all of it is below."""
        return REPRODUCED if self.low > limit else NOT_REPRODUCED if self.high < limit else UNDECIDED

    def inside(self, low: float, high: float) -> str:
        """Reproduced when the interval lies between the limits, not reproduced when it lies beyond one of them."""
        if low < self.low and self.high < high:
            return REPRODUCED
        return NOT_REPRODUCED if self.high < low or self.low > high else UNDECIDED

    @property
    def mos(self) -> str:
        """ "−0.01 [−0.04, +0.02]" """
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]".replace("-", "−")  # −0.00 is below 0

    @property
    def times(self) -> str:
        """ "2.46x [2.40, 2.51]" """
        return f"{self.value:.2f}x [{self.low:.2f}, {self.high:.2f}]"


def all_of(*verdicts: str) -> str:
    """The verdict of a claim from those of its parts."""
    if NOT_REPRODUCED in verdicts:
        return NOT_REPRODUCED
    return REPRODUCED if verdicts and set(verdicts) == {REPRODUCED} else UNDECIDED


def ascending(*estimates: Estimate) -> str:
    """Reproduced when each interval lies above the one before, not reproduced when one lies wholly below it."""
    pairs = list(pairwise(estimates))
    if any(after.high < before.low for before, after in pairs):
        return NOT_REPRODUCED
    return REPRODUCED if all(before.high < after.low for before, after in pairs) else UNDECIDED


class MissingRow(LookupError):
    """A configuration that a rule looks at is not in the run."""


def estimate(row: pd.Series, column: str) -> Estimate:
    """A column of a row with ``<column>_ci_low`` and ``<column>_ci_high``."""
    return Estimate(*(float(row[name]) for name in (column, f"{column}_ci_low", f"{column}_ci_high")))


def row_of(table: pd.DataFrame, name: str) -> pd.Series:
    """The row of a configuration; MissingRow when the run left it out."""
    rows = table[table["configuration"] == name]
    if rows.empty:
        raise MissingRow(f"row {name}")
    return rows.iloc[0]


def some(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The table; MissingRow when the run left all of its rows out."""
    if table.empty:
        raise MissingRow(f"{what} to compare")
    return table


def basis(table: pd.DataFrame) -> tuple[int, int]:
    """Clips and seeds that a table's scores rest on: the fewest of its rows."""
    return int(table["clips"].min()), int(table["seeds"].min())


def differences(table: pd.DataFrame, rule: Callable[[Estimate], str], label: str) -> Judgement:
    """One rule for the ``delta_ovrl`` of every row; the reason counts the verdicts of the rows."""
    table = some(table, label)
    verdicts = [rule(estimate(row, "delta_ovrl")) for _, row in table.iterrows()]
    counted = ", ".join(f"{verdicts.count(one)} {one}" for one in (REPRODUCED, NOT_REPRODUCED, UNDECIDED))
    reason = (
        f"Row by row ({', '.join(f'{value:g}' if label != 'configuration' else value for value in table[label])}): "
    )
    return Judgement(span(table), all_of(*verdicts), f"{reason}{counted}.", *basis(table))


def span(table: pd.DataFrame) -> str:
    """The smallest and the largest ΔOVRL of a table, with their intervals."""
    ordered = [estimate(row, "delta_ovrl") for _, row in table.sort_values("delta_ovrl").iterrows()]
    ends = ordered if len(ordered) < 2 else (ordered[0], ordered[-1])
    return "ΔOVRL " + " to ".join(one.mos for one in ends)


def between(figure: pd.DataFrame, column: str) -> str:
    """ "yes" when CRUSE16 lies between P.5625 and P.500 in a column, otherwise where it lies."""
    low, value, high = (row_of(figure, name)[column] for name in ("P.5625", "CRUSE16", "P.500"))
    return "yes" if low < value < high else "no, below both" if value <= min(low, high) else "no, above both"


def misprediction(row: pd.Series) -> Estimate:
    """Factor of 1 or more by which the compression ratio differs from the speedup."""
    speedup, ratio = estimate(row, "speedup"), row["compression_ratio"]
    ends = sorted(abs(math.log(ratio / bound)) for bound in (speedup.low, speedup.high))
    low = 0.0 if speedup.low <= ratio <= speedup.high else ends[0]
    return Estimate(*(math.exp(one) for one in (abs(math.log(ratio / speedup.value)), low, ends[1])))


def trade(row: pd.Series, mos_per_doubling: float) -> Estimate:
    """ΔOVRL of a network plus what its speedup allows it to lose; bounds pair the two lower ends, and the two upper."""
    deltas, speedups = (estimate(row, column) for column in ("delta_ovrl", "speedup"))
    ends = zip(vars(deltas).values(), vars(speedups).values(), strict=True)
    return Estimate(*(delta + mos_per_doubling * math.log2(speedup) for delta, speedup in ends))


def sign_of(delta: Estimate) -> str:
    """What the interval says about the sign, without ranking where it contains 0."""
    return "above 0" if delta.low > 0 else "below 0" if delta.high < 0 else "not told from 0"


def opposite(verdict: str) -> str:
    return {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED}.get(verdict, verdict)


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
