"""DNSMOS against the public package, SI-SDR against its definition, tables of scores."""

import doctest
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dnslib import quality
from dnslib.errors import MisuseError

RATE = 16_000


def talk(seconds: float, seed: int, level: float = 0.1, noise: float = 0.1) -> np.ndarray:
    """Something voiced that starts and stops, in noise: harmonics of a gliding pitch under syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 16))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)), 0, 1) ** 2
    waveform = voice * syllables + noise * rng.standard_normal(time.size)
    return (level * waveform / np.abs(waveform).max()).astype(np.float32)


# (seconds, level of the peak, noise): shorter than a window, exactly one, one, several, and all but silent
CLIPS = [
    (4.6, 0.5, 0.0), (4.7, 0.05, 1.0), (5.0, 0.9, 0.1), (2.4, 0.2, 0.3), (0.01, 0.3, 0.1), (2.3, 0.5, 0.0),
    (9.0, 0.3, 0.1), (9.01, 0.5, 0.02), (9.01, 0.001, 0.1), (9.2, 1.0, 0.0), (9.5, 0.1, 0.5), (9.99, 0.02, 0.02),
    (10.0, 0.5, 0.0), (10.0, 0.2, 0.05), (10.0, 0.1, 0.2), (10.0, 0.05, 0.5), (10.0, 0.9, 2.0), (10.0, 0.9, 20.0),
    (10.0, 1e-4, 0.1), (10.5, 0.3, 0.05), (11.0, 0.4, 0.3), (12.3, 0.6, 0.01), (25.0, 0.3, 0.1),
]  # fmt: skip


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [talk(seconds, seed, level, noise) for seed, (seconds, level, noise) in enumerate(CLIPS)]


@pytest.fixture(scope="module")
def scores(clips) -> list[quality.DnsmosScore]:
    return quality.dnsmos_many(clips)


@pytest.fixture(scope="module")
def public_scorer():
    """The public package, without the second network (P.808) that it also runs and that we do not use."""
    public = pytest.importorskip("speechmos.dnsmos")
    weights = str(quality.weights_path())
    reference = public.DNSMOS(weights, weights)
    reference.p808_onnx_sess = SimpleNamespace(run=lambda *_: [[[0.0]]])
    reference.audio_melspec = lambda audio: np.zeros((1, 1))
    return lambda waveform: reference(waveform, RATE, False)


def test_equals_the_public_package(clips, scores, public_scorer):
    public = [public_scorer(clip) for clip in clips]
    expected = np.array([[row["sig_mos"], row["bak_mos"], row["ovrl_mos"]] for row in public])
    ours = np.array([[score.sig, score.bak, score.ovrl] for score in scores])
    assert len(clips) >= 20
    assert np.ptp(expected, axis=0).min() > 0.5, "clips that all score alike would compare nothing"
    np.testing.assert_allclose(ours, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [
        (9.01, [0]),
        (10.0, [0]),
        (10.999, [0]),
        (11.0, [0, 1]),
        (16.0, [0, 1, 2, 3, 4, 5, 6]),
        (25.0, [0, 1, 2, 3, 4, 5, 6]),  # the windows at 7 to 15 s are a sample short in the package and left out
        (33.5, [0, 1, 2, 3, 4, 5, 6]),
        (34.0, [0, 1, 2, 3, 4, 5, 6, 24]),
    ],
)
def test_windows_start_every_second(seconds, starts):
    ramp = np.arange(round(seconds * RATE), dtype=np.float32)
    found = list(quality.windows(ramp))
    assert [window[0] / RATE for window in found] == starts
    assert {window.size for window in found} == {144_160}


def test_a_short_clip_is_doubled_until_it_is_long_enough():
    ramp = np.arange(3 * RATE, dtype=np.float32)
    found = list(quality.windows(ramp))  # 3 -> 6 -> 12 s, windows at 0, 1 and 2 s
    assert len(found) == 3
    np.testing.assert_array_equal(found[1], np.tile(ramp, 4)[RATE : RATE + 144_160])


def test_level_matters_and_silence_is_scored(clips):
    loud = clips[13]
    assert quality.dnsmos(loud).ovrl != pytest.approx(quality.dnsmos(loud * 0.01).ovrl, abs=0.01)
    silent = quality.dnsmos(np.zeros(10 * RATE))
    assert np.isfinite([silent.sig, silent.bak, silent.ovrl]).all()


def test_noise_lowers_the_background_score(scores):
    clean, noisy = scores[12], scores[16]
    assert clean.bak > noisy.bak + 0.5
    assert clean.ovrl > noisy.ovrl


def test_another_sample_rate_is_resampled():
    # tones well under 8 kHz are the same sound at both rates, here computed twice instead of converted
    def chord(rate):
        time = np.arange(10 * rate) / rate
        gate = np.sin(2 * np.pi * time) ** 2
        return 0.1 * gate * sum(np.sin(2 * np.pi * f * time) / f * 200 for f in (200, 400, 700, 1900))

    original, converted = quality.dnsmos(chord(RATE)), quality.dnsmos(chord(44_100), 44_100)
    assert converted.ovrl == pytest.approx(original.ovrl, abs=0.02)
    assert converted.bak == pytest.approx(original.bak, abs=0.02)


@pytest.mark.parametrize(
    ("waveform", "says"),
    [
        (np.zeros(0), "empty"),
        (np.zeros((2, 100)), "one channel"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        (np.zeros(100, dtype=np.int16), "int16"),
        (np.full(100, 12_000.0), "12000"),
    ],
)
def test_misuse_gets_one_clear_line(waveform, says):
    with pytest.raises(MisuseError, match=says):
        quality.dnsmos(waveform)


def test_one_bad_clip_among_many_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        quality.dnsmos_many([np.zeros(0)] * 3)
    assert quality.dnsmos_many([]) == []
    with pytest.raises(ValueError, match="workers"):
        quality.dnsmos_many([], workers=0)
    for rate in (0, -1, np.inf, np.nan, 1e9):
        with pytest.raises(ValueError, match="sample rate"):
            quality.dnsmos(np.zeros(10), sample_rate=rate)


def test_scores_are_in_order_and_independent_of_the_workers(clips, scores):
    chosen = [7, 12, 17]
    assert quality.dnsmos_many([clips[i] for i in chosen], workers=3) == [scores[i] for i in chosen]


def test_scoring_loads_neither_torch_nor_speechmos():
    code = """
import json, sys, numpy as np
from dnslib import quality
quality.dnsmos(np.zeros(16000))
print(json.dumps([name for name in ("torch", "speechmos", "librosa") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_doctests():
    result = doctest.testmod(quality)
    assert result.attempted > 5
    assert result.failed == 0


def test_si_sdr_of_an_exact_mixture():
    rng = np.random.default_rng(0)
    speech, noise = rng.standard_normal((2, 5000))
    noise -= noise @ speech / (speech @ speech) * speech  # orthogonal, so that the ratio is the asked one
    for ratio_db in (-5.0, 0.0, 17.0):
        gain = np.sqrt(speech @ speech / (noise @ noise)) * 10 ** (-ratio_db / 20)
        assert quality.si_sdr_db(0.3 * (speech + gain * noise), speech) == pytest.approx(ratio_db, abs=1e-9)
    with pytest.raises(ValueError, match="length"):
        quality.si_sdr_db(speech, speech[1:])


@pytest.mark.parametrize("kind", [np.float16, np.longdouble])
def test_any_floating_point_is_resampled(kind):
    wave = np.sin(np.arange(800) / 20)
    np.testing.assert_allclose(quality.resample(wave.astype(kind), 8_000), quality.resample(wave, 8_000), atol=2e-3)


def test_score_clips_has_one_row_a_clip(clips, scores):
    chosen = [
        SimpleNamespace(name="a", clean=clips[12], speaker="ann"),
        SimpleNamespace(name="b", clean=None, speaker=""),
    ]
    table = quality.score_clips([clips[13], clips[7]], chosen)
    assert list(table.columns) == ["clip", "dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "si_sdr_db", "speaker"]
    assert [list(table[column]) for column in ("clip", "speaker")] == [["a", "b"], ["ann", ""]]
    assert table.loc[1, "dnsmos_ovrl"] == scores[7].ovrl
    assert table.loc[0, "si_sdr_db"] == quality.si_sdr_db(clips[13], clips[12])
    assert np.isnan(table.loc[1, "si_sdr_db"])
    with pytest.raises(ValueError, match="1 waveforms for 2 clips"):
        quality.score_clips([clips[0]], chosen)


def frame(names, ovrl, si_sdr=np.nan) -> pd.DataFrame:
    return pd.DataFrame({"clip": names, "dnsmos_sig": 3.0, "dnsmos_bak": 2.0, "dnsmos_ovrl": ovrl, "si_sdr_db": si_sdr})


def test_summary_by_hand():
    ours = frame(["a", "b", "c"], [2.0, 3.0, 4.0], [10.0, np.inf, np.nan])
    noisy = frame(["c", "a", "b"], [3.5, 1.5, 2.5])  # in another order, each clip 0.5 worse
    row = quality.summarise(ours, noisy)
    assert row["clips"] == 3
    assert row["dnsmos_ovrl"] == 3.0
    assert row["dnsmos_ovrl_ci_low"] < 3.0 < row["dnsmos_ovrl_ci_high"]
    assert [row["delta_ovrl"], row["delta_ovrl_ci_low"], row["delta_ovrl_ci_high"]] == [0.5, 0.5, 0.5]
    assert row["si_sdr_db"] == 10.0
    assert np.isnan(row["delta_si_sdr_db"])
    assert not any(name.startswith("delta") for name in quality.summarise(ours).index)
    with pytest.raises(ValueError, match="same clips"):
        quality.summarise(ours, noisy.iloc[:2])


def test_seeds_of_a_clip_count_once():
    once = frame(["a", "b", "c"], [2.0, 3.0, 4.0])
    twice = pd.concat([frame(["a", "b", "c"], [1.5, 2.5, 3.5]), frame(["a", "b", "c"], [2.5, 3.5, 4.5])])
    pd.testing.assert_series_equal(quality.summarise(twice), quality.summarise(once))
    assert quality.summarise(frame(["a", "b"] * 3, [1.0, 2.0, 1.0, 2.0, 4.0, 5.0]))["dnsmos_ovrl"] == 2.5  # of 2 and 3


def test_a_value_that_one_seed_lacks_is_left_out_on_both_sides():
    """Two systems alike but for one seed's silence differ by nothing, not by the other clips' level."""
    first, second = frame(["a", "b", "c"], 3.0, [0.0, 10.0, 20.0]), frame(["a", "b", "c"], 3.0, [0.0, -np.inf, np.nan])
    row = quality.summarise(pd.concat([first, second]), pd.concat([first, first]))
    assert [row["si_sdr_db"], row["delta_si_sdr_db"]] == [0.0, 0.0]


def test_clips_of_a_speaker_count_together():
    """Ten speakers with four clips each that score alike say as much as ten clips."""
    level = np.random.default_rng(6).normal(3.0, 0.3, 10)
    scores = frame([f"{speaker}-{take}" for speaker in range(10) for take in range(4)], np.repeat(level, 4))
    grouped = quality.summarise(scores.assign(speaker=scores["clip"].str.partition("-")[0]))
    single = quality.summarise(frame([str(n) for n in range(10)], level))
    assert (grouped["clips"], grouped["speakers"]) == (40, 10)
    bounds = ["dnsmos_ovrl", "dnsmos_ovrl_ci_low", "dnsmos_ovrl_ci_high"]
    np.testing.assert_allclose(grouped[bounds].astype(float), single[bounds].astype(float), rtol=1e-12)
    assert "speakers" not in quality.summarise(scores.assign(speaker=""))


@pytest.mark.parametrize(("asked", "cores"), [("2", 2), ("64", 8), ("", 8), ("0", 8), ("many", 8)])
def test_scoring_takes_no_more_cores_than_a_worker_is_given(asked, cores, monkeypatch):
    monkeypatch.setattr(quality, "usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert quality._own_share() == cores
