"""The verdicts: from measured intervals to "reproduced", "not reproduced" or "not decided by this run".

There is one rule per claim, a function from the study's result tables to a `Judgement`; its docstring says what makes
the claim reproduced, and is printed beside the verdict. Four principles hold for all rules:

* A verdict looks at the whole 95 % interval, never at the mean alone; where the interval reaches across the limit, or
  is not known, the run does not decide.
* "The same" is something to be shown, not the absence of a difference: the interval must lie inside a margin.
* Fewer than ten clips decide nothing, nor do fewer than ten repeats of a profile, or rounds of a clock where the claim
  is about time: over so few rounds a bootstrap is too narrow, and so few clips are no test set. C2, C6 and C11 also
  require that the clock found a network as fast as itself, within 5 %.
* A claim of several parts is reproduced when all parts are, not reproduced when one part is not. There is no
  correction for multiple comparisons: with eight configurations without any effect, up to one run in three has an
  interval wholly on one side of zero.

The margins are ours, fixed before measuring. After the first published run four rules were made stricter: C1 counts its
repeats, C2 the intervals of the speedups, C6 the BAK and the place of CRUSE16, both the self check of the clock, and C9
fails where fine-tuning surely harms. One thing was made laxer: verdicts on quality alone (C5, C9) no longer need
ten rounds of a clock; no published verdict depends on this. Opinion scores are MOS; intervals are over speakers
(over rounds for speed), so with one seed a verdict is about these trained networks and not about what another seed
would give.

``c1_to_c13`` holds margins and rules, ``estimates`` what they compare and say, ``judging`` applies them to a run.
"""

from dnslib.claims.c1_to_c13 import NEEDS, RULES, SELF_CHECK, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13
from dnslib.claims.estimates import (
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    Estimate,
    all_of,
    ascending,
    between,
    misprediction,
)
from dnslib.claims.judging import judge, rules

__all__ = [
    "NEEDS", "NOT_REPRODUCED", "REPRODUCED", "RULES", "SELF_CHECK", "UNDECIDED", "Estimate", "all_of", "ascending",
    "between", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11", "c12", "c13", "judge",
    "misprediction", "rules",
]  # fmt: skip
