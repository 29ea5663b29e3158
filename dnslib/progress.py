"""Progress with remaining time, wherever a person looks: a terminal, a notebook, a log, the line of the study runner.

In a terminal one line is rewritten; in a notebook one output is updated and ends as "200 done in 31 s"; in a log a
few plain lines. A loop that lasts less than two seconds shows nothing.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")

STATUS_FILE = "DNS_STUDY_STATUS"  # the runner names a file here and shows what a kernel writes into it
SILENT_SECONDS = 2.0
REFRESH_SECONDS = {"terminal": 0.2, "notebook": 1.0, "log": 30.0}

_active: list["Progress"] = []  # nested loops, outermost first


def track(
    iterable: Iterable[Item], total: int | None = None, description: str = "", note: Callable[[], str] | None = None
) -> Iterator[Item]:
    """Iterate over ``iterable`` and show how far it has got; ``total`` is taken from its length when it has one.

    ``note`` replaces the remaining time, where items differ too much to predict it; a producer whose next item takes
    long calls `look` meanwhile.
    """
    if total is None:
        total = len(iterable) if hasattr(iterable, "__len__") else None
    progress = Progress(total, description, note=note)
    _active.append(progress)
    try:
        for item in iterable:
            yield item
            progress.step()
        progress.finish()
    finally:
        progress.leave()
        _active.remove(progress)


def look() -> None:
    """Show the innermost loop again, if it is time to: its note may have changed."""
    if _active:
        _active[-1].look()


def make_room() -> None:
    """Clear the line that a loop shows in a terminal, so that something else can be printed there."""
    if _active and _active[-1].live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """ "12 s", "3 min 20 s", "2 h 05 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """One loop: counts steps and shows itself now and then. Times are seconds of ``clock``."""

    def __init__(
        self, total: int | None, description: str, clock=time.monotonic, note: Callable[[], str] | None = None
    ):
        self.total, self.description, self.clock, self.note = total, description, clock, note
        self.done, self.start = 0, clock()
        self.last_shown, self.last_told = self.start + SILENT_SECONDS, self.start
        self.place = where()
        self.handle = None  # of the notebook's output, once shown
        self.live = False  # whether a line of a terminal is not ended yet

    def step(self) -> None:
        self.done += 1
        self.look()

    def look(self) -> None:
        """Show and tell how far the loop has got, unless that was done just now."""
        now = self.clock()
        if now - self.last_told >= REFRESH_SECONDS["notebook"]:
            self.last_told = now
            tell_runner(" · ".join(str(progress) for progress in _active) or str(self))
        if now - self.last_shown >= REFRESH_SECONDS[self.place]:
            self.last_shown = now
            self.show(str(self))

    def finish(self) -> None:
        """Leave one line about the whole loop where something was shown before."""
        seconds = self.clock() - self.start
        if seconds >= SILENT_SECONDS:
            label = f"{self.description}: " if self.description else ""
            self.show(f"{label}{self.done} done in {duration(seconds)}", end="\n")

    def leave(self) -> None:
        """End the line of a loop that was left in its middle."""
        if self.live:
            print(file=sys.stderr, flush=True)
            self.live = False

    def __str__(self) -> str:
        text = f"{self.description}: " if self.description else ""
        text += f"{self.done} done" if self.total is None else f"{self.done} of {self.total}"
        if self.note:
            note = self.note()
            return f"{text} · {note}" if note else text
        if self.total is not None and 0 < self.done < self.total:
            text += f", {duration(self.remaining())} left"
        return text

    def remaining(self) -> float:
        """Seconds left if the rest goes as fast as what is done."""
        return (self.clock() - self.start) / self.done * (self.total - self.done)

    def show(self, line: str, end: str = "") -> None:
        if self.place == "terminal":
            print(f"\r\033[K{line}", end=end, file=sys.stderr, flush=True)
            self.live = not end
        elif self.place == "log":
            print(line, flush=True)
        elif self.handle is None:
            from IPython.display import display

            self.handle = display({"text/plain": line}, raw=True, display_id=True)
        else:
            self.handle.update({"text/plain": line}, raw=True)


def where() -> str:
    """ "notebook" in a Jupyter kernel, "terminal" when a person sees the error stream, "log" otherwise."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and getattr(shell, "kernel", None) is not None:
        return "notebook"
    return "terminal" if sys.stderr.isatty() else "log"


def tell_runner(line: str) -> None:
    """Write the line where the runner that started this kernel looks; nothing when there is none."""
    path = os.environ.get(STATUS_FILE)
    if path:
        with contextlib.suppress(OSError):  # progress must never stop a study
            Path(path).write_text(line, encoding="utf-8")
