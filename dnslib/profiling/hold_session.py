"""A program: opens a streaming file, runs some frames and prints its memory, before, after and at peak, in MB, as JSON.

Run by its path, so that it imports NumPy and ONNX Runtime and nothing of this library: `process_memory`.
"""

import json
import sys

import numpy as np
import onnxruntime
import psutil


def hold(path: str, frames: int, following: str) -> list[float]:
    """Resident memory before and after, and its peak, in MB of 10^6 bytes.

    Next states are named like the states, with ``following`` appended.
    """
    before = psutil.Process().memory_info().rss
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    values = {value.name: np.zeros(value.shape, np.float32) for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    for _ in range(frames):
        results = dict(zip(names, session.run(names, values), strict=True))
        values |= {name: results[name + following] for name in values if name + following in results}
    return [value / 1e6 for value in (before, psutil.Process().memory_info().rss, peak())]


def peak() -> int:
    """Bytes, of this process only: what getrusage reports begins with the peak of the parent."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(hold(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
