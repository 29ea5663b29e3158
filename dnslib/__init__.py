"""A small library for one study: how far can a deep noise suppression network be pruned, and what does it gain?

Conventions, once: tensors are (B, C, T, F) = (batch, channels, frames, frequency bins); waveforms are float32 in
[-1, 1], one channel, 16 kHz; a frame lasts 10 ms. Units are in the names: ``latency_ms``, ``memory_mb``, ``snr_db``.
``pruning_ratio`` is the share of channels removed, ``sparsity`` the share of zero weights, ``compression_ratio``
parameters before / after, ``speedup`` time before / after in the same measurement.

The names below are what the notebooks use; each is imported when first asked for, so that ``import dnslib`` is quick.
"""

from importlib import import_module

_NAMES = {
    "CONFIGURATIONS": "paper",
    "CLAIMS": "paper",
    "read_settings": "settings",
    "Cruse": "model",
    "Denoiser": "denoiser",
    "enhance": "model",
    "parameter_count": "model",
    "pretrained": "published",
    "Settings": "settings",
    "MisuseError": "errors",
    "resolve": "paths",
    "track": "progress",
}
_MODULES = (
    "benchmark", "claims", "cluster", "data", "debian", "denoiser", "deployment", "digests", "display", "enhancing",
    "errors", "exchange", "experiments", "export", "gru", "ideal", "intervals", "limits", "locks", "loss",
    "machine", "model", "networks", "paper", "paths", "plain_training", "plots", "processes", "profiling",
    "progress", "pruning", "public_denoisers", "published", "quality", "regrouping", "sampling", "search",
    "settings", "soak", "sparse_products", "stft", "study", "training",
)  # fmt: skip

__all__ = [*_NAMES, *_MODULES]


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
