"""A calculation in a fresh process: without the memory, threads and caches that earlier work leaves behind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

from dnslib.errors import MisuseError
from dnslib.paths import PROJECT


def ask(module: str, *arguments: object) -> dict:
    """What ``python -m module arguments`` answers; that module calls `answer`.

    Raises MisuseError where it does, and RuntimeError with the last words of a process that fails.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    answered = json.loads(done.stdout)
    if "error" in answered:
        raise MisuseError(answered["error"])
    return answered["result"]


def answer(compute: Callable[[], dict]) -> None:
    """Print what ``compute`` returns as JSON, for `ask`; what it prints itself, as progress, goes to stderr."""
    try:
        with redirect_stdout(sys.stderr):
            answered = {"result": compute()}
    except MisuseError as error:
        answered = {"error": str(error)}
    print(json.dumps(answered))


def search_path() -> str:
    """PYTHONPATH for other programs: whatever their working folder, they find this very package first."""
    return os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
