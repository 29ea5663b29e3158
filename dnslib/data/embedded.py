"""The embedded data: synthesised speech, generated noise, simulated rooms, as a cache."""

from pathlib import Path

import pandas as pd

from dnslib.data import added, caches, noise
from dnslib.data.corpora import open_corpus
from dnslib.data.samples import Writer
from dnslib.data.splits import SPLITS
from dnslib.data.workers import Workers
from dnslib.progress import track
from dnslib.sampling import SAMPLE_RATE

SPEECH_SHARES = {"train": 0.8, "validation": 0.05, "test": 0.15}
NOISE_SHARES = {"train": 0.75, "validation": 0.05, "test": 0.2}  # test hears one kind more
TALKER_SECONDS = {"train": 30.0, "validation": 12.0, "test": 12.0}
CODE = ("speech", "sentences", "noise", "rooms", "corpora", "samples", "splits", "added", "embedded")


def build(folder: Path, seed: int, speech_minutes: float, noise_minutes: float) -> None:
    """Writes a cache of synthesised speech, generated noise and simulated rooms."""
    with Workers() as workers:
        with Writer(folder, "speech") as spoken:
            jobs = talker_jobs(seed, speech_minutes)
            results = track(workers.map("recite", jobs), len(jobs), "speaking")
            for job, (name, recordings) in zip(jobs, results, strict=True):
                split, index, *_ = job
                for number, recording in enumerate(recordings):
                    spoken.add(recording, f"{name}-{split}{index}", f"{name}-{split}{index}/{number:02d}", split)
        with Writer(folder, "noise") as noisy:
            jobs = noise_jobs(seed, noise_minutes * (1 - added.BABBLE_SHARE))
            results = track(workers.map("noise", jobs), len(jobs), "making noises")
            for job, (name, sounds) in zip(jobs, results, strict=True):
                noisy.add(sounds[0], name, name, split=job[1])
            add_babble(folder, spoken, noisy, seed)
        responses = {split: added.simulated_rooms(workers, seed, split) for split in SPLITS}
    index = pd.DataFrame(spoken.rows + noisy.rows)
    caches.finish(folder, index, spoken.hash.digest() + noisy.hash.digest(), responses, {"skipped": [], "clipped": []})


def add_babble(folder: Path, spoken: Writer, noisy: Writer, seed: int) -> None:
    """Adds babble of several voices to each split's noise."""
    index = pd.DataFrame(spoken.rows)
    recorded = pd.DataFrame(noisy.rows).groupby("split")["length"].sum().to_dict()
    voices = lambda split: open_corpus(folder, "speech", index, split)  # noqa: E731
    for split, name, sound in added.babble(voices, recorded, seed):
        noisy.add(sound, name, name, split)


def count(minutes: float, seconds: float) -> int:
    """How many pieces of ``seconds`` make ``minutes``; at least 2."""
    return max(2, round(minutes * 60 / seconds))


def talker_jobs(seed: int, minutes: float) -> list[list]:
    """Arguments of `speech.recite` for every talker."""
    return [
        [split, index, seed, TALKER_SECONDS[split]]
        for split in SPLITS
        for index in range(count(minutes * SPEECH_SHARES[split], TALKER_SECONDS[split]))
    ]


def noise_jobs(seed: int, minutes: float) -> list[list]:
    """Arguments of `noise.named` for every noise: the kinds of a split in turn."""
    jobs = []
    for split in SPLITS:
        kinds = noise.kinds(split)
        for index in range(count(minutes * NOISE_SHARES[split], added.NOISE_SECONDS)):
            jobs.append([kinds[index % len(kinds)], split, index, seed, int(added.NOISE_SECONDS * SAMPLE_RATE)])
    return jobs
