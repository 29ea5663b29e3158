"""How good it sounds, in numbers: DNSMOS P.835, SI-SDR, and tables of them with intervals paired by clip.

Waveforms are one channel, floating point, (samples,); DNSMOS scores are mean opinion scores on a scale of 1 to 5.
Sources: DNSMOS P.835 (arXiv 2110.01763), read from the weights in the ``speechmos`` package; SI-SDR (arXiv
1811.02508). The public weights changed in May 2022, so compare differences and ranks with the 2021 paper, not values.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import soxr

from dnslib.errors import MisuseError
from dnslib.intervals import Interval, bootstrap_interval
from dnslib.machine import onnxruntime, usable_cores
from dnslib.progress import track
from dnslib.sampling import HIGHEST_RATE

SAMPLE_RATE = 16_000  # Hz, the rate the scoring network was trained on
WINDOW_SECONDS = 9.01
WINDOW_SAMPLES = 144_160
PEAK_LIMIT = 8.0  # a float waveform this far above full scale holds integers that nobody divided by 32768
METRICS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "si_sdr_db")

# Raw network output -> opinion score: a quadratic for each scale (highest power first), part of the public model.
OPINION = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


@dataclass(frozen=True)
class DnsmosScore:
    """Opinion scores of one clip: speech signal, background, overall."""

    sig: float
    bak: float
    ovrl: float


# --- DNSMOS P.835 -----------------------------------------------------------------------------------------------


def dnsmos(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE) -> DnsmosScore:
    """Score one clip (samples,) without a reference: the mean over windows of 9.01 s that start every second.

    The level is not normalised: a quieter copy scores differently. Digital silence is a valid clip (a denoiser may
    produce it) and gets the score the network gives it. Other sample rates (Hz) are resampled.
    Raises MisuseError (a ValueError) for an array that is empty, not one channel, not finite, or not floating point.
    """
    waveform = check_waveform(waveform)
    if np.abs(waveform).max() > PEAK_LIMIT:
        raise MisuseError(f"The waveform peaks at {np.abs(waveform).max():.0f}; samples lie in [-1, 1].")
    if sample_rate != SAMPLE_RATE:
        waveform = check_waveform(resample(waveform, sample_rate))
    raw = [scorer().run(None, {"input_1": window[None]})[0][0] for window in windows(waveform)]
    opinions = [np.polyval(OPINION[name], column) for name, column in zip(OPINION, np.transpose(raw), strict=True)]
    return DnsmosScore(*(float(np.mean(opinion)) for opinion in opinions))


def dnsmos_many(
    waveforms: Sequence[np.ndarray], workers: int | None = None, description: str = "", sample_rate: int = SAMPLE_RATE
) -> list[DnsmosScore]:
    """`dnsmos` of every clip, in order, on ``workers`` CPU cores.

    By default these are all that this process may use; OMP_NUM_THREADS can make them fewer, as in a cluster's worker.

    The workers are threads: ONNX Runtime computes outside the interpreter lock, so one single-threaded session keeps
    every core busy, and nothing has to be started, copied or pickled.
    """
    if workers is not None and workers < 1:
        raise MisuseError(f"workers must be at least 1, not {workers}.")
    if len(waveforms) == 0:
        return []
    workers = min(workers or _own_share(), len(waveforms))
    scorer()  # loaded here, before several workers ask for it at once
    with ThreadPoolExecutor(workers) as pool:
        try:
            scores = pool.map(lambda waveform: dnsmos(waveform, sample_rate), waveforms)
            return list(track(scores, total=len(waveforms), description=description))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one bad clip, or an interrupt, does not wait for all the others
            raise


def _own_share() -> int:
    """Cores for this process: those that it may use, or fewer where others share them."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(asked)) if asked.isdecimal() and int(asked) else usable_cores()


def windows(waveform: np.ndarray) -> Iterator[np.ndarray]:
    """The float32 windows (144160,) that the public package scores, so that scores are comparable with its users'.

    A shorter clip is doubled until it is long enough. A window must lie inside the whole seconds of the clip, and its
    end is computed there in floating point, which falls one sample short for starts of 7 to 23 s; such windows are
    left out. A clip of 10 s is one window, one of 16 s or of 25 s is seven.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    while waveform.size < WINDOW_SAMPLES:
        waveform = np.concatenate([waveform, waveform])
    for start in range(int(waveform.size // SAMPLE_RATE - WINDOW_SECONDS) + 1):
        end = int((start + WINDOW_SECONDS) * SAMPLE_RATE)
        if end - start * SAMPLE_RATE == WINDOW_SAMPLES:
            yield waveform[start * SAMPLE_RATE : end]


def check_waveform(waveform: np.ndarray) -> np.ndarray:
    """The waveform as an array, when it is one channel of sound; otherwise raises a MisuseError that says why."""
    waveform = np.asarray(waveform)
    if waveform.ndim != 1:
        raise MisuseError(f"A waveform is one channel, (samples,), not an array of shape {waveform.shape}.")
    if waveform.size == 0:
        raise MisuseError("The waveform is empty.")
    if not np.issubdtype(waveform.dtype, np.floating):
        raise MisuseError(f"A waveform is floating point in [-1, 1], not {waveform.dtype}; divide integers first.")
    if not np.isfinite(waveform).all():
        raise MisuseError("The waveform holds NaN or infinite samples.")
    return waveform


def resample(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Bring a waveform (samples,) from ``sample_rate`` Hz to 16 kHz."""
    if not 0 < sample_rate <= HIGHEST_RATE:
        raise MisuseError(f"A sample rate is a positive number of Hz, up to {HIGHEST_RATE}, not {sample_rate}.")
    known = waveform.dtype in (np.float32, np.float64)
    return soxr.resample(waveform if known else waveform.astype(np.float32), sample_rate, SAMPLE_RATE)


@cache
def scorer():
    """ONNX Runtime session of the scoring network, opened once a process: (N, 144160) samples -> (N, 3) raw scores."""
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime().InferenceSession(weights_path(), options, providers=["CPUExecutionProvider"])


def weights_path() -> Path:
    """The P.835 network inside the ``speechmos`` package, found without importing it: its imports are not needed."""
    package = importlib.util.find_spec("speechmos")
    if package is None:
        raise FileNotFoundError("The package speechmos, which brings the DNSMOS weights, is not installed.")
    path = Path(package.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"The installed speechmos holds no {path.parent.name}/{path.name}.")
    return path


# --- SI-SDR -----------------------------------------------------------------------------------------------------


def si_sdr_db(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of two waveforms (samples,).

    A perfect estimate has no distortion at all, and its loudness does not matter:

    >>> speech = np.array([1.0, -2.0, 3.0, 0.0])
    >>> si_sdr_db(speech, speech), si_sdr_db(0.5 * speech, speech)
    (inf, inf)

    An orthogonal error with a tenth of the amplitude is a hundredth of the power, 20 dB:

    >>> error = np.array([2.0, 1.0, 0.0, 3.0])
    >>> round(si_sdr_db(speech + 0.1 * error, speech), 6)
    20.0
    >>> round(si_sdr_db(-7 * (speech + 0.1 * error), speech), 6)
    20.0

    An estimate without any of the reference gets minus infinity; with silence on either side it is not defined:

    >>> si_sdr_db(error, speech)
    -inf
    >>> si_sdr_db(0 * speech, speech), si_sdr_db(speech, 0 * speech)
    (nan, nan)

    Raises MisuseError when they differ in length, or are not single channels. Source: arXiv 1811.02508, equations 1-3.
    """
    estimate, reference = check_waveform(estimate).astype(np.float64), check_waveform(reference).astype(np.float64)
    if estimate.size != reference.size:
        raise MisuseError(f"Estimate and reference differ in length: {estimate.size} and {reference.size} samples.")
    if not estimate.any() or not reference.any():
        return float("nan")
    scale = estimate @ reference / (reference @ reference)  # α = ⟨ŝ, s⟩ / ‖s‖², the best match in least squares
    target = scale * reference  # e_target = α s
    distortion = estimate - target  # e_res = ŝ - α s, orthogonal to s
    with np.errstate(divide="ignore"):
        return float(10 * np.log10((target @ target) / (distortion @ distortion)))  # ‖e_target‖² / ‖e_res‖²


# --- Tables -----------------------------------------------------------------------------------------------------


def score_clips(
    enhanced: Sequence[np.ndarray], clips: Sequence, workers: int | None = None, description: str = "scoring"
) -> pd.DataFrame:
    """One row per clip: clip, dnsmos_sig, dnsmos_bak, dnsmos_ovrl, si_sdr_db (NaN without a reference), speaker.

    ``clips`` have a ``name``, a ``speaker`` ("" if not known) and a ``clean`` waveform or None; ``enhanced[i]`` is a
    version of ``clips[i]`` at 16 kHz.
    """
    if len(enhanced) != len(clips):
        raise MisuseError(f"There are {len(enhanced)} waveforms for {len(clips)} clips.")
    scores = dnsmos_many(enhanced, workers, description)
    rows = [
        (clip.name, score.sig, score.bak, score.ovrl, _si_sdr_of(waveform, clip), clip.speaker)
        for waveform, clip, score in zip(enhanced, clips, scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=["clip", *METRICS, "speaker"])


def _si_sdr_of(waveform: np.ndarray, clip) -> float:
    return np.nan if clip.clean is None else si_sdr_db(waveform, clip.clean)


def summarise(scores: pd.DataFrame, reference: pd.DataFrame | None = None) -> pd.Series:
    """One table row from the scores of one system: clips, speakers, then every metric with its 95 % interval.

    Intervals are over speakers, whose clips share a voice and often a sentence; over clips where the scores name no
    speakers. Columns are ``dnsmos_ovrl, dnsmos_ovrl_ci_low, dnsmos_ovrl_ci_high`` and so on; with a ``reference`` (the
    scores of another system on the same clips) also ``delta_ovrl, delta_ovrl_ci_low, delta_ovrl_ci_high``: ours minus
    the reference, paired by clip. A clip that occurs several times (seeds) counts once, with the mean of its scores.
    A metric that no clip has is NaN; clips without a finite value are left out of that metric.
    """
    ours = by_clip(scores)
    speakers = speaker_by_clip(scores)
    row = {"clips": len(ours)} | ({} if speakers is None else {"speakers": speakers.nunique()})
    for metric in METRICS:
        row |= columns(metric, ours[metric], speakers)
    if reference is not None:
        theirs = by_clip(reference)
        if set(ours.index) != set(theirs.index):
            raise MisuseError("The scores and their reference are not of the same clips, so they cannot be paired.")
        for metric in METRICS:
            row |= columns("delta_" + metric.removeprefix("dnsmos_"), ours[metric] - theirs[metric], speakers)
    return pd.Series(row, dtype=object)  # counts stay whole numbers


def by_clip(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of each metric per clip, clips as the index; missing where a value is missing or infinite."""
    finite = scores[list(METRICS)].replace([np.inf, -np.inf], np.nan)
    by_name = finite.groupby(scores["clip"])
    return by_name.mean().where(by_name.count().eq(by_name.size(), axis=0))  # else the seeds would not be paired


def speaker_by_clip(scores: pd.DataFrame) -> pd.Series | None:
    """Who speaks, clips as the index as in `by_clip`; None where the scores do not say."""
    if "speaker" not in scores or scores["speaker"].eq("").any():
        return None
    return scores.groupby("clip")["speaker"].first()


def columns(name: str, values: pd.Series, groups: pd.Series | None = None) -> dict[str, float]:
    """``name``, ``name_ci_low`` and ``name_ci_high`` of the values that are there; ``groups`` share its index."""
    values = values.dropna()
    groups = None if groups is None else groups.loc[values.index]
    interval = bootstrap_interval(values, groups=groups) if len(values) else Interval(np.nan, np.nan, np.nan, 0)
    return {name: interval.mean, f"{name}_ci_low": interval.ci_low, f"{name}_ci_high": interval.ci_high}
