"""Which network is meant by a path or a name, and its streaming file."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dnslib.errors import MisuseError, unknown
from dnslib.export import FORMS, export_streaming
from dnslib.model import load_network
from dnslib.paper import CONFIGURATIONS
from dnslib.paths import PROJECT, resolve
from dnslib.published import WEIGHTS, available

MODEL_SUFFIXES = (".onnx", ".safetensors")
DEFAULT_FORM = "exact"
GROUPS = 4  # of GRUs, in the networks that configurations name


def find_model(path_or_name: str | os.PathLike, absolute: Callable[[str | os.PathLike], Path] = resolve) -> Path:
    """The file meant: a streaming ONNX file, a safetensors file, or named weights (`dnslib.published`).

    Relative paths are resolved against the project, or as ``absolute`` does it. Raises MisuseError, saying what is
    known or how to get one.
    """
    path = absolute(path_or_name)
    if (name := str(path_or_name)) in (*CONFIGURATIONS, *available()):
        return weights_of(name)
    if path.suffix not in MODEL_SUFFIXES and not path.exists():
        raise MisuseError(unknown("configuration", name, (*CONFIGURATIONS, *available())))
    if not path.is_file():
        raise MisuseError(f"There is no file {path}.")
    if path.suffix not in MODEL_SUFFIXES:
        raise MisuseError(f"{path} is neither a streaming network (.onnx) nor weights (.safetensors).")
    return path


def weights_of(name: str, shipped: Path = WEIGHTS, outputs: Path = PROJECT / "outputs") -> Path:
    """Weights of a name: those bundled with the project, else those of a finished run of that configuration.

    Among the studies under ``outputs`` the one that finished such a run last is taken, and in it, where ablations stand
    beside the network itself, the run with the lowest loss on the validation data. Runs without training and sparse
    ones do not count.
    """
    if (path := shipped / f"{name}.safetensors").is_file():
        return path
    runs = [done.parent for done in outputs.glob("*/runs/*/DONE") if _is_trained(done.parent, name)]
    if not runs:
        raise MisuseError(
            f"There are no weights of {name} yet: train some by `python -m dnslib run 05_0_speed_and_quality`, "
            "or name a streaming .onnx or a .safetensors file."
        )
    newest = max(runs, key=lambda run: (run / "DONE").stat().st_mtime_ns).parent
    return min((run for run in runs if run.parent == newest), key=_validation_loss) / "model.safetensors"


def _is_trained(run: Path, name: str) -> bool:
    config = _read_json(run / "config.json")
    as_named = not config.get("sparsity") and config.get("groups", GROUPS) == GROUPS  # a search tries others
    trained = config.get("steps", 0) > 0 and as_named
    return trained and config.get("widths") == list(CONFIGURATIONS[name]) and (run / "model.safetensors").is_file()


def _validation_loss(run: Path) -> float:
    return _read_json(run / "summary.json").get("validation_loss", float("inf"))


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@contextmanager
def streaming_file(path: Path, precision: str | None = None) -> Iterator[Path]:
    """A streaming ONNX file of what `find_model` found: the file itself, or one exported while the context lasts.

    ``precision`` is the form (`dnslib.export.FORMS`) that weights are exported in, by default exact. Raises
    MisuseError for another one, and for any given with an ONNX file, which has a form already.
    """
    if precision is not None and precision not in FORMS:
        raise MisuseError(f"There is no precision {precision!r}; choose one of {', '.join(FORMS)}.")
    if path.suffix == ".onnx":
        if precision is not None:
            raise MisuseError(f"{path} has its precision already: leave {precision!r} out, or name weights.")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dns-study-") as folder:
        yield export_streaming(load_network(path), Path(folder, "streaming.onnx"), precision or DEFAULT_FORM)
