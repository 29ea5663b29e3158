"""A fresh process answers with a value, with misuse in its own words, or with how it failed."""

import os
from pathlib import Path

import pytest

from dnslib import MisuseError, paths, processes

MODULE = """
import os, sys
from dnslib import MisuseError
from dnslib.processes import answer

def compute():
    print("progress")
    if sys.argv[1] == "misuse":
        raise MisuseError("not so.")
    if sys.argv[1] == "fail":
        raise OSError("no such luck")
    return {"process": os.getpid(), "given": sys.argv[1:]}

answer(compute)
"""


@pytest.fixture
def answering(tmp_path, monkeypatch) -> str:
    """The name of a module that answers, found from the folder that processes start in."""
    (tmp_path / "answering.py").write_text(MODULE)
    monkeypatch.setattr(processes, "PROJECT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(paths.PROJECT))
    return "answering"


def test_the_answer_is_of_another_process(answering):
    answered = processes.ask(answering, 7, Path("a file.onnx"), 0.5)
    assert answered["given"] == ["7", "a file.onnx", "0.5"]
    assert answered["process"] != os.getpid()


def test_misuse_comes_back_as_such(answering):
    with pytest.raises(MisuseError, match=r"^not so\.$"):
        processes.ask(answering, "misuse")


def test_a_failure_is_told_with_its_last_words(answering):
    with pytest.raises(RuntimeError, match=r"answering fail ended with status 1: (?s:.*)no such luck$"):
        processes.ask(answering, "fail")
