"""From the command line to checked parameter values of each notebook, before any kernel starts."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from dnslib.errors import MisuseError, unknown
from dnslib.paper import CONFIGURATIONS
from dnslib.paths import PROJECT, expand, of_caller, readable
from dnslib.settings import Settings, explain, from_text
from dnslib.study.notebooks import Notebook, Parameter
from dnslib.study.ranges import RANGES

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
OWN_OPTION = {"profile": "--profile", "data": "--data", "outputs": "--outputs", "scheduler": "--scheduler"}


def typed_model(notebook: Notebook) -> type[BaseModel]:
    """The pydantic model of a notebook's parameters; types and ranges are those of Settings and of `ranges`."""
    fields = {}
    for parameter in notebook.parameters:
        shared = Settings.model_fields.get(parameter.name)
        own = RANGES.get(parameter.name, parameter.type)
        fields[parameter.name] = (shared.annotation, shared) if shared else (own, parameter.default)
    return create_model("Parameters", __config__=STRICT, **fields)


def check(notebook: Notebook, values: dict) -> dict:
    """The values in the notebook's types (3 for a float is 3.0). Raises MisuseError for one it would not accept."""
    model = typed_model(notebook)
    try:
        checked = model(**values).model_dump(include=set(values))
    except ValidationError as error:
        raise MisuseError(f"{explain(error, model)} (notebook {notebook.name})") from None
    for name in configurations(checked):
        if name not in CONFIGURATIONS:
            raise MisuseError(unknown("configuration", str(name), CONFIGURATIONS))
    return checked


def configurations(values: dict) -> list[str]:
    """What the parameters called ``…configuration`` and ``…configurations`` hold, and ``example``."""
    ends = ("configuration", "configurations", "example")
    named = {name: value for name, value in values.items() if name.endswith(ends)}
    return [one for value in named.values() for one in (value if isinstance(value, list) else [value])]


def plan(
    notebooks: Sequence[Notebook],
    profile: str = "quick",
    data: str = "",
    outputs: Path | None = None,
    assignments: Sequence[tuple[str, str]] = (),
    scheduler: str = "",
) -> dict[str, dict]:
    """The values to give each notebook, by its name; only those that differ from its defaults.

    ``assignments`` are (name, text) pairs; each goes to every notebook that has the parameter, and overrides the
    profile. Raises MisuseError for a name that no notebook has, and for a value that one does not accept.
    """
    known = {parameter.name for notebook in notebooks for parameter in notebook.parameters}
    for name, _ in assignments:
        if name in OWN_OPTION:
            raise MisuseError(f"give {name} by {OWN_OPTION[name]}, not by -p")
        if name not in known:
            raise MisuseError(unknown("parameter", name, sorted(known)))
    common = {"profile": profile, "data": data, "outputs": relative(outputs_folder(profile, outputs))}
    common["scheduler"] = scheduler
    values = {}
    for notebook in notebooks:
        given = profile_values(profile, notebook.path.parent) | common
        mine = {name: value for name, value in given.items() if notebook.parameter(name)}
        for name, text in assignments:
            if parameter := notebook.parameter(name):
                mine[name] = parse(text, parameter)
        checked = check(notebook, mine)
        values[notebook.name] = {
            name: value for name, value in checked.items() if value != notebook.parameter(name).default
        }
    return values


def parse(text: str, parameter: Parameter) -> object:
    """A value typed on the command line: text for a str, otherwise by YAML's rules, where 1e-3 is a number too."""
    if parameter.name == "recordings":
        return recordings_folder(text)
    if parameter.name == "exchange":
        return relative(of_caller(text)) if text else ""
    if parameter.type is str:
        return text
    return from_text(text, parameter.name)


def profile_values(profile: str, folder: Path) -> dict:
    """What ``parameters/<profile>.yaml`` next to the notebooks says; the quick values are the notebooks' defaults."""
    path = folder / "parameters" / f"{profile}.yaml"
    if profile == "quick" or not path.is_file():
        return {}
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def outputs_folder(profile: str, outputs: Path | None) -> Path:
    """Where a run writes: ``outputs`` against the caller's folder, otherwise ``outputs/<profile>`` of the project."""
    return of_caller(outputs) if outputs else PROJECT / "outputs" / profile


def relative(path: Path) -> str:
    """The path as a notebook gets it: relative to the project when inside, so that the project can be moved."""
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)


def recordings_folder(text: str) -> str:
    """Absolute path of the folder of noisy recordings, for the caller; MisuseError when it is not there."""
    folder = of_caller(text)
    if text and not folder.is_dir():
        raise MisuseError(f"the folder of recordings {folder} does not exist")
    return str(folder) if text else ""


def data_folder(data: str | None) -> str:
    """Absolute path of the folder of recordings, checked; empty where none is named (the embedded synthesiser)."""
    if not data:
        return ""
    from dnslib.data import layouts  # soundfile, soxr

    folder = expand(data).resolve()
    if readable(folder) != str(folder):
        raise MisuseError(f"the name of the folder {folder} is not UTF-8, which notebooks cannot hold: rename it")
    layouts.recognise(folder)
    return str(folder)
