"""Players are decoded and measured again, tables are compared with cells written by hand."""

import base64
import io
import re
import sys

import numpy as np
import onnxruntime
import pandas as pd
import psutil
import pyloudnorm
import pytest
import soundfile

from dnslib import display
from dnslib.errors import MisuseError

RATE = 16_000


@pytest.fixture
def sounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    gate = np.sin(2 * np.pi * 1.3 * np.arange(3 * RATE) / RATE) > 0
    return {
        "loud": 0.5 * rng.uniform(-1, 1, 3 * RATE),
        "quiet": 0.003 * rng.standard_normal(3 * RATE) * gate,
        "short": 0.1 * np.sin(np.arange(RATE // 8) * 0.3),
        "silent": np.zeros(RATE),
        "one click": np.eye(1, 2 * RATE, 700)[0],
    }


def decode(shown) -> list[np.ndarray]:
    found = re.findall(r'src="data:audio/flac;base64,([A-Za-z0-9+/=]+)"', shown.data)
    decoded = [soundfile.read(io.BytesIO(base64.b64decode(text))) for text in found]
    assert {rate for _, rate in decoded} == {RATE}
    return [waveform for waveform, _ in decoded]


def loudness(waveform: np.ndarray) -> float:
    return pyloudnorm.Meter(RATE).integrated_loudness(waveform)


def test_players_keep_the_length_and_match_the_loudness(sounds):
    chosen = {name: sounds[name] for name in ("loud", "quiet", "silent")}
    loud, quiet, silent = decode(display.player(chosen))
    assert [wave.size for wave in (loud, quiet, silent)] == [wave.size for wave in chosen.values()]
    assert loudness(loud) == pytest.approx(-23, abs=0.05)
    assert loudness(quiet) == pytest.approx(-23, abs=0.05)
    assert not silent.any()
    np.testing.assert_allclose(loud / loud.std(), sounds["loud"] / sounds["loud"].std(), atol=1e-3)


def test_a_peak_lowers_all_rather_than_clipping_one(sounds):
    loud, click = decode(display.player({"loud": sounds["loud"], "click": sounds["one click"]}))
    assert np.abs(click).max() == pytest.approx(display.PEAK, abs=1e-3)
    assert loudness(loud) == pytest.approx(loudness(click), abs=0.1)
    assert loudness(loud) < -23.5


def test_a_clip_shorter_than_the_loudness_block_can_be_played(sounds):
    (short,) = decode(display.player({"short": sounds["short"]}))
    assert short.size == sounds["short"].size
    assert loudness(np.tile(short, 8)) == pytest.approx(-23, abs=0.3)
    (single,) = decode(display.player({"sample": np.array([0.5])}))
    assert single.size == 1


def test_rows_are_clips_and_columns_are_versions(sounds):
    shown = display.player(
        {"clip 1": {"noisy": sounds["loud"], "clean": sounds["quiet"]}, "<clip 2>": {"noisy": sounds["loud"]}}
    )
    assert shown.data.count("<tr>") == 3
    assert shown.data.count("<audio controls") == 3
    assert re.findall(r"<th>(\w+)</th>", shown.data) == ["noisy", "clean"]
    assert "&lt;clip 2&gt;" in shown.data
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", shown.data)


@pytest.mark.parametrize("bad", [np.zeros(0), np.zeros((2, 5)), np.array([np.nan])])
def test_what_cannot_be_played_is_named(bad):
    with pytest.raises(MisuseError, match="'mine'"):
        display.player({"mine": bad})
    for nothing in ({}, {"clip 1": {}}):
        with pytest.raises(MisuseError, match="no waveform"):
            display.player(nothing)


@pytest.fixture
def tidy() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "configuration": ["CRUSE32", "P.500"],
            "parameters": [8_581_153, 2_356_257],
            "latency_ms": [1.6449, np.nan],
            "ci_low": [1.6, np.nan],
            "ci_high": [1.691, np.nan],
            "delta_ovrl": [-0.0001, -0.236],
            "delta_ovrl_ci_low": [np.nan, -0.3],
            "delta_ovrl_ci_high": [np.nan, -0.2],
            "reproduced": [True, None],
        }
    )


def test_readable_cells_by_hand(tidy):
    text = display.readable(tidy)
    assert text.to_dict("list") == {
        "configuration": ["CRUSE32", "P.500"],
        "parameters": ["8\u202f581\u202f153", "2\u202f356\u202f257"],
        "latency (ms)": ["1.64 [1.60,\u00a01.69]", "–"],
        "ΔOVRL": ["−0.00", "−0.24 [−0.30,\u00a0−0.20]"],
        "reproduced": ["yes", "–"],
    }
    assert display.readable(tidy, {"latency_ms": 3})["latency (ms)"][0] == "1.645 [1.600,\u00a01.691]"
    assert display.readable(tidy, 1)["ΔOVRL"][1] == "−0.2 [−0.3,\u00a0−0.2]"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("si_sdr_db", "SI-SDR (dB)"),
        ("macs_per_frame", "MACs per frame"),
        ("memory_mb", "memory (MB)"),
        ("dnsmos_bak", "DNSMOS BAK"),
        ("delta_si_sdr_db", "ΔSI-SDR (dB)"),
        ("speedup", "speedup"),
        ("db", "db"),
    ],
)
def test_headings(name, expected):
    assert display.heading(name) == expected


def test_the_shown_table_has_every_word_and_the_mark_of_a_quick_run(tidy):
    tidy["statement"] = "a long statement that pandas itself would cut after fifty characters, which hides the claim"
    shown = display.table(tidy, caption="Table 2").to_html()
    assert "which hides the claim" in shown
    assert "1.64 [1.60,\u00a01.69]" in shown
    assert "Table 2 · quick run" in shown
    assert "quick run" not in display.table(tidy, profile="full").to_html()
    assert shown == display.table(tidy, caption="Table 2").to_html(), "the same table is the same HTML"
    cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", shown, re.S)]
    text = display.readable(tidy)
    assert cells == [*text.columns, *text.to_numpy().ravel()]  # the index is hidden


def test_machine_tells_what_the_system_tells():
    facts = display.machine()["this machine"]
    assert f"{psutil.cpu_count()} logical" in facts["cores"]
    assert facts["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["onnxruntime"] == onnxruntime.__version__
    assert facts["processor"]


def test_a_package_that_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(display, "PACKAGES", ("no-such-package",))
    assert display.machine()["this machine"]["no-such-package"] == "not installed"


def test_tables_of_one_page_do_not_share_their_style():
    frame = pd.DataFrame({"name": ["x"], "latency_ms": [1.0]})
    first, again, other = (display.table(one).to_html() for one in (frame, frame, frame[["latency_ms", "name"]]))
    identity = re.compile(r'table id="(\w+)"')
    assert first == again
    assert identity.search(first)[1] != identity.search(other)[1]
