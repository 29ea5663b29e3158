"""Streaming ONNX: one frame in, one gain out, every state a named input and output.

Graphs are written by hand, node by node, so that each node names the layer it belongs to (``encoder_1/conv``). The
same network can be written in several `FORMS`; shapes of one frame: ``log_power`` and ``gain`` (1, 1, 1, 161). Every
other input is a state, zero before the first frame, that comes back as ``…_next``.

A network that looks n frames ahead (`look_ahead` of the file, in its metadata) gives, with frame t, the gain of frame
t - n: whoever runs the file multiplies the spectrum of n frames before.
"""

from dnslib.export.files import FORMS, export_streaming
from dnslib.export.graph import INPUT, NEXT, OUTPUT
from dnslib.export.sessions import (
    StatefulSession,
    StreamingSession,
    as_frames,
    bound,
    flushed_denormals,
    initial_states,
    look_ahead,
    onnxruntime,
    open_session,
    run_streaming,
    session_of,
    session_options,
)
from dnslib.export.spectral import SpectralSession

__all__ = [
    "FORMS", "INPUT", "NEXT", "OUTPUT", "SpectralSession", "StatefulSession", "StreamingSession", "as_frames", "bound",
    "export_streaming", "flushed_denormals", "initial_states", "look_ahead", "onnxruntime", "open_session",
    "run_streaming", "session_of", "session_options",
]  # fmt: skip
