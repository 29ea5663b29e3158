"""The notebooks of a folder, read without a kernel: title, parameters cell, what each reads and writes, their order.

A notebook says in its metadata what it does:
``"dnslib": {"reproduces": "Tables 3 and 4", "reads": ["results/table_2.csv"], "writes": ["results/table_3.csv"]}``
with paths relative to the outputs folder; ``reads`` may hold patterns such as ``results/*.csv``. ``"measures": true``
marks a notebook that measures times: on another machine they are measured anew.
"""

import ast
import heapq
import io
import json
import re
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from dnslib.errors import MisuseError, unknown

NUMBER = re.compile(r"[\d_]*\d")  # that a notebook's name begins with
TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


@dataclass(frozen=True)
class Parameter:
    """One line ``name: type = default  # help`` of a parameters cell."""

    name: str
    type: type
    default: object
    help: str


@dataclass(frozen=True)
class Notebook:
    """What a notebook says about itself; ``code`` holds the sources of its code cells."""

    name: str
    path: Path
    title: str
    code: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    reproduces: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    measures: bool = False  # times, which are those of one machine

    def parameter(self, name: str) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


def discover(folder: Path) -> list[Notebook]:
    """The notebooks of a folder, by name. Raises MisuseError when there is none or one cannot be read."""
    notebooks = [read(path) for path in sorted(folder.glob("*.ipynb"))]
    if not notebooks:
        raise MisuseError(f"there is no notebook in {folder}")
    return notebooks


def read(path: Path) -> Notebook:
    """Read one notebook file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [(cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {})) for cell in content["cells"]]
        tagged = [code for kind, code, metadata in cells if kind == "code" and "parameters" in metadata.get("tags", ())]
        about = content.get("metadata", {}).get("dnslib", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MisuseError(f"{path} is not a notebook: it is no JSON with cells") from None
    return Notebook(
        name=path.stem,
        path=path,
        title=first_heading(source for kind, source, _ in cells if kind == "markdown"),
        code=tuple(source for kind, source, _ in cells if kind == "code"),
        parameters=parse_parameters(tagged[0], path.stem) if tagged else (),
        reproduces=about.get("reproduces", ""),
        reads=tuple(about.get("reads", ())),
        writes=tuple(about.get("writes", ())),
        measures=bool(about.get("measures", False)),
    )


def first_heading(markdown: Iterable[str]) -> str:
    """Text of the first ``# heading``; empty when there is none."""
    lines = (line for source in markdown for line in source.splitlines())
    return next((line[2:].strip() for line in lines if line.startswith("# ")), "")


def parse_parameters(source: str, notebook: str) -> tuple[Parameter, ...]:
    """The parameters of a cell of ``name: type = literal  # help`` lines. Raises MisuseError for any other line."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise MisuseError(f"the parameters cell of {notebook} is not Python: line {error.lineno}") from None
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    parameters = []
    for line in body:
        try:
            name, kind, default = line.target.id, parameter_type(line.annotation), ast.literal_eval(line.value)
        except (AttributeError, KeyError, ValueError, TypeError):
            raise MisuseError(
                f"line {line.lineno} of the parameters cell of {notebook} is not 'name: type = literal  # help'"
            ) from None
        parameters.append(Parameter(name, kind, default, comments.get(line.end_lineno, "")))
    return tuple(parameters)


def parameter_type(annotation: ast.expr) -> type:
    """The type of an annotation: int, float, str, bool, list, dict, or list[...] of the first four."""
    if isinstance(annotation, ast.Subscript) and annotation.value.id == "list":
        return list[TYPES[annotation.slice.id]]
    return TYPES[annotation.id]


def select(notebooks: Sequence[Notebook], names: Sequence[str]) -> list[Notebook]:
    """The named notebooks, all when none is named.

    A name may be a path, the beginning of just one name, or the number of a section: 05 for all that begin with 05_.
    """
    if not names:
        return list(notebooks)
    known = {notebook.name: notebook for notebook in notebooks}
    chosen = []
    for given in names:
        name = Path(given).name.removesuffix(".ipynb")
        section = [one for one in known if one.startswith(f"{name}_")]
        begun = [one for one in known if one.startswith(name)]
        if name not in known and not section and len(begun) != 1:
            raise MisuseError(unknown("notebook", name, begun or known))
        chosen += [name] if name in known else section or begun
    return [notebook for notebook in notebooks if notebook.name in chosen]


def in_order(notebooks: Sequence[Notebook]) -> list[Notebook]:
    """By name, but a notebook that reads a result comes after the one that writes it. MisuseError for a circle."""
    graph = {
        reader.name: {writer.name for writer in notebooks if writer is not reader and feeds(writer, reader)}
        for reader in notebooks
    }
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        raise MisuseError(f"notebooks read each other's results in a circle: {' -> '.join(error.args[1])}") from None
    ready, order = [], []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, name)
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
    known = {notebook.name: notebook for notebook in notebooks}
    return [known[name] for name in order]


def feeds(writer: Notebook, reader: Notebook) -> bool:
    """Whether a result that ``writer`` writes is one that ``reader`` reads."""
    return any(fnmatch(result, pattern) for result in writer.writes for pattern in reader.reads)
