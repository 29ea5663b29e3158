"""Where the results come from: commit, packages, machine, data, parameters; ``results/provenance.json``."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from dnslib.machine import cpu_model, usable_cores
from dnslib.paths import PROJECT, write_atomically
from dnslib.settings import Settings
from dnslib.study import state as states
from dnslib.study.notebooks import Notebook

PACKAGES = (
    "torch", "onnxruntime", "onnx", "numpy", "scipy", "pandas", "speechmos", "pyroomacoustics", "espeakng-loader",
    "soundfile", "soxr", "pyloudnorm", "papermill", "nbclient", "ipykernel",
)  # fmt: skip


def write(notebooks: Sequence[Notebook], values: dict[str, dict], outputs: Path, profile: str, data: str) -> Path:
    """Write the provenance of the outputs folder; returns its path."""
    path = outputs / "results" / "provenance.json"
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(collect(notebooks, values, outputs, profile, data), indent=2) + "\n")
    return path


def collect(notebooks: Sequence[Notebook], values: dict[str, dict], outputs: Path, profile: str, data: str) -> dict:
    """Everything worth knowing about a run, as plain data."""
    settings = shared_settings(notebooks, values)
    return {
        "profile": profile,
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")),
        "python": platform.python_version(),
        "packages": package_versions(),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "threads": usable_cores(),
        "data": data or "embedded synthesiser",
        "data_listing_digest": states.folder_digest(data),
        "data_digests": sorted(path.name for path in (outputs / "data").glob("*") if path.is_dir()),
        "seeds": list(settings.seeds),
        "settings": settings.model_dump(),
        "notebooks": {one.name: states.last_run(outputs / f"{one.name}.ipynb") for one in notebooks},
    }


def shared_settings(notebooks: Sequence[Notebook], values: dict[str, dict]) -> Settings:
    """The Settings of this run: what any notebook was given, otherwise the defaults."""
    given = {name: value for one in notebooks for name, value in values.get(one.name, {}).items()}
    return Settings(**{name: value for name, value in given.items() if name in Settings.model_fields})


def package_versions() -> dict[str, str]:
    found = {distribution.name.lower(): distribution.version for distribution in distributions()}
    return {name: found[name] for name in PACKAGES if name in found}


def git(*arguments: str) -> str:
    """Output of git in the project; empty when there is no git or no repository."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
