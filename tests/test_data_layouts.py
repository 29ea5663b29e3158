"""Layouts in the naming of the published corpora: what is recognised, and who shares a source."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from dnslib.data import layouts, noisy_clips, prepare, sources
from dnslib.data.rooms import LEAD
from dnslib.data.splits import SPLITS
from dnslib.errors import MisuseError

RATE = 16_000
READ = [
    f"read_speech/book_0000{b}_chp_000{c}_reader_0670{r}_{c}_seg_1.wav" for r in range(4) for b, c in ((1, 2), (3, 4))
]
SPOKEN = {  # as in the challenges: name below clean*, speaker
    "french_speech/M-AILABS_Speech_Dataset/fr_FR_190hrs_16k/female/ezwa/book/wavs/monsieur_f000182.wav": "ezwa",
    "french_speech/M-AILABS_Speech_Dataset/fr_FR_190hrs_16k/male/bernard/book/wavs/x_f000001.wav": "bernard",
    "italian_speech/M-AILABS_Speech_Dataset/it_IT_128hrs_16k/mix/novelle_02/wavs/a_f000039.wav": "it_IT_128hrs_16k/mix",
    "italian_speech/M-AILABS_Speech_Dataset/it_IT_128hrs_16k/mix/novelle_03/wavs/b_f000001.wav": "it_IT_128hrs_16k/mix",
    "german_speech/CC_BY_SA_4.0_249hrs_339spk_German_Wikipedia_16k/German_Wikipedia_Martin_Luther_audio2_48kHz_seg_157.wav":
        "wikipedia/Martin_Luther",
    "spanish_speech/SLR39_48kHz/SLR39_100_11_48kHz.wav": "SLR39/100",
    "spanish_speech/SLR61_48kHz/SLR61_es_ar_female_arf_03397_01665251952_48kHz.wav": "arf_03397",
    "spanish_speech/SLR71_es_cl_female_clf_00610_00103371024_48kHz_seg_0.wav": "clf_00610",
    "emotional_speech/crema_d/1025_IWL_SAD_XX.wav": "crema_d/1025",
    "VocalSet_48kHz_mono/vocalset_female7_scales_fast_forte_f7_scales_f_fast_forte_i_48kHz.wav": "vocalset/female7",
    "vctk_wav48_silence_trimmed/p225/p225_001_mic1.wav": "p225",
    "vctk_wav48_silence_trimmed/p225/p225_001_mic2.wav": "p225",
    "vctk_wav48_silence_trimmed/s5/s5_001_mic1.wav": "s5",
}  # fmt: skip
NOISES = {
    "--9VR_F7CtY.wav": "audioset/--9VR_F7CtY",
    "-1416t6Z712.wav": "audioset/-1416t6Z712",
    "door_Freesound_validated_235661_0.wav": "freesound/235661",
    "fan_Freesound_validated_235661_7.wav": "freesound/235661",
    "fan_Freesound_validated_361372_19.wav": "freesound/361372",
}
RESPONSES = {
    "SLR26/simulated_rirs_48k/smallroom/Room149/Room149-00003.wav": "smallroom/Room149",
    "SLR26/simulated_rirs_48k/smallroom/Room149/Room149-00099.wav": "smallroom/Room149",
    "SLR26/simulated_rirs_48k/largeroom/Room149/Room149-00003.wav": "largeroom/Room149",
    "SLR28/RIRS_NOISES/real_rirs_isotropic_noises/air_type1_air_binaural_office_0_1.wav": "air",
    "SLR28/RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_far_angla.wav": "RVB2014",
}
NO_RESPONSES = (
    "SLR28/RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1.wav",
    "SLR28/RIRS_NOISES/pointsource_noises/noise-free-sound-0001.wav",
)


pytestmark = pytest.mark.usefixtures("quick_rooms")


def wave(seed, seconds=0.3):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE))


def write(root, names, seconds=0.3):
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, wave([seed, len(name)], seconds), RATE)


def prepared(root, tmp_path):
    return prepare(SimpleNamespace(data=str(root), outputs=str(tmp_path / "out")))


def by_name(corpora, kind):
    """Source of every recording, and that no source stands in two splits."""
    splits = [getattr(getattr(corpora, split), kind) for split in SPLITS]
    found = {str(name): str(source) for one in splits for name, source in zip(one.names, one.sources, strict=True)}
    assert sum(len(one.by_source) for one in splits) == len(set(found.values()))
    return found


def dns_tree(root, suffix="_fullband", clean="clean_fullband"):
    write(root, [f"{clean}/{name}" for name in [*SPOKEN, *READ]], 3.0)
    write(root, [f"noise{suffix}/{name}" for name in NOISES])
    write(root, [f"impulse_responses/{name}" for name in [*RESPONSES, *NO_RESPONSES]])
    write(root, ["dev_testset/noisy/ms_realrec_english_fan.wav", "ICASSP_blind_test_set/track_1/noisy/x.wav"])


def test_dns_challenge_names_its_speakers_sounds_and_rooms(tmp_path, capsys):
    dns_tree(tmp_path / "dns" / "datasets_fullband")
    corpora = prepared(tmp_path / "dns", tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recognised: ")]
    assert len(lines) == 1
    assert lines[0].startswith("recognised: DNS Challenge 4, speech in datasets_fullband/clean_fullband; noise in ")
    base = "datasets_fullband/clean_fullband/"
    expected = {base + name: source for name, source in SPOKEN.items()}
    expected |= {base + name: "reader/" + name.split("_reader_")[1][:5] for name in READ}
    assert by_name(corpora, "speech") == expected
    sounds = {n: s for n, s in by_name(corpora, "noise").items() if not s.startswith("babble-")}
    assert sounds == {f"datasets_fullband/noise_fullband/{name}": source for name, source in NOISES.items()}
    layout = layouts.recognise(tmp_path / "dns")
    prefix = "datasets_fullband/impulse_responses/"
    rooms = {one.name.removeprefix(prefix): layout.room_source(one.name) for one in layout.items("rooms", [])}
    assert {name: source.removeprefix(prefix) for name, source in rooms.items()} == RESPONSES
    assert sum(len(getattr(corpora, split).rooms) for split in SPLITS) == len(RESPONSES) + 3


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("DNS Challenge 3", ["datasets/clean/french_data/M/fr_FR/male/bernard/b/wavs/x.wav", "datasets/noise/a.wav"]),
        ("DNS Challenge 3", ["clean_fullband/french_data/a.wav", "noise_fullband/a.wav"]),
        ("DNS Challenge 4", ["datasets/read_speech/a.wav", "datasets/french_speech/a.wav", "datasets/noise/a.wav"]),
        ("DNS Challenge 4", ["clean_fullband/vctk_wav48_silence_trimmed/p225/a.wav", "noise_fullband/a.wav"]),
        ("DNS Challenge 5", ["Track1_Headset/read_speech/a.wav", "noise_fullband/a.wav"]),
        ("DNS Challenge 5", ["datasets_fullband/clean_fullband/mnt/dnsv5/clean/read_speech/a.wav",
                             "datasets_fullband/noise_fullband/a.wav"]),
        ("DNS Challenge", ["datasets/clean/book_00000_chp_0009_reader_06709_11.wav", "datasets/noise/a.wav"]),
        ("own layout", ["speech/a/b/c.wav", "noise/a/b/c.wav"]),
        ("MS-SNSD", ["clean_train/p234_001.wav", "noise_train/Babble_1.wav"]),
        ("plain folders", ["CleanSpeech_training/clnsp1.wav", "Noise_training/n.wav", "NoisySpeech_training/n.wav"]),
        ("plain folders", ["train/voices/p1/a.wav", "train/background-noises/a.wav"]),
    ],
)  # fmt: skip
def test_layouts_are_told_apart(name, names, tmp_path):
    for one in names:
        (tmp_path / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / one).touch()
    assert layouts.recognise(tmp_path).name == name


def test_a_wideband_copy_is_taken_once(tmp_path):
    write(tmp_path, ["datasets/clean/read_speech/a.wav", "datasets_fullband/clean_fullband/read_speech/a.wav",
                     "datasets/noise/a.wav", "datasets_fullband/noise_fullband/a.wav"])  # fmt: skip
    layout = layouts.recognise(tmp_path)
    assert [root.relative_to(tmp_path).as_posix() for root in (*layout.speech, *layout.noise)] == [
        "datasets/clean", "datasets/noise"]  # fmt: skip


def test_a_fullband_corpus_that_is_there_only_once_is_taken(tmp_path):
    """Also where the data folder itself is called after fullband."""
    data = tmp_path / "dns_fullband"
    write(data, ["datasets/Track1_Headset/read_speech/a.wav", "datasets_fullband/clean_fullband/read_speech/b.wav",
                 "datasets/clean/read_speech/b.wav", "noise_fullband/a.wav"])  # fmt: skip
    layout = layouts.recognise(data)
    assert {root.relative_to(data).as_posix() for root in layout.speech} == {
        "datasets/Track1_Headset", "datasets/clean"}  # fmt: skip
    assert layout.noise == (data / "noise_fullband",)


def test_what_the_synthesiser_of_the_challenge_made_is_left_alone(tmp_path):
    """Its clean and noise are copies, under numbers that tell neither readers nor sounds."""
    write(
        tmp_path, [f"training_set/{kind}/{kind}_fileid_{n}.wav" for kind in ("clean", "noise", "noisy") for n in (1, 2)]
    )
    write(tmp_path, ["datasets_fullband/read_speech/a.wav", "datasets_fullband/noise/--9VR_F7CtY.wav"])
    layout = layouts.recognise(tmp_path)
    assert [root.relative_to(tmp_path).as_posix() for root in (*layout.speech, *layout.noise)] == [
        "datasets_fullband/read_speech", "datasets_fullband/noise"]  # fmt: skip


@pytest.mark.parametrize("suffix", ["", "_fullband"])
def test_corpora_are_no_copies_where_mixtures_lie_beside_them(suffix, tmp_path):
    base = tmp_path / "datasets"
    write(base, [f"clean{suffix}/read_speech/a.wav", f"noise{suffix}/--9VR_F7CtY.wav", "noisy/mixed.wav"])
    layout = layouts.recognise(tmp_path)
    assert (layout.speech, layout.noise) == ((base / f"clean{suffix}",), (base / f"noise{suffix}",))


def test_corpora_beside_a_clean_folder_are_taken_too(tmp_path):
    write(
        tmp_path,
        ["pdns_training_set/raw/clean/read_speech/a.wav", "datasets/read_speech/b.wav", "datasets/noise/c.wav"],
    )
    assert {root.name for root in layouts.recognise(tmp_path).speech} == {"clean", "read_speech"}


ROOMS = {name: source for name, source in RESPONSES.items() if name.startswith("SLR28")} | {
    "SLR28/RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00003.wav": "smallroom/Room001"
}


@pytest.mark.parametrize("names", [("speech", "noise", "rir"), ("clean", "noises", "impulse_responses")])
def test_rooms_of_slr28_are_told_apart_and_its_noises_are_no_rooms_in_any_layout(names, tmp_path):
    speech, noise, rooms = names
    write(
        tmp_path,
        [f"{speech}/ann/a/1.wav", f"{noise}/rain/1.wav", *(f"{rooms}/{one}" for one in [*ROOMS, *NO_RESPONSES])],
    )
    layout = layouts.recognise(tmp_path)
    found = {one.name: layout.room_source(one.name) for one in layout.items("rooms", [])}
    assert {name.removeprefix(f"{rooms}/"): source for name, source in found.items()} == ROOMS


def test_an_unpacked_slr28_is_no_noise(tmp_path):
    write(
        tmp_path,
        ["LibriSpeech/train-clean-100/19/198/19-198-0000.wav", *(f"RIRS_NOISES/{name[18:]}" for name in NO_RESPONSES)],
    )
    with pytest.raises(MisuseError, match="has no folder noise/"):
        layouts.recognise(tmp_path)
    write(tmp_path, ["noise/rain/1.wav"])
    layout = layouts.recognise(tmp_path)
    assert (layout.noise, layout.items("rooms", [])) == ((tmp_path / "noise",), [])


def voicebank_tree(root):
    """Six speakers, four noises, as in the published set: clean + noise = noisy, logs of file, noise and SNR."""
    noises = {}
    for subset, speakers, kinds in (("trainset_28spk", range(226, 231), ("cafeteria", "babble", "car")),
                                    ("testset", (232, 257), ("bus",))):  # fmt: skip
        lines = []
        for index, speaker in enumerate(speakers):
            name, kind = f"p{speaker}_001", kinds[index % len(kinds)]
            clean, noise = wave([speaker, 0]), 0.3 * wave([speaker, 1])
            for folder, sound in (("clean", clean), ("noisy", clean + noise)):
                (root / f"{folder}_{subset}_wav").mkdir(parents=True, exist_ok=True)
                soundfile.write(root / f"{folder}_{subset}_wav" / f"{name}.wav", sound, RATE)
            noises[f"noisy_{subset}_wav/{name}.wav"] = (kind, noise)
            lines.append(f"{name} {kind} 10\n")
        (root / "logfiles").mkdir(exist_ok=True)
        (root / "logfiles" / f"log_{subset}.txt").write_text("".join(lines))
    return noises


def test_voicebank_noise_is_noisy_minus_clean_under_the_name_in_the_log(tmp_path, capsys):
    noises = voicebank_tree(tmp_path / "vb")
    corpora = prepared(tmp_path / "vb", tmp_path)
    assert "recognised: VoiceBank+DEMAND, " in capsys.readouterr().out
    assert set(by_name(corpora, "speech").values()) == {f"p{n}" for n in (*range(226, 231), 232, 257)}
    found = {n: s for n, s in by_name(corpora, "noise").items() if not s.startswith("babble-")}
    assert found == {name: kind for name, (kind, _) in noises.items()}
    for split in SPLITS:
        noise = getattr(corpora, split).noise
        for index, name in enumerate(noise.names):
            if str(name) in noises:
                assert np.abs(noise.recording(index) - noises[str(name)][1]).max() < 2.1 / 32768  # two roundings


def test_voicebank_pairs_by_name_and_says_so_where_it_cannot(tmp_path):
    """Noisy files as flac are fine, other names are not."""
    voicebank_tree(tmp_path / "vb")
    noisy = sorted((tmp_path / "vb").glob("noisy_*/*.wav"))
    for path in noisy:
        soundfile.write(path.with_suffix(".flac"), *soundfile.read(path))
        path.unlink()
    found = by_name(prepared(tmp_path / "vb", tmp_path / "a"), "noise")
    kinds = {name: kind for name, kind in found.items() if name.endswith(".flac")}
    assert set(kinds.values()) == {"cafeteria", "babble", "car", "bus"}
    assert len(kinds) == len(noisy)
    for path in noisy:
        path.with_suffix(".flac").rename(path.with_name(f"x{path.stem}.flac"))
    with pytest.raises(MisuseError, match=r"No noisy file of .* has a clean one of the same name"):
        prepared(tmp_path / "vb", tmp_path / "b")


def test_what_macos_adds_to_an_archive_is_not_taken_for_the_corpus(tmp_path):
    voicebank_tree(tmp_path / "vb")
    write(tmp_path / "vb" / "__MACOSX", ["clean_testset_wav/._p232_001.wav", "noisy_testset_wav/._p232_001.wav"])
    layout = layouts.recognise(tmp_path / "vb")
    assert {one.parent for one in (*layout.speech, *layout.noise)} == {tmp_path / "vb"}


def test_voicebank_without_its_log_says_what_is_needed(tmp_path):
    voicebank_tree(tmp_path / "vb")
    (tmp_path / "vb" / "logfiles" / "log_testset.txt").unlink()
    with pytest.raises(MisuseError, match=r"lacks log_testset\.txt"):
        prepared(tmp_path / "vb", tmp_path)


def test_ms_snsd_joins_kinds_of_noise_and_leaves_its_mixtures_alone(tmp_path):
    root = tmp_path / "snsd"
    write(root, ["clean_train/p234_001.wav", "clean_train/p234_003.wav", "clean_train/p241_001.wav",
                 "clean_train/mic_F01_sa1.wav", "clean_train/mic_F02_sa1.wav", "clean_test/clnsp0.wav",
                 "clean_test/clnsp10.wav", "noise_train/AirConditioner_1.wav", "noise_train/AirConditioner_10.wav",
                 "noise_test/AirConditioner_1.wav", "noise_train/Babble_1.wav", "noise_test/Typing_2.wav",
                 "noise_train/NeighborSpeaking_1.wav", "noise_test/Neighbor_4.wav",
                 "NoisySpeech_training/noisy1_SNRdb_0.0_clnsp1.wav", "CleanSpeech_training/clnsp1.wav"])  # fmt: skip
    corpora = prepared(root, tmp_path)
    assert set(by_name(corpora, "speech").values()) == {"p234", "p241", "F01", "F02", "clnsp"}
    assert {s for s in by_name(corpora, "noise").values() if s[:7] != "babble-"} == {
        "AirConditioner",
        "Babble",
        "NeighborSpeaking",
        "Typing",
    }


def test_plain_folders_name_speakers_by_folder_or_file(tmp_path):
    root = tmp_path / "mine"
    spoken = ["train/clean_speech/ann/a.wav", "train/clean_speech/ann/b.wav", "test/Voice recordings/19-198-0000.wav"]
    spoken += ["test/Voice recordings/19-200-0001.wav", "test/Voice recordings/speaker_07_x.wav"]
    sounds = ["rain/1.wav", "rain/2.wav", "fan_01.wav", "fan_02.wav", "bus.wav"]
    write(root, [*spoken, *(f"noises/{name}" for name in sounds), "noisy/x.wav", "impulse/hall/1.wav"], 3.0)
    corpora = prepared(root, tmp_path)
    assert set(by_name(corpora, "speech").values()) == {"ann", "19", "07"}
    assert {s for s in by_name(corpora, "noise").values() if s[:7] != "babble-"} == {
        "noises/rain", "noises/fan", "noises/bus"}  # fmt: skip


def test_plain_noise_of_training_and_test_folders_is_one_noise(tmp_path):
    """By the name of its folder or file, and where a file was copied under another name."""
    write(tmp_path, [f"train/clean/p{n}/a.wav" for n in range(4)], 3.0)
    for part, take in (("train", 1), ("test", 2)):
        names = (f"street/{take}.wav", f"fan_0{take}.wav", f"rain/{take}.wav", f"only_{part}.wav")
        write(tmp_path / part / "noise", names)
    copy = tmp_path / "test" / "noise" / "copy.wav"
    copy.write_bytes((tmp_path / "train" / "noise" / "only_train.wav").read_bytes())
    sounds = by_name(prepared(tmp_path, tmp_path), "noise")
    for name in ("street/{}.wav", "fan_0{}.wav", "rain/{}.wav"):
        assert sounds["train/noise/" + name.format(1)] == sounds["test/noise/" + name.format(2)]
    assert sounds["train/noise/only_train.wav"] == sounds["test/noise/copy.wav"]
    assert sounds["train/noise/only_train.wav"] != sounds["test/noise/only_test.wav"]


@pytest.mark.parametrize("name", ["reverberant_speech", "clean_reverb", "no_reverb", "reverb-speech"])
def test_speech_in_rooms_is_no_room_and_not_clean(name, tmp_path):
    write(tmp_path, ["clean/p1/a.wav", "noise/a.wav", f"{name}/a.wav", "reverb/a.wav"])
    layout = layouts.recognise(tmp_path)
    assert ([one.name for one in layout.speech], [one.name for one in layout.rooms]) == (["clean"], ["reverb"])


@pytest.mark.parametrize(
    ("name", "speaker"),
    [("LibriSpeech/train-clean-100/19/198/19-198-0000.flac", "19"), ("LibriSpeech/dev-other/84/121123/x.flac", "84"),
     ("VCTK/wav48_silence_trimmed/p225/p225_001_mic1.flac", "p225"), ("VCTK/wav48/p226/p226_001.wav", "p226"),
     ("arctic/bdl/wav/a0001.wav", "bdl"), ("one/wav/a.wav", "one"), ("one/ann/wav/monday/a.wav", "ann"),
     ("speech/LibriSpeech/train-clean-100/19/198/19-198-0000.flac", "19"),
     ("VCTK/VCTK-Corpus/wav48/p225/p225_001.wav", "p225")],
)  # fmt: skip
def test_speakers_are_found_below_folders_of_subset_and_format(name, speaker):
    assert sources.speech_sources({name: 5.0}, "speech") == {name: speaker}


@pytest.mark.parametrize(
    ("stem", "source"),
    [("p226_001", "p226"), ("19-198-0000", "19"), ("clnsp12", "clnsp"), ("0000", "numbered"), ("0011", "numbered"),
     ("03a01Fa", "numbered"), ("bob", "bob")],
)  # fmt: skip
def test_numbers_alone_tell_no_speakers_apart(stem, source):
    assert sources.first_field(f"clean/{stem}.wav") == source


@pytest.mark.parametrize(
    ("stem", "source"),
    [("street_0001", "street"), ("street_0002", "street"), ("-1416t6Z712", "audioset/-1416t6Z712"),
     ("kNs-3aDg_01", "audioset/kNs-3aDg_01")],
)  # fmt: skip
def test_a_numbered_name_is_no_video(stem, source):
    assert sources.dns_noise(f"noise/{stem}.wav") == source


def test_a_folder_of_none_of_the_layouts_is_told_what_is_accepted_in_one_line(tmp_path):
    write(tmp_path, ["music/a.wav"])
    with pytest.raises(MisuseError, match=r"DNS Challenge tree.*VoiceBank.*MS-SNSD") as error:
        layouts.recognise(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(MisuseError, match="is a file"):
        layouts.recognise(tmp_path / "music" / "a.wav")


@pytest.mark.parametrize(
    ("folder", "noisy", "other"),
    [
        ("V5_dev_testset", ["Track1_Headset/noisy/a.wav", "Track2_Speakerphone/noisy/a.wav"],
         ["Track1_Headset/enrol/b.wav"]),
        ("ICASSP_blind_test_set", ["track_1/noisy/ms_realrec_english.wav"], []),
        ("test_set", ["real_recordings/audioset_realrec_car_x.wav", "synthetic/no_reverb/noisy/n.wav"],
         ["synthetic/no_reverb/clean/clean_fileid_1.wav"]),
        ("dev_testset", ["ms_realrec_1.wav"], []),
        ("personalized_dev_testset", ["noisy_testclips/ms_realrec_A1.wav"], ["enrollment/primary_A1.wav"]),
        ("track_2", ["real_recordings/noisy/a.wav", "synthetic/noisy/b.wav"],
         ["real_recordings/adaptation_data/p1.wav"]),
        ("DNS-Challenge", ["datasets/test_set/synthetic/no_reverb/noisy/n.wav",
                           "datasets/test_set/real_recordings/r.wav"],
         ["datasets/test_set/synthetic/no_reverb/clean/c.wav"]),
    ],
)  # fmt: skip
def test_noisy_clips_of_the_challenges_test_sets(folder, noisy, other, tmp_path):
    write(tmp_path / folder, noisy + other)
    clips = noisy_clips(tmp_path / folder)
    assert len({clip.name for clip in clips}) == len(clips) == len(noisy)
    assert {clip.name.rpartition("/")[2] for clip in clips} == {name.rpartition("/")[2][:-4] for name in noisy}


def test_recordings_of_one_name_in_several_folders_stay_apart(tmp_path):
    write(tmp_path / "calls", ["alice/call.wav", "bob/call.flac", "bob/call.wav", "bob/other.wav"])
    names = [clip.name for clip in noisy_clips(tmp_path / "calls")]
    assert names == ["alice/call", "bob/call", "bob/call (2)", "other"]


def test_a_number_behind_a_name_is_one_that_no_other_clip_has(tmp_path):
    write(tmp_path / "calls", ["call (2).wav", "call.flac", "call.wav", "x/call (3).wav"])
    names = [clip.name for clip in noisy_clips(tmp_path / "calls")]
    assert sorted(names) == ["call", "call (2)", "call (3)", "call (4)"]


def test_no_room_is_heard_in_two_splits(tmp_path):
    """Six rooms, three responses each; a room is known by its echo, 10 ms times its number."""
    rng = np.random.default_rng(0)
    for kind in ("speech", "noise"):
        for source in "abcde":
            path = tmp_path / "data" / kind / "x" / source / "1.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, rng.uniform(-0.3, 0.3, 3 * RATE), RATE)  # a shorter voice would be a word
    for room in range(1, 7):
        for take in range(3):
            response = np.zeros(2000)
            response[[0, 160 * room]] = 0.9, 0.3 + 0.1 * take
            path = tmp_path / "data" / "rir" / f"room{room}" / f"{take}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, response, RATE)
    corpora = prepare(SimpleNamespace(data=str(tmp_path / "data"), outputs=str(tmp_path / "out")))
    heard = []
    for split in SPLITS:
        echoes = np.abs(getattr(corpora, split).rooms[:, LEAD + 1 :])
        heard.append([int((row.argmax() + 1) / 160) for row in echoes if row.max() > 0.1])
    assert sorted(room for rooms in heard for room in rooms) == sorted([*range(1, 7)] * 3)
    assert all(heard)
    assert sum(len(set(rooms)) for rooms in heard) == 6
