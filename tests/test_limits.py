import math
import subprocess
import sys

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_info

from dnslib import limits
from dnslib.errors import MisuseError
from dnslib.export import export_streaming, onnxruntime
from dnslib.limits import Limits, best_of, bound_ms, bounds_of, closeness, measure, merged
from dnslib.model import Cruse
from dnslib.paths import PROJECT
from dnslib.profiling import count_macs

MACHINE = Limits(memory_gb_s=10, read_gb_s={1: 80, 8: 50, 32: 20}, float32_gmac_s=40, int8_gmac_s=160)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network in float32 and in int8."""
    torch.manual_seed(0)
    model, folder = Cruse((8, 16, 64), groups=2), tmp_path_factory.mktemp("limits")
    return {form: export_streaming(model, folder / f"{form}.onnx", form) for form in ("plain", "exact", "int8")}


@pytest.fixture(scope="module")
def measured():
    return measure(repeats=3, memory_mb=64, read_mb=(0.5, 2), size=128)


# bounds, by hand


def test_weights_come_from_memory_or_from_where_a_matrix_of_their_size_does():
    """10 MB at 10 GB/s are 1 ms, at the 50 GB/s of 8 MB 0.2 ms; 8 million products at 40 billion a second 0.2 ms."""
    bounds = bound_ms(10e6, 8e6, MACHINE)
    assert (bounds.memory_ms, bounds.reading_ms, bounds.arithmetic_ms) == pytest.approx((1.0, 0.2, 0.2))


@pytest.mark.parametrize(("megabytes", "rate"), [(0.1, 80), (1, 80), (7.9, 80), (8, 50), (31, 50), (32, 20), (500, 20)])
def test_a_size_between_two_that_were_measured_is_read_as_fast_as_the_smaller(megabytes, rate):
    assert MACHINE.reading_gb_s(megabytes * 1e6) == rate


def test_a_disturbed_timing_makes_no_bound_higher():
    disturbed = Limits(10, {1: 5, 8: 50, 32: 3}, 40, 160)
    assert [disturbed.reading_gb_s(mb * 1e6) for mb in (1, 8, 32)] == [50, 50, 10]  # 10: from memory


def test_the_higher_bound_counts():
    reading, computing = bound_ms(10e6, 1e6, MACHINE), bound_ms(1e6, 80e6, MACHINE)
    assert (reading.warm_ms, reading.cold_ms) == pytest.approx((0.2, 1.0))
    assert (computing.warm_ms, computing.cold_ms) == pytest.approx((2.0, 2.0))


def test_products_in_int8_have_their_own_peak():
    assert bound_ms(0, 40e6, MACHINE, int8_macs=160e6).arithmetic_ms == pytest.approx(1 + 1)
    unknown = Limits(10, {1: 50}, 40, float("nan"))
    assert bound_ms(0, 0, unknown, int8_macs=160e6).arithmetic_ms == pytest.approx(4)  # no faster than float32, then


# bounds of files


def test_bounds_of_files(files):
    """All in float32 but for int8, which reads a quarter of the bytes and computes the large products four times as
    fast."""
    plain, exact, int8 = (bounds_of(files[form], MACHINE) for form in ("plain", "exact", "int8"))
    parameters = sum(p.numel() for p in Cruse((8, 16, 64), groups=2).parameters())
    assert plain.memory_ms == pytest.approx(4 * parameters / 10e9 * 1e3, rel=1e-2)
    assert plain.arithmetic_ms == pytest.approx(count_macs(files["plain"]) / 40e9 * 1e3)
    assert exact.arithmetic_ms == pytest.approx(count_macs(files["exact"]) / 40e9 * 1e3)
    assert int8.memory_ms < 0.35 * exact.memory_ms
    assert exact.arithmetic_ms / 4 < int8.arithmetic_ms < 0.4 * exact.arithmetic_ms


def test_how_close_a_graph_comes(files):
    bounds = bounds_of(files["plain"], MACHINE)
    latency = pd.DataFrame(
        {
            "model": ["plain", "self_check"],
            "latency_ms": [3 * max(bounds.reading_ms, bounds.arithmetic_ms)] * 2,
            "cold_latency_ms": [2 * max(bounds.memory_ms, bounds.arithmetic_ms)] * 2,
        }
    )
    (row,) = closeness(files, latency, MACHINE).to_dict(orient="records")
    assert row["model"] == "plain"
    assert (row["latency_per_bound"], row["cold_latency_per_bound"]) == pytest.approx((3, 2))
    assert row["macs_per_frame"] == count_macs(files["plain"])
    slow_products, fast_products = (Limits(10, {1: 50}, peak, peak) for peak in (0.01, 1e6))
    assert closeness(files, latency, slow_products)["bound_by"].item() == "arithmetic"
    assert closeness(files, latency, fast_products)["bound_by"].item() == "reading"
    assert "cold_latency_per_bound" not in closeness(files, latency[["model", "latency_ms"]], MACHINE)


# measuring


def test_every_limit_is_measured(measured):
    names = ["memory_gb_s", "read_gb_s", "read_gb_s", "float32_gmac_s", "int8_gmac_s"]
    assert list(measured["limit"]) == names
    assert measured["mb"].tolist() == pytest.approx([64, 0.5, 2, math.nan, math.nan], nan_ok=True)
    known = measured.dropna(subset="best")
    assert (known["worst"] > 0).all()
    assert (known["worst"] <= known["median"]).all()
    assert (known["median"] <= known["best"]).all()
    found = best_of(measured)
    assert found.memory_gb_s == measured.set_index("limit").loc["memory_gb_s", "best"]
    assert found.read_gb_s == dict(zip([0.5, 2], measured["best"][1:3], strict=True))


def test_a_rate_is_work_by_time(monkeypatch):
    """On a clock of which every look is half a second later than the last one."""
    now = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr(limits.time, "perf_counter", lambda: next(now))
    halves = limits._reader(128)  # two parts of 64 MB, taken in turn
    assert [halves() for _ in range(3)] == pytest.approx([64e-3 / 0.5] * 3, rel=1e-3)  # parts are whole rows of 4 KB
    assert limits._reader(1)() == pytest.approx(64 * 1e-3 / 0.5, rel=1e-3)  # 64 passes over one MB
    assert limits._multiplier(50, np.float32)() == pytest.approx(50**3 / 0.5 / 1e9)


@pytest.mark.parametrize("mb", [1, 256])
def test_a_matrix_is_read_by_rows_and_by_columns_in_turn(monkeypatch, mb):
    by_rows, product = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda part, _: by_rows.append(part.flags.c_contiguous) or product(part, _))
    trial, found = limits._reader(mb), []
    for _ in range(4):
        by_rows.clear()
        trial()
        (layout,) = set(by_rows)
        found.append(layout)
    assert found == [True, False, True, False]


def test_a_large_array_is_read_part_after_part(monkeypatch):
    """So that each part is read again only after all the others."""
    read, product = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda part, vector: read.append(part.ctypes.data) or product(part, vector))
    trial = limits._reader(256)
    for _ in range(8):
        trial()
    assert len(set(read[:4])) == 4
    assert read[:4] == read[4:]


def test_what_is_read_again_and_again_is_brought_back_to_its_cache_first(monkeypatch):
    """32 MB are read four times before the timed region and in it; the parts of a large matrix once, in it."""
    happened, product = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda part, vector: happened.append("read") or product(part, vector))
    monkeypatch.setattr(limits.time, "perf_counter", lambda: happened.append("clock") or float(len(happened)))
    limits._reader(32)()
    assert happened == [*["read"] * 4, "clock", *["read"] * 4, "clock"]
    happened.clear()
    limits._reader(128)()
    assert happened == ["clock", "read", "clock"]


def test_one_thread_reads_and_threads_are_given_back(monkeypatch):
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, during, product = threads(), [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda part, vector: during.extend(threads()) or product(part, vector))
    measure(repeats=1, memory_mb=1, read_mb=[64], size=8)
    assert set(during) == {1}
    assert threads() == before


@pytest.mark.parametrize(("cache_mb", "memory_mb"), [(50.0, 400), (8.0, 256)])
def test_memory_is_eight_last_level_caches_and_no_less_than_256_mb(monkeypatch, cache_mb, memory_mb):
    monkeypatch.setattr(limits, "last_level_cache_mb", lambda: cache_mb)
    monkeypatch.setattr(limits, "_reader", lambda megabytes: lambda: megabytes)
    table = measure(repeats=1, read_mb=[1], size=8).set_index("limit")
    assert table.loc["memory_gb_s", ["mb", "best"]].tolist() == [memory_mb, memory_mb]


def test_limits_wait_for_other_measurements_and_these_for_them(monkeypatch, tmp_path):
    clock = tmp_path / "clock.lock"
    monkeypatch.setattr(limits, "clock_lock", lambda: clock)

    def held() -> float:
        with pytest.raises(Timeout):
            FileLock(clock).acquire(timeout=0)
        return 1.0

    monkeypatch.setattr(limits, "_reader", lambda megabytes: held)
    measure(repeats=1, memory_mb=1, read_mb=[1], size=8)
    FileLock(clock).acquire(timeout=0)  # free again


def test_of_two_measurements_the_best_moment_counts(measured):
    later = measured.assign(best=measured["best"] * 2, worst=measured["worst"] / 2)
    both = merged(measured, later)
    assert list(both.columns) == list(measured.columns)
    assert both["limit"].tolist() == measured["limit"].tolist()
    pd.testing.assert_series_equal(both["best"], later["best"])
    pd.testing.assert_series_equal(both["worst"], later["worst"])
    assert (both["repeats"] == 2 * measured["repeats"]).all()
    assert best_of(both).memory_gb_s == 2 * best_of(measured).memory_gb_s


def test_a_product_that_the_runtime_does_not_have_is_nan(monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("NOT_IMPLEMENTED")

    monkeypatch.setattr(onnxruntime(), "InferenceSession", refuse)
    assert math.isnan(limits._multiplier(8, np.int8)())


def test_the_products_are_right(monkeypatch):
    """What is timed is the product of the two matrices, in the type that it says."""
    models = []
    session = onnxruntime().InferenceSession
    monkeypatch.setattr(
        onnxruntime(), "InferenceSession", lambda data, *a, **k: models.append(data) or session(data, *a, **k)
    )
    for kind in (np.float32, np.int8):
        limits._multiplier(16, kind)
        graph = onnx.load_from_string(models[-1]).graph
        (weight,) = map(onnx.numpy_helper.to_array, graph.initializer)
        assert (weight.shape, weight.dtype) == ((16, 16), np.dtype(kind))
        x = np.eye(16, dtype=np.uint8 if kind is np.int8 else np.float32)
        (y,) = session(models[-1], providers=["CPUExecutionProvider"]).run(None, {"x": x})
        np.testing.assert_allclose(y, weight, rtol=1e-6)


@pytest.mark.parametrize(
    "change", [{"repeats": 0}, {"size": 0}, {"memory_mb": 0}, {"read_mb": [1, -1.0]}, {"read_mb": []}]
)
def test_misuse(change):
    with pytest.raises(MisuseError, match="not empty"):
        measure(**change)


def test_measuring_products_leaves_denormal_numbers_alone():
    """ONNX Runtime lets the first session of a process decide that for its thread, hence a process of its own."""
    code = "import numpy as np; from dnslib import limits; limits._multiplier(8, np.float32)(); print(5e-324 * 1.0 > 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
