"""Fingerprints: what changes them, and what does not."""

import os

import pytest

from dnslib import exchange
from dnslib.published import available
from dnslib.study import state as states
from dnslib.study.notebooks import Notebook, parse_parameters

CODE = ("import dnslib\nx = 1",)


def notebook(code=CODE, **about):
    return Notebook("toy", None, "", code, parse_parameters('data: str = ""\nseed: int = 0', "toy"), **about)


def changed(before: dict, after: dict) -> set[str]:
    return {kind for kind in before if before[kind] != after[kind]}


def test_only_what_measures_is_measured_anew_on_another_machine(tmp_path, monkeypatch):
    here = [states.fingerprint(notebook(measures=measures), {}, tmp_path) for measures in (False, True)]
    monkeypatch.setattr(states, "cpu_model", lambda: "another processor")
    there = [states.fingerprint(notebook(measures=measures), {}, tmp_path) for measures in (False, True)]
    assert [changed(*pair) for pair in zip(here, there, strict=True)] == [set(), {"machine"}]


def test_the_folder_of_clips_is_the_one_that_is_written():
    assert states.OWN_CLIPS == exchange.NOISY


@pytest.fixture
def package(tmp_path):
    """A library of four files: a imports b, b imports the folder c; d is alone."""
    (tmp_path / "c").mkdir()
    (tmp_path / "a.py").write_text("from dnslib.b import f")
    (tmp_path / "b.py").write_text("def f():\n    from dnslib import c\n    return c")
    (tmp_path / "c" / "words.txt").write_text("one two")
    (tmp_path / "c" / "__init__.py").write_text("")
    (tmp_path / "d.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "code", ["from dnslib import a", "import dnslib.a", "from dnslib.a import f", "import dnslib\ndnslib.a.f()"]
)
def test_package_files_follow_imports(package, code):
    files = [
        path.relative_to(package).as_posix() for path in states.package_files(["%matplotlib inline\n" + code], package)
    ]
    assert files == ["a.py", "b.py", "c/__init__.py", "c/words.txt"]


def test_a_name_of_the_library_leads_to_its_module():
    files = {path.name for path in states.package_files(["from dnslib import Cruse"])}
    assert {"model.py", "gru.py", "stft.py"} <= files
    assert "pruning.py" not in files


def test_each_input_changes_its_own_part(tmp_path):
    (tmp_path / "r").mkdir()
    base = states.fingerprint(notebook(reads=("r/*.csv",), writes=("r/own.csv",)), {}, tmp_path)

    def parts(code=CODE, values=None, data_digest=""):
        again = notebook(code, reads=("r/*.csv",), writes=("r/own.csv",))
        return changed(base, states.fingerprint(again, values or {}, tmp_path, data_digest))

    assert parts() == set()
    assert parts(code=("import dnslib\nx = 2",)) == {"code"}
    assert parts(values={"seed": 1}) == {"parameters"}
    assert parts(values={"outputs": "elsewhere", "data": "elsewhere"}) == set()
    assert parts(data_digest="abc") == {"data"}
    (tmp_path / "calls").mkdir()
    assert parts(values={"recordings": str(tmp_path / "calls")}) == {"data"}
    few = states.fingerprint(notebook(), {"recordings": str(tmp_path / "calls")}, tmp_path)
    (tmp_path / "calls" / "one.wav").touch()
    more = states.fingerprint(notebook(), {"recordings": str(tmp_path / "calls")}, tmp_path)
    assert changed(few, more) == {"data"}
    (tmp_path / "others").mkdir()
    empty = states.fingerprint(notebook(), {"exchange": str(tmp_path / "others")}, tmp_path)
    (tmp_path / "others" / "one.wav").touch()
    full = states.fingerprint(notebook(), {"exchange": str(tmp_path / "others")}, tmp_path)
    assert changed(empty, full) == {"data"}
    (tmp_path / "others" / states.OWN_CLIPS).mkdir()
    (tmp_path / "others" / states.OWN_CLIPS / "000.wav").touch()  # the notebook's own: running it is no change
    assert states.fingerprint(notebook(), {"exchange": str(tmp_path / "others")}, tmp_path) == full
    (tmp_path / "r" / "own.csv").write_text("mine")
    assert parts() == set()
    (tmp_path / "r" / "table.csv").write_text("1")
    assert parts() == {"inputs"}


def test_the_data_digest_sees_a_new_a_longer_and_a_renamed_file(tmp_path):
    seen = [states.folder_digest(str(tmp_path))]
    (tmp_path / "a.wav").write_text("x")
    seen.append(states.folder_digest(str(tmp_path)))
    (tmp_path / "a.wav").write_text("xy")
    seen.append(states.folder_digest(str(tmp_path)))
    (tmp_path / "a.wav").rename(tmp_path / "b.wav")
    seen.append(states.folder_digest(str(tmp_path)))
    assert len(set(seen)) == 4
    assert states.folder_digest(str(tmp_path)) == seen[-1]
    assert states.folder_digest("") == ""


def test_the_data_digest_sees_a_file_that_was_written_anew_at_the_same_length(tmp_path):
    (tmp_path / "a.wav").write_text("x")
    os.utime(tmp_path / "a.wav", (1, 1))
    before = states.folder_digest(str(tmp_path))
    (tmp_path / "a.wav").write_text("y")
    assert states.folder_digest(str(tmp_path)) != before


def test_another_version_of_a_package_changes_the_packages_only(tmp_path, monkeypatch):
    before = states.fingerprint(notebook(), {}, tmp_path)
    monkeypatch.setattr(states, "installed_version", lambda package: "9.9" if package == "onnxruntime" else "1.0")
    first = states.fingerprint(notebook(), {}, tmp_path)
    monkeypatch.setattr(states, "installed_version", lambda package: "1.0")
    assert changed(first, states.fingerprint(notebook(), {}, tmp_path)) == changed(first, before) == {"packages"}


def test_the_data_digest_follows_links_to_folders_as_the_scan_does_each_once(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "large").mkdir()
    (tmp_path / "data" / "speech").symlink_to(tmp_path / "large")
    (tmp_path / "large" / "again").symlink_to(tmp_path / "data")  # a circle
    before = states.folder_digest(str(tmp_path / "data"))
    (tmp_path / "large" / "a.wav").write_text("x")
    assert states.folder_digest(str(tmp_path / "data")) != before


def test_a_notebook_that_uses_the_published_weights_depends_on_their_content():
    files = states.package_files(['dnslib.pretrained("P.500")'])
    assert {path.name for path in files} >= {"published.py", *(f"{name}.safetensors" for name in available())}
    assert not any(path.suffix == ".md" for path in files)  # the model card, which other results are written into
    assert not any(path.suffix == ".safetensors" for path in states.package_files(["dnslib.stft.stft"]))


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"metadata": {}}', '{"metadata": {"dnslib_run": {"seconds": 1}}}']
)
def test_a_notebook_the_runner_did_not_finish_counts_as_never_run(tmp_path, content):
    (tmp_path / "toy.ipynb").write_text(content)
    one = notebook()
    assert states.state(one, states.fingerprint(one, {}, tmp_path), tmp_path).word == "never run"
