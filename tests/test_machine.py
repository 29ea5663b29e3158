"""What the system tells of a machine, read from made-up answers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnslib import machine


def answer(folder, text: str) -> None:
    """Put an nvidia-smi that prints this, and then waits, first on the search path."""
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\nprintf '{text}'\ntouch {folder}/said\nexec sleep 30\n")
    script.chmod(0o755)


def test_the_utilisation_is_what_the_system_says_and_leaves_out_what_it_does_not(tmp_path, monkeypatch):
    answer(tmp_path, "10\\n[N/A]\\n55\\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with machine.gpu_utilisation() as percent:
        deadline = time.monotonic() + 20
        while not (tmp_path / "said").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert percent == [10, 55]


def test_without_a_gpu_there_is_no_utilisation(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with machine.gpu_utilisation() as percent:
        pass
    assert percent == []


def test_usable_cores_are_those_of_the_affinity_mask(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    monkeypatch.setattr(machine, "CPU_QUOTA", Path("nowhere"))
    assert machine.usable_cores() == 3


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 3), ("200000 100000", 2), ("50000 100000", 1), ("", 3)])
def test_usable_cores_are_no_more_than_a_containers_quota(monkeypatch, tmp_path, quota, cores):
    """Of the kernel's ``cpu.max``: microseconds of processor time, in how many."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(machine, "CPU_QUOTA", tmp_path / "cpu.max")
    assert machine.usable_cores() == cores


def test_the_runtime_is_imported_with_one_thread_asked_for_and_scoring_needs_no_torch():
    code = """import builtins, os, sys
import dnslib.quality
first, load = {}, builtins.__import__
def watched(name, *rest):
    if name == "onnxruntime":
        first.setdefault(name, os.environ.get("OMP_NUM_THREADS"))
    return load(name, *rest)
builtins.__import__ = watched
before = "onnxruntime" in sys.modules
dnslib.quality.scorer()
print(before, first, os.environ.get("OMP_NUM_THREADS"), "torch" in sys.modules)"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False {'onnxruntime': '1'} None False"


def test_the_last_level_cache_is_the_largest_and_the_governor_that_of_the_first_core(tmp_path, monkeypatch):
    """33 792 KB are 34.6 MB of 10^6 bytes; twice that is evicted before a cold frame."""
    monkeypatch.setattr(machine, "CPU_0", tmp_path)
    assert (machine.last_level_cache_mb(), machine.governor()) == (32.0, "unknown")
    for index, size in enumerate(("48K", "32K", "2048K", "33792K")):
        (tmp_path / "cache" / f"index{index}").mkdir(parents=True)
        (tmp_path / "cache" / f"index{index}" / "size").write_text(f"{size}\n")
    (tmp_path / "cpufreq").mkdir()
    (tmp_path / "cpufreq" / "scaling_governor").write_text("powersave\n")
    assert (machine.last_level_cache_mb(), machine.governor()) == (pytest.approx(34.603008), "powersave")
