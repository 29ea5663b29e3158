"""The table: latencies of a race, speedups over dense products, and what was read."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from dnslib.profiling import latency_table
from dnslib.sparse_products.racing import Case

SPEEDUP = ("speedup", "speedup_ci_low", "speedup_ci_high")
MICROSECONDS_PER_MS = 1e3


def results(times_ns: Mapping[str, np.ndarray], cases: Iterable[Case], seed: int = 0) -> pd.DataFrame:
    """One row per case: latency of one frame, speedups over dense products, and what was read.

    ``speedup`` is over the fastest dense product of the same configuration, ``library_speedup`` over the fastest of
    the same library (NumPy's for SciPy, which has no dense product of its own). Ratios are of paired rounds, intervals
    95 % bootstraps over rounds, as in `dnslib.profiling.latency_table`.
    """
    cases = list(cases)
    about = pd.DataFrame([_about(case) for case in cases])
    plain = latency_table(times_ns, next(iter(times_ns)), seed).set_index("model")
    about["latency_us"] = about["case"].map(plain["latency_ms"]) * MICROSECONDS_PER_MS
    for bound in ("ci_low", "ci_high"):
        about[bound] = about["case"].map(plain[bound]) * MICROSECONDS_PER_MS
    for prefix, by in (("", ["configuration"]), ("library_", ["configuration", "library"])):
        about[[prefix + column for column in SPEEDUP]] = np.nan
        for _, rows in about.assign(library=about["library"].replace("SciPy", "NumPy")).groupby(by, sort=False):
            dense = rows[rows["dense"]]
            if len(dense):
                best = dense.loc[dense["latency_us"].idxmin(), "case"]
                found = speedups({name: times_ns[name] for name in {*rows["case"], best}}, best, seed)
                about.loc[rows.index, [prefix + column for column in SPEEDUP]] = found.loc[rows["case"]].to_numpy()
    about["read_gb_per_s"] = about["read_mb"] / about["latency_us"] * 1e3
    about["rounds"] = about["case"].map(plain["rounds"])
    return about


def _about(case: Case) -> dict:
    kernel = case.kernel
    return {
        "case": case.name,
        "kernel": kernel.name,
        "library": kernel.package,
        "format": kernel.storage,
        "block": "x".join(map(str, kernel.block)) if kernel.block else "",
        "dense": kernel.dense,
        "configuration": case.configuration,
        "rows": case.shape[0],
        "columns": case.shape[1],
        "zeros": case.zeros,
        "relative_error": case.relative_error,
        "read_mb": kernel.bytes_per_frame(case.count, case.shape, case.zeros) / 1e6,
    }


def speedups(times_ns: Mapping[str, np.ndarray], reference: str, seed: int = 0) -> pd.DataFrame:
    """``speedup`` with its interval over the case ``reference``, by case."""
    return latency_table(times_ns, reference, seed).set_index("model")[list(SPEEDUP)]


def faster_from(zeros: Sequence[float], ci_low: Sequence[float]) -> float:
    """The smallest measured share of zeros from which on all speedups are surely above 1; NaN where there is none."""
    first = float("nan")
    for share, low in sorted(zip(zeros, ci_low, strict=True), reverse=True):
        if not low > 1:
            break
        first = share
    return first
