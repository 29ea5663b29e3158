"""Training, validation and test: which source of recordings is heard in which of them, and never in two."""

from collections.abc import Iterable
from hashlib import sha256

from dnslib.errors import MisuseError
from dnslib.sampling import SAMPLE_RATE

SPLITS = ("train", "validation", "test")
SHARES = {"validation": 0.05, "test": 0.15}  # of the minutes; the rest is for training


def assign_splits(minutes: dict[str, float], what: str) -> dict[str, str]:
    """A split for every source: about 80 / 5 / 15 % of the minutes, in an order fixed by a hash of the names.

    No source may exceed half of what a held-out split needs, so large ones go to training; a split that this leaves
    without any source takes the smallest one. Raises MisuseError for fewer than three sources.
    """
    if len(minutes) < len(SPLITS):
        raise MisuseError(
            f"training, validation and test need at least 3 {what}, one each, and the data holds {len(minutes)}: "
            f"{', '.join(sorted(minutes)) or 'none'}."
        )
    free = sorted(minutes, key=lambda source: sha256(source.encode()).digest())
    chosen: dict[str, str] = {}
    for split, share in SHARES.items():
        needed, taken = share * sum(minutes.values()), 0.0
        kept_back = len(SPLITS) - 1 - len(set(chosen.values()))  # sources that the splits without any still need
        for source in list(free):
            if taken < needed and minutes[source] <= needed / 2 and len(free) > kept_back:
                chosen[source], taken = split, taken + minutes[source]
                free.remove(source)
    for split in SHARES:
        if split not in chosen.values():
            smallest = min(free, key=lambda source: (minutes[source], source))
            chosen[smallest] = split
            free.remove(smallest)
    return {source: chosen.get(source, "train") for source in minutes}


def minutes_by_source(rows: Iterable[dict]) -> dict[str, float]:
    """Minutes of each source of an index."""
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["source"]] = totals.get(row["source"], 0.0) + row["length"] / SAMPLE_RATE / 60
    return totals
