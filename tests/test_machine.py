"""What the system tells of a machine, read from made-up answers."""

import os
import time

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
    assert machine.usable_cores() == 3
