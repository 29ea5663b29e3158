"""Corpora on disk: splits that share no source, caches that are whole or absent, folders with all their surprises."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from dnslib.data import Mixtures, added, caches, folders, mixtures, noisy_clips, prepare, sources, test_clips, workers
from dnslib.data import embedded as synthesised
from dnslib.data.corpora import Corpus, Split
from dnslib.data.rooms import LEAD
from dnslib.data.samples import Writer
from dnslib.data.splits import SPLITS, assign_splits, minutes_by_source
from dnslib.errors import MisuseError

RATE = 16_000


def settings(outputs, data="", **more):
    values = {"data": str(data), "outputs": str(outputs), "seed": 0, "speech_minutes": 0.5, "noise_minutes": 0.5}
    return SimpleNamespace(**values | more)


@pytest.fixture(autouse=True, scope="module")
def few_rooms():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(added, "ROOMS", dict.fromkeys(SPLITS, 2))
        yield


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    return prepare(settings(tmp_path_factory.mktemp("embedded")))


def sound(seed, seconds=1.5, rate=RATE, channels=1):
    wave = np.random.default_rng(seed).uniform(-0.5, 0.5, (int(seconds * rate), channels))
    return wave[:, 0] if channels == 1 else wave


def write(path, wave, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate)


@pytest.fixture
def recordings(tmp_path, quick_rooms):
    """Five speakers, one of them in two corpora; five noises; a broken file in each kind."""
    root = tmp_path / "recordings"
    for index, speaker in enumerate("abcde"):
        write(root / "speech" / "first" / speaker / "1.flac", sound(index, 4))
    write(root / "speech" / "second" / "a" / "2.wav", sound(9, 4, rate=44_100, channels=2), 44_100)
    for index in range(5):
        write(root / "noise" / "home" / f"class{index}" / "n.wav", sound(20 + index))
    (root / "noise" / "home" / "broken.wav").write_bytes(b"this is not audio")
    write(root / "speech" / "first" / "b" / "silent.wav", np.zeros(1000))
    (root / "speech" / "README.txt").write_text("notes are not recordings")
    return root


def heard(corpora, kind):
    return [set(getattr(getattr(corpora, split), kind).by_source) for split in SPLITS]


def test_no_speaker_and_no_noise_stands_in_two_splits(embedded, recordings, tmp_path):
    for corpora in (embedded, prepare(settings(tmp_path, recordings))):
        for kind in ("speech", "noise"):
            found = heard(corpora, kind)
            assert all(found)
            assert sum(map(len, found)) == len(set.union(*found))
    speakers = heard(corpora, "speech")
    assert set.union(*speakers) == set("abcde")  # "a" of both corpora is one source


def test_everything_is_each_recording_of_the_three_splits_once_and_no_babble(recordings, tmp_path):
    corpora = prepare(settings(tmp_path, recordings))
    for kind in ("speech", "noise"):
        parts = [getattr(getattr(corpora, split), kind) for split in SPLITS]
        if kind == "noise":
            assert all(any(source.startswith("babble") for source in part.by_source) for part in parts)
            parts = [part.without("babble-") for part in parts]
        whole = getattr(corpora.everything, kind)
        names = np.concatenate([part.names for part in parts]).tolist()
        assert whole.names.tolist() == names
        assert len(set(names)) == len(names)
        assert set(whole.by_source) == set.union(*(set(part.by_source) for part in parts))
        alone = [part.recording(index) for part in parts for index in range(len(part))]
        assert all(np.array_equal(whole.recording(index), wave) for index, wave in enumerate(alone))
    assert set(corpora.everything.noise.by_source) == {f"home/class{index}" for index in range(5)}
    assert corpora.everything.rooms is corpora.test.rooms


def test_a_folder_is_converted_and_what_cannot_be_read_is_listed(recordings, tmp_path, capsys):
    corpora = prepare(settings(tmp_path, recordings))
    skipped = (corpora.folder / "skipped.txt").read_text().splitlines()
    assert [line.split()[0] for line in skipped] == ["speech/first/b/silent.wav", "noise/home/broken.wav"]
    assert capsys.readouterr().out.count("were skipped") == 1
    seconds = {}
    for split in SPLITS:
        speech = getattr(corpora, split).speech
        seconds |= {str(name): length / RATE for name, length in zip(speech.names, speech.lengths, strict=True)}
    assert seconds == pytest.approx({f"first/{s}/1.flac": 4.0 for s in "abcde"} | {"second/a/2.wav": 4.0}, abs=1e-3)
    before = corpora.digest
    (corpora.folder / "data.json").unlink()  # half a cache, as if by hand: it is made again, with equal content
    assert prepare(settings(tmp_path, recordings)).digest == before


def test_batches_depend_on_seed_and_step_only(embedded):
    forward, backward = (Mixtures(embedded.train, 3, 4, 1.0) for _ in range(2))
    first, second = forward.batch(0), forward.batch(1)
    again_second, again_first = backward.batch(1), backward.batch(0)
    for one, other in ((first, again_first), (second, again_second)):
        assert all(a.equal(b) and a.shape == (4, RATE) for a, b in zip(one, other, strict=True))
    assert not first[0].equal(second[0])
    assert not first[0].equal(Mixtures(embedded.train, 4, 4, 1.0).batch(0)[0])
    assert not first[0].equal(Mixtures(embedded.train, 3, 4, 1.0, speed_change=0.1).batch(0)[0])


def sine(hertz: int, seconds: float = 4.0) -> np.ndarray:
    """int16."""
    return np.round(8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.int16)


def corpus(*waves: np.ndarray) -> Corpus:
    """Recordings of int16 samples, each of a source of its own."""
    lengths = np.array([wave.size for wave in waves])
    names = np.array([f"source{number}" for number in range(len(waves))])
    return Corpus(np.concatenate(waves), np.cumsum(lengths) - lengths, lengths, names, names)


def tone(hertz: int) -> Corpus:
    """One recording of four seconds."""
    return corpus(sine(hertz))


def test_a_crop_at_another_speed_has_its_pitch_moved_within_the_bound():
    """500 Hz between 500 / 1.4 and 500 * 1.4, on both sides and up to near the bounds; never a sample short."""
    voice, rng, pitches = tone(500), np.random.default_rng(0), []
    for _ in range(60):
        crop = mixtures.at_other_speed(voice, rng, RATE, 1.4)
        assert crop.shape == (RATE,)
        pitches.append(np.abs(np.fft.rfft(crop * np.hanning(RATE))).argmax())  # bins of 1 Hz
    assert 500 / 1.4 - 1 <= min(pitches) < 375
    assert 670 < max(pitches) <= 500 * 1.4 + 1
    assert 450 < np.median(pitches) < 550


def test_a_crop_at_another_speed_keeps_its_high_frequencies():
    """6.4 kHz, moved to 7.04 kHz at most: a voice must not lose its sibilants."""
    voice, rng = tone(6400), np.random.default_rng(0)
    for _ in range(20):
        crop = mixtures.at_other_speed(voice, rng, RATE, 1.1)
        assert crop[RATE // 4 : -RATE // 4].std() == pytest.approx(8000 / 32768 / np.sqrt(2), rel=0.01)


SPEECH_HZ, NOISE_HZ = 500, 3000


def tones(late_echo: float) -> Split:
    """Speech and noise that can be told apart, and one room whose echo, 100 ms late, is in no target."""

    room = np.zeros((1, LEAD + RATE // 10 + 1), np.float32)
    room[0, [LEAD, -1]] = 1, late_echo
    return Split(tone(SPEECH_HZ), tone(NOISE_HZ), room)


def decibels(ratio):
    return 10 * np.log10(ratio)


def energy(waves: np.ndarray) -> np.ndarray:
    return np.square(waves, dtype=np.float64).sum(-1)


def share(waves: np.ndarray, hertz: int) -> np.ndarray:
    """Of the energy, by a tone: over 0.1 s, whole periods of either tone, when filters and the echo have settled."""
    heard = waves[..., RATE // 5 : RATE * 3 // 10].astype(np.float64)
    amplitudes = heard @ np.exp(-2j * np.pi * hertz / RATE * np.arange(heard.shape[-1]))
    return 2 * np.abs(amplitudes) ** 2 / heard.shape[-1] / energy(heard)


def test_batches_are_speech_and_noise_at_the_snr_and_level_of_the_paper():
    """SNR N(5, 10) dB in [-10, 35], level N(-28, 10) dBFS in [-50, -12]; the room is a Dirac, so all is dry."""
    count = 192
    noisy, target = (waves.numpy() for waves in Mixtures(tones(late_echo=0), 0, count, 0.3).batch(0))
    noise = noisy - target
    assert (share(target, SPEECH_HZ) > 0.999).all()
    assert (share(noise, NOISE_HZ) > 0.999).all()
    snr_db, level_dbfs = decibels(energy(target) / energy(noise)), decibels(energy(noisy) / noisy.shape[1])
    for values, mean, lowest, highest in ((snr_db, 5, -10, 35), (level_dbfs, -28, -50, -12)):
        assert abs(values.mean() - mean) < 3 * 10 / np.sqrt(count)
        assert 7.5 < values.std() < 12.5
        assert lowest - 0.01 < values.min() <= values.max() < highest + 0.01


def test_clips_have_the_snr_and_level_they_note_spread_evenly_over_their_ranges():
    clips = test_clips(tones(late_echo=0), 20, 0.3, 0)
    for clip in clips:
        noise = clip.noisy - clip.clean
        assert share(clip.clean, SPEECH_HZ) > 0.999
        assert share(noise, NOISE_HZ) > 0.999
        assert decibels(energy(clip.clean) / energy(noise)) == pytest.approx(clip.snr_db, abs=0.01)
        assert decibels(energy(clip.noisy) / clip.noisy.size) == pytest.approx(clip.level_dbfs, abs=0.01)
        assert -32.01 < clip.level_dbfs < -21.99
    assert np.diff(np.sort([-5, *(clip.snr_db for clip in clips), 15])).max() < 2  # even: a step of 1 dB on average


def test_clips_are_the_same_whatever_the_number_of_threads():
    """Workers of a cluster have others than the notebook; scores are found again by the bytes of the clips."""
    one = test_clips(tones(late_echo=0.5), 4, 10.0, 0)
    torch.set_num_threads(2)
    try:
        two = test_clips(tones(late_echo=0.5), 4, 10.0, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert all(
        np.array_equal(a.noisy, b.noisy) and np.array_equal(a.clean, b.clean) for a, b in zip(one, two, strict=True)
    )


def test_half_of_the_training_crops_and_four_in_ten_clips_stand_in_a_room():
    """In the room the target lacks an echo that the mixture has. Bounds are 3 standard deviations wide."""
    noisy, target = (waves.numpy() for waves in Mixtures(tones(late_echo=0.5), 0, 200, 0.3).batch(0))
    clips = test_clips(tones(late_echo=0.5), 100, 0.3, 0)
    rest = np.array([clip.noisy - clip.clean for clip in clips])
    for waves, expected in ((noisy - target, 0.5), (rest, 0.4)):
        wet = share(waves, SPEECH_HZ) > 1e-3  # the echo is 20 dB below the noise at worst
        assert abs(wet.mean() - expected) < 3 * np.sqrt(expected * (1 - expected) / wet.size)


def test_clips_lie_in_their_ranges_and_the_first_ones_never_change(embedded):
    many, few = test_clips(embedded.test, 7, 2.0, 0), test_clips(embedded.test, 3, 2.0, 0)
    for clip, same in zip(few, many, strict=False):
        assert np.array_equal(clip.noisy, same.noisy)
        assert np.array_equal(clip.clean, same.clean)
    for clip in many:
        assert clip.noisy.shape == clip.clean.shape == (2 * RATE,)
        assert clip.noisy.dtype == np.float32
        assert -5 <= clip.snr_db <= 15
        assert np.abs(clip.noisy).max() <= 0.991
        assert clip.speaker in embedded.test.speech.by_source
        assert clip.noise in embedded.test.noise.by_source


def test_data_do_not_depend_on_the_settings_of_a_training(embedded):
    outputs = embedded.folder.parents[1]
    made = sorted(path.name for path in outputs.glob("data/*"))
    again = prepare(settings(outputs, learning_rate=0.5, batch_size=2, test_clips=3))
    assert again.digest == embedded.digest
    assert sorted(path.name for path in outputs.glob("data/*")) == made


def test_an_interrupted_preparation_leaves_no_cache(tmp_path):
    folder = tmp_path / "data" / "key"

    def killed(temporary):
        (temporary / "speech.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caches.cached(folder, killed)
    assert not folder.exists()
    left_over = folder.with_name(".key.1234abcd.part")  # what SIGKILL would leave
    left_over.mkdir()
    caches.cached(folder, lambda temporary: (temporary / "data.json").write_text("{}"))
    assert (folder / "data.json").is_file()
    assert not left_over.exists()


def test_memory_map_returns_what_was_written(tmp_path):
    waves = [np.array([0, 1, -1, 32767, -32768], np.int16), np.array([0.5, -2.0, 1.0], np.float32)]
    with Writer(tmp_path, "speech") as writer:
        writer.add(waves[0], "a", "first")
    with writer:
        writer.add(waves[1], "b", "second")
    stored = np.load(tmp_path / "speech.npy", mmap_mode="r", allow_pickle=False)
    assert stored.tolist() == [0, 1, -1, 32767, -32768, 16384, -32768, 32767]
    assert [(row["start"], row["length"]) for row in writer.rows] == [(0, 5), (5, 3)]


def test_short_recordings_of_one_source_fill_a_crop(embedded):
    speech = embedded.train.speech
    crop = speech.crop(np.random.default_rng(0), 40 * RATE, 0)
    first = speech.recording(0)
    assert np.array_equal(crop[: first.size], first)
    assert not crop[first.size : first.size + RATE // 10].any()  # a gap of 0.1 s at least
    assert np.abs(crop[20 * RATE :]).max() > 0.01


def test_shares_of_the_splits():
    chosen = assign_splits({f"speaker{index}": 1.0 for index in range(200)}, "speakers")
    counted = {split: list(chosen.values()).count(split) for split in SPLITS}
    assert counted == {"train": 160, "validation": 10, "test": 30}
    assert assign_splits({"a": 1.0, "b": 90.0, "c": 2.0}, "speakers")["b"] == "train"
    assert sorted(assign_splits(dict.fromkeys("abc", 1.0), "speakers").values()) == sorted(SPLITS)


@pytest.mark.parametrize("rest", [{"b": 5.0, "c": 5.0}, {"b": 2.0, "c": 6.0, "d": 6.0}, {"b": 6.0, "c": 6.0, "d": 6.0}])
@pytest.mark.parametrize("large", ["a", "e", "f", "g"])  # the order follows a hash of the names
def test_the_large_one_of_few_sources_is_for_training(large, rest):
    """As of LibriSpeech's train-clean-100, dev-clean and test-clean, taken as three sources."""
    chosen = assign_splits({large: 90.0, **rest}, "speakers")
    assert chosen[large] == "train"
    assert set(chosen.values()) == set(SPLITS)


def test_minutes_are_of_samples_not_of_recordings():
    rows = [{"source": source, "length": length} for source, length in (("a", 960_000), ("b", 16_000), ("a", 480_000))]
    assert minutes_by_source(rows) == pytest.approx({"a": 1.5, "b": 1 / 60})


@pytest.mark.parametrize("name", "abcdefghijkl")  # the order follows a hash of the names
def test_no_source_is_more_than_half_of_a_held_out_split(name):
    """Of 109 minutes the test needs 16.35: a source of 9 is for training."""
    assert assign_splits({name: 9.0} | {f"speaker{index}": 1.0 for index in range(100)}, "speakers")[name] == "train"


def test_sources_of_recordings():
    source = sources.noise_source
    assert source("esc/rain/1-2345-A-10.wav") == source("esc/rain/1-2345-B-10.wav") != source("esc/rain/1-99-A-10.wav")
    assert source("home/train/a_01.wav") == source("home/train/b.wav") == "home/train"
    assert source("flat/fan_01.wav") == source("flat/fan_02.wav") != source("flat/bell_01.wav")
    spoken = {f"words/{word}/{n}.wav": 1.0 for word in ("yes", "no") for n in range(2)}
    spoken |= {"flat/x.wav": 5.0, "books/19/chapter/1.wav": 9.0}
    named = sources.speech_sources(spoken, "speech")
    assert sorted(set(named.values())) == ["19", "flat", "words"]
    assert sources.room_source("hall/1.wav") == sources.room_source("hall/far/2.wav") == "hall"
    assert sources.room_source("az+005_L.wav") == sources.room_source("az+010_L.wav")  # nothing says: two rooms


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "does not exist"),
        ([], "has no folder speech/"),
        (["speech/c/a/1.wav"], "has no folder noise/"),
        (["speech/c/README.txt", "noise/c/1.wav"], "speech holds no recordings"),
        (["speech/c/a/1.wav", "noise/c/1.wav"], "can be decoded"),
    ],
)
def test_unusable_data_folders_are_named_in_one_line(files, words, tmp_path):
    data = tmp_path / "data"
    for name in files or []:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"not audio")
    if files == []:
        data.mkdir()
    with pytest.raises(MisuseError, match=words) as error:
        prepare(settings(tmp_path / "out", data))
    assert "\n" not in str(error.value)


def test_two_speakers_cannot_make_three_splits(recordings, tmp_path):
    for speaker in "cde":
        (recordings / "speech" / "first" / speaker / "1.flac").unlink()
    with pytest.raises(MisuseError, match="at least 3 speakers"):
        prepare(settings(tmp_path, recordings))
    assert not list((tmp_path / "data").rglob("data.json"))


def test_noisy_clips_of_a_blind_set(tmp_path, capsys):
    write(tmp_path / "good.wav", sound(0))
    write(tmp_path / "deep" / "stereo.flac", sound(1, 1.0, rate=48_000, channels=2), 48_000)
    write(tmp_path / "silent.wav", np.zeros(RATE))
    write(tmp_path / "short.wav", sound(2, 0.01))
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("not audio")
    clips = {clip.name: clip for clip in noisy_clips(tmp_path)}
    assert set(clips) == {"good", "stereo"}
    assert clips["good"].clean is None
    assert clips["stereo"].noisy.shape == (RATE,)
    assert clips["stereo"].noisy.dtype == np.float32
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(
        ["deep/stereo.flac", "silent.wav", "short.wav", "nan.wav", "text.wav"]
    )
    write(tmp_path / "loud" / "loud.wav", 3 * sound(0))  # 16 bits: what lies beyond full scale is cut off
    assert [clip.name for clip in noisy_clips(tmp_path / "loud")] == ["loud"]
    assert re.fullmatch(r"loud\.wav is clipped: \d{3,} samples stand at full scale\.\n", capsys.readouterr().out)
    (tmp_path / "scaled").mkdir()  # floating-point numbers at the scale of integers
    soundfile.write(tmp_path / "scaled" / "a.wav", 32768 * sound(0), RATE, subtype="FLOAT")
    assert np.abs(noisy_clips(tmp_path / "scaled")[0].noisy).max() == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(MisuseError, match="holds no noisy clip"):
        noisy_clips(tmp_path / "empty")


def test_samples_in_a_row_at_full_scale_are_clipped():
    """Two in a row may be by chance; each channel by itself."""
    left, right = [1, 1, 0, -1, -1, -1, 0, 1], [0, 0, 1, 1, 1, 1, 0.5, -1]
    assert folders.clipped_samples(np.array([left, right]).T) == 3 + 4
    assert folders.clipped_samples(np.ones((2, 1))) == 0


def test_what_is_loud_is_not_clipped_unless_it_is_flat():
    sine = np.sin(2 * np.pi * 200 * np.arange(48_000) / 48_000)[:, None]
    as_stored = np.round(32767 * sine) / 32768
    assert folders.clipped_samples(as_stored) == 0
    assert folders.clipped_samples(4 * sine) == 0  # has another scale, and is made softer
    cut_off = int((np.abs(1.2 * sine) >= 1).sum())
    assert folders.clipped_samples(1.2 * sine) == folders.clipped_samples((1.2 * sine).clip(-1, 1)) == cut_off > 10_000


def test_floating_point_files_beyond_full_scale_keep_their_shape():
    wave = np.array([0.5, -3.0, 1.5], np.float32)
    assert folders.within_full_scale(wave).tolist() == pytest.approx([1 / 6, -1, 0.5])
    over = np.array([0.5, -1.2], np.float32)  # as a lossy codec makes of full scale
    assert folders.within_full_scale(over) is over


@pytest.mark.parametrize(
    "dies",
    [
        "pass",
        "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)",
        """print('["a room", [1000]]', "x" * 400, sep="\\n", end="")""",
    ],
)
def test_a_worker_that_dies_is_named_and_none_is_left(monkeypatch, dies):
    """At once, in the middle of a job, or with a tenth of its result written."""
    started = []

    def start():
        command = [sys.executable, "-c", dies]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(workers, "start", start)
    with (
        pytest.raises(RuntimeError, match=r"A worker process ended while it made room.* \(exit status -?\d"),
        workers.Workers() as pool,
    ):
        list(pool.map("room", [[place] for place in range(8)]))
    assert started
    assert all(process.poll() is not None for process in started)


def dry() -> np.ndarray:
    return np.eye(1, 60, LEAD, dtype=np.float32)


def test_speech_and_noise_of_training_are_shaped_each_by_a_filter_of_its_own():
    """White noise stands for both: unshaped, its halves of the band differ by 0.3 dB at most."""
    white = np.random.default_rng(0).normal(0, 3000, 4 * RATE).astype(np.int16)
    noisy, target = (
        waves.numpy() for waves in Mixtures(Split(corpus(white), corpus(white), dry()), 0, 64, 1.0).batch(0)
    )
    tilts = []
    for waves in (target, noisy - target):
        power = np.abs(np.fft.rfft(waves)) ** 2
        tilts.append(10 * np.log10(power[:, : RATE // 4].sum(1) / power[:, RATE // 4 :].sum(1)))
    assert all(tilt.std() > 2 for tilt in tilts)
    assert abs(np.corrcoef(*tilts)[0, 1]) < 0.4  # 3 standard errors of 64 pairs


def test_three_in_ten_noises_are_two_the_second_up_to_12_db_softer():
    """Of two tones, drawn alike: half of the second ones differ from the first."""
    rng, both, parts = np.random.default_rng(0), corpus(sine(1000), sine(3000)), []
    for _ in range(600):
        spectrum = np.abs(np.fft.rfft(mixtures.two_noises(both, rng, RATE // 10, 1.0)))
        parts.append(np.sort(spectrum[[100, 300]]))
    softer, louder = np.array(parts).T
    two = softer > 0.01 * louder
    assert abs(two.mean() - 0.15) < 3 * np.sqrt(0.15 * 0.85 / 600)
    levels_db = 20 * np.log10(softer[two] / louder[two])
    assert -12.01 < levels_db.min() < -10
    assert -2 < levels_db.max() <= 0.01


def test_noise_changes_its_speed_four_times_as_much_as_speech():
    mixed = Mixtures(Split(tone(1000), tone(2000), dry()), 0, 64, 1.0, speed_change=0.05)
    noisy, target = (waves.numpy() for waves in mixed.batch(0))
    pitches = [
        np.abs(np.fft.rfft(w * np.hanning(RATE))).argmax(1) / hz for w, hz in ((target, 1000), (noisy - target, 2000))
    ]
    for pitch, most in zip(pitches, (1.05, 1.2), strict=True):
        assert 1 + 0.8 * (most - 1) < pitch.max() < most + 0.002
        assert 1 / most - 0.002 < pitch.min() < 1 - 0.8 * (1 - 1 / most)


def test_a_recording_is_drawn_by_its_length_and_silence_is_drawn_again():
    unequal = corpus(sine(500, 1.0), sine(500, 9.0))
    rng = np.random.default_rng(0)
    assert np.mean([unequal.draw(rng) for _ in range(2000)]) == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / 2000))
    mute = corpus(np.zeros(4 * RATE, np.int16), sine(500))
    assert sum(not mute.crop(rng, RATE).any() for _ in range(40)) > 5  # or this shows nothing
    assert all(mute.audible_crop(rng, RATE).any() for _ in range(40))


def test_channels_are_averaged_but_of_a_room_the_first_one_is_heard(tmp_path):
    left, right = (sine(hertz, 1.0) / 32768 for hertz in (500, 3000))
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(folders.read(tmp_path / "two.wav")[0], (left + right) / 2, atol=1e-6)
    np.testing.assert_allclose(folders.read_room(tmp_path / "two.wav"), left, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_recordings_of_other_rates_keep_what_is_heard_below_8_khz_and_nothing_else(rate, tmp_path):
    """A tone in the middle comes out as it went in; one that 16 kHz cannot hold does not come back as another."""
    time = np.arange(2 * rate) / rate
    soundfile.write(
        tmp_path / "x.wav",
        0.25 * np.sin(2 * np.pi * 3000 * time) + 0.25 * np.sin(2 * np.pi * 9500 * time) * (rate > 19_000),
        rate,
        subtype="FLOAT",
    )
    wave, _ = folders.read(tmp_path / "x.wav")
    assert wave.size == 2 * RATE
    expected = 0.25 * np.sin(2 * np.pi * 3000 * np.arange(2 * RATE) / RATE)
    inner = slice(RATE // 2, -RATE // 2)
    np.testing.assert_allclose(wave[inner], expected[inner], atol=2e-3)


def test_embedded_data_have_the_minutes_asked_for_in_the_shares_of_the_splits():
    def minutes(jobs, place, seconds):
        return [sum(seconds(job) for job in jobs if job[place] == split) / 60 for split in SPLITS]

    assert minutes(synthesised.talker_jobs(0, 100.0), 0, lambda job: job[3]) == pytest.approx([80, 5, 15], rel=0.02)
    assert minutes(synthesised.noise_jobs(0, 100.0), 1, lambda job: job[4] / RATE) == pytest.approx(
        [75, 5, 20], rel=0.02
    )


def test_a_tenth_of_the_noise_is_babble_of_several_of_the_splits_own_voices():
    asked = []

    def voices(split):
        voice = corpus(sine(500))
        return SimpleNamespace(crop=lambda rng, samples: asked.append(split) or voice.crop(rng, samples))

    recorded = {"train": 90 * 12 * RATE, "validation": 9 * 12 * RATE, "test": 18 * 12 * RATE}
    made = [split for split, _, _ in added.babble(voices, recorded, seed=0)]
    assert [made.count(split) for split in SPLITS] == [10, 1, 2]
    assert [3 <= asked.count(split) / made.count(split) <= 9 for split in SPLITS] == [True] * 3


def test_speakers_and_kinds_of_noise_take_turns_among_the_clips():
    """No speaker and no kind is heard again before all others were (README: 100 test clips of 51 speakers)."""
    voices = corpus(*(sine(300 + 10 * n, 1.0) for n in range(5)))
    noises = corpus(*(sine(3000 + 10 * n, 1.0) for n in range(6)))
    names = np.array(["fan-0", "fan-1", "fan-2", "fan-3", "rain-0", "bus-0"])
    noises = Corpus(noises.samples, noises.starts, noises.lengths, names, names)
    clips = test_clips(Split(voices, noises, dry()), 12, 0.2, 0)
    for first in (0, 5):
        assert len({clip.speaker for clip in clips[first : first + 5]}) == 5
    for first in (0, 6):  # after rain and bus only fans are left
        kinds = [clip.noise.partition("-")[0] for clip in clips[first : first + 6]]
        assert set(kinds[:3]) == {"fan", "rain", "bus"}
        assert len({clip.noise for clip in clips[first : first + 6]}) == 6
