"""The verdicts: from measured intervals to "reproduced", "not reproduced" or "not decided by this run".

One rule a claim, a function from the study's result tables to a `Judgement`; its docstring says what makes the claim
reproduced, and is printed beside the verdict. Four principles hold for all rules:

* A verdict looks at the whole 95 % interval, never at the mean alone; where the interval reaches across the limit, or
  is not known, the run does not decide.
* "The same" is something to be shown, not the absence of a difference: the interval must lie inside a margin.
* Fewer than ten clips, or ten rounds of a clock, decide nothing: bootstrap intervals of so few values are too narrow.
* A claim of several parts is reproduced when all parts are, not reproduced when one part is not.

The margins are ours, fixed before measuring. Opinion scores are MOS; intervals are over test clips (over rounds for
speed), so with one seed a verdict is about these trained networks and not about what another seed would give.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import pandas as pd

from dnslib import paper

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "not decided by this run"

NEGLIGIBLE_MOS = 0.05  # a difference that we call none
SMALL_MOS = 0.1  # a loss that we call small: per doubling of the speed (C2), and before any fine-tuning (C10)
SPEED_SHARE = 0.8  # of a published speedup that another processor must reach
SAME_SPEED = 0.05  # two networks are equally fast when their ratio lies within 1 ± this
FEWEST = 10  # clips, or rounds of a clock, below which an interval is not to be trusted and decides nothing
PROXY_ERROR = 1.25  # parameters are no proxy for time when they mispredict a speedup by this factor
SELF_CHECK = "self_check"  # the row of a latency table that measures the reference twice

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
        return f"{self.value:+z.2f} [{self.low:+z.2f}, {self.high:+z.2f}]".replace("-", "−")

    @property
    def times(self) -> str:
        """ "2.46x [2.40, 2.51]" """
        return f"{self.value:.2f}x [{self.low:.2f}, {self.high:.2f}]"


def all_of(*verdicts: str) -> str:
    """The verdict of a claim from those of its parts."""
    if NOT_REPRODUCED in verdicts:
        return NOT_REPRODUCED
    return REPRODUCED if verdicts and set(verdicts) == {REPRODUCED} else UNDECIDED


# --- The rules ------------------------------------------------------------------------------------------------------


def c1(tables: Tables) -> Judgement:
    """The GRUs surely take more than half of the kernel time of a frame. Not reproduced when another kind of layer
    surely takes more than they do; in between, not decided."""
    kinds = {row["kind"]: estimate(row, "share") for _, row in tables["table_1_kinds"].iterrows()}
    gru = kinds.pop("gru")
    next_kind, other = max(kinds.items(), key=lambda item: item[1].value)
    verdict = REPRODUCED if gru.low > 0.5 else NOT_REPRODUCED if other.low > gru.high else UNDECIDED
    measured = f"GRUs take {gru.value:.1%} [{gru.low:.1%}, {gru.high:.1%}] of the time"
    return Judgement(measured, verdict, f"The next kind of layer, {next_kind}, takes {other.value:.1%}.")


def c2(tables: Tables) -> Judgement:
    """Down the list of configurations the speedup never falls, and each one that is at least twice as fast loses at
    most 0.1 MOS of OVRL for every doubling of the speed. Not reproduced when one of them surely loses more, or when
    the speed surely falls from one configuration to the next."""
    figure = tables["figure_1"]
    family = [row for _, row in figure.iterrows() if row["configuration"] in ("CRUSE32", *paper.PRUNED)]
    family.sort(key=lambda row: -row["parameters"])
    speeds = [estimate(row, "speedup") for row in family]
    falls = [
        f"{family[place + 1]['configuration']} is surely slower than {family[place]['configuration']}"
        for place, (before, after) in enumerate(pairwise(speeds))
        if after.high < before.low
    ]
    fast = [row for row in family if row["speedup"] >= 2]
    limits = [-SMALL_MOS * math.log2(row["speedup"]) for row in fast]
    losses = [estimate(row, "delta_ovrl").above(limit) for row, limit in zip(fast, limits, strict=True)]
    verdict = NOT_REPRODUCED if falls else all_of(*losses)
    if not fast:
        return Judgement("no configuration at least 2x faster", verdict, "There is no speed to trade.", *basis(figure))
    worst = min(fast, key=lambda row: row["delta_ovrl"] / math.log2(row["speedup"]))
    steepest = worst["delta_ovrl"] / math.log2(worst["speedup"])
    reason = (
        f"{losses.count(REPRODUCED)} of {len(fast)} configurations at least 2x faster surely lose no more; "
        f"{', '.join(falls) or 'none is surely slower than a larger one'}."
    )
    measured = f"steepest: {worst['configuration']}, {steepest:+z.2f} MOS per doubling of the speed"
    return Judgement(measured.replace("-", "−"), verdict, reason, *basis(figure))


def c3(tables: Tables) -> Judgement:
    """P.500 has the published number of parameters, at least 80 % of the published speedup (other processor), and its
    ΔOVRL is no more than 0.05 MOS below the published one."""
    compression = row_of(tables["figure_1"], "P.500")["compression_ratio"]
    counted = REPRODUCED if round(compression, 2) == paper.PUBLISHED["P.500"].compression_ratio else NOT_REPRODUCED
    return against_published(tables, "P.500", counted)


def c4(tables: Tables) -> Judgement:
    """P.875 reaches at least 80 % of the published speedup (other processor), and its ΔOVRL is no more than 0.05 MOS
    below the published one."""
    return against_published(tables, "P.875")


def against_published(tables: Tables, name: str, *parts: str) -> Judgement:
    """C3 and C4: a configuration against its published speedup and ΔOVRL, with further parts of the claim."""
    row, published = row_of(tables["figure_1"], name), paper.PUBLISHED[name]
    speedup, delta = estimate(row, "speedup"), estimate(row, "delta_ovrl")
    fast, good = speedup.above(SPEED_SHARE * published.speedup), delta.above(published.delta_ovrl - NEGLIGIBLE_MOS)
    measured = f"{row['compression_ratio']:.2f}x fewer parameters, {speedup.times} faster, ΔOVRL {delta.mos}"
    reason = f"Speed: {fast}; OVRL: {good}, the difference being {sign_of(delta)}."
    return Judgement(measured, all_of(fast, good, *parts), reason, *basis(tables["figure_1"]))


def c5(tables: Tables) -> Judgement:
    """The interval of OVRL(P.125) − OVRL(CRUSE32), paired by clip, lies above 0. Not reproduced when it lies below."""
    delta = estimate(row_of(tables["figure_1"], "P.125"), "delta_ovrl")
    reason = f"The difference is {sign_of(delta)}"
    control = tables["table_7"].query("sparsity == 0 and stage == 'after'")
    for _, row in control.iterrows():
        reason += f"; CRUSE32 trained on for as many steps, not pruned, changes by {estimate(row, 'delta_ovrl').mos}"
    return Judgement(f"ΔOVRL {delta.mos}", delta.above(0), reason + ".", *basis(tables["figure_1"]))


def c6(tables: Tables) -> Judgement:
    """P.500 and P.5625, the neighbours of CRUSE16 in the paper, both have a higher OVRL and a higher SIG than CRUSE16:
    all four intervals, paired by clip, are above 0. Not reproduced when one is below."""
    against = tables["figure_1_against_cruse16"]
    rows = [row_of(against, name) for name in ("P.500", "P.5625")]
    verdict = all_of(*(estimate(row, f"delta_{metric}").above(0) for row in rows for metric in ("ovrl", "sig")))
    measured = "; ".join(f"{row['configuration']} − CRUSE16: OVRL {estimate(row, 'delta_ovrl').mos}" for row in rows)
    figure = tables["figure_1"]
    memory = between(figure, "parameters")
    latency = between(figure, "latency_ms")
    background = [estimate(row, "delta_bak").inside(-NEGLIGIBLE_MOS, NEGLIGIBLE_MOS) for row in rows]
    reason = (
        f"CRUSE16 lies between the two in parameters: {memory}, in latency: {latency}; "
        f"the same BAK: {all_of(*background)}."
    )
    return Judgement(measured, verdict, reason, *basis(against))


def c7(tables: Tables) -> Judgement:
    """For every configuration the paired difference in OVRL, pruned and fine-tuned minus trained directly for as many
    steps, lies within ±0.05 MOS. Not reproduced when one lies wholly beyond, on either side."""
    table = tables["table_3"]
    return differences(
        table[table["training"] != "direct"], lambda one: one.inside(-NEGLIGIBLE_MOS, NEGLIGIBLE_MOS), "configuration"
    )


def c8(tables: Tables) -> Judgement:
    """No other learning rate of the fine-tuning gains 0.05 MOS of OVRL or more over the original one, paired by clip.
    Not reproduced when one surely does."""
    table = tables["table_4"]
    found = differences(table[table["factor"] != 1], lambda one: opposite(one.above(NEGLIGIBLE_MOS)), "factor")
    chosen = table.loc[table["selected"], "factor"].iloc[0]
    words = f"Validation loss selects {chosen:g} times the original learning rate; {lower_first(found.reason)}"
    return Judgement(found.measured, found.verdict, words, found.clips, found.seeds)


def c9(tables: Tables) -> Judgement:
    """Fine-tuning surely raises the OVRL of every pruned configuration, and somewhere by more than half of the
    published gain. Not reproduced when it nowhere reaches that half."""
    table = tables["table_6"][tables["table_6"]["stage"] == "after"]
    half = paper.PUBLISHED_FINE_TUNING_GAIN_MOS / 2
    gains = [estimate(row, "delta_ovrl") for _, row in table.iterrows()]
    large = [gain.above(half) for gain in gains]
    helped = sum(gain.low > 0 for gain in gains)
    if set(large) == {NOT_REPRODUCED}:
        verdict = NOT_REPRODUCED
    else:
        verdict = REPRODUCED if helped == len(gains) and REPRODUCED in large else UNDECIDED
    reason = f"The gain is surely above 0 in {helped} of {len(gains)} configurations, above {half:g} in "
    return Judgement(span(table), verdict, f"{reason}{large.count(REPRODUCED)}.", *basis(table))


def c10(tables: Tables) -> Judgement:
    """Before any fine-tuning, CRUSE32 with zeroed GRU weights loses at most 0.1 MOS of OVRL against CRUSE32, at every
    sparsity tested. Not reproduced when it surely loses more at one of them."""
    table = tables["table_7"]
    before = table[(table["stage"] == "before") & (table["sparsity"] > 0)]
    return differences(before, lambda one: one.above(-SMALL_MOS), "sparsity")


def c11(tables: Tables) -> Judgement:
    """The speedup of every sparse network over the dense one lies within 1 ± 0.05, as it must for the dense network
    measured twice. Not reproduced when one is surely faster than that."""
    table = tables["table_8"]
    sparse = table[table["sparsity"] > 0]
    speeds = [estimate(row, "speedup") for _, row in sparse.iterrows()]
    verdicts = [one.inside(1 - SAME_SPEED, 1 + SAME_SPEED) for one in speeds]
    check = estimate(row_of(table, SELF_CHECK), "speedup")
    verdict = all_of(*verdicts)
    if verdict == NOT_REPRODUCED and not any(one.low > 1 + SAME_SPEED for one in speeds):
        verdict = UNDECIDED  # slower is no gain, but it is not the same either
    if check.inside(1 - SAME_SPEED, 1 + SAME_SPEED) != REPRODUCED:
        verdict = UNDECIDED
    fastest = max(speeds, key=lambda one: one.value)
    reason = (
        f"{verdicts.count(REPRODUCED)} of {len(speeds)} sparse networks are equally fast; the dense network against "
        f"itself: {check.times}."
    )
    return Judgement(f"largest speedup by zeros {fastest.times}", verdict, reason)


def c12(tables: Tables) -> Judgement:
    """On symmetric encoder-decoders of other depths and widths the rule gives monotone widths, and slicing to them
    computes what masking computes. The quality of other networks after pruning is not tested."""
    table = tables["rule_elsewhere"]
    sound = table["monotone"] & (table["largest_difference"] < 1e-5)
    measured = f"{sound.sum()} of {len(table)} other networks"
    reason = (
        f"Masked and sliced networks differ by at most {table['largest_difference'].max():.0e} in the gain; "
        "no other network was trained, so only that the rule applies is shown, not what it costs there."
    )
    return Judgement(measured, REPRODUCED if sound.all() else NOT_REPRODUCED, reason)


def c13(tables: Tables) -> Judgement:
    """Some configuration's compression ratio differs from its speedup by a factor above 1.25, interval included. Not
    reproduced when every configuration surely stays below that factor."""
    table = tables["table_2"]
    rows = [row for _, row in table.iterrows() if row["configuration"] not in ("CRUSE32", SELF_CHECK)]
    errors = [misprediction(row) for row in rows]
    if any(error.low > PROXY_ERROR for error in errors):
        verdict = REPRODUCED
    else:
        verdict = NOT_REPRODUCED if all(error.high < PROXY_ERROR for error in errors) else UNDECIDED
    worst, error = max(zip(rows, errors, strict=True), key=lambda pair: pair[1].value)
    reason = f"Predicting its speedup from its parameters is wrong by a factor of {error.value:.1f}."
    measured = f"{worst['configuration']}: {worst['compression_ratio']:.1f}x fewer parameters, "
    return Judgement(measured + f"{estimate(worst, 'speedup').times} faster", verdict, reason)


RULES: dict[str, Callable[[Tables], Judgement]] = {
    "C1": c1, "C2": c2, "C3": c3, "C4": c4, "C5": c5, "C6": c6, "C7": c7, "C8": c8, "C9": c9, "C10": c10, "C11": c11,
    "C12": c12, "C13": c13,
}  # fmt: skip


NEEDS: dict[str, tuple[str, ...]] = {  # result tables that each rule reads
    "C1": ("table_1_kinds",), "C2": ("figure_1",), "C3": ("figure_1",), "C4": ("figure_1",),
    "C5": ("figure_1", "table_7"), "C6": ("figure_1", "figure_1_against_cruse16"), "C7": ("table_3",),
    "C8": ("table_4",), "C9": ("table_6",), "C10": ("table_7",), "C11": ("table_8",), "C12": ("rule_elsewhere",),
    "C13": ("table_2",),
}  # fmt: skip


class MissingRow(LookupError):
    """A configuration that a rule looks at is not in the run."""


def judge(tables: Tables) -> pd.DataFrame:
    """One row a claim: id, statement, where, published, measured, verdict, reason, clips, seeds, notebook.

    A claim whose tables are not there is not decided, and its reason names what is missing.
    """
    rows = []
    for claim in paper.CLAIMS:
        missing = [name for name in NEEDS[claim.id] if name not in tables]
        try:
            found = (
                undecidable(claim, ", ".join(missing)) if missing else on_enough(RULES[claim.id](tables), claim, tables)
            )
        except MissingRow as error:
            found = undecidable(claim, str(error))
        about = {"id": claim.id, "statement": claim.statement, "where": claim.where, "published": claim.published}
        rows.append(about | vars(found) | {"notebook": claim.notebook})
    return pd.DataFrame(rows).astype({"clips": "Int64", "seeds": "Int64"})


def on_enough(found: Judgement, claim: paper.Claim, tables: Tables) -> Judgement:
    """The judgement, left undecided when it rests on fewer than ten clips, or ten rounds of a clock."""
    counts = {} if found.clips is None else {"clips": found.clips}
    rounds = [tables[name]["rounds"].min() for name in NEEDS[claim.id] if "rounds" in tables[name]]
    counts |= {"rounds": min(rounds)} if rounds else {}
    short = [f"{count:.0f} {what}" for what, count in counts.items() if count < FEWEST]
    if not short:
        return found
    return replace(found, verdict=UNDECIDED, reason=f"Only {' and '.join(short)}: too few. {found.reason}")


def undecidable(claim: paper.Claim, missing: str) -> Judgement:
    return Judgement("not measured", UNDECIDED, f"The run has no {missing}; the notebook {claim.notebook} makes it.")


def rules() -> pd.DataFrame:
    """One row a claim: id, and what makes it reproduced."""
    return pd.DataFrame(
        {"id": id_, "reproduced when": inspect.getdoc(rule).replace("\n", " ")} for id_, rule in RULES.items()
    )


# --- Small parts ----------------------------------------------------------------------------------------------------


def estimate(row: pd.Series, column: str) -> Estimate:
    """A column of a row with ``<column>_ci_low`` and ``<column>_ci_high``."""
    return Estimate(*(float(row[name]) for name in (column, f"{column}_ci_low", f"{column}_ci_high")))


def row_of(table: pd.DataFrame, name: str) -> pd.Series:
    """The row of a configuration; MissingRow when the run left it out."""
    rows = table[table["configuration"] == name]
    if rows.empty:
        raise MissingRow(f"row {name}")
    return rows.iloc[0]


def basis(table: pd.DataFrame) -> tuple[int, int]:
    """Clips and seeds that a table's scores rest on: the fewest of its rows."""
    return int(table["clips"].min()), int(table["seeds"].min())


def differences(table: pd.DataFrame, rule: Callable[[Estimate], str], label: str) -> Judgement:
    """One rule for the ``delta_ovrl`` of every row; the reason counts what each row says."""
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


def sign_of(delta: Estimate) -> str:
    """What the interval says about the sign, without ranking where it holds 0."""
    return "above 0" if delta.low > 0 else "below 0" if delta.high < 0 else "not told from 0"


def opposite(verdict: str) -> str:
    return {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED}.get(verdict, verdict)


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
