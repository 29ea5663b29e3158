"""Locks between processes: whoever comes second is refused, or waits. A killed process holds nothing."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from dnslib.errors import MisuseError
from dnslib.paths import write_atomically

LOCK = ".lock"  # in an outputs folder, held by a study that writes to it
HELD_FOLDER = "DNS_STUDY_OUTPUTS"  # tells a study's kernels that its outputs folder is theirs to write to


@contextmanager
def exclusive(path: Path, refusal: Callable[[str], str]) -> Iterator[None]:
    """Hold the lock at ``path``. A second process gets a MisuseError: ``refusal(words that name the holder)``."""
    lock, holder = FileLock(path, timeout=0), _holder(path)
    try:
        lock.acquire()
    except Timeout:
        raise MisuseError(refusal(_named(holder))) from None
    try:
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        with write_atomically(holder) as file:
            file.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def waiting(path: Path, what: str) -> Iterator[None]:
    """Hold the lock at ``path``; while another process holds it, says so once and waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{what} is held by another process, waiting for it …", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def only_writer(outputs: Path) -> None:
    """Raises MisuseError where a study is writing to an outputs folder and this process is none of its kernels."""
    ours = os.environ.get(HELD_FOLDER)
    if not (outputs / LOCK).exists() or (ours and Path(ours).is_dir() and outputs.samefile(ours)):
        return
    import fcntl  # Windows, where the commands refuse to run, has none

    with (outputs / LOCK).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: whoever only asks is in nobody's way
        except BlockingIOError:
            raise MisuseError(held_by(outputs, _named(_holder(outputs / LOCK)))) from None


def held_by(outputs: Path, holder: str) -> str:
    return f"{outputs} is being written by {holder}; wait, or choose other outputs"


def _holder(path: Path) -> Path:
    """The file in which the holder of a lock names itself."""
    return path.with_name(f"{path.name}.json")


def _named(holder: Path) -> str:
    """ "process 123 on host since time", as the holder wrote it; it may end at this very moment."""
    try:
        return "process {pid} on {host} since {since}".format(**json.loads(holder.read_text()))
    except (OSError, ValueError, KeyError):
        return "another process"
