"""The race: every kernel on the same matrices and frames, checked against the exact product, then timed in turn."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np

from dnslib.errors import MisuseError
from dnslib.export import flushed_denormals
from dnslib.machine import one_torch_thread
from dnslib.profiling import between_frames, time_rounds
from dnslib.sparse_products.kernel import Kernel, Opener, Product
from dnslib.sparse_products.patterns import Matrices


@dataclass(frozen=True)
class Case:
    """One row of the table: a kernel on the GRUs of a configuration with a share of zeros."""

    kernel: Kernel
    configuration: str
    zeros: float
    count: int
    shape: tuple[int, int]
    relative_error: float

    @property
    def name(self) -> str:
        """Kernel, configuration and zeros, unique in a race."""
        return f"{self.kernel.name} {self.configuration} {self.zeros:g}"


def prepare(
    weights: Mapping[str, Matrices], chosen: Iterable[Kernel], zeros: Iterable[float], seed: int = 0
) -> dict[Case, Opener]:
    """What the race needs, for every configuration in ``weights`` and every share; dense kernels run once, at 0.

    Each kernel's product of its own pruned matrices was compared with the dense product in float64: raises
    ArithmeticError for one that is wrong.
    """
    openers, chosen = {}, list(chosen)
    for configuration, matrices in weights.items():
        count, shape = len(matrices), matrices[0].shape
        frame = random_frames(1, count, shape[1], seed)[0]
        for share in [None, *sorted(set(zeros))]:  # None: kernels that store every weight
            pruned, stored = {}, {}  # shared by kernels of one pattern or format
            for kernel in chosen:
                if (kernel.block is None) is not (share is None):
                    continue
                pattern = (kernel.block, kernel.storage == "bands")
                if pattern not in pruned:
                    own = kernel.prune(matrices, share or 0)
                    pruned[pattern] = own, exact_product(own, frame)
                own, exact = pruned[pattern]
                form = (kernel.block, kernel.store)
                if form not in stored:
                    stored[form] = kernel.store(own, kernel.block)
                opener = kernel.opener(own, stored[form])
                error = relative_error(opener(), frame, exact)
                if not error <= kernel.tolerance:
                    raise ArithmeticError(f"{kernel.name} with {share or 0:.0%} zeros errs by {error:.1e}.")
                openers[Case(kernel, configuration, share or 0.0, count, shape, error)] = opener
    return openers


def exact_product(matrices: Matrices, frame: np.ndarray) -> np.ndarray:
    """The dense products in float64, (matrices, rows)."""
    vectors = frame[:, : matrices[0].shape[1]].astype(np.float64)
    return np.stack([matrix.astype(np.float64) @ vector for matrix, vector in zip(matrices, vectors, strict=True)])


def relative_error(product: Product, frame: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference from ``exact`` (matrices, rows), relative to its largest value."""
    product(frame)
    return float(np.abs(product.y - exact).max() / np.abs(exact).max())


def random_frames(frames: int, count: int, columns: int, seed: int = 0) -> np.ndarray:
    """Vectors for all products of some frames, (frames, count, columns), standard normal."""
    return np.random.default_rng(seed).standard_normal((frames, count, columns), dtype=np.float32)


def race(
    openers: Mapping[Case, Opener],
    rounds: int,
    frames_per_round: int,
    warmup_frames: int = 3,
    evict_mb: float = 0.0,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Nanoseconds of every frame, (rounds, frames) by `Case.name`, one thread, as `dnslib.profiling` times networks.

    With ``evict_mb`` that many MB of other memory are read before every frame, outside the timed region.
    """
    if not openers:
        raise MisuseError("There is no kernel to race.")
    count, widest = next(iter(openers)).count, max(case.shape[1] for case in openers)
    frames = random_frames(16, count, widest, seed)
    before = between_frames(evict_mb)
    with one_torch_thread(), flushed_denormals():
        named = {case.name: opener for case, opener in openers.items()}
        return time_rounds(named, frames, rounds, frames_per_round, warmup_frames, before=before)


def busy_cores(openers: Mapping[Case, Opener], frames: int = 50) -> dict[str, float]:
    """Processor time over elapsed time, by `Case.name`: 1 for one thread that nobody interrupts, more for several."""
    busy = {}
    with one_torch_thread(), flushed_denormals():
        for case, opener in openers.items():
            product, frame = opener(), random_frames(1, case.count, case.shape[1])[0]
            product(frame)
            processor, start = process_time(), perf_counter()
            for _ in range(frames):
                product(frame)
            busy[case.name] = (process_time() - processor) / (perf_counter() - start)
    return busy
