"""What the system says about the machine: processor, clock governor, caches, cores; one thread, memory that stays.

PyTorch and ONNX Runtime are imported when they are needed.
"""

import ctypes
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path

GPU_QUERY = ("nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CPU_0 = Path("/sys/devices/system/cpu/cpu0")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processor time in a period


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "unknown"


def governor() -> str:
    """How the system sets the clock of the first core; "unknown" where it does not say."""
    return _first_line(CPU_0 / "cpufreq" / "scaling_governor") or "unknown"


def last_level_cache_mb() -> float:
    """Size of the largest cache of the first core in MB of 10^6 bytes, 32 where the system does not say."""
    sizes = [_first_line(path) for path in (CPU_0 / "cache").glob("index*/size")]
    return max((float(size[:-1]) * 1024 / 1e6 for size in sizes if size.endswith("K")), default=32.0)


def usable_cores() -> int:
    """Cores this process may use, by its affinity and a container's quota: maybe fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _first_line(CPU_QUOTA).partition(" ")  # "max" where there is none
    return min(cores, max(1, int(quota) // int(period))) if quota.isdecimal() else cores


@contextmanager
def gpu_utilisation() -> Iterator[list[float]]:
    """Share of time in which the first GPU was at work, in percent, sampled ten times a second while the body runs.

    The list is filled at the end. It stays empty where ``nvidia-smi`` is missing or does not say.
    """
    percent: list[float] = []
    try:
        watch = subprocess.Popen(GPU_QUERY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield percent
        return
    try:
        yield percent
    finally:
        watch.terminate()
        for line in watch.communicate()[0].splitlines():
            with suppress(ValueError):  # "[N/A]"
                percent.append(float(line))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch, with the MKL inside it, on one thread. NumPy's OpenBLAS reads OPENBLAS_NUM_THREADS when imported."""
    import torch  # takes seconds, and commands ask for the processor without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Ask glibc, for the rest of this process, to reuse large blocks instead of returning them. Linux only.

    Fresh pages cost a tenth of a training step, and a third to a half of enhancing.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip().splitlines()[0]
    except (OSError, IndexError):
        return ""


def installed_version(package: str) -> str:
    """The version of an installed package, without importing it; "" where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@cache
def onnxruntime():
    """The onnxruntime package, imported when first needed and with one thread asked for.

    Its own pool is sized by the session options; the variables are for OpenMP and BLAS builds, and set only during the
    import, so that a training in the same process or in its children keeps its threads.
    """
    with environment(dict.fromkeys(THREAD_VARIABLES, "1")):
        import onnxruntime
    return onnxruntime


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables of this process and of those it starts, as long as the body runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
