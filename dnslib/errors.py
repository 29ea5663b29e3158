"""The exception for mistakes that a user can fix: its text is printed as one line, with exit status 2."""


class MisuseError(ValueError):
    """A wrong name, value, file or folder given by the user; the message is one complete sentence."""


def unwritable(path: object) -> MisuseError:
    """The error for a failed write whose library does not report the cause."""
    return MisuseError(
        f"{path} cannot be written; is the disk full? Make room and start again: what is finished is kept."
    )
