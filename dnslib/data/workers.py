"""Worker processes that make speech, noise and rooms: plain subprocesses, fed and read through pipes, no pickle.

multiprocessing would import the caller's main script again, which hangs or repeats a script without a ``__main__``
guard; forking a process that runs torch's threads could hang too. Here a job is one line of JSON (function name and
arguments), its result a line with a name and the lengths of the arrays, then their float32 samples.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

import numpy as np

from dnslib.machine import usable_cores
from dnslib.processes import search_path

_START = "from dnslib.data import workers; workers.serve()"


class Workers:
    """As many processes as there are cores, 8 at most, started when first used; a context manager that ends them."""

    def __enter__(self) -> "Workers":
        self.count = min(usable_cores(), 8)
        self.processes: list[subprocess.Popen] = []
        self.free: SimpleQueue = SimpleQueue()
        return self

    def __exit__(self, *error) -> None:
        for process in self.processes:
            if error[0] is not None:
                process.kill()
            with suppress(OSError):  # it is dead already, which has been reported
                process.stdin.close()  # end of jobs: the process leaves by itself
            process.stdout.close()
            process.wait()

    def map(self, function: str, jobs: list[list]) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Name and arrays of ``function(*job)`` for every job, in order; ``function`` is recite, noise or room."""
        while len(self.processes) < min(self.count, len(jobs)):
            self.processes.append(start())
            self.free.put(self.processes[-1])
        with ThreadPoolExecutor(self.count) as threads:
            yield from threads.map(lambda job: self.ask(function, job), jobs)

    def ask(self, function: str, job: list) -> tuple[str, list[np.ndarray]]:
        """The result of one job from a free process."""
        process = self.free.get()
        try:
            with suppress(BrokenPipeError):  # it is dead, and has no answer
                process.stdin.write(json.dumps([function, job]).encode() + b"\n")
                process.stdin.flush()
            if line := process.stdout.readline():
                name, lengths = json.loads(line)
                sounds = [process.stdout.read(4 * length) for length in lengths]
                if [len(sound) for sound in sounds] == [4 * length for length in lengths]:
                    return name, [np.frombuffer(sound, np.float32) for sound in sounds]
            status = f"exit status {process.wait()}; its message, if it left one, is above"
            raise RuntimeError(f"A worker process ended while it made {function}{tuple(job)} ({status}).")
        finally:
            self.free.put(process)


def start() -> subprocess.Popen:
    """A worker that computes on one thread."""
    environment = os.environ | {"PYTHONPATH": search_path(), "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, "-c", _START], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)


def serve() -> None:
    """The life of a worker: one job per line until the input ends. Anything else that is printed goes to stderr."""
    from dnslib.data import noise, rooms, speech

    functions = {"recite": speech.recite, "noise": noise.named, "room": rooms.named}
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        function, job = json.loads(line)
        name, arrays = functions[function](*job)
        results.write(json.dumps([name, [array.size for array in arrays]]).encode() + b"\n")
        for array in arrays:
            results.write(array.astype(np.float32).tobytes())
        results.flush()
