"""A streaming network that reads the noisy spectrum of a frame and writes an enhanced one: for live audio.

Log power and the product with the gain are nodes of its graph. These seven nodes cost less than the same steps in
NumPy: a large network pushes NumPy's code out of the caches in every frame, and each call has to fetch it again.
The spectra that wait for their gain, where a network looks ahead, are a state like those of its layers.
"""

import math
import os

import numpy as np
import onnx

from dnslib.export.graph import INPUT, OUTPUT, Graph
from dnslib.export.sessions import StatefulSession, bound, look_ahead, session_of
from dnslib.paths import resolve
from dnslib.stft import BINS, LOG_POWER_CENTRE, LOG_POWER_SPREAD, POWER_FLOOR

SPECTRUM, ENHANCED, WAITING = "spectrum", "enhanced", "waiting"
SHAPE = (1, 1, 1, BINS, 2)  # real and imaginary part side by side, as NumPy lays out complex numbers
AXES_ARE_AN_INPUT = 18  # of reductions, from this opset on


def between_spectra(model: onnx.ModelProto, ahead: int = 0) -> onnx.ModelProto:
    """Change a streaming network, in place, to one from ``spectrum`` to ``enhanced``, both `SHAPE`; states stay.

    What it writes is the frame ``ahead`` frames before the one it reads; zeros for the first ones.
    """
    graph, own = Graph(), model.graph
    _log_power(graph, graph.input(SPECTRUM, SHAPE), opset(model))
    before = list(graph.nodes)
    gains = graph.reshape("transform/gains", OUTPUT, (*SHAPE[:-1], 1))
    meant = _delayed(graph, SPECTRUM, ahead) if ahead else SPECTRUM
    graph.node("Mul", "transform/product", meant, gains, output=graph.output(ENHANCED, SHAPE))
    nodes = [*before, *own.node, *graph.nodes[len(before) :]]
    inputs = [*graph.inputs, *(value for value in own.input if value.name != INPUT)]
    outputs = [*graph.outputs, *(value for value in own.output if value.name != OUTPUT)]
    for field, values in ((own.node, nodes), (own.input, inputs), (own.output, outputs)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    own.initializer.extend(graph.constants)
    return model


def _log_power(graph: Graph, spectrum: str, opset: int) -> None:
    """As `dnslib.stft.log_power`."""
    if opset < AXES_ARE_AN_INPUT:
        power = graph.node("ReduceSumSquare", "transform/power", spectrum, axes=[4], keepdims=0)
    else:
        axes = graph.constant("transform/axes", [4])
        power = graph.node("ReduceSumSquare", "transform/power", spectrum, axes, keepdims=0)
    floor, scale, shift = (
        graph.constant(f"transform/{name}", np.float32(value))
        for name, value in (
            ("floor", POWER_FLOOR),
            ("scale", 1 / (math.log(10) * LOG_POWER_SPREAD)),
            ("shift", -LOG_POWER_CENTRE / LOG_POWER_SPREAD),
        )
    )
    x = graph.node("Log", "transform/log", graph.node("Add", "transform/floored", power, floor))
    graph.node("Add", "transform/shifted", graph.node("Mul", "transform/scaled", x, scale), shift, output=INPUT)


def _delayed(graph: Graph, spectrum: str, frames: int) -> str:
    """The spectrum of some frames ago."""
    waiting, waiting_next = graph.state(WAITING, (frames, *SHAPE[1:]))
    queue = graph.concat("transform/queue", waiting, spectrum, axis=0)
    oldest, others = graph.split("transform/delayed", queue, (1, frames), axis=0)
    graph.node("Identity", "transform/waiting", others, output=waiting_next)
    return oldest


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators in a file."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


class SpectralSession(StatefulSession):
    """A streaming file ready for spectra: fill ``spectrum``, `run`, read ``enhanced``, both complex64 ``(161,)``.

    ``enhanced`` is the frame ``look_ahead`` frames before that of ``spectrum``.
    Raises MisuseError as `dnslib.export.open_session` does.
    """

    def __init__(self, path: str | os.PathLike):
        self.look_ahead = look_ahead(path)  # raises for a file that cannot be used
        model = between_spectra(onnx.load(resolve(path)), self.look_ahead)
        session = session_of(model.SerializeToString())
        parts = {name: np.zeros(SHAPE, np.float32) for name in (SPECTRUM, ENHANCED)}
        self.spectrum, self.enhanced = (part.reshape(-1).view(np.complex64) for part in parts.values())
        super().__init__(session, {SPECTRUM: bound(parts[SPECTRUM])}, {ENHANCED: bound(parts[ENHANCED])})
