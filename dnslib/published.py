"""Trained weights that come with the project: ``dnslib.pretrained("P.500")``. What they are: ``weights/README.md``.

They bear the name of their configuration and look one frame ahead, for a delay of 30 ms; those with ``-20ms`` after the
name do not, for a delay of 20 ms.
"""

from pathlib import Path

from safetensors import safe_open

from dnslib.digests import file_digest
from dnslib.errors import MisuseError, unknown
from dnslib.model import Cruse, load_network
from dnslib.paper import CONFIGURATIONS

WEIGHTS = Path(__file__).parent / "weights"
SHORT = "-20ms"


def pretrained(name: str = "P.500") -> Cruse:
    """The trained network of a name, float32, in evaluation mode; stored as float16.

    Raises MisuseError for a name that is unknown or comes without weights.
    """
    return load_network(_file(name))


def about(name: str) -> dict[str, str]:
    """What a file says of its network: frames of look-ahead, the run that trained it, steps, the digest of the data.

    Raises MisuseError as `pretrained` does.
    """
    with safe_open(_file(name), framework="numpy") as file:
        return file.metadata() or {}


def look_ahead(name: str) -> int:
    """Frames that the network hears before it decides. Raises MisuseError as `pretrained` does."""
    return int(about(name).get("look_ahead", 0))


def digest(name: str) -> str:
    """Digest of a file of weights, by which results name the weights used. Raises MisuseError as `pretrained` does."""
    return file_digest(_file(name))


def available() -> list[str]:
    """Names that come with weights: the largest configuration first, and of each the longer delay first."""
    names = [name + delay for name in CONFIGURATIONS for delay in ("", SHORT)]
    return [name for name in names if (WEIGHTS / f"{name}.safetensors").is_file()]


def published_name(configuration: str, look_ahead: int) -> str:
    """The name that weights of a configuration bear: P.500, or P.500-20ms where they do not look ahead."""
    return configuration + ("" if look_ahead else SHORT)


def configuration(name: str) -> str:
    """The configuration of a name of weights: P.500 of P.500-20ms."""
    return name.removesuffix(SHORT)


def _file(name: str) -> Path:
    if configuration(name) not in CONFIGURATIONS:
        raise MisuseError(unknown("configuration", name, CONFIGURATIONS))
    if name not in available():
        raise MisuseError(f"No weights of {name} come with the project; there are {', '.join(available()) or 'none'}.")
    return WEIGHTS / f"{name}.safetensors"
