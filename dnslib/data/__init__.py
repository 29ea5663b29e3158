"""Data: from an embedded synthesiser or folders of recordings to training batches and test clips.

`prepare` gives the `Corpora` of some settings, `Mixtures` the training batches of a `Split`, `test_clips` and
`noisy_clips` what networks are judged on. `layouts` says how folders of recordings may be laid out, `sources` what
shares a split.
"""

from dnslib.data.blind import noisy_clips
from dnslib.data.corpora import Corpus
from dnslib.data.mixtures import Clip, Mixtures, test_clips
from dnslib.data.preparation import Corpora, Split, prepare

__all__ = ["Clip", "Corpora", "Corpus", "Mixtures", "Split", "noisy_clips", "prepare", "test_clips"]
