"""Where files lie: one function finds the project, so that no notebook depends on its working folder; atomic writes."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnslib.errors import MisuseError

SHORTENED = 40  # characters of a name in a temporary one, as systems allow 255 bytes, at most 4 a character
PROJECT = Path(__file__).resolve().parents[1]  # the checkout: dnslib, notebooks, outputs


def resolve(path: str | os.PathLike) -> Path:
    """Absolute path of ``path``: as it is when absolute, against the project (never the working folder) otherwise.

    ``..`` means what it means to the system: after a link, the folder above the one that it leads to.
    """
    absolute = PROJECT / expand(path)
    if ".." not in absolute.parts:
        return absolute
    return absolute.resolve() if absolute.name == ".." else absolute.parent.resolve() / absolute.name


def of_caller(path: str | os.PathLike) -> Path:
    """The same against the caller's working folder, as everywhere on the command line."""
    return resolve(expand(path).absolute())


def expand(path: str | os.PathLike) -> Path:
    """The path with ``~`` replaced by a home folder; as it is where there is none of that name.

    Raises MisuseError for what is no path, such as a network.
    """
    if not isinstance(path, str | os.PathLike):
        hint = "; export_streaming writes a network to one" if hasattr(path, "parameters") else ""
        raise MisuseError(f"The path of a file is needed here, not {type(path).__name__}{hint}.")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def readable(name: str | os.PathLike) -> str:
    """The name of a file as text that every file can hold: a byte that is not UTF-8 becomes ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def write_atomically(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path next to ``path``, with the same suffix; what is written there is renamed on success.

    The body may make a file or a folder; a folder is renamed only onto a missing or empty one. After an exception
    nothing is left. Makes the parent folders. Relative paths are resolved against the project.
    """
    path = resolve(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:SHORTENED]}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        remove(temporary)


@contextmanager
def folder_to_fill(arguments: list[str], command: str) -> Iterator[Path]:
    """The one folder that the arguments of a command name.

    Raises MisuseError for other arguments, and in place of an OSError of the body, which writes there.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise MisuseError(f"Name one folder: {command}")
    try:
        yield of_caller(arguments[0])
    except OSError as error:
        raise MisuseError(f"{error.filename or arguments[0]} cannot be written: {error.strerror}.") from None


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
