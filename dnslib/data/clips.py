"""The clips that networks are tested on: mixtures of a split with a reference, the same whatever was trained.

Waveforms are float32, 16 kHz.
"""

from dataclasses import dataclass

import numpy as np
import torch

from dnslib.data import mixing
from dnslib.data.corpora import Corpus, Split
from dnslib.machine import one_torch_thread
from dnslib.sampling import SAMPLE_RATE

SNR_DB = (-5.0, 15.0)
LEVEL_DBFS = (-32.0, -22.0)
ROOM_SHARE = 0.4  # of the clips are in a room
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Clip:
    """One test clip: ``noisy`` and ``clean`` (the early-part target) are float32 ``(samples,)``, 16 kHz.

    Clips without a reference have ``clean`` None and ``snr_db`` NaN. ``level_dbfs`` is the RMS level of ``noisy``.
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray | None
    snr_db: float
    level_dbfs: float
    speaker: str
    noise: str


def test_clips(split: Split, count: int, seconds: float, seed: int) -> list[Clip]:
    """``count`` clips of a split; the first ones are the same for any count.

    SNR: -5 to 15 dB, evenly spread; level -32 to -22 dBFS; four in ten are in a room; speakers and noises in turn.
    """
    order = np.random.default_rng([seed, 5])
    speakers = order.permutation(list(split.speech.by_source))
    noises = in_turn(split.noise, order)
    start = order.random()
    with one_torch_thread():  # several would add up in another order, and scores are filed by the clips' content
        return [
            make_clip(split, index, str(speakers[index % len(speakers)]), noises[index % len(noises)],
                      (start + index * _GOLDEN) % 1, round(seconds * SAMPLE_RATE), seed)
            for index in range(count)
        ]  # fmt: skip


test_clips.__test__ = False  # not a test, whatever its name says to pytest


def make_clip(split: Split, index: int, speaker: str, noise: str, place: float, samples: int, seed: int) -> Clip:
    """One test clip; ``place`` in [0, 1) is where its SNR lies in the range."""
    rng = np.random.default_rng([seed, index, 6])
    one = lambda values: torch.tensor(np.asarray(values), dtype=torch.float32)[None]  # noqa: E731
    speech = split.speech.audible_crop(rng, samples, speaker)
    disturbance = split.noise.audible_crop(rng, samples, noise)
    heard, target = one(speech), one(speech)
    if rng.random() < ROOM_SHARE:
        heard, target = mixing.in_room(heard, one(split.rooms[rng.integers(len(split.rooms))]))
    snr_db = SNR_DB[0] + place * (SNR_DB[1] - SNR_DB[0])
    noisy, target, _ = mixing.mix(heard, target, one(disturbance), one(snr_db), one(rng.uniform(*LEVEL_DBFS)))
    noisy, clean = noisy[0].numpy(), target[0].numpy()
    return Clip(f"{index:03d}", noisy, clean, snr_db, level_dbfs(noisy), speaker, noise)


def in_turn(corpus: Corpus, rng: np.random.Generator) -> list[str]:
    """The sources of a noise corpus, shuffled, one of each kind after the other (a kind: the name up to a hyphen)."""
    kinds: dict[str, list[str]] = {}
    for source in rng.permutation(sorted(corpus.by_source)).tolist():
        kinds.setdefault(source.partition("-")[0], []).append(source)
    longest = max(len(sources) for sources in kinds.values())
    return [sources[turn] for turn in range(longest) for sources in kinds.values() if turn < len(sources)]


def level_dbfs(waveform: np.ndarray) -> float:
    """RMS level in dB of full scale."""
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-20))
