"""Verdicts of all claims on the tables of a run; what rests on too little decides nothing."""

import inspect
from dataclasses import replace

import pandas as pd

from dnslib import paper
from dnslib.claims.c1_to_c13 import BY_SMALL_STEPS, BY_THE_CLOCK, NEEDS, RULES, self_check, true_clock
from dnslib.claims.estimates import UNDECIDED, Judgement, MissingRow, Tables

FEWEST = 10  # clips, rounds of a clock or repeats of a profile below which an interval decides nothing


def judge(tables: Tables) -> pd.DataFrame:
    """One row per claim: id, statement, where, published, measured, verdict, reason, clips, seeds, notebook.

    A claim whose tables are missing is not decided, and its reason names them.
    """
    rows = []
    for claim in paper.CLAIMS:
        missing = [name for name in NEEDS[claim.id] if name not in tables]
        try:
            found = undecidable(claim, ", ".join(missing)) if missing else judgement(claim, tables)
        except MissingRow as error:
            found = undecidable(claim, str(error))
        about = {"id": claim.id, "statement": claim.statement, "where": claim.where, "published": claim.published}
        rows.append(about | vars(found) | {"notebook": claim.notebook})
    return pd.DataFrame(rows).astype({"clips": "Int64", "seeds": "Int64"})


def judgement(claim: paper.Claim, tables: Tables) -> Judgement:
    """What the rule of a claim says, as far as counts and clock allow a verdict."""
    found = on_enough(RULES[claim.id](tables), claim, tables)
    if claim.id not in BY_SMALL_STEPS or true_clock(check := self_check(tables["table_2"])):
        return found
    reason = f"The clock was off, CRUSE32 against itself {check.times}. {found.reason}"
    return replace(found, verdict=UNDECIDED, reason=reason)


def on_enough(found: Judgement, claim: paper.Claim, tables: Tables) -> Judgement:
    """The judgement, left undecided when it rests on fewer than ten clips, rounds of a clock or repeats."""
    counts = {} if found.clips is None else {"clips": found.clips}
    for unit in ("rounds", "repeats") if claim.id in BY_THE_CLOCK else ("repeats",):
        found_there = [tables[name][unit].min() for name in NEEDS[claim.id] if unit in tables[name]]
        counts |= {unit: min(found_there)} if found_there else {}
    short = [f"{count:.0f} {what}" for what, count in counts.items() if count < FEWEST]
    if not short:
        return found
    return replace(found, verdict=UNDECIDED, reason=f"Only {' and '.join(short)}: too few. {found.reason}")


def undecidable(claim: paper.Claim, missing: str) -> Judgement:
    return Judgement("not measured", UNDECIDED, f"The run has no {missing}; the notebook {claim.notebook} makes it.")


def rules() -> pd.DataFrame:
    """One row per claim: id, and what makes it reproduced."""
    return pd.DataFrame(
        {"id": id_, "reproduced when": inspect.getdoc(rule).replace("\n", " ")} for id_, rule in RULES.items()
    )
