"""What a network hears in training: endless batches of mixtures.

Waveforms are float32, 16 kHz; a batch is ``(B, samples)``.
"""

import numpy as np
import soxr
import torch

from dnslib.data import mixing
from dnslib.data.corpora import Corpus, Split
from dnslib.sampling import SAMPLE_RATE

SNR_DB = (5.0, 10.0, -10.0, 35.0)  # mean, spread, lowest, highest; mean and spread: CRUSE paper, section 3
LEVEL_DBFS = (-28.0, 10.0, -50.0, -12.0)
ROOM_SHARE = 0.5  # of the training crops are in a room
SECOND_NOISE_SHARE = 0.3  # have two noises at once, the second up to 12 dB softer
NOISE_CHANGES_MORE = 4  # times as much in speed as speech, which must stay speech


class Mixtures:
    """Endless training batches of a split; ``batch(step)`` depends only on the split, sizes, seed and step.

    With ``speed_change`` c, speech is played up to 1 + c times faster or slower, and noise up to 1 + 4 c times, pitch
    and all: more voices and more noises from the same recordings, and a harder task.
    """

    def __init__(
        self,
        split: Split,
        seed: int,
        batch_size: int,
        crop_seconds: float,
        device: torch.device | str = "cpu",
        speed_change: float = 0.0,
    ):
        self.split, self.seed, self.batch_size, self.device = split, seed, batch_size, device
        self.samples = round(crop_seconds * SAMPLE_RATE)
        self.speech_speed, self.noise_speed = 1 + speed_change, 1 + NOISE_CHANGES_MORE * speed_change

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixtures and targets ``(B, samples)`` of one optimiser step; the same again for the same step."""
        rng = np.random.default_rng([self.seed, step])
        size = self.batch_size
        voices, noises, samples = self.split.speech, self.split.noise, self.samples
        speech = self.tensor([at_other_speed(voices, rng, samples, self.speech_speed) for _ in range(size)])
        noise = self.tensor([two_noises(noises, rng, samples, self.noise_speed) for _ in range(size)])
        speech, noise = (mixing.shape(one, self.tensor(shaping(rng, size))) for one in (speech, noise))
        heard, target = self.in_rooms(speech, rng)
        snr_db, level_dbfs = (self.tensor(clipped_normal(rng, size, *law)) for law in (SNR_DB, LEVEL_DBFS))
        noisy, target, _ = mixing.mix(heard, target, noise, snr_db, level_dbfs)
        return noisy, target

    def in_rooms(self, speech: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Speech as heard and target; about half of the crops stay dry."""
        wet = np.flatnonzero(rng.random(self.batch_size) < ROOM_SHARE)
        responses = self.split.rooms[rng.integers(len(self.split.rooms), size=wet.size)]
        heard, target = speech.clone(), speech.clone()
        if wet.size:
            heard[wet], target[wet] = mixing.in_room(speech[wet], self.tensor(responses))
        return heard, target

    def tensor(self, values) -> torch.Tensor:
        """float32 on the device, from an array or a list of equally long arrays."""
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self.device)


def at_other_speed(corpus: Corpus, rng: np.random.Generator, samples: int, most: float) -> np.ndarray:
    """A crop that is not silence, played faster or slower by a random factor between 1 / ``most`` and ``most``."""
    if most == 1:
        return corpus.audible_crop(rng, samples)
    speed = most ** rng.uniform(-1, 1)
    crop = corpus.audible_crop(rng, int(np.ceil(samples * speed)) + 1)
    return soxr.resample(crop, speed, 1.0)[:samples]  # lower resampling quality rolls off above 5 kHz and is no faster


def two_noises(corpus: Corpus, rng: np.random.Generator, samples: int, most: float) -> np.ndarray:
    """A crop of noise; in three of ten cases a second, softer one is added."""
    crop = at_other_speed(corpus, rng, samples, most)
    if rng.random() < SECOND_NOISE_SHARE:
        second = at_other_speed(corpus, rng, samples, most)
        ratio = np.sqrt(np.dot(crop, crop) / (np.dot(second, second) + 1e-12))
        crop = crop + second * np.float32(ratio * 10 ** (-rng.uniform(0, 12) / 20))
    return crop


def clipped_normal(
    rng: np.random.Generator, count: int, mean: float, spread: float, low: float, high: float
) -> np.ndarray:
    """Normal values, limited to [low, high]."""
    return rng.normal(mean, spread, count).clip(low, high)


def shaping(rng: np.random.Generator, count: int) -> np.ndarray:
    """Coefficients ``(count, 4)`` of the random filters of `mixing.shape`."""
    return rng.uniform(-mixing.SHAPING, mixing.SHAPING, (count, 4))
