"""Shares of the layers in the kernel time of one frame, from ONNX Runtime's own profile."""

import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx

from dnslib.errors import MisuseError
from dnslib.export import StreamingSession, flushed_denormals, session_options
from dnslib.profiling.latency import decaying_frames
from dnslib.profiling.size import load

INTERRUPTED = 0.1  # share of frames left out, the slowest: something else ran meanwhile


def layer_shares(path: str | os.PathLike, frames: int = 500, warmup_frames: int = 50, seed: int = 0):
    """Share of each layer in the kernel time of one frame, from ONNX Runtime's own profile; the shares sum to 1.

    One row per layer in the order of the network: ``layer`` (``encoder_1`` … ``gru_1`` … ``decoder_1``; ``gru`` splits
    and joins the groups), ``kind`` (the layer without its number), ``share``, ``nodes`` (after optimisation).
    Profiling slows every node down by about the same amount, so small layers look larger than they are, and no time of
    a profile is a latency. The slowest tenth of the frames is left out. Raises MisuseError as `measure_latency` does.
    """
    import pandas as pd

    if frames < 10 or warmup_frames < 0:
        raise MisuseError("A profile needs at least 10 frames, and no negative warm-up.")
    inputs, written = decaying_frames(seed=seed), load(path).graph
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        session = StreamingSession(path, options)
        with flushed_denormals():
            for index in range(warmup_frames + frames):
                session.step(inputs[index % len(inputs)])
        events = json.loads(Path(session.session.end_profiling()).read_text(encoding="utf-8"))
        layer_of = _layers(written, onnx.load(options.optimized_model_filepath).graph)
    names, times = kernel_times(events)
    times = times[warmup_frames:]
    total = times.sum(axis=1)
    times = times[np.argsort(total, kind="stable")[: max(1, round(len(times) * (1 - INTERRUPTED)))]]
    table = pd.DataFrame({"layer": [layer_of[name] for name in names], "share": times.sum(axis=0) / times.sum()})
    table = table.groupby("layer", sort=False).agg(share=("share", "sum"), nodes=("share", "size")).reset_index()
    table.insert(1, "kind", [layer.rstrip("0123456789").rstrip("_") for layer in table["layer"]])
    order = {layer: index for index, layer in enumerate(dict.fromkeys(map(_layer, written.node)))}
    return table.sort_values("layer", key=lambda layers: layers.map(order), ignore_index=True)


def kernel_times(events: list[dict]) -> tuple[list[str], np.ndarray]:
    """Node names and microseconds ``(runs, nodes)`` of a profile of ONNX Runtime."""
    suffix = "_kernel_time"
    runs: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(suffix):
            runs[event["name"].removesuffix(suffix)].append(event["dur"])
    return list(runs), np.array(list(runs.values())).T


def _layer(node: onnx.NodeProto) -> str:
    return node.name.partition("/")[0]


def _layers(written: onnx.GraphProto, optimised: onnx.GraphProto) -> dict[str, str]:
    """Layer of each node of the optimised graph, in which fused nodes and changes of layout have new names.

    A node belongs to the layer of the written node or value that its name begins with, else of the value it makes,
    else of the first node that reads what it makes.
    """
    known = {name: _layer(node) for node in written.node for name in (node.name, *node.output) if name}
    by_length = sorted(known, key=len, reverse=True)
    layers, readers = {}, {}
    for node in reversed(optimised.node):
        names = [next((name for name in by_length if node.name.startswith(name)), ""), *node.output]
        found = [known[name] for name in names if name in known] + [
            readers[name] for name in node.output if name in readers
        ]
        layers[node.name] = found[0] if found else "other"
        readers |= dict.fromkeys(node.input, layers[node.name])
    return layers
