"""Trained weights that come with the project: ``dnslib.pretrained("P.500")``. What they are: ``weights/README.md``."""

from pathlib import Path

from safetensors import safe_open

from dnslib.errors import MisuseError
from dnslib.model import Cruse, load_weights
from dnslib.paper import CONFIGURATIONS
from dnslib.settings import unknown

WEIGHTS = Path(__file__).parent / "weights"


def pretrained(name: str = "P.500") -> Cruse:
    """The trained network of a configuration, float32, in evaluation mode; stored as float16.

    Raises MisuseError for a name that is unknown or comes without weights.
    """
    path = _file(name)
    return load_weights(Cruse(CONFIGURATIONS[name]), path)


def about(name: str) -> dict[str, str]:
    """What the file of a configuration says of its training: run, steps, and the digest of the data.

    Raises MisuseError as `pretrained` does.
    """
    with safe_open(_file(name), framework="numpy") as file:
        return file.metadata() or {}


def available() -> list[str]:
    """Names of the configurations that come with weights, largest first."""
    return [name for name in CONFIGURATIONS if (WEIGHTS / f"{name}.safetensors").is_file()]


def _file(name: str) -> Path:
    if name not in CONFIGURATIONS:
        raise MisuseError(unknown("configuration", name, CONFIGURATIONS))
    if name not in available():
        raise MisuseError(f"No weights of {name} come with the project; there are {', '.join(available()) or 'none'}.")
    return WEIGHTS / f"{name}.safetensors"
