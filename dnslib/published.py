"""Trained weights that come with the project: ``dnslib.pretrained("P.500")``. What they are: ``weights/README.md``."""

from pathlib import Path

from dnslib.errors import MisuseError
from dnslib.model import Cruse, load_weights
from dnslib.paper import CONFIGURATIONS
from dnslib.settings import unknown

WEIGHTS = Path(__file__).parent / "weights"


def pretrained(name: str = "P.500") -> Cruse:
    """The trained network of a configuration, float32, in evaluation mode; stored as float16.

    Raises MisuseError for a name that is unknown or comes without weights.
    """
    if name not in CONFIGURATIONS:
        raise MisuseError(unknown("configuration", name, CONFIGURATIONS))
    if name not in available():
        raise MisuseError(f"No weights of {name} come with the project; there are {', '.join(available()) or 'none'}.")
    return load_weights(Cruse(CONFIGURATIONS[name]), WEIGHTS / f"{name}.safetensors")


def available() -> list[str]:
    """Names of the configurations that come with weights, largest first."""
    return [name for name in CONFIGURATIONS if (WEIGHTS / f"{name}.safetensors").is_file()]
