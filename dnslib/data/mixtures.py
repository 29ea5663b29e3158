"""What a network hears: training batches, the clips it is tested on, and noisy recordings without a reference.

Waveforms are float32, 16 kHz; a batch is ``(B, samples)``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch

from dnslib import paths
from dnslib.data import folders, mixing
from dnslib.data.corpora import Corpus
from dnslib.data.preparation import Split
from dnslib.errors import MisuseError
from dnslib.machine import one_torch_thread
from dnslib.sampling import SAMPLE_RATE

SNR_DB = (5.0, 10.0, -10.0, 35.0)  # mean, spread, lowest, highest; mean and spread: CRUSE paper, section 3
LEVEL_DBFS = (-28.0, 10.0, -50.0, -12.0)
ROOM_SHARE = 0.5  # of the training crops stand in a room
SECOND_NOISE_SHARE = 0.3  # hear two noises at once, the second up to 12 dB softer
NOISE_CHANGES_MORE = 4  # times as much in speed as speech, which must stay speech
TEST_SNR_DB = (-5.0, 15.0)
TEST_LEVEL_DBFS = (-32.0, -22.0)
TEST_ROOM_SHARE = 0.4
_AUDIBLE = 1e-3  # RMS; a crop below it is drawn again
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


def test_clips(split: Split, count: int, seconds: float, seed: int) -> list[Clip]:
    """``count`` clips of a split; the first ones are the same for any count.

    SNR: -5 to 15 dB, evenly spread; level -32 to -22 dBFS; four in ten stand in a room; speakers and noises in turn.
    """
    order = np.random.default_rng([seed, 5])
    speakers = order.permutation(list(split.speech.by_source))
    noises = in_turn(split.noise, order)
    start = order.random()
    with one_torch_thread():  # more of them add up in another order: scores are kept by what is in the clips
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
    speech, _ = audible_crop(split.speech, rng, samples, speaker)
    disturbance, _ = audible_crop(split.noise, rng, samples, noise)
    heard, target = one(speech), one(speech)
    if rng.random() < TEST_ROOM_SHARE:
        heard, target = mixing.in_room(heard, one(split.rooms[rng.integers(len(split.rooms))]))
    snr_db = TEST_SNR_DB[0] + place * (TEST_SNR_DB[1] - TEST_SNR_DB[0])
    noisy, target, _ = mixing.mix(heard, target, one(disturbance), one(snr_db), one(rng.uniform(*TEST_LEVEL_DBFS)))
    noisy, clean = noisy[0].numpy(), target[0].numpy()
    return Clip(f"{index:03d}", noisy, clean, snr_db, level_dbfs(noisy), speaker, noise)


def noisy_clips(folder: str | Path) -> list[Clip]:
    """Every usable recording below a folder, such as a blind set of the DNS Challenge, at 16 kHz mono.

    A clip is named by its path in the folder, without the suffix. Prints one line for each file that is skipped (not
    audio, silent, NaN, shorter than a frame), converted or clipped.
    Raises MisuseError where the folder is missing or nothing in it can be used.
    """
    folder = paths.resolve(folder)
    if not folder.is_dir():
        raise MisuseError(f"The folder of noisy clips {folder} does not exist.")
    clips = []
    for path in folders.files(folder):
        name = paths.readable(path.relative_to(folder))
        try:
            samples, rate = folders.read_as_is(path)
            noisy = folders.long_enough(folders.converted(samples, rate))
        except folders.Unusable as reason:
            print(f"{name} is skipped: it {reason}.", flush=True)
            continue
        if samples.shape[1] > 1 or rate != SAMPLE_RATE:
            print(f"{name} is converted from {samples.shape[1]} channels at {rate} Hz to one at 16000 Hz.", flush=True)
        if count := folders.clipped_samples(samples):
            print(f"{name} is clipped: {count} samples stand at full scale.", flush=True)
        clips.append(Clip(name.removesuffix(path.suffix), noisy, None, float("nan"), level_dbfs(noisy), "", ""))
    if not clips:
        raise MisuseError(f"The folder {folder} holds no noisy clip that can be used (wav, flac, ogg, mp3).")
    return clips


def audible_crop(
    corpus: Corpus, rng: np.random.Generator, samples: int, source: str | None = None
) -> tuple[np.ndarray, int]:
    """A random crop (of one source, if named) that is not silence, and the index of its recording."""
    for _ in range(8):
        index = None if source is None else int(rng.choice(corpus.by_source[source]))
        crop, index = corpus.crop(rng, samples, index)
        if np.dot(crop, crop) > _AUDIBLE**2 * samples:
            break
    return crop, index


def at_other_speed(corpus: Corpus, rng: np.random.Generator, samples: int, most: float) -> np.ndarray:
    """A crop that is not silence, played faster or slower by a random factor between 1 / ``most`` and ``most``."""
    if most == 1:
        return audible_crop(corpus, rng, samples)[0]
    speed = most ** rng.uniform(-1, 1)
    crop, _ = audible_crop(corpus, rng, int(np.ceil(samples * speed)) + 1)
    return soxr.resample(crop, speed, 1.0)[:samples]  # a lower quality rolls off above 5 kHz and is no faster


def two_noises(corpus: Corpus, rng: np.random.Generator, samples: int, most: float) -> np.ndarray:
    """A crop of noise; in three of ten cases a second, softer one is added."""
    crop = at_other_speed(corpus, rng, samples, most)
    if rng.random() < SECOND_NOISE_SHARE:
        second = at_other_speed(corpus, rng, samples, most)
        ratio = np.sqrt(np.dot(crop, crop) / (np.dot(second, second) + 1e-12))
        crop = crop + second * np.float32(ratio * 10 ** (-rng.uniform(0, 12) / 20))
    return crop


def in_turn(corpus: Corpus, rng: np.random.Generator) -> list[str]:
    """The sources of a noise corpus, shuffled, one of each kind after the other (a kind: the name up to a hyphen)."""
    kinds: dict[str, list[str]] = {}
    for source in rng.permutation(sorted(corpus.by_source)).tolist():
        kinds.setdefault(source.partition("-")[0], []).append(source)
    longest = max(len(sources) for sources in kinds.values())
    return [sources[turn] for turn in range(longest) for sources in kinds.values() if turn < len(sources)]


def clipped_normal(
    rng: np.random.Generator, count: int, mean: float, spread: float, low: float, high: float
) -> np.ndarray:
    """Normal values, limited to [low, high]."""
    return rng.normal(mean, spread, count).clip(low, high)


def shaping(rng: np.random.Generator, count: int) -> np.ndarray:
    """Coefficients ``(count, 4)`` of the random filters of `mixing.shape`."""
    return rng.uniform(-mixing.SHAPING, mixing.SHAPING, (count, 4))


def level_dbfs(waveform: np.ndarray) -> float:
    """RMS level in dB of full scale."""
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-20))
