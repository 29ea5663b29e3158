"""Where the results come from: commit, packages, machine, data, parameters; ``results/provenance.json``."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from dnslib.errors import MisuseError
from dnslib.machine import cpu_model, installed_version, usable_cores
from dnslib.paths import PROJECT, write_atomically
from dnslib.settings import Settings
from dnslib.study import state as states
from dnslib.study.notebooks import Notebook
from dnslib.study.parameters import profile_values

PACKAGES = (*states.PACKAGES, "papermill", "nbclient", "ipykernel")


def write(notebooks: Sequence[Notebook], values: dict[str, dict], outputs: Path, profile: str) -> Path:
    """Write the provenance of the outputs folder; returns its path."""
    path = place(outputs)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(collect(notebooks, values, outputs, profile), indent=2) + "\n")
    return path


def read(outputs: Path) -> dict:
    """The provenance of the outputs folder; raises MisuseError where there is no finished run or a damaged file."""
    try:
        about = json.loads(place(outputs).read_text(encoding="utf-8"))
        if isinstance(about, dict) and isinstance(about.get("notebooks", {}), dict):
            return about
    except FileNotFoundError:
        raise MisuseError(f"There is no finished run in {outputs}: no results/provenance.json.") from None
    except ValueError:
        pass
    raise MisuseError(f"{place(outputs)} is damaged: give the command run again, which writes it anew.")


def finished(outputs: Path) -> dict[str, str]:
    """When each notebook that the provenance lists was executed, by name; none where there is no provenance."""
    notebooks = read(outputs).get("notebooks", {}) if there(outputs) else {}
    return {name: run.get("finished", "") for name, run in notebooks.items() if run}


def there(outputs: Path) -> bool:
    """Whether the outputs folder has a provenance that can be read."""
    try:
        return bool(read(outputs))
    except MisuseError:
        return False


def place(outputs: Path) -> Path:
    return outputs / "results" / "provenance.json"


def collect(notebooks: Sequence[Notebook], values: dict[str, dict], outputs: Path, profile: str) -> dict:
    """Everything worth knowing about the results in a folder, as plain data."""
    runs = {one.name: states.last_run(outputs / f"{one.name}.ipynb") for one in notebooks}
    settings = shared_settings(runs, values)
    sources = notebooks[0].path.parent if notebooks else PROJECT / "notebooks"
    return {
        "profile": profile,
        "profile_values": profile_values(profile, sources),
        **common_code([run for run in runs.values() if run]),
        **common_processor([run for run in runs.values() if run]),
        "python": platform.python_version(),
        "packages": package_versions(),
        "system": platform.platform(),
        "data": settings.data or "embedded synthesiser",
        "data_listing_digest": states.folder_digest(settings.data),
        "data_digests": data_digests(outputs),
        "seeds": seeds_of(notebooks, runs) or list(settings.seeds),
        "settings": settings.model_dump(),
        "notebooks": runs,
    }


def code() -> dict:
    """The commit that is checked out, and whether a file differs from it."""
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def common_code(runs: Sequence[dict]) -> dict:
    """`code` of all notebooks as it was when each began; the commit is "several" where they ran from different ones."""
    known = [run for run in runs if "commit" in run]
    if not known:
        return code()
    commits = {run["commit"] for run in known}
    return {"commit": commits.pop() if len(commits) == 1 else "several", "dirty": any(run["dirty"] for run in known)}


def processor() -> dict:
    """The processor of this machine, its cores, and how many of them this process may use."""
    return {"cpu": cpu_model(), "cpu_count": os.cpu_count(), "threads": usable_cores()}


def common_processor(runs: Sequence[dict]) -> dict:
    """`processor` of all notebooks as each noted it; "several" where they differ; see each one's note."""
    known = [run for run in runs if "cpu" in run] or [processor()]
    found = {what: {run[what] for run in known} for what in processor()}
    return {what: values.pop() if len(values) == 1 else "several" for what, values in found.items()}


def seeds_of(notebooks: Sequence[Notebook], runs: dict[str, dict | None]) -> list[int]:
    """Every seed of the notebooks that train or read networks."""
    trained = [runs[one.name] for one in notebooks if one.parameter("seed_count") and runs[one.name]]
    return sorted({seed for run in trained for seed in settings_of([run["parameters"]]).seeds})


def shared_settings(runs: dict[str, dict | None], values: dict[str, dict]) -> Settings:
    """The Settings behind the results: what any notebook was last given, otherwise the defaults.

    ``runs`` are the notes of `state.last_run` by notebook, ``values`` those of the notebooks chosen now, which win: a
    rerun of one notebook must not hide what the others were run with.
    """
    noted = [run["parameters"] for run in runs.values() if run]
    return settings_of([*noted, *values.values()])


def settings_of(given: Iterable[dict]) -> Settings:
    """The Settings among the values of several notebooks; the last one that gives a value wins."""
    values = {name: value for one in given for name, value in one.items()}
    return Settings(**{name: value for name, value in values.items() if name in Settings.model_fields})


def data_digests(outputs: Path) -> list[str]:
    """Digests of the content of all corpora prepared in the folder; they are part of the keys of trained networks."""
    found = []
    for path in (outputs / "data").glob("*/data.json"):
        with suppress(ValueError, KeyError, TypeError):  # whatever opens a damaged one says what to do
            found.append(json.loads(path.read_text(encoding="utf-8"))["digest"])
    return sorted(found)


def package_versions() -> dict[str, str]:
    found = {name: installed_version(name) for name in PACKAGES}
    return {name: version for name, version in found.items() if version}


def git(*arguments: str) -> str:
    """Output of git in the project; empty when there is no git, or the project is no repository of its own."""
    if not (PROJECT / ".git").exists():  # unpacked below another repository, git would report that one
        return ""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
