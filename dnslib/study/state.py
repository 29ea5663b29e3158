"""What is up to date: a fingerprint of everything a notebook's results depend on, kept in the executed notebook.

There is no second database that a kill could leave behind: a notebook either was renamed to its place, with the
fingerprint inside, or it was not.
"""

import ast
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from dnslib import _NAMES
from dnslib.digests import code_digest, digest, file_digest
from dnslib.machine import cpu_model, installed_version
from dnslib.paths import readable, resolve
from dnslib.study.notebooks import Notebook

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = (  # whose version may change a number
    "torch", "onnxruntime", "onnx", "numpy", "scipy", "pandas", "speechmos", "soxr", "soundfile", "pyroomacoustics",
    "pyloudnorm", "espeakng-loader", "optuna",
)  # fmt: skip
OWN_CLIPS = "noisy"  # in ``exchange``: written by the notebook itself (`dnslib.exchange.NOISY`)
KEY = "dnslib_run"  # in the metadata of an executed notebook
# parameters that only say where something lies or is done, no result
LOCATIONS = ("data", "recordings", "exchange", "outputs", "scheduler")


@dataclass(frozen=True)
class State:
    """``word`` is "never run", "up to date", "failed" or "changed"; ``changes`` names what; times of the last run."""

    word: str
    changes: tuple[str, ...] = ()
    seconds: float | None = None
    finished: str = ""

    @property
    def fresh(self) -> bool:
        return self.word == "up to date"

    def __str__(self) -> str:
        return f"{self.word} ({', '.join(self.changes)})" if self.changes else self.word


def fingerprint(notebook: Notebook, values: dict, outputs: Path, data_digest: str = "") -> dict[str, str]:
    """Digests by kind of input. Markdown and the library's comments and docstrings are left out: they change no result.

    ``data_digest`` is the `folder_digest` of the recordings, empty without recordings. What other denoisers made of
    the clips (``exchange``) counts as data too.
    """
    kept = {name: value for name, value in values.items() if name not in LOCATIONS}
    return {
        "code": digest(*notebook.code),
        "library": code_digest(package_files(notebook.code)),
        "parameters": digest(json.dumps(kept, sort_keys=True, default=str)),
        "packages": digest(*(f"{package} {installed_version(package)}" for package in PACKAGES)),
        "data": (data_digest if notebook.parameter("data") else "")
        + folder_digest(values.get("recordings", ""))
        + folder_digest(values.get("exchange", ""), without=OWN_CLIPS),
        "machine": cpu_model() if notebook.measures else "",
        "inputs": digest(*(f"{path.name} {file_digest(path)}" for path in inputs(notebook, outputs))),
    }


def state(notebook: Notebook, expected: dict[str, str], outputs: Path) -> State:
    """Compare the expected fingerprint with the one of the last run, and its results with what it wrote."""
    last = last_run(outputs / f"{notebook.name}.ipynb")
    failed = (outputs / f"{notebook.name}.failed.ipynb").exists()
    if last is None:
        return State("failed" if failed else "never run")
    changes = [kind for kind, value in expected.items() if last["fingerprint"].get(kind) != value]
    if any(file_digest(outputs / name) != last["results"].get(name) for name in notebook.writes):
        changes.append("results")
    word = "up to date" if not changes else "failed" if failed else "changed"
    return State(word, tuple(changes), last["seconds"], last["finished"])


def last_run(path: Path) -> dict | None:
    """What the runner noted in an executed notebook; None when there is none that the runner finished."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))["metadata"][KEY]
        return noted if {"fingerprint", "results", "parameters", "seconds", "finished"} <= noted.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def results(notebook: Notebook, outputs: Path) -> dict[str, str]:
    """Digests of the files the notebook wrote."""
    return {name: file_digest(outputs / name) for name in notebook.writes}


def inputs(notebook: Notebook, outputs: Path) -> list[Path]:
    """Result files the notebook reads, as they are now; its own results are not among them."""
    found = {path for pattern in notebook.reads for path in outputs.glob(pattern) if path.is_file()}
    own = notebook.writes
    return sorted(path for path in found if not any(fnmatch(path.relative_to(outputs).as_posix(), one) for one in own))


def package_files(code: Iterable[str], package: Path = PACKAGE) -> list[Path]:
    """The files of the library that the code needs: what it imports or names as ``dnslib.…``, and what those import."""
    waiting, visited, found = [name for source in code for name in used_modules(parse(source))], set(), set()
    while waiting:
        module = waiting.pop()
        if module in visited:
            continue
        visited.add(module)
        for path in module_files(module, package):
            found.add(path)
            if path.suffix == ".py":
                waiting += _used_by(path.read_text(encoding="utf-8"))
    return sorted(found)


@cache
def _used_by(source: str) -> list[str]:
    return used_modules(parse(source))


def module_files(name: str, package: Path) -> list[Path]:
    """Files of a module of the package: its file, or every file of its folder; with `published`, the weights too."""
    if (package / f"{name}.py").is_file():
        weights = (package / "weights").glob("*.safetensors") if name == "published" else ()
        return [package / f"{name}.py", *weights]
    return [path for path in (package / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def used_modules(tree: ast.AST | None) -> list[str]:
    """Names of the modules of dnslib that a syntax tree imports or reaches as an attribute of ``dnslib``."""
    names = []
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names += [part[1] for alias in node.names if (part := alias.name.split("."))[0] == "dnslib" and part[1:]]
        elif isinstance(node, ast.ImportFrom) and node.module == "dnslib":
            names += [_NAMES.get(alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dnslib."):
            names.append(node.module.split(".")[1])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dnslib":
            names.append(_NAMES.get(node.attr, node.attr))
    return names


def parse(source: str) -> ast.Module | None:
    """Syntax tree of a cell, without the lines only IPython understands; None when it is no Python all the same."""
    lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return None


def folder_digest(folder: str, without: str = "") -> str:
    """Digest of a listing (path, size, time of change): reading gigabytes to see that nothing changed is too slow.

    A folder ``without`` in it does not count.
    """
    if not folder:
        return ""
    root, seen, lines = resolve(folder), set(), []
    for place, folders, names in os.walk(root, followlinks=True):  # as the scan does, each folder once
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not (without and Path(place, name) == root / without))
        for path in (Path(place, name) for name in names):
            if path.is_file():
                status = path.stat()
                lines.append(f"{readable(path.relative_to(root))} {status.st_size} {status.st_mtime_ns}")
    return digest(*sorted(lines))
