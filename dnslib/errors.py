"""The exception for mistakes that a user can fix: its text is printed as one line, and the status is not zero."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class MisuseError(ValueError):
    """A wrong name, value, file or folder given by the user; the message is one complete sentence."""


def unwritable(path: object) -> MisuseError:
    """The error for a failed write whose library does not report the cause."""
    return MisuseError(
        f"{path} cannot be written; is the disk full? Make room and start again: what is finished is kept."
    )


@contextmanager
def told_in_one_line(interrupted: str = "interrupted; the same command goes on from there") -> Iterator[None]:
    """Context that ends the program with status 1 and one line where it is misused or interrupted inside."""
    try:
        yield
    except MisuseError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(interrupted)
