"""Data: from an embedded synthesiser or folders of recordings to training batches and test clips.

`prepare` gives the `Corpora` of some settings, `Mixtures` the training batches of a `Split`, `test_clips` and
`noisy_clips` what networks are judged on. A folder of recordings is laid out as ``speech/<corpus>/<speaker>/…``,
``noise/<corpus>/<class>/…`` and, if there are any, ``rir/<room>/…``; `folders` says what shares a split.
"""

from dnslib.data.corpora import Corpus
from dnslib.data.mixtures import Clip, Mixtures, noisy_clips, test_clips
from dnslib.data.preparation import Corpora, Split, prepare

__all__ = ["Clip", "Corpora", "Corpus", "Mixtures", "Split", "noisy_clips", "prepare", "test_clips"]
