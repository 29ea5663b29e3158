"""What a person sees while a study runs: one line per notebook, with the notebook's own progress inside it."""

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnslib.progress import duration

REFRESH_SECONDS = {True: 0.5, False: 30.0}  # a terminal's line is rewritten; a log gets a line now and then


class Console:
    """Writes to a stream; the live line is only for a terminal."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()

    def line(self, text: str) -> None:
        print(("\r\033[K" if self.live else "") + text, file=self.stream, flush=True)

    def plan(self, changed: int, total: int) -> None:
        many = "1 notebook" if total == 1 else f"{total} notebooks"
        self.line(f"{many}, nothing to do" if not changed else f"{many}, {changed} to run")

    @contextmanager
    def notebook(self, label: str, expected: float | None, later: float | None) -> Iterator[Path]:
        """Show a running notebook until it ends; gives the file into which its kernel writes progress.

        ``expected`` are the seconds of its last run, ``later`` those of the notebooks after it; None when unknown.
        """
        with tempfile.TemporaryDirectory(prefix="dns-study-") as folder:
            status_file, stop = Path(folder) / "status", threading.Event()
            start = time.monotonic()
            self.line(f"{label}  started" + (f", took {duration(expected)} last time" if expected else ""))
            arguments = (label, start, expected, later, status_file, stop)
            thread = threading.Thread(target=self.watch, args=arguments, daemon=True)
            thread.start()
            try:
                yield status_file
            finally:
                stop.set()
                thread.join()
                if self.live:
                    print("\r\033[K", end="", file=self.stream, flush=True)

    def watch(self, label, start, expected, later, status_file, stop) -> None:
        """Rewrite the live line, or add a line to a log, until told to stop."""
        while not stop.wait(REFRESH_SECONDS[self.live]):
            status = status_file.read_text(encoding="utf-8") if status_file.exists() else ""
            text = running_line(label, time.monotonic() - start, expected, later, status)
            with suppress(OSError):  # nobody reads any more: the study itself finds out at its next line
                if self.live:
                    width = shutil.get_terminal_size().columns - 1
                    print("\r\033[K" + text[:width], end="", file=self.stream, flush=True)
                else:
                    self.line(text)


def running_line(label: str, elapsed: float, expected: float | None, later: float | None, status: str) -> str:
    """ "[2/10] 04_1_profile  12 s of about 40 s · all about 3 min · CRUSE32: 120 of 200, 30 s left"."""
    parts = [duration(elapsed) + (f" of about {duration(expected)}" if expected and expected > elapsed else "")]
    if expected is not None and later is not None:
        parts.append(f"all done in about {duration(max(expected - elapsed, 0) + later)}")
    return f"{label}  " + " · ".join(parts + [part for part in [status.strip()] if part])
