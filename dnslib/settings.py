"""Parameters that notebooks share, typed and with ranges; the defaults are the values of a quick run.

A notebook's parameters cell holds some of these fields with equal defaults, then ``dnslib.read_settings(globals())``
checks and gathers them. A full run takes its values from ``notebooks/parameters/full.yaml``.
"""

import html
import re
from typing import Annotated, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from dnslib.errors import MisuseError, unknown

PARAMETER_TYPES = (bool, int, float, str, list)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class Settings(BaseModel):
    """Shared parameters; frozen. Raises MisuseError, one sentence, for an unknown name or a value out of range."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    data: str = Field("", description="folder with speech/, noise/ and rir/; empty: the embedded synthesiser")
    recordings: str = Field("", description="folder of noisy recordings without reference to score too; empty: none")
    scheduler: str = Field("", description="trains and scores: local:N, tcp://host:port, a .yaml; empty: this process")
    outputs: str = Field("outputs/quick", min_length=1, description="folder of results, trained runs and caches")
    profile: Literal["quick", "full"] = Field("quick", description="printed on figures and in the provenance")
    seed: int = Field(0, ge=0, lt=2**32, description="first seed")
    seed_count: int = Field(1, ge=1, description="number of seeds: seed, seed + 1, ...")
    speech_minutes: float = Field(30.0, gt=0, description="length of the embedded speech corpus")
    noise_minutes: float = Field(20.0, gt=0, description="length of the embedded noise corpus")
    baseline_steps: int = Field(200, ge=1, description="optimiser steps of a training from scratch")
    baseline_cycles: int = Field(1, ge=1, description="such trainings, each from the weights of the one before")
    fine_tuning_steps: int = Field(30, ge=1, description="optimiser steps after pruning")
    batch_size: int = Field(8, ge=1, description="crops in a batch")
    crop_seconds: float = Field(0.5, ge=0.5, description="length of a training crop")
    speed_change: float = Field(0.0, ge=0, le=0.5, description="of training crops, at most; of noise 4 times as much")
    pretrained: bool = Field(False, description="pretrained weights in place of trained networks, where there are")
    loss: Literal["paper", "weighted"] = Field("paper", description="weighted: speech kept more, pauses silent")
    look_ahead: int = Field(0, ge=0, le=10, description="frames that a network hears before it decides, 10 ms each")
    learning_rate: float = Field(0.004, gt=0, le=1, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.1, ge=0, description="weight decay of AdamW")
    test_clips: int = Field(20, ge=2, description="clips that every network is scored on")
    clip_seconds: float = Field(10.0, ge=9.01, description="length of a test clip; one DNSMOS window is 9.01 s")
    latency_rounds: int = Field(30, ge=2, description="interleaved rounds of a latency measurement")
    frames_per_round: int = Field(30, ge=1, description="frames timed in one round, per network")

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise MisuseError(explain(error, type(self))) from None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of this run: seed, seed + 1, ..."""
        return tuple(range(self.seed, self.seed + self.seed_count))

    @classmethod
    def describe(cls) -> list[dict]:
        """One row per field: name, type, default, allowed range, help."""
        return [
            {"name": name, "type": type_name(field), "default": field.default, "allowed": allowed(field),
             "help": field.description or ""}
            for name, field in cls.model_fields.items()
        ]  # fmt: skip

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'>{name}</td>"
            f"<td style='text-align:left'>{html.escape(repr(getattr(self, name)))}</td>"
            f"<td style='text-align:left'>{html.escape(field.description or '')}</td></tr>"
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set
        )
        return f"<table><tr><th>parameter</th><th>value</th><th>meaning</th></tr>{rows}</table>"


def read_settings(namespace: dict, **changed) -> Settings:
    """The values of a notebook's parameters cell that are fields of `Settings`, and ``changed`` ones in their place.

    ``namespace`` are the notebook's ``globals()``; all its parameters are checked, as `check_parameters` does.
    """
    check_parameters(namespace)
    shared = {name: namespace[name] for name in namespace.get("__annotations__", {}) if name in Settings.model_fields}
    return Settings(**shared | changed)


def check_parameters(namespace: dict) -> None:
    """Bring the values of a notebook's parameters cell into the types that the cell gives them, in place.

    ``namespace`` are the notebook's ``globals()``. Plain papermill gives some values as text: "false" becomes False,
    "[1, 2]" a list. Raises MisuseError for a value of another type.
    """
    for name, kind in namespace.get("__annotations__", {}).items():
        if name not in namespace or (get_origin(kind) or kind) not in PARAMETER_TYPES:
            continue  # a variable that the reader gave a type of another kind
        value = namespace[name]
        if isinstance(value, str) and kind is not str:
            value = from_text(value, name)
        try:
            namespace[name] = TypeAdapter(kind, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            wanted = type_name(FieldInfo.from_annotation(kind))
            raise MisuseError(f"parameter {name} is {value!r}, but must be {wanted}") from None


def from_text(text: str, name: str) -> object:
    """A parameter's value from typed text, by YAML's rules, where 1e-3 is a number too; MisuseError if not YAML."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: what looks like a date but is none
        raise MisuseError(f"the value {text!r} of parameter {name} is not YAML") from None
    return [number(one) for one in value] if isinstance(value, list) else number(value)


def number(value: object) -> object:
    """YAML 1.1 reads 1e-3, without a point, as text; people mean the number."""
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def type_name(field) -> str:
    """int, float, str, bool, list, "list of float"; the choices of a Literal are strings."""
    annotation, words = field.annotation, ""
    if get_origin(annotation) is list:
        annotation, words = get_args(annotation)[0], "list of "
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return words + ("str" if get_origin(annotation) is Literal else getattr(annotation, "__name__", "str"))


def allowed(field) -> str:
    """The range of a field in words: "at least 2", "one of quick, full"; empty when every value of its type is allowed.

    Of a list: "each at least 2".
    """
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(get_args(field.annotation))
    words = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    limits = [
        text.format(getattr(limit, name)) for limit in field.metadata for name, text in words.items()
        if getattr(limit, name, None) is not None
    ]  # fmt: skip
    if any(getattr(limit, "min_length", None) for limit in field.metadata):
        limits.append("not empty")
    if get_origin(field.annotation) is list:
        of_each = allowed(FieldInfo.from_annotation(get_args(field.annotation)[0]))
        limits += [f"each {of_each}"] if of_each else []
    return " and ".join(limits)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first thing wrong: the parameter, the value given, what is allowed, the nearest known name."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "the parameters"
    if first["type"] == "extra_forbidden" or name not in model.model_fields:
        return unknown("parameter", name, model.model_fields)
    field = model.model_fields[name]
    wanted = ", ".join(part for part in (type_name(field), allowed(field)) if part)
    more = f" ({error.error_count() - 1} more like this)" if error.error_count() > 1 else ""
    return f"parameter {name} is {first['input']!r}, but must be {wanted}{more}"
