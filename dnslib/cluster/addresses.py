"""``tcp://host:port``: whether a scheduler of Dask answers there, and a connection to it."""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dnslib.errors import MisuseError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.2
HERE = "127.0.0.1"
_GREETING = b"pickle-protocol"  # in Dask's greeting, which says what it can read


def answering(address: str) -> None:
    """Raises MisuseError unless a scheduler of Dask listens at ``tcp://host:port``."""
    try:
        host, port = urlsplit(address).hostname, urlsplit(address).port
    except ValueError:
        host = port = None
    if not host or not port:
        raise MisuseError(f"the scheduler is {address!r}, but an address is tcp://HOST:PORT, such as tcp://node1:8786")
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            heard = greeting(connection)
    except OSError as error:
        raise no_answer(address, (error.strerror or str(error)).lower()) from None
    if _GREETING not in heard:
        raise no_answer(address, "another program listens there")


def greeting(connection: socket.socket) -> bytes:
    """What the other side says first. Dask's client would wait for ever for a program that says nothing."""
    heard, deadline = b"", time.monotonic() + CONNECT_SECONDS
    with contextlib.suppress(TimeoutError):
        while _GREETING not in heard and time.monotonic() < deadline:
            piece = connection.recv(4096)
            if not piece:
                break
            heard += piece
    return heard


def no_answer(address: str, reason: str) -> MisuseError:
    return MisuseError(f"no scheduler answers at {address} ({reason}); `dask scheduler` starts one")


@contextlib.contextmanager
def connected(address) -> "Iterator[Client]":
    """A client of a cluster or of ``tcp://host:port``."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise no_answer(str(address), f"{type(error).__name__}: {' '.join(str(error).split())[:100]}") from None
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):  # no work is lost with a connection
            client.close(timeout=CONNECT_SECONDS)
        time.sleep(POLL_SECONDS)  # its closing log lines come from another thread: let them pass unseen
