"""The rules: one function a claim, from result tables to a `Judgement`, and the margins they use."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pandas as pd

from dnslib import paper
from dnslib.claims.estimates import (
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    Estimate,
    Judgement,
    Tables,
    all_of,
    ascending,
    basis,
    between,
    differences,
    estimate,
    lower_first,
    misprediction,
    opposite,
    row_of,
    sign_of,
    some,
    span,
    trade,
)

NEGLIGIBLE_MOS = 0.05  # a difference up to this counts as none
SMALL_MOS = 0.1  # a loss up to this counts as small: per doubling of the speed (C2), and before any fine-tuning (C10)
SPEED_SHARE = 0.8  # of a published speedup that another processor must reach
SAME_SPEED = 0.05  # two networks are equally fast when their ratio lies within 1 ± this
PROXY_ERROR = 1.25  # parameters are no proxy for time when they mispredict a speedup by this factor
SELF_CHECK = "self_check"  # the row of a latency table that measures the reference twice


def c1(tables: Tables) -> Judgement:
    """The GRUs surely take more than half of the kernel time of a frame. Not reproduced when another kind of layer
    surely takes more than they do; in between, not decided."""
    kinds = {row["kind"]: estimate(row, "share") for _, row in tables["table_1_kinds"].iterrows()}
    gru = kinds.pop("gru")
    next_kind, other = max(kinds.items(), key=lambda item: item[1].value)
    surely_less = any(kind.low > gru.high for kind in kinds.values())
    verdict = REPRODUCED if gru.low > 0.5 else NOT_REPRODUCED if surely_less else UNDECIDED
    measured = f"GRUs take {gru.value:.1%} [{gru.low:.1%}, {gru.high:.1%}] of the time"
    return Judgement(measured, verdict, f"The next kind of layer, {next_kind}, takes {other.value:.1%}.")


def c2(tables: Tables) -> Judgement:
    """Down the list each configuration is faster than the one before, and each that is at least twice as fast as
    CRUSE32 loses at most 0.1 MOS of OVRL for every doubling of the speed, all with their intervals. Not reproduced when
    one of them surely loses more, or when the speed surely falls from one configuration to the next."""
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
    losses = [trade(row, SMALL_MOS).above(0) for row in fast]
    rising = ascending(*speeds)
    if not fast:
        words = "no configuration at least 2x faster", all_of(rising, UNDECIDED), "There is no speed to trade."
        return Judgement(*words, *basis(figure))
    worst = min(fast, key=lambda row: row["delta_ovrl"] / math.log2(row["speedup"]))
    steepest = worst["delta_ovrl"] / math.log2(worst["speedup"])
    each = f"{'each' if rising == REPRODUCED else 'not each'} is surely faster than the one before"
    reason = (
        f"{losses.count(REPRODUCED)} of {len(fast)} configurations at least 2x faster surely lose no more; "
        f"{', '.join(falls) or each}."
    )
    measured = f"steepest: {worst['configuration']}, {steepest:+z.2f} MOS per doubling of the speed"
    return Judgement(measured.replace("-", "−"), all_of(rising, *losses), reason, *basis(figure))


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
        reason += (
            f"; CRUSE32 trained further for as many steps, not pruned, changes by {estimate(row, 'delta_ovrl').mos}"
        )
    return Judgement(f"ΔOVRL {delta.mos}", delta.above(0), reason + ".", *basis(tables["figure_1"]))


def c6(tables: Tables) -> Judgement:
    """P.500 and P.5625, the neighbours of CRUSE16 in the paper, both have a higher OVRL and a higher SIG than CRUSE16
    (all four intervals, paired by clip, are above 0) and the same BAK (within ±0.05 MOS), and CRUSE16 lies between
    them in parameters and, interval for interval, in speedup. Not reproduced when one of these surely fails."""
    against, figure = tables["figure_1_against_cruse16"], tables["figure_1"]
    rows = [row_of(against, name) for name in ("P.500", "P.5625")]
    better = all_of(*(estimate(row, f"delta_{metric}").above(0) for row in rows for metric in ("ovrl", "sig")))
    background = all_of(*(estimate(row, "delta_bak").inside(-NEGLIGIBLE_MOS, NEGLIGIBLE_MOS) for row in rows))
    memory = REPRODUCED if between(figure, "parameters") == "yes" else NOT_REPRODUCED
    time = ascending(*(estimate(row_of(figure, name), "speedup") for name in ("P.500", "CRUSE16", "P.5625")))
    measured = "; ".join(f"{row['configuration']} − CRUSE16: OVRL {estimate(row, 'delta_ovrl').mos}" for row in rows)
    reason = (
        f"Higher OVRL and SIG: {better}; the same BAK: {background}; CRUSE16 lies between the two in parameters: "
        f"{between(figure, 'parameters')}, in latency: {between(figure, 'latency_ms')} ({time})."
    )
    return Judgement(measured, all_of(better, background, memory, time), reason, *basis(against))


def c7(tables: Tables) -> Judgement:
    """For every configuration the paired difference in OVRL, pruned and fine-tuned minus trained directly for as many
    steps, lies within ±0.05 MOS. Not reproduced when one lies wholly beyond, on either side."""
    table = tables["table_3"]
    pruned = table[table["training"] != "direct"]
    found = differences(pruned, lambda one: one.inside(-NEGLIGIBLE_MOS, NEGLIGIBLE_MOS), "configuration")
    deltas = [estimate(row, "delta_ovrl") for _, row in pruned.iterrows()]
    better, worse = sum(one.low > NEGLIGIBLE_MOS for one in deltas), sum(one.high < -NEGLIGIBLE_MOS for one in deltas)
    words = f"Pruning is surely better by more than {NEGLIGIBLE_MOS} in {better}, surely worse in {worse}"
    words += ": no better, as the paper says, but not the same." if worse and not better else "."
    return replace(found, reason=f"{found.reason} {words}")


def c8(tables: Tables) -> Judgement:
    """No other learning rate of the fine-tuning gains 0.05 MOS of OVRL or more over the original one, paired by clip.
    Not reproduced when one surely does. Which one validation selects is reported, not judged: its loss has
    no interval."""
    table = tables["table_4"]
    others = table[table["factor"] != 1]
    found = differences(others, lambda one: opposite(one.above(NEGLIGIBLE_MOS)), "factor")
    chosen = table.loc[table["selected"], "factor"].iloc[0]
    words = f"Validation loss selects {chosen:g} times the original learning rate; {lower_first(found.reason)}"
    better = [f"{row['factor']:g}" for _, row in others.iterrows() if estimate(row, "delta_ovrl").low > 0]
    words += f" Better than the original by any amount: {', '.join(better)} times." if better else ""
    return replace(found, reason=words)


def c9(tables: Tables) -> Judgement:
    """Fine-tuning surely raises the OVRL of every pruned configuration, and somewhere by more than half of the
    published gain. Not reproduced when it surely lowers one, or nowhere reaches that half."""
    table = tables["table_6"][tables["table_6"]["stage"] == "after"]
    half = paper.PUBLISHED_FINE_TUNING_GAIN_MOS / 2
    gains = [estimate(row, "delta_ovrl") for _, row in table.iterrows()]
    large = [gain.above(half) for gain in gains]
    helped = sum(gain.low > 0 for gain in gains)
    harmed = [row["configuration"] for (_, row), gain in zip(table.iterrows(), gains, strict=True) if gain.high < 0]
    somewhere = next((verdict for verdict in (REPRODUCED, UNDECIDED) if verdict in large), NOT_REPRODUCED)
    verdict = all_of(somewhere, *(gain.above(0) for gain in gains))
    name, lost, won = _deepest_cut(tables)
    reason = (
        f"The gain is surely above 0 in {helped} of {len(gains)} configurations, above {half:g} in "
        f"{large.count(REPRODUCED)}, below 0 in {', '.join(harmed) or 'none'}. "
        f"Slicing cost {lost:.2f} at most ({name}), of which {won:.2f} came back."
    ).replace("-", "−")
    return Judgement(span(table), verdict, reason, *basis(table))


def _deepest_cut(tables: Tables) -> tuple[str, float, float]:
    """The configuration that lost the most OVRL by slicing; that loss, and the gain of its fine-tuning, as means."""
    before, after = (
        tables["table_6"][tables["table_6"]["stage"] == stage].set_index("configuration")["dnsmos_ovrl"]
        for stage in ("before", "after")
    )
    name = before.idxmin()
    return name, row_of(tables["figure_1"], "CRUSE32")["dnsmos_ovrl"] - before[name], after[name] - before[name]


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
    speeds = [estimate(row, "speedup") for _, row in some(sparse, "sparsity").iterrows()]
    verdicts = [one.inside(1 - SAME_SPEED, 1 + SAME_SPEED) for one in speeds]
    check = self_check(table)
    verdict = all_of(*verdicts)
    if verdict == NOT_REPRODUCED and not any(one.low > 1 + SAME_SPEED for one in speeds):
        verdict = UNDECIDED  # slower is no gain, but it is not the same either
    if not true_clock(check):
        verdict = UNDECIDED
    fastest = max(speeds, key=lambda one: one.value)
    reason = (
        f"{verdicts.count(REPRODUCED)} of {len(speeds)} sparse networks are equally fast; the dense network against "
        f"itself: {check.times}."
    )
    return Judgement(f"largest speedup by zeros {fastest.times}", verdict, reason)


def self_check(table: pd.DataFrame) -> Estimate:
    """Speedup of a network over itself, in a table of latencies."""
    return estimate(row_of(table, SELF_CHECK), "speedup")


def true_clock(check: Estimate) -> bool:
    """Whether a network was surely as fast as itself, within the margin for equal speed."""
    return check.inside(1 - SAME_SPEED, 1 + SAME_SPEED) == REPRODUCED


def c12(tables: Tables) -> Judgement:
    """On networks like CRUSE, but of other depths and widths, the rule gives monotone widths, and slicing to them
    computes what masking computes. Other kinds of U-Net, and the quality after pruning, are not tested."""
    table = tables["rule_elsewhere"]
    sound = table["monotone"] & (table["largest_difference"] < 1e-5)
    measured = f"{sound.sum()} of {len(table)} prunings of networks of other depths and widths"
    reason = (
        f"Masked and sliced networks differ by at most {table['largest_difference'].max():.0e} in the gain; "
        "none was trained, and no other kind of U-Net was built: that the rule applies is shown, not what it costs."
    )
    return Judgement(measured, REPRODUCED if sound.all() else NOT_REPRODUCED, reason)


def c13(tables: Tables) -> Judgement:
    """Some configuration's compression ratio differs from its speedup by a factor above 1.25, interval included. Not
    reproduced when every configuration surely stays below that factor."""
    table = tables["table_2"]
    others = table[~table["configuration"].isin(["CRUSE32", SELF_CHECK])]
    rows = [row for _, row in some(others, "configuration").iterrows()]
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


BY_SMALL_STEPS = ("C2", "C6")  # rules that rank speeds a few per cent apart, and so need an accurate clock
BY_THE_CLOCK = ("C2", "C3", "C4", "C6", "C11", "C13")  # rules that look at latencies, and so at rounds

NEEDS: dict[str, tuple[str, ...]] = {  # result tables that each rule reads
    "C1": ("table_1_kinds",), "C2": ("figure_1", "table_2"), "C3": ("figure_1",), "C4": ("figure_1",),
    "C5": ("figure_1", "table_7"), "C6": ("figure_1", "figure_1_against_cruse16", "table_2"), "C7": ("table_3",),
    "C8": ("table_4",), "C9": ("table_6", "figure_1"), "C10": ("table_7",), "C11": ("table_8",),
    "C12": ("rule_elsewhere",), "C13": ("table_2",),
}  # fmt: skip
