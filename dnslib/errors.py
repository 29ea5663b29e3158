"""The exception for mistakes that a user can fix: its text is printed as one line, and the status is 2."""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

MISUSED, INTERRUPTED = 2, 130  # exit statuses, as of shells


class MisuseError(ValueError):
    """A wrong name, value, file or folder given by the user; the message is one complete sentence."""


def unwritable(path: object) -> MisuseError:
    """The error for a failed write whose library does not report the cause."""
    return MisuseError(
        f"{path} cannot be written; is the disk full? Make room and start again: what is finished is kept."
    )


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """ "unknown parameter sed: did you mean seed?"; without a near one, all known names."""
    from difflib import get_close_matches

    begun = [one for one in known if name and one.startswith(name)]
    near = begun or get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"unknown {kind} {name}: " + (f"did you mean {near[0]}?" if near else "known are " + ", ".join(known))


@contextmanager
def told_in_one_line(interrupted: str = "interrupted; the same command goes on from there") -> Iterator[None]:
    """Context that ends the program with one line where it is misused (status 2) or interrupted (130) inside."""
    try:
        yield
    except MisuseError as error:
        line, status = str(error), MISUSED
    except KeyboardInterrupt:
        line, status = interrupted, INTERRUPTED
    else:
        return
    print(" ".join(line.split()), file=sys.stderr)
    sys.exit(status)
