"""What a streaming ONNX file costs: latency with intervals, multiply-accumulates, memory, shares per layer.

Everything here takes paths of files written by `dnslib.export`. ``latency`` holds the protocol of every measured time,
``size`` what a file and its process hold, ``macs`` the arithmetic of a frame, ``shares`` the kernel time by layer.
"""

from dnslib.profiling.latency import (
    SELF_CHECK,
    Pace,
    between_frames,
    clock_lock,
    conditions,
    decaying_frames,
    decisive,
    latency_table,
    measure_latency,
    measure_times,
    round_medians_ms,
    round_table,
    self_check_verdict,
    time_rounds,
    timing_conditions,
)
from dnslib.profiling.macs import count_macs, macs_by_operator
from dnslib.profiling.shares import kernel_times, layer_shares
from dnslib.profiling.size import ProcessMemory, load, memory_mb, parameter_count, process_memory, weight_bytes

__all__ = [
    "SELF_CHECK", "Pace", "ProcessMemory", "between_frames", "clock_lock", "conditions", "count_macs",
    "decaying_frames", "decisive", "kernel_times", "latency_table", "layer_shares", "load", "macs_by_operator",
    "measure_latency", "measure_times", "memory_mb", "parameter_count", "process_memory", "round_medians_ms",
    "round_table", "self_check_verdict", "time_rounds", "timing_conditions", "weight_bytes",
]  # fmt: skip
