"""The one exception a user meets for a mistake of theirs: its text is printed as one line, exit status 2."""


class MisuseError(ValueError):
    """A wrong name, value, file or folder given by the user; the message is one complete sentence."""
