"""The scan of recordings: resumed after a kill, keyed by content, flat in memory, never ended by one bad file."""

import contextlib
import errno
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from filelock import FileLock

from dnslib.data import caches, folders, layouts, prepare, recordings, scan, store
from dnslib.data.preparation import open_corpora
from dnslib.data.store import Store, identity_of
from dnslib.errors import MisuseError
from dnslib.paths import PROJECT
from dnslib.study.state import folder_digest

RATE = 16_000


pytestmark = pytest.mark.usefixtures("quick_rooms")


def wav(values):
    """A mono 16-bit wav file of int16 values, byte by byte."""
    samples = np.asarray(values, "<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2,
                       16, b"data", len(samples))  # fmt: skip
    return head + samples


def many(root, speakers, files, samples=480):
    """Short, all different files: ``speech/<speaker>/x/<n>.wav``, and three noises."""
    rng = np.random.default_rng(0)
    for speaker in range(speakers):
        folder = root / "speech" / f"s{speaker:03d}" / "x"
        folder.mkdir(parents=True)
        for number in range(files):
            (folder / f"{number:05d}.wav").write_bytes(wav(rng.integers(-9999, 9999, samples)))
    for kind in ("a", "b", "c"):
        (root / "noise" / "home" / kind).mkdir(parents=True)
        (root / "noise" / "home" / kind / "1.wav").write_bytes(wav(rng.integers(-9999, 9999, RATE)))
    return root


def prepared(data, outputs):
    return prepare(SimpleNamespace(data=str(data), outputs=str(outputs)))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that were decoded, growing."""
    names = []
    read = folders.read
    monkeypatch.setattr(folders, "read", lambda source: names.append(1) or read(source))
    return names


def test_the_store_returns_what_was_added_and_forgets_what_is_torn(tmp_path):
    first, second = np.array([0, 1, -1, 32767, -32768], np.int16), np.array([0.5, -2.0, 1.0], np.float32)
    with Store(tmp_path, "speech") as kept:
        places = [
            kept.add(b"a", first),
            kept.add(b"b", None, "is silent"),
            kept.add(b"c", second),
            kept.add(b"a", first),
        ]
    assert [place[:3] for place in places] == [(0, 5, ""), (5, 0, "is silent"), (5, 3, ""), (0, 5, "")]
    samples = np.load(tmp_path / "speech.npy", mmap_mode="r", allow_pickle=False)
    assert samples.tolist() == [0, 1, -1, 32767, -32768, 16384, -32768, 32767]
    identity = identity_of(tmp_path, "speech")
    with (tmp_path / "speech.npy").open("ab") as file:
        file.write(b"samples of a recording that the index does not name")
    with Store(tmp_path, "speech") as kept:
        assert kept.add(b"d", first).start == 8  # the tail is overwritten
        assert kept.digest(np.array([0, 8]), np.array([5, 5])).digest() == store.sha256(first.tobytes() * 2).digest()
    assert identity_of(tmp_path, "speech") == identity
    os.truncate(tmp_path / "speech.npy", (tmp_path / "speech.npy").stat().st_size - 2)
    with Store(tmp_path, "speech") as kept:
        assert (kept.find(b"a"), kept.find(b"d")) == ((0, 5, "", 0), None)
        assert kept.total == 8
    assert identity_of(tmp_path, "speech") != identity  # whoever relied on it looks again


def test_the_index_names_a_recording_after_its_samples_are_on_the_disk(tmp_path, monkeypatch):
    """Seen by another process: nothing of it when the samples go to the disk, all of it afterwards."""

    def named() -> int:
        with contextlib.closing(sqlite3.connect(tmp_path / "speech.sqlite")) as other:
            return other.execute("SELECT COUNT(*) FROM recordings").fetchone()[0]

    seen = []
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(named()))
    with Store(tmp_path, "speech") as kept:
        kept.add(b"a", np.arange(5, dtype=np.int16))
        kept.checkpoint()
        assert seen == [0]
        assert named() == 1


def test_a_disk_that_takes_little_at_a_time_loses_nothing(tmp_path, monkeypatch):
    write, samples = os.pwrite, np.arange(-500, 500, dtype=np.int16)
    with Store(tmp_path, "speech") as kept, monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda file, content, place: write(file, content[:7], place))
        kept.add(b"a", samples)
    assert np.array_equal(np.load(tmp_path / "speech.npy"), samples)


def test_a_file_that_changed_is_not_taken_for_what_it_held(tmp_path):
    with Store(tmp_path, "speech") as kept:
        kept.note("ann/1.wav", "100 bytes, noon", b"hello")
        assert kept.content_of("ann/1.wav", "100 bytes, noon") == b"hello"
        assert kept.content_of("ann/1.wav", "100 bytes, one") is None
        assert kept.content_of("ann/2.wav", "100 bytes, noon") is None


def test_long_recordings_are_hashed_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_BLOCK", 3)
    samples = np.arange(20, dtype=np.int16)
    with Store(tmp_path, "speech") as kept:
        kept.add(b"a", samples)
        digest = kept.digest(np.array([2, 12]), np.array([8, 3])).digest()
    assert digest == store.sha256(samples[[*range(2, 10), *range(12, 15)]].tobytes()).digest()


KILLED = """
import sys, types
import numpy as np
from dnslib.data import added, prepare, store
store.CHECKPOINT_SECONDS = 0.05
added.simulated_rooms = lambda workers, seed, split: [np.eye(1, 60, 40, dtype=np.float32)[0]]
prepare(types.SimpleNamespace(data=sys.argv[1], outputs=sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_scan_goes_on_where_it_was_and_ends_as_an_uninterrupted_one(tmp_path, decoded):
    data = many(tmp_path / "data", speakers=6, files=500)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(data), str(tmp_path / "killed")], cwd=PROJECT)
    while not (sizes := [p.stat().st_size for p in (tmp_path / "killed").rglob("speech.npy")]) or sizes[0] < 500_000:
        assert process.poll() is None, "it was done before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").rglob("data.json"))
    resumed = prepared(data, tmp_path / "killed")
    again = len(decoded)
    whole = prepared(data, tmp_path / "whole")
    assert 0 < again < 3003 == len(decoded) - again
    assert resumed.digest == whole.digest
    assert (resumed.folder / "index.csv").read_text() == (whole.folder / "index.csv").read_text()
    for kind in ("speech", "noise"):
        assert np.array_equal(getattr(resumed.train, kind).samples, getattr(whole.train, kind).samples)


def test_moved_and_touched_folders_lead_to_the_same_cache_and_only_new_files_are_decoded(tmp_path, decoded):
    data = many(tmp_path / "data", speakers=4, files=3)
    first = prepared(data, tmp_path / "out")
    assert len(decoded) == 15
    data = data.rename(tmp_path / "moved")
    for number, path in enumerate(sorted(data.rglob("*.wav"))):
        os.utime(path, (number, number))
    assert prepared(data, tmp_path / "out").folder == first.folder
    assert len(decoded) == 15
    os.link(data / "speech/s000/x/00000.wav", data / "speech/s000/x/copy.wav")  # known content
    (data / "speech/s000/x/new.wav").write_bytes(wav(range(1, 99)))
    grown = prepared(data, tmp_path / "out")
    assert len(decoded) == 16
    assert grown.digest == prepared(data, tmp_path / "fresh").digest != first.digest  # whatever is in the store
    for path in (tmp_path / "out").rglob("speech.npy"):
        path.unlink()
    assert prepared(data, tmp_path / "out").digest == grown.digest  # made again


def test_files_that_cannot_be_read_this_time_are_listed_and_read_the_next_time(tmp_path, monkeypatch, capsys):
    data = many(tmp_path / "data", speakers=4, files=3)
    (data / "speech/s001/x/bad.wav").write_bytes(b"RIFF is not enough")
    read = folders.Path.read_bytes

    def troubled(path):
        content = read(path)
        if path.name == "00001.wav" and "s002" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        if path.name == "00002.wav" and "s003" in str(path):
            path.write_bytes(wav(range(1, 600)))
        return content

    with monkeypatch.context() as patch:
        patch.setattr(folders.Path, "read_bytes", troubled)
        skipped = (prepared(data, tmp_path / "out").folder / "skipped.txt").read_text().splitlines()
    assert skipped == [
        "speech/s001/x/bad.wav cannot be decoded as audio",
        "speech/s002/x/00001.wav may not be read: no permission",
        "speech/s003/x/00002.wav changed while it was read",
    ]
    assert "3 files of" in capsys.readouterr().out
    skipped = (prepared(data, tmp_path / "out").folder / "skipped.txt").read_text().splitlines()
    assert skipped == ["speech/s001/x/bad.wav cannot be decoded as audio"]


@pytest.mark.parametrize("changed", ["folders", "samples", "store"])
def test_a_store_is_of_the_code_that_fills_it(changed, tmp_path, monkeypatch):
    """Else what earlier code decoded would be found by later code."""
    data, digest = many(tmp_path / "data", speakers=4, files=1), caches.digests.code_digest

    def of_changed_code(paths):
        paths = list(paths)
        return digest(paths) + "changed" * (changed in {path.stem for path in paths})

    prepared(data, tmp_path / "out")
    monkeypatch.setattr(caches.digests, "code_digest", of_changed_code)
    prepared(data, tmp_path / "out")
    assert len(list((tmp_path / "out" / "data").glob("store-*"))) == 2


def test_stores_of_other_code_are_told(tmp_path, capsys):
    data = many(tmp_path / "data", speakers=4, files=1)
    prepared(data, tmp_path / "out")
    assert "other versions" not in capsys.readouterr().out
    (made,) = (tmp_path / "out" / "data").glob("store-*")
    made.rename(made.with_name("store-older"))
    prepared(data, tmp_path / "out")
    told = "decoded by other versions of the code (0.0 GB), delete it to save room: store-older"
    assert told in capsys.readouterr().out.splitlines()


def test_clipped_files_are_listed_and_used(tmp_path, capsys):
    data = many(tmp_path / "data", speakers=4, files=1)
    loud = [0, 32767, 32767, 32767, 32767, 0, -32768, -32768] * 50  # two at full scale may be by chance
    (data / "speech/s001/x/loud.wav").write_bytes(wav(loud))
    for _ in range(2):  # the store remembers what it does not decode again
        corpora = prepared(data, tmp_path / "out")
        line = "speech/s001/x/loud.wav: 200 samples stand at full scale"
        assert (corpora.folder / "clipped.txt").read_text() == f"{line}\n"
        assert f"first: {line}" in capsys.readouterr().out
        assert sum(len(split.speech) for split in (corpora.train, corpora.validation, corpora.test)) == 5
        (data / "speech/s001/x/00000.wav").touch()


def test_links_in_a_circle_cost_only_themselves(tmp_path):
    data = many(tmp_path / "data", speakers=4, files=2)
    for link in (data / "speech/s001/x/circle", data / "speech/s001/x/gone.wav", data / "circle"):
        link.symlink_to(link.name if link.name == "circle" else "nowhere.wav")
    corpora = prepared(data, tmp_path / "out")
    assert (corpora.folder / "skipped.txt").read_text().splitlines() == [
        "speech/s001/x/gone.wav cannot be read: No such file or directory"]  # fmt: skip
    assert sum(len(getattr(corpora, split).speech) for split in ("train", "validation", "test")) == 8


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [(1, 48_000, "is shorter than one frame of 20 ms"), (319, RATE, "is shorter than one frame of 20 ms"),
     (500_000, 1, "has a sample rate of 1 Hz"), (500_000, 1_500_000, "has a sample rate of 1500000 Hz")],
)  # fmt: skip
def test_a_file_too_short_or_with_nonsense_in_its_header_is_listed(samples, rate, reason, tmp_path):
    """Taken at its word, the one of 1 Hz is 30 GB at 16 kHz."""
    data = many(tmp_path / "data", speakers=4, files=1)
    bad = bytearray(wav([9999] * samples))
    struct.pack_into("<I", bad, 24, rate)
    for name in ("speech/s009/x/1.wav", "noise/home/d/1.wav", "rir/hall/1.wav"):
        (data / name).parent.mkdir(parents=True)
        (data / name).write_bytes(bad)
    skipped = (prepared(data, tmp_path / "out").folder / "skipped.txt").read_text().splitlines()
    assert skipped[:2] == [f"speech/s009/x/1.wav {reason}", f"noise/home/d/1.wav {reason}"]
    rooms = {1: ["rir/hall/1.wav is empty"], 319: []}  # a response may be short
    assert skipped[2:] == rooms.get(samples, [f"rir/hall/1.wav {reason}"])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_closed_folder_is_one_line(tmp_path):
    data = many(tmp_path / "data", speakers=4, files=1)
    (data / "speech").chmod(0)
    with pytest.raises(MisuseError, match="no permission"):
        prepared(data, tmp_path / "out")


def test_a_folder_that_may_not_be_listed_is_one_line(tmp_path, monkeypatch, capsys):
    data = many(tmp_path / "data", speakers=5, files=1)
    scandir = os.scandir

    def closed(name):
        def look(folder):
            if str(folder).endswith(name):
                raise PermissionError(errno.EACCES, "Permission denied")
            return scandir(folder)

        return look

    monkeypatch.setattr(os, "scandir", closed("/speech"))
    with pytest.raises(MisuseError, match="speech may not be read: no permission"):
        prepared(data, tmp_path / "out")
    monkeypatch.setattr(os, "scandir", closed("/s001"))
    assert "s001/ may not be listed" in (prepared(data, tmp_path / "out").folder / "skipped.txt").read_text()


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(tmp_path, monkeypatch, decoded):
    data = many(tmp_path / "data", speakers=4, files=100)
    write, left = os.pwrite, [100 * 960]

    def until_full(file, content, place):
        left[0] -= len(content)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, content, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", until_full)
        with pytest.raises(MisuseError, match="is full: make room and start again") as error:
            prepared(data, tmp_path / "out")
    assert "\n" not in str(error.value)
    before = len(decoded)
    resumed = prepared(data, tmp_path / "out")
    assert len(decoded) - before == 403 - 100
    assert resumed.digest == prepared(data, tmp_path / "whole").digest


TELLING = """
from dnslib.data import folders
read = folders.read
folders.read = lambda source: print("decoded") or read(source)
"""


@pytest.mark.slow
def test_two_runs_prepare_the_same_corpus_once(tmp_path):
    data = many(tmp_path / "data", speakers=4, files=20)
    command = [sys.executable, "-u", "-c", TELLING + KILLED, str(data), str(tmp_path / "out")]
    (tmp_path / "out" / "data").mkdir(parents=True)
    with FileLock(tmp_path / "out" / "data" / "recordings.lock"):  # both wait, so neither is done before the other asks
        runs = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        waiting = [[run.stdout.readline() for _ in range(2)] for run in runs]
    printed = [run.communicate(timeout=120)[0] for run in runs]
    assert all(lines[0].startswith("recognised: ") and "waiting for" in lines[1] for lines in waiting)
    assert [run.returncode for run in runs] == [0, 0]
    assert len(list((tmp_path / "out").rglob("data.json"))) == 1
    assert sorted(words.count("decoded") for words in printed) == [0, 4 * 20 + 3]  # one of them did all the work


def test_of_very_many_responses_every_room_gives_some(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_RESPONSES", 12)
    items = [scan.Item(f"Room{room}/{take}", ("",), "") for room in range(5) for take in range(2 + 20 * (room == 3))]
    chosen = [one.name for one in recordings.some_of_each(items, layouts.sources.room_source)]
    counts = [sum(name.startswith(f"Room{room}/") for name in chosen) for room in range(5)]
    assert counts == [2, 2, 2, 4, 2]
    assert chosen == sorted(chosen, key=[one.name for one in items].index)


def test_a_file_of_a_format_with_virtual_reading_is_the_same_as_from_its_path(tmp_path):
    for suffix in ("flac", "ogg", "mp3"):
        soundfile.write(tmp_path / f"x.{suffix}", np.random.default_rng(0).uniform(-0.5, 0.5, 20_000), RATE)
        found = scan.decode(scan.item("x", tmp_path / f"x.{suffix}"))
        assert np.array_equal(found.samples, folders.read(tmp_path / f"x.{suffix}")[0])


MEASURED = """
import json, sys, types
import numpy as np
from pathlib import Path
from dnslib.data import added, layouts, scan
from dnslib.data.store import Store
from dnslib.progress import track

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

seen = {}
def watched(iterable, total, description):
    for number, item in enumerate(iterable):
        yield item
        if number % max(1, total // 20) == 0:
            seen[round(100 * number / total)] = resident()

scan.track = watched
items = layouts.recognise(Path(sys.argv[1])).items("speech", [])
with Store(Path(sys.argv[2]), "speech") as store:
    for _ in range(2):
        found = scan.scan(items, store, "")
        seen[100] = resident()
        print(json.dumps(seen | {"files": len(found.places)}), flush=True)
        seen.clear()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_for_very_many_files(tmp_path):
    """After a fifth of the files memory hardly grows, neither when they are decoded nor when they are known."""
    count = int(os.environ.get("DNS_STUDY_SCAN_FILES", "6000"))
    data = many(tmp_path / "data", speakers=count // 200, files=200, samples=2400)
    command = [sys.executable, "-c", MEASURED, str(data), str(tmp_path / "store")]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for line in printed.splitlines():
        seen = json.loads(line)
        assert seen["files"] == count
        assert seen["100"] - seen["20"] < 10  # MB; the samples of the others are 23 MB as int16, 46 as float32
    assert len(printed.splitlines()) == 2


def test_a_name_that_is_not_utf_8_is_a_name_like_any_other(tmp_path, decoded):
    data = many(tmp_path / "data", speakers=4, files=1)
    (data / "speech" / "s001").rename(data / "speech" / os.fsdecode(b"M\xfcller"))
    (data / "noise" / "home" / "a" / os.fsdecode(b"bad\xff.wav")).write_bytes(b"no audio")
    corpora = prepared(data, tmp_path / "out")
    splits = (corpora.train, corpora.validation, corpora.test)
    speakers = {name for split in splits for name in split.speech.by_source}
    assert speakers == {"s000", "s002", "s003", r"M\xfcller"}
    assert r"bad\xff.wav cannot be decoded as audio" in (corpora.folder / "skipped.txt").read_text(encoding="utf-8")
    assert folder_digest(str(data)) == folder_digest(str(data))
    times = len(decoded)
    os.utime(data / "speech" / "s002" / "x" / "00000.wav", (1, 1))  # scanned again, by the names in the store
    assert prepared(data, tmp_path / "out").digest == corpora.digest
    assert len(decoded) == times


@pytest.mark.parametrize("name", ["index.csv", "rooms.npz", "data.json"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_cache_names_the_folder_to_delete(tmp_path, name, share):
    data = many(tmp_path / "data", speakers=4, files=1)
    path = prepared(data, tmp_path / "out").folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MisuseError, match=f"The prepared data in {path.parent} are damaged .*: delete that folder"):
        prepared(data, tmp_path / "out")
    shutil.rmtree(path.parent)
    prepared(data, tmp_path / "out")
    assert path.read_bytes()[-20:] == content[-20:]


def test_samples_cut_short_are_not_believed(tmp_path):
    data = many(tmp_path / "data", speakers=4, files=1)
    corpora = prepared(data, tmp_path / "out")
    samples = next((tmp_path / "out" / "data").glob("store-*/speech.npy"))
    with samples.open("r+b") as file:
        file.truncate(samples.stat().st_size - 2)
    with pytest.raises(MisuseError, match="damaged"):
        open_corpora(corpora.folder)
    shutil.rmtree(corpora.folder)
    assert prepared(data, tmp_path / "out").digest == corpora.digest


def test_a_damaged_pointer_leads_to_a_new_scan(tmp_path):
    data = many(tmp_path / "data", speakers=4, files=1)
    folder = prepared(data, tmp_path / "out").folder
    (pointer,) = (tmp_path / "out" / "data").glob("*.json")
    pointer.write_bytes(b"\xff{")
    assert prepared(data, tmp_path / "out").folder == folder
    assert json.loads(pointer.read_text())["cache"] == folder.name
