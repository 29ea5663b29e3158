import json

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from dnslib import deployment
from dnslib.deployment import choose, chosen_because, compare_forms, deploy, gain_errors
from dnslib.errors import MisuseError
from dnslib.export import FORMS, export_streaming, run_streaming
from dnslib.model import Cruse
from dnslib.profiling import decaying_frames

FEW = {"rounds": 2, "frames_per_round": 3, "warmup_frames": 1}


@pytest.fixture(scope="module")
def model() -> Cruse:
    torch.manual_seed(0)
    return Cruse((8, 16, 64), groups=2)  # wide enough for int8 to quantise something


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return decaying_frames(0.4, seed=5)


def toy_table(**changes) -> pd.DataFrame:
    """Latencies of plain, exact, int8: 4, 2, 1 ms, told apart well; int8 errs by 0.01."""
    table = pd.DataFrame(
        {"speedup": [1.0, 2, 4], "latency_ms": [4.0, 2, 1], "gain_error_rms": [0, 1e-7, 0.01]},
        index=["plain", "exact", "int8"],
    )
    table["speedup_ci_low"], table["speedup_ci_high"] = table["speedup"] - 0.1, table["speedup"] + 0.1
    for column, value in changes.items():
        table.loc["int8", column] = value
    table["latency_ms"] = 4 / table["speedup"]
    table["ci_low"], table["ci_high"] = 4 / table["speedup_ci_high"], 4 / table["speedup_ci_low"]
    return table


def test_the_fastest_is_chosen():
    form, reason = choose(toy_table(), tolerance=0.02)
    assert form == "int8"
    assert reason == "int8 is the fastest (plain 4.0000 ms, exact 2.0000 ms, int8 1.0000 ms)."


def test_a_form_that_errs_too_much_is_refused():
    form, reason = choose(toy_table(), tolerance=0.001)
    assert form == "exact"
    assert reason.endswith("; int8 errs by more than 0.001.")


@pytest.mark.parametrize(("tolerance", "chosen"), [(0.01, "int8"), (1e-7, "exact"), (0, "plain")])
def test_an_error_of_just_the_tolerance_is_tolerated(tolerance, chosen):
    assert choose(toy_table(), tolerance)[0] == chosen


def test_of_forms_as_fast_as_each_other_the_exact_one_is_chosen():
    form, reason = choose(toy_table(speedup=2.1, speedup_ci_low=1.9, speedup_ci_high=2.3), tolerance=0.02)
    assert form == "exact"
    assert reason.startswith("exact is as fast as int8 and more exact")
    among_three = toy_table(speedup=2.1, speedup_ci_low=0.9, speedup_ci_high=2.3)
    among_three[["ci_low", "ci_high"]] = 0.1, 99
    assert choose(among_three, tolerance=0.02)[0] == "exact"  # plain is as exact, but slower
    form, _ = choose(toy_table(speedup=2.3, speedup_ci_low=2.2, speedup_ci_high=2.4), tolerance=0.02)
    assert form == "int8"


def test_forms_are_compared_on_the_same_frames(model, frames, tmp_path):
    table = compare_forms(model, frames, **FEW)
    assert list(table.index) == list(FORMS)
    assert set(deployment.COLUMNS) <= set(table.columns)
    assert table.loc["plain", "gain_error_max"] == 0
    assert 0 < table.loc["exact", "gain_error_max"] < 1e-5
    plain, int8 = (run_streaming(export_streaming(model, tmp_path / form, form), frames) for form in ("plain", "int8"))
    assert table.loc["int8", "gain_error_rms"] == pytest.approx(np.sqrt(np.mean((int8 - plain) ** 2)), rel=1e-3)
    assert table.loc["int8", "memory_mb"] < 0.5 * table.loc["plain", "memory_mb"]
    assert table.loc["plain", "memory_mb"] == (tmp_path / "plain").stat().st_size / 1e6


def test_a_restless_reference_does_not_hide_the_fastest():
    """Intervals of speedups that all overlap, while those of the latencies are far apart; and the other way round."""
    restless, drifting = toy_table(), toy_table()
    restless["speedup_ci_low"], restless["speedup_ci_high"] = 0.1, 99
    drifting["ci_low"], drifting["ci_high"] = 0.1, 99
    assert [choose(table, 0.02)[0] for table in (restless, drifting)] == ["int8", "int8"]


def test_the_choice_does_not_depend_on_the_reference_of_the_speedups():
    """A third of every speedup, as if the reference were another network, gives the same choice."""
    for changes in ({}, {"speedup": 2.1, "speedup_ci_low": 1.9, "speedup_ci_high": 2.3}):
        table = toy_table(**changes)
        speedups = [column for column in table if column.startswith("speedup")]
        assert choose(table.assign(**table[speedups] / 3), 0.02) == choose(table, 0.02)


def test_errors_of_gains(model, frames, tmp_path):
    """Two files of the same bytes do not differ; the largest difference is not below the root mean square."""
    files = {form: export_streaming(model, tmp_path / form, form) for form in ("plain", "int8")}
    errors = gain_errors({**files, "copy": files["plain"]}, frames)
    assert list(errors.index) == ["plain", "int8", "copy"]
    assert errors.loc[["plain", "copy"]].to_numpy().max() == 0
    assert 0 < errors.loc["int8", "gain_error_rms"] < errors.loc["int8", "gain_error_max"] < 1


def test_errors_of_gains_by_hand(monkeypatch):
    """One gain 0.4 too low, one 0.1 too high: what is too low counts as what is too high."""
    gains = {"plain": np.array([[0.5, 0.5]]), "int8": np.array([[0.1, 0.6]])}
    monkeypatch.setattr(deployment, "run_streaming", lambda path, frames: gains[path])
    errors = gain_errors({form: form for form in gains}, None).loc["int8"]
    assert errors.to_dict() == pytest.approx({"gain_error_rms": 0.085**0.5, "gain_error_max": 0.4})


@pytest.mark.parametrize("fastest", FORMS)
def test_the_file_holds_the_chosen_form_and_why(model, frames, fastest, tmp_path, monkeypatch):
    """Latencies made up, so that each form wins once."""

    def measure(files, reference, **protocol):
        np.testing.assert_array_equal(protocol["frames"], frames)
        assert reference == "plain"
        rows = []
        for name in files:
            speedup = 3.0 if name == fastest else 1.0
            rows.append({"model": name, "latency_ms": 1 / speedup, "ci_low": 0.9 / speedup, "ci_high": 1.1 / speedup,
                         "speedup": speedup, "speedup_ci_low": speedup, "speedup_ci_high": speedup})  # fmt: skip
        return pd.DataFrame(rows)

    monkeypatch.setattr(deployment, "measure_latency", measure)
    path = deploy(model, tmp_path / "net.onnx", frames=frames)
    facts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert facts["form"] == fastest
    assert json.loads(facts["chosen"]) == chosen_because(path)
    because = chosen_because(path)
    assert because["reason"].startswith(f"{fastest} is the fastest")
    assert set(because["candidates"]) == set(FORMS)
    assert because["candidates"][fastest]["latency_ms"] == pytest.approx(1 / 3, abs=1e-6)
    assert {"cpu", "onnxruntime"} <= set(because["machine"])
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("form", FORMS)
def test_a_named_precision_is_not_measured(model, form, tmp_path, monkeypatch):
    monkeypatch.setattr(deployment, "measure_latency", None)
    path = deploy(model, tmp_path / "net.onnx", form)
    assert path.read_bytes() == export_streaming(model, tmp_path / "same.onnx", form).read_bytes()
    assert chosen_because(path) == {}


def test_auto_measures_for_real(model, frames, tmp_path):
    because = chosen_because(deploy(model, tmp_path / "net.onnx", frames=frames, **FEW))
    assert all(candidate["latency_ms"] > 0 for candidate in because["candidates"].values())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"precision": "int4"}, "no precision 'int4'; choose one of plain, exact, int8, auto"),
        ({"frames": None}, "frames of log power are needed"),
        ({"tolerance": -1}, "must not be negative"),
        ({"tolerance": float("nan")}, "must not be negative"),
        ({"frames": np.zeros((5, 160))}, "have shape"),
        ({"rounds": 1}, "at least 2 rounds"),
    ],
)
def test_misuse(model, frames, change, complaint, tmp_path):
    with pytest.raises(ValueError, match=complaint):
        deploy(**{"model": model, "path": tmp_path / "net.onnx", "frames": frames} | change)
    assert list(tmp_path.iterdir()) == []


def test_misuse_is_for_the_user(model, tmp_path):
    with pytest.raises(MisuseError):
        deploy(model, tmp_path / "net.onnx")
