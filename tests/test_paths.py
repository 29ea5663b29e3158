"""Paths: found from any working folder; a write is there whole or not at all."""

from pathlib import Path

import pytest

import dnslib
from dnslib.errors import MisuseError
from dnslib.model import Cruse
from dnslib.paths import PROJECT, of_caller, remove, resolve, write_atomically


def test_relative_paths_do_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    before = resolve("outputs/quick")
    monkeypatch.chdir(tmp_path)
    assert resolve("outputs/quick") == before == Path(dnslib.__file__).parents[1] / "outputs" / "quick"


@pytest.mark.parametrize(("wrong", "words"), [(Cruse((4, 4)), "not Cruse; export_streaming writes"), (3, "not int")])
def test_what_is_no_path_is_told_in_one_line(wrong, words):
    with pytest.raises(MisuseError, match=words):
        resolve(wrong)


def test_absolute_paths_stay(tmp_path):
    assert resolve(tmp_path / "a") == tmp_path / "a"
    assert resolve("a/../b") == PROJECT / "b"


def test_dots_are_what_the_system_takes_them_for(tmp_path, monkeypatch):
    deep = tmp_path / "there" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to(deep)
    monkeypatch.chdir(tmp_path)
    for name in ("link/../a", "link/../../a", "link/..", "there/../a"):
        assert of_caller(name) == Path(name).resolve()
    assert of_caller("link") == tmp_path / "link"  # a link itself stays one


def test_nothing_is_there_before_the_end_and_all_after(tmp_path):
    target = tmp_path / "deep" / "table.csv"
    with write_atomically(target) as path:
        path.write_text("a,b\n")
        assert not target.exists()
        assert path.suffix == ".csv"
    assert target.read_text() == "a,b\n"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_content_and_no_rest(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")

    def half_way():
        with write_atomically(target) as path:
            path.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_can_be_written_atomically(tmp_path):
    with write_atomically(tmp_path / "run") as folder:
        folder.mkdir()
        (folder / "DONE").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["DONE"]


def test_remove_takes_files_folders_and_nothing(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "missing"):
        remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
