"""Who comes second is refused in one line that names the first, or waits until it is done."""

import fcntl
import json
import os
import threading

import pytest
from filelock import FileLock

from dnslib import MisuseError
from dnslib.locks import HELD_FOLDER, LOCK, exclusive, held_by, only_writer, waiting


def refusal(holder: str) -> str:
    return f"taken by {holder}."


def test_a_second_holder_is_told_who_the_first_one_is(tmp_path):
    path = tmp_path / ".lock"
    with exclusive(path, refusal):
        named = rf"^taken by process {os.getpid()} on \S+ since \S+ \S+\.$"
        with pytest.raises(MisuseError, match=named), exclusive(path, refusal):
            pytest.fail("two hold it")
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == os.getpid()  # the first one's, still
    assert not (tmp_path / ".lock.json").exists()
    with exclusive(path, refusal):  # free again
        pass


def test_a_holder_that_left_no_name_is_refused_to_all_the_same(tmp_path):
    first, second = FileLock(tmp_path / ".lock"), exclusive(tmp_path / ".lock", refusal)
    with first, pytest.raises(MisuseError, match=r"^taken by another process\.$"), second:
        pytest.fail("two hold it")


def test_an_error_inside_gives_the_lock_back(tmp_path):
    for lock in (lambda: exclusive(tmp_path / "a", refusal), lambda: waiting(tmp_path / "b", "it")):
        for _ in range(2):
            with pytest.raises(KeyError), lock():
                raise KeyError


def test_a_second_one_waits_and_says_so_once(tmp_path, capsys):
    order, path = [], tmp_path / "new" / ".lock"
    asked = threading.Event()

    def second() -> None:
        asked.set()
        with waiting(path, "the run"):
            order.append("second")

    with waiting(path, "the run"):
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        assert asked.wait(10)
        thread.join(0.3)
        assert thread.is_alive()
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert capsys.readouterr().out.count("the run is held by another process, waiting") == 1


def test_who_writes_beside_a_study_is_refused_but_for_its_kernels(tmp_path, monkeypatch):
    monkeypatch.delenv(HELD_FOLDER, raising=False)
    only_writer(tmp_path)  # nobody ever held it
    with exclusive(tmp_path / LOCK, lambda holder: held_by(tmp_path, holder)):
        with pytest.raises(MisuseError, match=rf"is being written by process {os.getpid()} on .*choose other outputs"):
            only_writer(tmp_path)
        monkeypatch.setenv(HELD_FOLDER, str(tmp_path / "another"))
        with pytest.raises(MisuseError, match="is being written"):
            only_writer(tmp_path)
        monkeypatch.setenv(HELD_FOLDER, str(tmp_path))
        only_writer(tmp_path)
    monkeypatch.delenv(HELD_FOLDER)
    only_writer(tmp_path)
    with (tmp_path / LOCK).open() as another:  # one that only asks, at this very moment
        fcntl.flock(another, fcntl.LOCK_SH)
        only_writer(tmp_path)
