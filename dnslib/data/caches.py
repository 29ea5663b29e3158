"""Folders of finished data: built by one process, complete or absent, keyed by what goes in and by the code.

A cache holds ``index.csv``, ``rooms.npz``, ``skipped.txt``, ``clipped.txt`` and ``data.json`` with the digest of the
content.
"""

import contextlib
import errno
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from dnslib import digests, paths
from dnslib.data.splits import SPLITS
from dnslib.errors import MisuseError
from dnslib.locks import waiting


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Report a full or write-protected disk below ``folder``, or a damaged index there, in one sentence."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
            words = "is full: make room and start again; what was decoded so far is kept"
        elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            words = f"holds a damaged index ({error}): delete it and start again"
        elif isinstance(error, (PermissionError, sqlite3.Error)):
            words = f"cannot be written ({error})"
        else:
            raise
        raise MisuseError(f"The folder of prepared data {folder} {words}.") from None


def cached(folder: Path, build: Callable[[Path], None]) -> Path:
    """``folder``, built by ``build(temporary folder)`` unless it is there; one process builds, others wait for it."""
    if (folder / "data.json").is_file():
        return folder
    with waiting(folder.with_name(folder.name + ".lock"), f"the preparation of {folder.name}"):
        if not (folder / "data.json").is_file():
            for left_over in (folder, *folder.parent.glob(f".{folder.name}.*.part")):
                paths.remove(left_over)  # of a run that was killed
            with paths.write_atomically(folder) as temporary:
                temporary.mkdir()
                build(temporary)
    return folder


def cache_key(inputs: Iterable, modules: Iterable[str]) -> str:
    """Sixteen hexadecimal digits for the inputs and the code (modules of this package) that turns them into data."""
    digest = sha256()
    for one in inputs:
        digest.update(json.dumps(one).encode() + b"\n")
    digest.update(digests.code_digest(Path(__file__).with_name(f"{name}.py") for name in modules).encode())
    return digest.hexdigest()[:16]


def finish(
    folder: Path,
    index: pd.DataFrame,
    samples: bytes,
    responses: dict[str, list],
    listed: dict[str, list[str]],
    more: dict | None = None,
) -> None:
    """Writes everything but the samples: ``samples`` are their digests, ``more`` goes into ``data.json`` too.

    ``listed`` has the lines of ``skipped.txt`` and ``clipped.txt``.

    The digest of the whole does not depend on where the recordings lie in a store.
    """
    index.to_csv(folder / "index.csv", index=False)
    stacked = {split: stack(responses[split]) for split in SPLITS}
    np.savez(folder / "rooms.npz", **stacked)
    for name, lines in listed.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    digest = sha256(samples + joined(index).to_csv(index=False).encode())
    for split in SPLITS:
        digest.update(stacked[split].tobytes())
    facts = {"digest": digest.hexdigest()[:16], "made": time.strftime("%Y-%m-%d %H:%M:%S")}
    facts |= {name: len(lines) for name, lines in listed.items()}
    (folder / "data.json").write_text(json.dumps(facts | (more or {}), indent=1), encoding="utf-8")


def joined(index: pd.DataFrame) -> pd.DataFrame:
    """The index as if the recordings of each kind lay one after another."""
    ends = index.groupby("kind", sort=False)["length"].cumsum()
    return index.assign(start=ends - index["length"])


def stack(responses: list[np.ndarray]) -> np.ndarray:
    """Responses of different lengths as float32 ``(R, taps)``, zeros at the end."""
    stacked = np.zeros((len(responses), max(response.size for response in responses)), np.float32)
    for row, response in zip(stacked, responses, strict=True):
        row[: response.size] = response
    return stacked
