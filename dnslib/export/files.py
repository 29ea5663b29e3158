"""One function that writes a network as a streaming file of any form."""

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
from onnx import helper

from dnslib.errors import MisuseError
from dnslib.export.graph import IR_VERSION, LOOK_AHEAD, OPSET, RUNTIME_DOMAIN, Graph
from dnslib.export.plain import plain
from dnslib.export.products import exact, int8
from dnslib.model import Cruse
from dnslib.paths import resolve, write_atomically
from dnslib.stft import HOP, SAMPLE_RATE, WINDOW

RUNTIME_OPERATORS = helper.make_opsetid(RUNTIME_DOMAIN, 1)
PRODUCER = "dns-pruning-study"
FORMS: dict[str, Callable[[Cruse], Graph]] = {"plain": plain, "exact": exact, "int8": int8}


def export_streaming(
    model: Cruse, path: str | os.PathLike, form: str = "plain", notes: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """Write ``model`` as a streaming ONNX file of one `FORMS` and return its absolute path.

    ``plain`` has one ONNX node for each layer, ``exact`` computes the same function faster, ``int8`` approximates it
    with quantised weights. ``notes`` go into the file's metadata, beside what the network is. The file is checked, then
    renamed into place; the same weights give the same bytes. The gain that comes out with a frame belongs to the frame
    ``model.look_ahead`` before it, as the metadata say too. Relative paths are resolved against the project. Raises
    MisuseError for an unknown form; `dnslib.deployment` chooses one by measurement.
    """
    if form not in FORMS:
        raise MisuseError(f"There is no streaming form {form!r}; choose one of {', '.join(FORMS)}.")
    graph = FORMS[form](copy.deepcopy(model).float().cpu())  # files hold float32, whatever the model is in
    proto = helper.make_model(
        graph.proto(f"cruse_{form}"),
        opset_imports=[helper.make_opsetid("", OPSET), *([RUNTIME_OPERATORS] if graph.runtime_operators else [])],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    facts = {
        "form": form,
        "widths": model.widths,
        "groups": model.groups,
        "sample_rate": SAMPLE_RATE,
        "window": WINDOW,
        "hop": HOP,
        LOOK_AHEAD: model.look_ahead,
    }
    helper.set_model_props(proto, {name: json.dumps(value).strip('"') for name, value in facts.items()} | dict(notes))
    onnx.checker.check_model(proto, full_check=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
    return resolve(path)
