"""From a folder of recordings to a cache: scanned into a store, split by source, with babble and simulated rooms.

Two keys. The cheap one covers names, sizes and times of all files: unchanged, it names the cache at once. Otherwise the
files are scanned, which decodes only content that the store of these outputs does not hold yet (see `store`), and the
second key, over the samples, names and sources of all recordings, names the cache. So a folder that was touched, copied
or moved leads to the same cache, and of one that grew only the new files are decoded. A scan that was killed goes on
where it was. What cannot be read is listed in ``skipped.txt``, and read again next time if that may help; what is
clipped is listed in ``clipped.txt``, and used all the same.
"""

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from dnslib.data import added, caches, folders, layouts, rooms
from dnslib.data.corpora import open_corpus
from dnslib.data.layouts import Layout
from dnslib.data.samples import as_int16
from dnslib.data.scan import Item, scan
from dnslib.data.splits import SPLITS, assign_splits, minutes_by_source
from dnslib.data.store import Store, identity_of
from dnslib.data.workers import Workers
from dnslib.errors import MisuseError
from dnslib.locks import waiting
from dnslib.paths import readable, write_atomically
from dnslib.progress import track
from dnslib.sampling import SAMPLE_RATE

MOST_RESPONSES = 1000  # recorded ones kept in memory, of as many rooms as possible; SLR26 has 60 000
CODE = (
    *("noise", "rooms", "corpora", "samples", "splits", "folders", "sources", "layouts", "store", "scan", "added"),
    "recordings",
)
_TOLD = {"skipped": "were skipped and are", "clipped": "are clipped, used all the same, and"}
_WORDS = {"speech": "speakers", "noise": "noise sources"}


@dataclass
class Part:
    """The recordings of one kind: index rows, SHA-256 of the samples (a hashlib object), what is skipped or clipped."""

    kind: str
    index: pd.DataFrame
    digest: object
    skipped: list[str]
    passing: int  # how many of the skipped may be usable the next time
    clipped: list[str]


def prepared(data: Path, caches_folder: Path) -> Path:
    """The cache of a data folder below ``caches_folder``, made if need be. Raises MisuseError, one sentence."""
    layout = layouts.recognise(data)
    closed: list[str] = []
    items = {kind: layout.items(kind, closed) for kind in layouts.KINDS}
    pointer = caches_folder / f"{listing_key(layout, items)}.json"
    if known := pointed_at(pointer):
        return known
    print(
        f"recognised: {layout} ({', '.join(f'{len(items[kind])} {kind}' for kind in layouts.KINDS)} files)", flush=True
    )
    with waiting(caches_folder / "recordings.lock", str(caches_folder)):
        if known := pointed_at(pointer):
            return known
        folder, passing = scanned(
            layout, items, [f"{readable(name)}/ may not be listed" for name in closed], caches_folder
        )
        if not passing and not closed:
            with write_atomically(pointer) as temporary:
                temporary.write_text(json.dumps({"cache": folder.name}), encoding="utf-8")
    return folder


def pointed_at(pointer: Path) -> Path | None:
    """The complete cache that an unchanged listing led to before, if its store is still the one it was made with."""
    try:
        folder = pointer.parent / json.loads(pointer.read_text(encoding="utf-8"))["cache"]
        facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or a damaged one: the files are scanned
        return None
    store = pointer.parent / facts["store"]
    return folder if facts["identities"] == [identity_of(store, kind) for kind in ("speech", "noise")] else None


def listing_key(layout: Layout, items: dict[str, list[Item]]) -> str:
    """Key of the names, sizes and times of all files, of the layout and of what its logs say."""
    files = ([kind, one.name, one.stamp] for kind in layouts.KINDS for one in items[kind])
    noises = (layout.noise_source(one.name) for one in items["noise"])
    return caches.cache_key(chain([layout.name], files, noises), CODE)


def scanned(layout: Layout, items: dict[str, list[Item]], closed: list[str], caches_folder: Path) -> tuple[Path, int]:
    """The cache of what could be read, and how many files may be usable the next time."""
    place = caches_folder / f"store-{caches.cache_key([], ('folders', 'samples', 'store'))[:8]}"
    if not place.exists():
        tell_older_stores(caches_folder)
    with Store(place, "speech") as speech, Store(place, "noise") as noise:
        parts = [read_part(layout, items[store.kind], store) for store in (speech, noise)]
        responses, silent, passing = recorded_rooms(layout, items["rooms"])
        listed = {
            "skipped": [line for part in parts for line in part.skipped] + silent + closed,
            "clipped": [line for part in parts for line in part.clipped],
        }
        contents = [part.digest.hexdigest() for part in parts] + [responses_digest(responses), *chain(*listed.values())]
        tables = (part.index.drop(columns="start").to_csv(index=False) for part in parts)
        identities = [speech.identity, noise.identity]
        key = caches.cache_key(chain(contents, tables, identities), CODE)
        facts = {"store": place.name, "identities": identities}
        folder = caches.cached(
            caches_folder / key, lambda temporary: build(temporary, parts, noise, responses, listed, facts)
        )
    for name, lines in listed.items():
        if lines:
            told = f"{_TOLD[name]} listed in {name}.txt of the data cache"
            print(f"{len(lines)} files of {layout.data} {told}, first: {lines[0]}.", flush=True)
    return folder, passing + sum(part.passing for part in parts)


def tell_older_stores(caches_folder: Path) -> None:
    """Print one line where other versions of the code decoded recordings before: nothing reads these any more."""
    older = sorted(path for path in caches_folder.glob("store-*") if path.is_dir())
    if older:
        size_gb = sum(file.stat().st_size for path in older for file in path.iterdir()) / 1e9
        names = ", ".join(path.name for path in older)
        print(f"decoded by other versions of the code ({size_gb:.1f} GB), delete it to save room: {names}", flush=True)


def read_part(layout: Layout, items: list[Item], store: Store) -> Part:
    """Scans one kind into its store and gives every recording its source and split."""
    found = scan(items, store, f"reading {store.kind}")
    skipped = [f"{below(layout, items[place])} {reason}" for place, reason in found.skipped]
    clipped = [f"{below(layout, items[place])}: {count} samples stand at full scale" for place, count in found.clipped]
    places, starts, lengths = found.columns()
    if not places.size:
        root = getattr(layout, store.kind)[0]
        if not skipped:
            raise MisuseError(f"No noisy file of {root} has a clean one of the same name.")
        raise MisuseError(f"No file in {root} can be decoded as audio; the first: {skipped[0]}.")
    names = [items[place].name for place in places]
    if store.kind == "speech":
        sources = layout.speakers(dict(zip(names, (lengths / SAMPLE_RATE).tolist(), strict=True)))
        sources = [sources[name] for name in names]
    else:
        sources = [layout.noise_source(name) for name in names]
    sources = joined_by_content(sources, starts)
    rows = ({"source": source, "length": length} for source, length in zip(sources, lengths.tolist(), strict=True))
    splits = assign_splits(minutes_by_source(rows), _WORDS[store.kind])
    columns = {"kind": store.kind, "split": [splits[source] for source in sources], "source": sources, "name": names}
    index = pd.DataFrame(columns | {"start": starts, "length": lengths})
    store.write_header()
    return Part(store.kind, index, store.digest(starts, lengths), skipped, found.passing, clipped)


def joined_by_content(sources: list[str], starts: np.ndarray) -> list[str]:
    """Sources, joined where they hold the same recording, which then lies at the same place in the store.

    Joined ones take the name that comes first in the alphabet.
    """
    leader: dict[str, str] = {}

    def find(source: str) -> str:
        while source in leader:
            source = leader[source]
        return source

    first: dict[int, str] = {}
    for source, start in zip(sources, starts.tolist(), strict=True):
        low, high = sorted((find(source), find(first.setdefault(start, source))))
        if low != high:
            leader[high] = low
    return [find(source) for source in sources]


def build(
    folder: Path, parts: list[Part], store: Store, responses: dict[str, list], listed: dict[str, list[str]], facts: dict
) -> None:
    """Writes a cache, with babble in the ``store`` of noise and with simulated rooms."""
    speech, noise = parts
    digest, rows = noise.digest.copy(), []
    voices = lambda split: open_corpus(store.folder, "speech", speech.index, split)  # noqa: E731
    recorded = noise.index.groupby("split")["length"].sum().to_dict()
    for split, name, sound in added.babble(voices, recorded, seed=0):
        samples = as_int16(sound)
        place = store.add(sha256(samples.tobytes()).digest(), samples)
        digest.update(samples.tobytes())
        rows.append({"kind": "noise", "split": split, "source": name, "name": name})
        rows[-1] |= {"start": place.start, "length": place.length}
    store.checkpoint()
    store.write_header()
    with Workers() as workers:
        responses = {split: responses[split] + added.simulated_rooms(workers, 0, split) for split in SPLITS}
    index = pd.concat([speech.index, noise.index, pd.DataFrame(rows)], ignore_index=True)
    caches.finish(folder, index, speech.digest.digest() + digest.digest(), responses, listed, facts)


def recorded_rooms(layout: Layout, items: list[Item]) -> tuple[dict[str, list[np.ndarray]], list[str], int]:
    """Aligned responses per split, what was skipped, and how many may be usable the next time.

    A room stays in one split; fewer than three rooms all go to training.
    """
    found: dict[str, list[np.ndarray]] = {}
    skipped, passing = [], 0
    for one in track(some_of_each(items, layout.room_source), description="reading rooms"):
        try:
            response = rooms.align(folders.read_room(io.BytesIO(folders.read_bytes(one.paths[0], one.stamp))))
        except ValueError as reason:  # Unusable, or a channel of silence
            skipped.append(f"{below(layout, one)} {reason}")
            passing += isinstance(reason, folders.Passing)
        except (RuntimeError, OverflowError, MemoryError):  # nonsense in a header
            skipped.append(f"{below(layout, one)} cannot be decoded as audio")
        else:
            found.setdefault(layout.room_source(one.name), []).append(response)
    sizes = {source: float(len(responses)) for source, responses in found.items()}
    splits = assign_splits(sizes, "rooms") if len(sizes) >= len(SPLITS) else dict.fromkeys(sizes, "train")
    chosen = {split: [one for source in found if splits[source] == split for one in found[source]] for split in SPLITS}
    return chosen, skipped, passing


def below(layout: Layout, item: Item) -> str:
    """The path of an item below the data folder, to be read by a person."""
    return readable(os.path.relpath(item.paths[0], layout.data))


def some_of_each(items: list[Item], room_of: Callable[[str], str]) -> list[Item]:
    """At most `MOST_RESPONSES` of the responses, in their order: one of each room, then a second of each, ..."""
    if len(items) <= MOST_RESPONSES:
        return items
    takes: dict[str, int] = {}
    turns = []
    for place, one in enumerate(items):
        room = room_of(one.name)
        takes[room] = takes.get(room, 0) + 1
        turns.append((takes[room], sha256(room.encode()).digest(), place))
    return [items[place] for place in sorted(place for *_, place in sorted(turns)[:MOST_RESPONSES])]


def responses_digest(responses: dict[str, list[np.ndarray]]) -> str:
    """Digest of all responses and of their splits."""
    digest = sha256()
    for split in SPLITS:
        digest.update(split.encode())
        for response in responses[split]:
            digest.update(response.tobytes())
    return digest.hexdigest()
