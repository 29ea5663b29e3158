"""From settings to corpora in three splits: the embedded synthesiser, or a folder of recordings; cached on disk.

The cache is ``<outputs>/data/<key>``: ``speech.npy`` and ``noise.npy`` (int16), ``index.csv``, ``rooms.npz``,
``skipped.txt`` and ``data.json`` with the digest of the content. The key covers what goes in (files, or lengths and
seed) and the code of this package, never a setting of the training. A cache is written aside and renamed when complete.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from dnslib import paths
from dnslib.data import folders, noise, rooms
from dnslib.data.corpora import SPLITS, Corpus, Writer, assign_splits, minutes_by_source, open_corpus
from dnslib.data.workers import Workers
from dnslib.errors import MisuseError
from dnslib.progress import track
from dnslib.stft import SAMPLE_RATE

SPEECH_SHARES = {"train": 0.8, "validation": 0.05, "test": 0.15}
NOISE_SHARES = {"train": 0.75, "validation": 0.05, "test": 0.2}  # test hears one kind more
TALKER_SECONDS = {"train": 30.0, "validation": 12.0, "test": 12.0}
NOISE_SECONDS = 12.0
BABBLE_SHARE = 0.1  # of the noise, made from the speech of the same split
TALKERS = {"train": (4, 5, 7, 9), "validation": (6,), "test": (3, 6, 8)}  # voices in a babble
ROOMS = {"train": 160, "validation": 16, "test": 40}  # simulated
_CHUNK = 64  # files decoded at a time
_CODE = ("speech.py", "sentences.py", "noise.py", "rooms.py", "corpora.py", "folders.py", "preparation.py")


@dataclass(frozen=True)
class Split:
    """What one split may hear; ``rooms`` is float32 ``(R, taps)``, aligned as in `dnslib.data.rooms`."""

    speech: Corpus
    noise: Corpus
    rooms: np.ndarray


@dataclass(frozen=True)
class Corpora:
    """The three splits, and a digest of their content."""

    train: Split
    validation: Split
    test: Split
    digest: str
    folder: Path

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

    Raises MisuseError, one sentence, for a data folder that is missing, empty, lacks speech/ or noise/, holds nothing
    that can be decoded, or too few speakers or noises for three splits.
    """
    if settings.data:
        data = paths.resolve(settings.data)
        folders.check(data)
        key = cache_key(listing(data))
        build = lambda folder: build_from_folder(data, folder)  # noqa: E731
    else:
        parameters = [settings.seed, float(settings.speech_minutes), float(settings.noise_minutes)]
        key = cache_key(parameters)
        build = lambda folder: build_embedded(folder, *parameters)  # noqa: E731
    return open_corpora(cached(paths.resolve(settings.outputs) / "data" / key, build))


def cached(folder: Path, build: Callable[[Path], None]) -> Path:
    """``folder``, built by ``build(temporary folder)`` unless it is there; one process builds, others wait for it."""
    if (folder / "data.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another run is preparing the same data; waiting for {folder.name}.", flush=True)
        lock.acquire()
    with lock:
        lock.release()  # the context manager holds it once more
        if not (folder / "data.json").is_file():
            for left_over in (folder, *folder.parent.glob(f".{folder.name}.*.part")):
                paths.remove(left_over)  # of a run that was killed
            with paths.write_atomically(folder) as temporary:
                temporary.mkdir()
                build(temporary)
    return folder


def cache_key(inputs: list) -> str:
    """Sixteen hexadecimal digits for the inputs and the code that turns them into data."""
    digest = sha256(json.dumps(inputs).encode())
    for name in _CODE:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:16]


def listing(data: Path) -> list:
    """Name, size and time of every file of a data folder: what its cache depends on."""
    found = (
        path for kind in ("speech", "noise", "rir") if (data / kind).is_dir() for path in folders.files(data / kind)
    )
    return [(str(path.relative_to(data)), path.stat().st_size, path.stat().st_mtime_ns) for path in found]


def open_corpora(folder: Path) -> Corpora:
    """Corpora of a complete cache folder; the samples stay on disk until they are read."""
    index = pd.read_csv(folder / "index.csv", dtype={"source": str, "name": str}, keep_default_na=False)
    with np.load(folder / "rooms.npz", allow_pickle=False) as archive:
        responses = {split: archive[split] for split in SPLITS}
    splits = (
        Split(open_corpus(folder, "speech", index, split), open_corpus(folder, "noise", index, split), responses[split])
        for split in SPLITS
    )
    return Corpora(*splits, digest=json.loads((folder / "data.json").read_text())["digest"], folder=folder)


def build_embedded(folder: Path, seed: int, speech_minutes: float, noise_minutes: float) -> None:
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
            jobs = noise_jobs(seed, noise_minutes * (1 - BABBLE_SHARE))
            results = track(workers.map("noise", jobs), len(jobs), "making noises")
            for job, (name, sounds) in zip(jobs, results, strict=True):
                noisy.add(sounds[0], name, name, split=job[1])
            add_babble(folder, spoken, noisy, seed)
        responses = {split: simulated_rooms(workers, seed, split) for split in SPLITS}
    finish(folder, spoken, noisy, responses, skipped=[])


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
        for index in range(count(minutes * NOISE_SHARES[split], NOISE_SECONDS)):
            jobs.append([kinds[index % len(kinds)], split, index, seed, int(NOISE_SECONDS * SAMPLE_RATE)])
    return jobs


def add_babble(folder: Path, spoken: Writer, noisy: Writer, seed: int) -> None:
    """Adds babble of several voices to each split's noise, from that split's speech: a tenth of the noise."""
    samples = int(NOISE_SECONDS * SAMPLE_RATE)
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([seed, number, 3])
        voices = open_corpus(folder, "speech", pd.DataFrame(spoken.rows), split)
        recorded = sum(row["length"] for row in noisy.rows if row["split"] == split)
        wanted = round(recorded / samples * BABBLE_SHARE / (1 - BABBLE_SHARE))
        for index in range(max(1, wanted)):
            talkers = int(rng.choice(TALKERS[split]))
            sound = noise.babble(rng, lambda length: voices.crop(rng, length)[0], samples, talkers)  # noqa: B023
            noisy.add(noise.scaled(sound), f"babble-{split}{index}", f"babble-{split}{index}", split)


def simulated_rooms(workers: Workers, seed: int, split: str) -> list[np.ndarray]:
    """Impulse responses of a split's own rooms."""
    jobs = [[seed, SPLITS.index(split), 4, index] for index in range(ROOMS[split])]
    return [responses[0] for _, responses in workers.map("room", jobs)]


def build_from_folder(data: Path, folder: Path) -> None:
    """Writes a cache of the recordings of a data folder, with babble and simulated rooms added."""
    skipped: list[str] = []
    with Writer(folder, "speech") as spoken:
        root, lengths = data / "speech", {}
        for path, recording in decoded(root, "reading speech", skipped):
            lengths[path] = recording.size / SAMPLE_RATE
            spoken.add(recording, "", str(path.relative_to(root)))
        name_sources(spoken, root, folders.speech_sources(root, lengths))
    with Writer(folder, "noise") as noisy:
        root = data / "noise"
        for path, recording in decoded(root, "reading noise", skipped):
            noisy.add(recording, folders.noise_source(root, path), str(path.relative_to(root)))
    for writer, what in ((spoken, "speakers"), (noisy, "noise sources")):
        if not writer.rows:
            raise MisuseError(f"No file in {data / writer.kind} can be decoded as audio.")
        splits = assign_splits(minutes_by_source(writer.rows), what)
        for row in writer.rows:
            row["split"] = splits[row["source"]]
    with noisy:  # once more, now that it is known which speech each split may hear
        add_babble(folder, spoken, noisy, seed=0)
    responses = recorded_rooms(data / "rir", skipped)
    with Workers() as workers:
        responses = {split: responses[split] + simulated_rooms(workers, 0, split) for split in SPLITS}
    finish(folder, spoken, noisy, responses, skipped)
    if skipped:
        print(f"{len(skipped)} files of {data} were skipped and are listed in skipped.txt of the data cache, first: "
              f"{skipped[0]}.", flush=True)  # fmt: skip


def decoded(root: Path, description: str, skipped: list[str], reader=folders.read) -> Iterator[tuple[Path, np.ndarray]]:
    """Every usable recording below ``root``, in order; the others are named in ``skipped``."""
    found = folders.files(root)
    with ThreadPoolExecutor(max_workers=2) as pool:  # decoding leaves Python's lock
        for path, result in track(_in_chunks(pool, found, reader), len(found), description):
            if isinstance(result, str):
                skipped.append(f"{path.relative_to(root.parent)} {result}")
            else:
                yield path, result


def _in_chunks(pool: ThreadPoolExecutor, found: list[Path], reader) -> Iterator[tuple[Path, np.ndarray | str]]:
    """A chunk is decoded while the one before is written; never more than two are in memory."""
    chunks = [found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK)]
    submit = lambda chunk: [pool.submit(folders.try_read, path, reader) for path in chunk]  # noqa: E731
    pending = submit(chunks[0]) if chunks else []
    for number, chunk in enumerate(chunks):
        ready, pending = pending, submit(chunks[number + 1]) if number + 1 < len(chunks) else []
        for path, future in zip(chunk, ready, strict=True):
            yield path, future.result()


def name_sources(writer: Writer, root: Path, sources: dict[Path, str]) -> None:
    """Fills in the sources of rows that were written before they were known."""
    for row in writer.rows:
        row["source"] = sources[root / row["name"]]


def recorded_rooms(root: Path, skipped: list[str]) -> dict[str, list[np.ndarray]]:
    """Aligned responses per split: a room stays on one side; fewer than three rooms are for training."""
    found: dict[str, list[np.ndarray]] = {}
    if root.is_dir():
        for path, response in decoded(root, "reading rooms", skipped, folders.read_room):
            found.setdefault(folders.room_source(root, path), []).append(rooms.align(response))
    sizes = {source: float(len(responses)) for source, responses in found.items()}
    splits = assign_splits(sizes, "rooms") if len(sizes) >= len(SPLITS) else dict.fromkeys(sizes, "train")
    return {split: [one for source in found if splits[source] == split for one in found[source]] for split in SPLITS}


def finish(folder: Path, spoken: Writer, noisy: Writer, responses: dict[str, list], skipped: list[str]) -> None:
    """Writes everything but the samples."""
    index = pd.DataFrame(spoken.rows + noisy.rows)
    index.to_csv(folder / "index.csv", index=False)
    stacked = {split: stack(responses[split]) for split in SPLITS}
    np.savez(folder / "rooms.npz", **stacked)
    (folder / "skipped.txt").write_text("".join(f"{line}\n" for line in skipped), encoding="utf-8")
    digest = sha256(spoken.hash.digest() + noisy.hash.digest() + (folder / "index.csv").read_bytes())
    for split in SPLITS:
        digest.update(stacked[split].tobytes())
    facts = {"digest": digest.hexdigest()[:16], "made": time.strftime("%Y-%m-%d %H:%M:%S"), "skipped": len(skipped)}
    (folder / "data.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def stack(responses: list[np.ndarray]) -> np.ndarray:
    """Responses of different lengths as float32 ``(R, taps)``, zeros at the end."""
    stacked = np.zeros((len(responses), max(response.size for response in responses)), np.float32)
    for row, response in zip(stacked, responses, strict=True):
        row[: response.size] = response
    return stacked
