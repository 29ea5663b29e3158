"""Ranges of the parameters that single notebooks have; those that several share are in `dnslib.Settings`."""

from typing import Annotated, Literal

from pydantic import Field

Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]  # an interval needs two
Share = Annotated[float, Field(ge=0, lt=1)]  # of weights that are set to zero: not all of them
Factor = Annotated[float, Field(gt=0)]
Names = Annotated[list[str], Field(min_length=1)]
Form = Literal["plain", "exact", "int8"]  # of `dnslib.export.FORMS`, which takes seconds to import

RANGES = {
    "configurations": Names,
    "direct_configurations": Names,
    "deployed_configurations": Names,
    "judged_weights": Names,
    "profile_frames": Count,
    "profile_repeats": Several,
    "pruning_ratio": Share,
    "learning_rate_factors": list[Factor],
    "fractions": list[Share],
    "sparsities": list[Share],
    "ladder_frames": Count,
    "quality_clips": Several,
    "scored_forms": list[Form],
    "paced_rounds": Several,
    "overhead_frames": Count,
    "soak_minutes": Factor,
    "trials": Count,
    "search_steps": Annotated[int, Field(ge=0)],
    "search_rounds": Several,
    "validation_crops": Count,
    "scored_designs": Annotated[int, Field(ge=0)],
    "form": Form,
    "product_zeros": list[Share],
    "small_zeros": list[Share],
    "cold_zeros": list[Share],
    "quality_zeros": list[Share],
    "product_rounds": Several,
    "product_frames": Count,
    "cold_frames": Count,
    "raced_batch_size": Count,
    "raced_crop_seconds": Annotated[float, Field(ge=0.5)],
    "race_seeds": Several,
    "race_steps": Count,
    "gpu_batch_size": Count,
    "gpu_steps": Count,
}
