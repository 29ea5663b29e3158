"""From settings to corpora in three splits: the embedded synthesiser, or a folder of recordings; cached on disk.

Caches lie in ``<outputs>/data/<key>``, see `caches`; the samples of recordings in a store beside them (`recordings`).
The key covers what goes in (files, or lengths and seed) and the code of this package, never a setting of the training.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from dnslib import paths
from dnslib.data import added, caches, embedded, recordings
from dnslib.data.corpora import Split, joined, open_corpus
from dnslib.data.splits import SPLITS
from dnslib.errors import MisuseError


@dataclass(frozen=True)
class Corpora:
    """The three splits, and a digest of their content."""

    train: Split
    validation: Split
    test: Split
    digest: str
    folder: Path

    @property
    def everything(self) -> Split:
        """All speakers and noises of the three splits, in the test's rooms: for networks that trained on none of them.

        Babble is left out, as it is made of the speech: where a split has few speakers, it can hold the very voice
        that the network is to keep.
        """
        splits = (self.train, self.validation, self.test)
        speech, noise = (joined([getattr(split, kind) for split in splits]) for kind in ("speech", "noise"))
        return Split(speech, noise.without(added.BABBLE), self.test.rooms)

    def table(self) -> pd.DataFrame:
        """One row a split and kind: ``split, kind, sources, recordings, minutes``."""
        rows = []
        for name in SPLITS:
            split = getattr(self, name)
            for kind, corpus in (("speech", split.speech), ("noise", split.noise)):
                rows.append((name, kind, len(corpus.by_source), len(corpus), round(corpus.minutes, 1)))
            rows.append((name, "rooms", len(split.rooms), len(split.rooms), 0.0))
        return pd.DataFrame(rows, columns=["split", "kind", "sources", "recordings", "minutes"])


def prepare(settings) -> Corpora:
    """The corpora of ``settings`` (data, outputs, seed, speech_minutes, noise_minutes), from the cache if there.

    Raises MisuseError, one sentence, for a data folder that is missing, has no layout known to `layouts`, holds nothing
    that can be decoded, or too few speakers or noises for three splits, and for a disk that is full.
    """
    folder = paths.resolve(settings.outputs) / "data"
    with caches.disk_errors(folder):
        if settings.data:
            return open_corpora(recordings.prepared(paths.resolve(settings.data), folder))
        parameters = [settings.seed, float(settings.speech_minutes), float(settings.noise_minutes)]
        key = caches.cache_key(parameters, embedded.CODE)
        return open_corpora(caches.cached(folder / key, lambda temporary: embedded.build(temporary, *parameters)))


def open_corpora(folder: Path) -> Corpora:
    """Corpora of a complete cache folder; the samples stay on disk until they are read.

    Raises MisuseError, with what to delete, where a file of it is damaged or gone.
    """
    try:
        return _opened(folder)
    except (FileNotFoundError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        missing = isinstance(error, FileNotFoundError) and f"{Path(error.filename).name} is missing"
        reason = missing or " ".join(str(error).split())[:100]
        raise MisuseError(
            f"The prepared data in {folder} are damaged ({reason}): delete that folder and start again, which makes "
            "it anew; trained networks are kept."
        ) from None


def _opened(folder: Path) -> Corpora:
    index = pd.read_csv(folder / "index.csv", dtype={"source": str, "name": str}, keep_default_na=False)
    facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    samples = folder.parent / facts["store"] if "store" in facts else folder
    with np.load(folder / "rooms.npz", allow_pickle=False) as archive:
        responses = {split: archive[split] for split in SPLITS}
    splits = [
        Split(*(open_corpus(samples, kind, index, split) for kind in ("speech", "noise")), responses[split])
        for split in SPLITS
    ]
    for kind in ("speech", "noise"):
        ends = [int((part.starts + part.lengths).max()) for part in (getattr(split, kind) for split in splits)]
        if max(ends) > len(getattr(splits[0], kind).samples):
            raise ValueError(f"{kind}.npy is shorter than its index says")
    return Corpora(*splits, digest=facts["digest"], folder=folder)
