"""Which streaming form of a network is the fastest *here*: decided by measurement, and noted in the file.

A network limited by memory bandwidth gains most from int8, one limited by its number of nodes gains nothing, and where
one turns into the other depends on the machine. So every form is exported, its gain compared with the plain form's on
given frames, and all are timed in one interleaved measurement (`dnslib.profiling.measure_latency`).
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dnslib.errors import MisuseError
from dnslib.export import FORMS, as_frames, export_streaming, run_streaming
from dnslib.model import Cruse
from dnslib.paths import resolve
from dnslib.profiling import load, measure_latency, timing_conditions

AUTO, REFERENCE = "auto", "plain"
PRECISIONS = (*FORMS, AUTO)
GAIN_TOLERANCE = 0.02  # root mean square over all bins and frames; 0.02 of gain is 34 dB below a gain of one
TO_ROUNDING = 1e-5  # below it, two forms compute the same function
COLUMNS = ("latency_ms", "ci_low", "ci_high", "speedup", "gain_error_rms", "gain_error_max", "memory_mb")


def deploy(
    model: Cruse,
    path: str | os.PathLike,
    precision: str = AUTO,
    frames: np.ndarray | None = None,
    tolerance: float = GAIN_TOLERANCE,
    **protocol,
) -> Path:
    """Write the streaming file of ``model`` in a form of `FORMS`, or in the fastest with precision ``"auto"``.

    ``frames`` is log power ``(T, 161)`` of real audio, from the training material; ``auto`` needs it. A form is a
    candidate when the root mean square difference of its gains from the plain form's is at most ``tolerance``; the
    fastest candidate by paired rounds is written; where the measurement cannot tell an exact form (plain or exact, up
    to rounding) from it, that one is. The file's metadata say what was measured, on which machine: see
    `chosen_because`. ``protocol`` goes to `measure_latency`. Raises MisuseError for an unknown precision or missing
    frames.
    """
    if precision not in PRECISIONS:
        raise MisuseError(f"There is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if precision != AUTO:
        return export_streaming(model, path, precision)
    if frames is None:
        raise MisuseError("To choose a form, frames of log power are needed: some seconds of training audio.")
    if not tolerance >= 0:
        raise MisuseError("The tolerated error of the gain must not be negative.")
    table = compare_forms(model, frames, **protocol)
    form, reason = choose(table, tolerance)
    candidates = table[list(COLUMNS)].round(6).to_dict(orient="index")
    facts = {"reason": reason, "tolerance": tolerance, "candidates": candidates, "machine": timing_conditions()}
    return export_streaming(model, path, form, notes={"chosen": json.dumps(facts)})


def compare_forms(model: Cruse, frames: np.ndarray, **protocol):
    """One row per form of ``model``, by name: `COLUMNS`. Timed interleaved; gains are compared with the plain form's.

    ``frames`` ``(T, 161)`` are what the networks see, in the measurement too.
    """
    frames = as_frames(frames)
    with tempfile.TemporaryDirectory() as folder:
        files = {form: export_streaming(model, Path(folder, f"{form}.onnx"), form) for form in FORMS}
        table = measure_latency(files, **{"reference": REFERENCE, "self_check": False, "frames": frames} | protocol)
        table = table.set_index("model").join(gain_errors(files, frames))
        table["memory_mb"] = [files[form].stat().st_size / 1e6 for form in table.index]
    return table


def gain_errors(files: Mapping[str, str | os.PathLike], frames: np.ndarray):
    """How far the gains of each form are from the plain form's: ``gain_error_rms`` and ``gain_error_max``, by form.

    ``files`` are the streaming files of one network by form, ``plain`` among them; ``frames`` as for `compare_forms`.
    """
    import pandas as pd

    gains = {form: run_streaming(path, frames) for form, path in files.items()}
    errors = {form: np.abs(gain - gains[REFERENCE]) for form, gain in gains.items()}
    rows = {form: (float(np.sqrt(np.mean(error**2))), float(error.max())) for form, error in errors.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["gain_error_rms", "gain_error_max"])


def choose(table, tolerance: float) -> tuple[str, str]:
    """The form to take from a table of `compare_forms`, and why, in one sentence.

    Speedups may be relative to any one network of the same measurement.
    """
    allowed = table[table["gain_error_rms"] <= tolerance]
    refused = [form for form in table.index if form not in allowed.index]
    fastest = allowed["speedup"].idxmax()
    # forms that neither speedup nor latency tells apart from the fastest count as equally fast: take an exact one
    # (a noisy reference widens the intervals of all speedups, a drift of the machine those of all latencies)
    best = allowed.loc[fastest]
    alike = (allowed["speedup_ci_high"] >= best["speedup_ci_low"]) & (allowed["ci_low"] <= best["ci_high"])
    as_fast = allowed[alike]
    exact = as_fast["gain_error_rms"] < TO_ROUNDING
    form = as_fast[exact]["speedup"].idxmax() if exact.any() else fastest
    times = ", ".join(f"{name} {row.latency_ms:.4f} ms" for name, row in table.iterrows())
    reason = f"{form} is the fastest" if form == fastest else f"{form} is as fast as {fastest} and more exact"
    beyond = f"; {', '.join(refused)} errs by more than {tolerance:g}" if refused else ""
    return form, f"{reason} ({times}){beyond}."


def chosen_because(path: str | os.PathLike) -> Mapping:
    """What `deploy` wrote into a file: reason, tolerance, candidates, machine; empty where nothing was chosen."""
    facts = {prop.key: prop.value for prop in load(resolve(path)).metadata_props}
    return json.loads(facts.get("chosen", "{}"))
