"""What a notebook shows besides plots: sound players, tables for reading, the machine it ran on.

Everything works without a kernel, in a notebook that is not trusted and offline: plain HTML, sound included.
"""

import base64
import hashlib
import html
import io
import platform
from collections.abc import Mapping

import numpy as np
import pandas as pd
import psutil
import pyloudnorm
import soundfile
from IPython.display import HTML
from pandas.io.formats.style import Styler

from dnslib.errors import MisuseError
from dnslib.intervals import interval_columns
from dnslib.machine import cpu_model, governor, installed_version, usable_cores

TARGET_LUFS = -23.0  # broadcast loudness (EBU R 128), comfortable beside system sounds
PEAK = 0.99
BLOCK_SECONDS = 0.4  # of the loudness measure (ITU-R BS.1770); what is shorter is repeated to be measured
MISSING = "–"
PACKAGES = ("torch", "onnxruntime", "onnx", "numpy", "speechmos")
UNITS = {"ms": "ms", "us": "µs", "mb": "MB", "db": "dB", "hz": "Hz", "dbfs": "dBFS"}
WORDS = {"dnsmos": "DNSMOS", "sig": "SIG", "bak": "BAK", "ovrl": "OVRL", "macs": "MACs", "si": "SI", "sdr": "SDR"}
WORDS |= {"delta": "Δ", "snr": "SNR", "gru": "GRU", "onnx": "ONNX", "rtf": "RTF", "p95": "95th percentile"}
WORDS |= {"p99": "99th percentile", "percent": "%"}

# --- Players ----------------------------------------------------------------------------------------------------


def player(waveforms: Mapping[str, np.ndarray] | Mapping[str, Mapping[str, np.ndarray]], sample_rate: int = 16_000):
    """A table of sound players, loudness-matched, so that what is louder does not seem better.

    ``{"noisy": (samples,), "enhanced": (samples,)}`` gives one row per waveform; ``{"clip 1": {"noisy": ...}, ...}``
    one row per clip and one column per version. Waveforms of a row (of everything, in the first form) are played at
    the same loudness; silence stays silent. Returns IPython HTML with the sound as FLAC inside.
    """
    if not waveforms or any(isinstance(row, Mapping) and not row for row in waveforms.values()):
        raise MisuseError("There is no waveform to play.")
    if isinstance(next(iter(waveforms.values())), Mapping):
        versions = list(dict.fromkeys(version for clip in waveforms.values() for version in clip))
        head = "".join(f"<th>{html.escape(version)}</th>" for version in versions)
        rows = [f"<tr><th></th>{head}</tr>"]
        for label, clip in waveforms.items():
            matched = match_loudness(clip, sample_rate)
            cells = (audio(matched[version], sample_rate) if version in matched else MISSING for version in versions)
            rows.append(table_row(label, cells))
    else:
        matched = match_loudness(waveforms, sample_rate)
        rows = [table_row(label, [audio(waveform, sample_rate)]) for label, waveform in matched.items()]
    return HTML(f'<table class="player">{"".join(rows)}</table>')


def table_row(label: str, cells) -> str:
    """One row of HTML: a heading and its cells."""
    return (
        f'<tr><th style="text-align:left">{html.escape(label)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    )


def audio(waveform: np.ndarray, sample_rate: int) -> str:
    """An HTML audio element that holds the waveform (samples,) as 16-bit FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sample_rate, format="FLAC", subtype="PCM_16")
    sound = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<audio controls preload="metadata" src="data:audio/flac;base64,{sound}"></audio>'


def match_loudness(waveforms: Mapping[str, np.ndarray], sample_rate: int) -> dict[str, np.ndarray]:
    """The waveforms at one common loudness: -23 LUFS, or less where a peak would clip at that. Silence is kept."""
    checked = {label: check_sound(label, waveform) for label, waveform in waveforms.items()}
    levels = {label: loudness_lufs(waveform, sample_rate) for label, waveform in checked.items()}
    gains = {
        label: 10 ** ((TARGET_LUFS - level) / 20) if np.isfinite(level) else 1.0 for label, level in levels.items()
    }
    loudest = max(gains[label] * np.abs(waveform).max() for label, waveform in checked.items())
    common = min(1.0, PEAK / loudest) if loudest > 0 else 1.0  # the same for all, so that they stay matched
    return {label: common * gains[label] * waveform for label, waveform in checked.items()}


def check_sound(label: str, waveform: np.ndarray) -> np.ndarray:
    """The waveform as float64 when it can be played; otherwise raises a MisuseError that names it."""
    waveform = np.asarray(waveform, dtype=np.float64)
    if waveform.ndim != 1 or waveform.size == 0 or not np.isfinite(waveform).all():
        raise MisuseError(f"The waveform {label!r} is not one channel of one or more finite samples.")
    return waveform


def loudness_lufs(waveform: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness; minus infinity for silence (and for what is quieter than -70 LUFS)."""
    block = round(BLOCK_SECONDS * sample_rate)
    if waveform.size < block:
        waveform = np.tile(waveform, -(-block // waveform.size))
    with np.errstate(divide="ignore"):
        return float(pyloudnorm.Meter(sample_rate).integrated_loudness(waveform))


# --- Tables -----------------------------------------------------------------------------------------------------


def table(
    frame: pd.DataFrame, digits: int | Mapping[str, int] = 2, caption: str = "", profile: str = "quick"
) -> Styler:
    """A table for reading, from a tidy one: `readable` cells, no index, the mark of a quick run in the caption."""
    marks = [mark for mark in (caption, "" if profile == "full" else f"{profile} run") if mark]
    text = readable(frame, digits)
    numeric = [heading for name, heading in headings(frame).items() if frame[name].dtype.kind in "iuf"]
    look = [{"selector": "caption", "props": "caption-side: bottom; text-align: left; color: #6b7a88"}]
    look += [
        {"selector": f"th.col{place}", "props": "text-align: right"}
        for place, heading in enumerate(text)
        if heading in numeric
    ]
    # pandas binds the style to this id: each table of a page needs its own, equal tables get the same
    uuid = hashlib.sha256(text.to_csv().encode()).hexdigest()[:12]
    styler = Styler(text, uuid=uuid, uuid_len=12, cell_ids=False).hide(axis="index").set_table_styles(look)
    styler = styler.set_properties(**{"text-align": "left"}).set_properties(numeric, **{"text-align": "right"})
    return styler.set_caption(html.escape(" · ".join(marks))) if marks else styler


def readable(frame: pd.DataFrame, digits: int | Mapping[str, int] = 2) -> pd.DataFrame:
    """Text cells: rounded, with "1.64 [1.60, 1.69]" for a column and its interval, and words and units as headings.

    `dnslib.intervals.interval_columns` says which columns are intervals. ``digits`` are the decimals of all columns,
    or of those named (others: 2). Missing values are "–".
    """
    decimals = digits if isinstance(digits, Mapping) else dict.fromkeys(frame.columns, digits)
    bounds = interval_columns(frame.columns)
    cells = {}
    for name, heading in headings(frame).items():
        places = decimals.get(name, 2)
        values = [number(value, places) for value in frame[name]]
        if name in bounds:
            low, high = ([number(value, places) for value in frame[bound]] for bound in bounds[name])
            values = [interval(*cell) for cell in zip(values, low, high, strict=True)]
        cells[heading] = values
    return pd.DataFrame(cells, index=frame.index, dtype=object)


def headings(frame: pd.DataFrame) -> dict[str, str]:
    """Column -> heading, of the columns that are not the bounds of another."""
    used = {bound for pair in interval_columns(frame.columns).values() for bound in pair}
    return {name: heading(name) for name in frame.columns if name not in used}


def heading(name: str) -> str:
    """Words for a column name: "latency (ms)" of latency_ms, "ΔOVRL" of delta_ovrl, "MACs per frame"."""
    parts = str(name).split("_")
    unit = UNITS.get(parts[-1]) if len(parts) > 1 else None
    text = " ".join(WORDS.get(part, part) for part in (parts[:-1] if unit else parts))
    return text.replace("Δ ", "Δ").replace("SI SDR", "SI-SDR") + (f" ({unit})" if unit else "")


def number(value: object, places: int) -> str:
    """One cell: whole numbers in groups of three, other numbers rounded with a proper minus, no value as a dash."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)) or value is pd.NA:
        return MISSING
    if isinstance(value, (int, np.integer)):
        text = f"{value:,}".replace(",", "\u202f")
    elif isinstance(value, (float, np.floating)):
        text = f"{value + 0.0:.{places}f}".replace("inf", "∞")  # -0.0 loses its sign, -0.001 keeps it
    else:
        return str(value)
    return text.replace("-", "−")


def interval(value: str, low: str, high: str) -> str:
    """ "value [low, high]", or the value alone where there is no interval; a narrow cell breaks before the bracket."""
    return value if MISSING in (low, high) else f"{value} [{low},\u00a0{high}]"


# --- Machine ----------------------------------------------------------------------------------------------------


def machine() -> pd.DataFrame:
    """What the times in this notebook were taken on: processor, cores, load, memory, system, package versions."""
    physical, logical = psutil.cpu_count(logical=False) or "unknown", psutil.cpu_count()
    facts = {
        "processor": cpu_model(),
        "cores": f"{physical} physical, {logical} logical, {usable_cores()} usable",
        "threads for timing": "1",
        "load": ", ".join(f"{load:.2f}" for load in psutil.getloadavg()) + " (over 1, 5 and 15 minutes)",
        "governor": governor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": platform.python_version(),
    }
    facts |= {package: installed_version(package) or "not installed" for package in PACKAGES}
    return pd.DataFrame({"this machine": list(facts.values())}, index=list(facts))
