"""The environment files agree with each other and with what is installed; nothing in git is bound to one machine."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import dnslib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


PINS = read_pins()
OPTIONAL = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"] + OPTIONAL if not text.startswith(PROJECT["name"])]


def tracked_files() -> list[Path]:
    """Everything that git would publish: tracked files, and untracked ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def test_the_import_name_belongs_to_this_checkout():
    # a DNS wire-format package has the same import name, and would win silently if it stood earlier on the path
    assert Path(dnslib.__path__[0]).resolve() == ROOT / "dnslib"
    assert PROJECT["name"] == "dns-pruning-study"


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_every_direct_dependency_is_pinned_within_its_range(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_pins_are_universal():
    text = (ROOT / "constraints.txt").read_text()
    assert PINS["torch"] == "2.13.0"  # exact: the newest one would bring a few GB of CUDA along
    assert not re.search(r"\+|@|^-e|/", re.sub(r"#.*", "", text), flags=re.MULTILINE), "a local or editable pin"
    assert list(PINS) == sorted({canonicalize_name(name) for name in PINS}), "sorted, canonical, each name once"


def test_every_requirement_of_a_pinned_package_is_pinned():
    """Closure over the metadata of the installed packages, on the platform at hand."""
    loose = set()
    for name in PINS:
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                loose |= {f"{needed.name} (for {name})"} if canonicalize_name(needed.name) not in PINS else set()
    bundled = {text for text in loose if text.startswith(("nvidia-", "cuda-", "triton")) and "torch" in text}
    assert loose - bundled == set()  # a CUDA build of torch pins its own parts exactly


@pytest.mark.parametrize("name", PINS)
def test_installed_version_is_the_pinned_one(name):
    assert Version(metadata.version(name)).public == PINS[name]


def test_the_conda_environment_defers_to_the_other_two_files():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-c constraints.txt", "-e .[all]"]}]
    assert PROJECT["optional-dependencies"]["all"] == ["dns-pruning-study[cluster,lab,test]"]


def test_no_file_names_a_machine_or_a_package_registry():
    # written in pieces, so that this file does not contain what it looks for
    hosts = ["py" + "pi.org", "python" + "hosted.org", "download." + "pytorch.org", "conda." + "anaconda.org"]
    folders = ["/" + name + "/" for name in ("work", "root", "home", "Users", "opt", "tmp")]
    patterns = [re.escape(host) for host in hosts] + [rf"(?<![\w.}}/]){folder}" for folder in folders]
    forbidden = re.compile("|".join(patterns))
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in forbidden.finditer(text)]
    assert found == []


def test_notebooks_carry_no_outputs_outside_the_published_ones():
    carried = []
    for path in tracked_files():
        if path.suffix != ".ipynb" or "published" in path.relative_to(ROOT).parts:
            continue
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        carried += [path.name for cell in cells if cell.get("outputs") or cell.get("execution_count") is not None]
        carried += [path.name] if {"papermill", "widgets", "dnslib_run"} & notebook["metadata"].keys() else []
    assert carried == []


def test_make_names_a_python_that_is_too_old(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac\n')
    old.chmod(0o755)
    answer = subprocess.run(["make", "setup", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode != 0
    assert "needs Python 3.11 or newer" in answer.stderr
    assert "Python 3.9.2" in answer.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.fixture
def make(tmp_path):
    """Function: `make <targets>` in a copy of what it reads, with a .venv whose Python only notes what it was asked."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n')
    python.chmod(0o755)

    def make(*targets: str) -> list[str]:
        (tmp_path / "asked").write_text("")
        subprocess.run(["make", *targets], cwd=tmp_path, capture_output=True, text=True, check=True)
        return [line for line in (tmp_path / "asked").read_text().splitlines() if line != "-m pip --version"]

    return make


INSTALL = "-m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[all]"


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_installs_the_pinned_environment_once_and_again_only_when_it_changed(make, tmp_path):
    assert make("setup") == [INSTALL]
    assert make("setup") == []
    later = (tmp_path / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))  # a fresh checkout: newer, but the same
    assert make("setup") == []
    with (tmp_path / "constraints.txt").open("a") as pins:
        pins.write("# changed\n")
    os.utime(tmp_path / "constraints.txt", (later + 10, later + 10))
    assert make("setup") == [INSTALL]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_study_and_make_test_do_what_the_readme_says(make):
    make("setup")
    assert make("study") == ["-m dnslib run"]
    assert make("test") == ["-m ruff check .", "-m ruff format --check .", "-m pytest -n auto --no-loadscope-reorder"]
