"""What all data get besides their recordings: babble of their own speakers, and simulated rooms."""

from collections.abc import Callable, Iterator

import numpy as np

from dnslib.data import noise
from dnslib.data.corpora import Corpus
from dnslib.data.splits import SPLITS
from dnslib.data.workers import Workers
from dnslib.sampling import SAMPLE_RATE

NOISE_SECONDS = 12.0
BABBLE_SHARE = 0.1  # of the noise, made from the speech of the same split
BABBLE = "babble-"  # how its sources are named
TALKERS = {"train": (4, 5, 7, 9), "validation": (6,), "test": (3, 6, 8)}  # voices in a babble
ROOMS = {"train": 160, "validation": 16, "test": 40}  # simulated


def babble(
    voices: Callable[[str], Corpus], recorded: dict[str, int], seed: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Split, name and samples of babble, a tenth of each split's noise; ``recorded`` counts its other samples.

    ``voices`` gives the speech of a split, so a babble's speakers are heard in no other split.
    """
    samples = int(NOISE_SECONDS * SAMPLE_RATE)
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([seed, number, 3])
        speech = voices(split)
        wanted = round(recorded.get(split, 0) / samples * BABBLE_SHARE / (1 - BABBLE_SHARE))
        for index in range(max(1, wanted)):
            talkers = int(rng.choice(TALKERS[split]))
            sound = noise.babble(rng, lambda length: speech.crop(rng, length), samples, talkers)  # noqa: B023
            yield split, f"{BABBLE}{split}{index}", noise.scaled(sound)


def simulated_rooms(workers: Workers, seed: int, split: str) -> list[np.ndarray]:
    """Impulse responses of a split's own rooms."""
    jobs = [[seed, SPLITS.index(split), 4, index] for index in range(ROOMS[split])]
    return [responses[0] for _, responses in workers.map("room", jobs)]
