"""Data: from an embedded synthesiser or folders of recordings to training batches and test clips.

`prepare` gives the `Corpora` of some settings, `Mixtures` the training batches of a `Split`, `test_clips` and
`noisy_clips` what networks are judged on. `layouts` says how folders of recordings may be laid out, `sources` what
must share a split. Each name is imported when first asked for: a worker that makes noises needs no PyTorch.
"""

from importlib import import_module

_NAMES = {
    "Clip": "clips",
    "Corpora": "preparation",
    "Corpus": "corpora",
    "Mixtures": "mixtures",
    "Split": "corpora",
    "noisy_clips": "blind",
    "prepare": "preparation",
    "test_clips": "clips",
}

__all__ = list(_NAMES)


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
