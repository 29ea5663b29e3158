"""Kernels against the dense product and against independent implementations; bytes against the arrays that are read."""

import numpy as np
import pytest
import torch
from scipy import sparse

from dnslib import pruning
from dnslib import sparse_products as products
from dnslib.errors import MisuseError
from dnslib.model import Cruse
from dnslib.sparse_products import Case, exact_product, kernels, prepare, prune_bands, prune_blocks

COUNT, ROWS, COLUMNS = 4, 48, 24
ALL = kernels(band_rows=16)


@pytest.fixture(scope="module")
def matrices():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((ROWS, COLUMNS), dtype=np.float32) for _ in range(COUNT)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Cruse((4, 6, 8), 2)


def share_of_zeros(matrices) -> float:
    return np.mean(np.stack(matrices) == 0)


# which weights are zero


@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.75])
def test_blocks_of_one_weight_are_unstructured_sparsity(network, zeros):
    ours = prune_blocks(products.gru_matrices(network), (1, 1), zeros)
    theirs = products.gru_matrices(pruning.sparsify(network, zeros))
    np.testing.assert_array_equal(np.stack(ours), np.stack(theirs))


def test_the_weakest_blocks_go_wherever_they_are():
    """Blocks of 2 x 2 with norms 1 ... 8 in two matrices: half of them are those of the norms 1 ... 4."""
    norms = np.array([[[5, 1], [8, 3]], [[2, 7], [6, 4]]], np.float32)
    matrices = [np.kron(one, np.full((2, 2), 0.5, np.float32)) for one in norms]
    kept = [np.kron(one > 4, np.ones((2, 2), bool)) for one in norms]
    for pruned, matrix, keep in zip(prune_blocks(matrices, (2, 2), 0.5), matrices, kept, strict=True):
        np.testing.assert_array_equal(pruned, matrix * keep)


def test_a_block_counts_by_all_its_weights():
    """L2 norms: one weight of 3 outweighs four of 1.4, which outweigh one of 2.7."""
    matrix = np.array([[3, 0, 1.4, 1.4, 2.7, 0], [0, 0, 1.4, 1.4, 0, 0]], np.float32)
    (pruned,) = prune_blocks([matrix], (2, 2), 1 / 3)
    np.testing.assert_array_equal(pruned, matrix * [1, 1, 1, 1, 0, 0])


def test_every_band_keeps_its_own_strongest_columns():
    matrix = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [9, 1, 1, 8], [0, 5, 1, 0]], np.float32)
    (pruned,) = prune_bands([matrix], 2, 0.5)
    np.testing.assert_array_equal(pruned, matrix * [[0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]])


@pytest.mark.parametrize("name", [name for name, kernel in ALL.items() if kernel.block])
def test_kernels_get_the_share_of_zeros_asked_for(matrices, name):
    assert share_of_zeros(ALL[name].prune(matrices, 0.75)) == pytest.approx(0.75, abs=1e-9)
    assert share_of_zeros(ALL[name].prune(matrices, 0)) == 0


def test_pruning_leaves_its_argument(matrices):
    before = np.stack(matrices)
    prune_blocks(matrices, (8, 4), 0.9)
    prune_bands(matrices, 16, 0.9)
    np.testing.assert_array_equal(np.stack(matrices), before)


@pytest.mark.parametrize("zeros", [-0.1, 1.0, float("nan")])
def test_shares_out_of_range(matrices, zeros):
    with pytest.raises(MisuseError, match="share of zeros"):
        prune_blocks(matrices, (8, 4), zeros)


def test_blocks_that_do_not_fit(matrices):
    with pytest.raises(MisuseError, match="48 x 24 cannot be cut into blocks of 32 x 1"):
        prune_bands(matrices, 32, 0.5)


def test_weights_find_their_way_back_into_the_network(network):
    matrices = products.gru_matrices(network)
    assert [matrix.shape for matrix in matrices] == [(3 * network.gru.size, network.gru.size)] * 4
    changed = products.with_gru_matrices(network, [index + matrix for index, matrix in enumerate(matrices)])
    torch.testing.assert_close(changed.gru.weight_ih[1], network.gru.weight_ih[1] + 1)
    torch.testing.assert_close(changed.gru.weight_hh[0], network.gru.weight_hh[0] + 2)
    np.testing.assert_array_equal(np.stack(products.gru_matrices(network)), np.stack(matrices))


# kernels


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ALL)
def test_every_kernel_is_the_dense_product(matrices, name, zeros):
    pruned = ALL[name].prune(matrices, zeros)
    product = ALL[name].opener(pruned)()
    for frame in products.random_frames(2, COUNT, COLUMNS + 5, seed=1):  # two frames: the second must be read too
        product(frame)
        expected = np.einsum("krc,kc->kr", np.stack(pruned).astype(float), frame[:, :COLUMNS].astype(float))
        largest = np.abs(expected).max()
        np.testing.assert_allclose(product.y, expected, rtol=0, atol=ALL[name].tolerance * largest)


@pytest.mark.parametrize("name", ALL)
def test_an_open_product_owns_its_weights(matrices, name):
    """What was opened before goes on with its own memory, also when another one is opened."""
    opener = ALL[name].opener(ALL[name].prune(matrices, 0.5))
    first, second = opener(), opener()
    (frame,) = products.random_frames(1, COUNT, COLUMNS)
    first(frame)
    assert np.abs(first.y).max() > 0
    np.testing.assert_array_equal(second.y, 0)


def test_a_matrix_of_zeros_only():
    nothing = [np.zeros((16, 8), np.float32)] * 2
    for kernel in kernels(band_rows=16).values():
        product = kernel.opener(nothing)()
        product(np.ones((2, 8), np.float32))
        np.testing.assert_allclose(product.y, 0, atol=1e-30)  # int8 has no scale of 0


def test_a_wrong_kernel_is_not_raced(matrices):
    def wrong(stored, x, y):
        return lambda: y.fill(1)

    broken = products.Kernel("broken", "NumPy", "rows", products.store_dense, wrong)
    with pytest.raises(ArithmeticError, match="broken"):
        prepare({"P.500": matrices}, [broken], [0.5])


# bytes


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.75])
def test_bytes_are_those_of_the_arrays(matrices, zeros):
    def nbytes(compressed) -> int:
        return compressed.data.nbytes + compressed.indices.nbytes + compressed.indptr.nbytes

    shape = (ROWS, COLUMNS)
    for name in ("scipy_csr", "torch_csr"):
        stored = [sparse.csr_array(one) for one in ALL[name].prune(matrices, zeros)]
        assert ALL[name].bytes_per_frame(COUNT, shape, zeros) == sum(map(nbytes, stored))
    for name in ("scipy_bsr", "torch_bsr"):
        kernel = ALL[name]
        stored = [sparse.bsr_array(one, blocksize=kernel.block) for one in kernel.prune(matrices, zeros)]
        assert kernel.bytes_per_frame(COUNT, shape, zeros) == sum(map(nbytes, stored))
    for name, index_bytes in (("torch_bands", 8), ("onnxruntime_bands", 4)):
        kernel = ALL[name]
        stored = kernel.store(kernel.prune(matrices, zeros), kernel.block)
        read = sum(weights.nbytes + index_bytes * columns.size for columns, weights in stored)
        assert kernel.bytes_per_frame(COUNT, shape, zeros) == read


def test_bytes_of_cruse32():
    """8 x 1728 x 576 weights: 31.85 MB in float32; int8 has a byte each and four for a scale every 64."""
    shape = (1728, 576)
    assert ALL["numpy_rows"].bytes_per_frame(8, shape, 0.9) == 8 * 1728 * 576 * 4
    assert ALL["onnxruntime_int8"].bytes_per_frame(8, shape) == 8 * 1728 * (576 + 9 * 4)
    assert ALL["onnxruntime_int8"].bytes_per_frame(8, (432, 144)) == 8 * 432 * (192 + 3 * 4)


def test_the_share_of_zeros_at_which_traffic_halves():
    halves = {name: kernel.zeros_for_traffic(0.5) for name, kernel in ALL.items()}
    assert halves["scipy_csr"] == 0.75
    assert ALL["scipy_csr"].zeros_for_traffic(1) == 0.5
    assert halves["scipy_bsr"] == pytest.approx(1 - 2 / (4 + 4 / 32))
    for name in ("torch_csr", "scipy_bsr", "torch_bsr"):  # as the bytes of a large matrix say
        kernel, shape = ALL[name], (8000, 8000)
        read = kernel.bytes_per_frame(1, shape, halves[name])
        assert read / (4 * 8000 * 8000) == pytest.approx(0.5, abs=1e-3)


# the race


def test_cases_are_every_kernel_share_and_configuration(matrices):
    weights = {"large": matrices, "small": [one[:16, :8] for one in matrices]}
    chosen = [ALL["numpy_columns"], ALL["scipy_csr"], ALL["onnxruntime_bands"]]
    cases = list(prepare(weights, chosen, [0.5, 0.75]))
    found = [(case.configuration, case.kernel.name, case.zeros) for case in cases]
    expected = [("numpy_columns", 0.0)]
    expected += [(name, share) for share in (0.5, 0.75) for name in ("scipy_csr", "onnxruntime_bands")]
    assert found == [(configuration, *rest) for configuration in weights for rest in expected]
    assert all(case.relative_error <= 1e-5 for case in cases)


def test_a_race_has_a_time_for_every_frame(matrices):
    openers = prepare({"one": matrices}, [ALL["numpy_rows"], ALL["torch_csr"]], [0.5])
    threads = torch.get_num_threads()
    times = products.race(openers, rounds=2, frames_per_round=3, evict_mb=0.1)
    assert set(times) == {case.name for case in openers}
    assert all(one.shape == (2, 3) and (one > 0).all() for one in times.values())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("wrong", [{"rounds": 1}, {"frames_per_round": 0}, {"warmup_frames": -1}, {"evict_mb": -1.0}])
def test_misuse_of_a_race(matrices, wrong):
    openers = prepare({"one": matrices}, [ALL["numpy_rows"]], [])
    with pytest.raises(MisuseError):
        products.race(openers, **({"rounds": 2, "frames_per_round": 1} | wrong))


def test_a_race_needs_kernels():
    with pytest.raises(MisuseError, match="no kernel"):
        products.race({}, rounds=2, frames_per_round=1)


def case(name: str, zeros: float = 0.0) -> Case:
    return Case(ALL[name], "CRUSE32", zeros, 8, (1728, 576), 0.0)


def test_speedups_are_over_the_fastest_dense_product_and_that_of_the_library():
    """Constant times: medians are the times, and every interval is a point."""
    microseconds = {
        case("numpy_rows"): 900,
        case("numpy_columns"): 600,
        case("torch_rows"): 800,
        case("scipy_csr", 0.5): 1200,
        case("scipy_csr", 0.9): 300,
        case("torch_csr", 0.5): 400,
    }
    times = {one.name: np.full((4, 5), 1000 * value) for one, value in microseconds.items()}
    table = products.results(times, microseconds)
    assert table["latency_us"].tolist() == list(microseconds.values())
    np.testing.assert_allclose(table["speedup"], [2 / 3, 1, 3 / 4, 1 / 2, 2, 3 / 2])
    np.testing.assert_allclose(table["library_speedup"], [2 / 3, 1, 1, 1 / 2, 2, 2])
    for low, value, high in (("ci_low", "latency_us", "ci_high"), ("speedup_ci_low", "speedup", "speedup_ci_high")):
        np.testing.assert_allclose(table[low], table[value])
        np.testing.assert_allclose(table[high], table[value])
    np.testing.assert_allclose(table["read_mb"].iloc[0], 31.850496)
    np.testing.assert_allclose(table["read_gb_per_s"].iloc[0], 31.850496e6 / 900e-6 / 1e9)
    over_torch = products.speedups(times, case("torch_rows").name)
    assert over_torch.loc[case("scipy_csr", 0.9).name, "speedup"] == pytest.approx(800 / 300)


def test_faster_from_which_share():
    shares = [0.5, 0.7, 0.8, 0.9]
    assert products.faster_from(shares, [0.5, 0.9, 1.1, 2.0]) == 0.8
    assert products.faster_from(shares, [1.2, 0.9, 1.1, 2.0]) == 0.8  # a lucky point before does not count
    assert products.faster_from(shares, [1.2, 1.1, 1.1, 2.0]) == 0.5
    assert np.isnan(products.faster_from(shares, [1.2, 1.1, 1.1, 0.99]))


def test_one_thread_is_busy_on_one_core(matrices):
    openers = prepare({"one": matrices}, [ALL["torch_rows"]], [])
    (busy,) = products.busy_cores(openers, frames=200).values()
    assert 0 < busy < 1.5


def test_busy_cores_are_processor_time_by_elapsed_time(matrices, monkeypatch):
    """Three seconds of processors in two seconds: one and a half cores."""
    for name, looks in (("process_time", [10, 13]), ("perf_counter", [50, 52])):
        monkeypatch.setattr(products.racing, name, iter(looks).__next__)
    (busy,) = products.busy_cores(prepare({"one": matrices}, [ALL["numpy_rows"]], [])).values()
    assert busy == 1.5


def test_the_exact_product(matrices):
    (frame,) = products.random_frames(1, COUNT, COLUMNS)
    expected = [matrix.astype(float).dot(x.astype(float)) for matrix, x in zip(matrices, frame, strict=True)]
    np.testing.assert_allclose(exact_product(matrices, frame), expected, rtol=1e-12, atol=1e-12)
