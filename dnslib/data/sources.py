"""Who speaks, what sounds and which room: what may share a voice or an original recording gets one *source*.

A source is never in two splits, so a rule that is unsure joins rather than separates. Names are paths below a root,
with "/". The rules of the own layout (``speech/<corpus>/<speaker>/…``, ``noise/<corpus>/<class>/…``, ``rir/<room>/…``):
* speech: the name of the speaker's folder, so a speaker of two corpora is one source; folders that only name a
  subset or format, such as ``train-clean-100`` or ``wav48``, are passed over; a corpus without speaker folders
  is one source as a whole, and so is one of single words (median under 2.5 s), whose folders are words, not speakers;
* noise: corpus and class folder; files named as in ESC-50 (fold-clip-take-class) by their clip; files right under
  the corpus by their name without a trailing number, as ``train_01`` and ``train_02`` are pieces of one recording;
* rooms: the first folder under ``rir/``; files right under ``rir/`` are one room, as nothing tells them apart.
"""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np

SINGLE_WORDS_SECONDS = 2.5
DNS_CORPORA = {  # folders of clean speech in the DNS Challenges 1 to 5
    "emotional_speech", "french_data", "french_speech", "german_speech", "italian_speech", "mandarin_speech",
    "read_speech", "russian_speech", "singing_voice", "spanish_speech", "vctk_wav48_silence_trimmed",
    "vocalset_48khz_mono",
}  # fmt: skip
_ESC50 = re.compile(r"\d-(\d+)-[A-Z]-\d+$")
_SUBSET = re.compile(
    r"(train|dev|test|valid(ation)?)([-_](clean|other))?([-_]\d+)?|wavs?(\d+.*)?|flac|audio|clips", re.I
)
_DIVISION = re.compile(r"(train|dev|test)[-_](clean|other)([-_]\d+)?|wav48(_silence_trimmed)?", re.I)  # of a corpus
_PIECE = re.compile(r"[_-]?\d+$")
_DNS_SPEAKERS = (  # (what to look for, source); in the whole name
    (re.compile(r"reader_(\d+)"), "reader/{}"),  # LibriVox: book_00000_chp_0009_reader_06709_0_seg_1
    (re.compile(r"/(?:fe)?male/([^/]+)/"), "{}"),  # M-AILABS: fr_FR_190hrs_16k/female/ezwa/book/wavs
    (re.compile(r"/([a-z]{2}_[A-Z]{2}[^/]*)/mix/"), "{}/mix"),  # M-AILABS without readers: a language is one source
    (re.compile(r"German_Wikipedia_([^/]+?)_audio\d*_[^/]*$"), "wikipedia/{}"),
    (re.compile(r"(SLR\d+)_native-[^/]*-([a-z]+\d+)_"), "{}/{}"),
    (re.compile(r"(SLR39)_(\d+)_"), "{}/{}"),
    (re.compile(r"SLR\d+_[^/]*?_([a-z]{2,3}_\d{5})_\d+"), "{}"),  # SLR61_es_ar_female_arf_03397_01665251952
    (re.compile(r"(?:^|/)(1\d{3})_[A-Z]{3}_[A-Z]{3}_[^/]*$"), "crema_d/{}"),
    (re.compile(r"vocal.*?((?:fe)?male\d+)_", re.IGNORECASE), "vocalset/{}"),
    (re.compile(r"(?:^|/)([ps]\d{1,3})_[^/]*$"), "{}"),  # VCTK: p225_001_mic1
    (re.compile(r"BAC\d+S(\d+)W\d+"), "aishell/{}"),
)
_SLR_ROOMS = re.compile(r"(^|/)(simulated_rirs\w*|real_rirs_isotropic_noises)/")
_FREESOUND = re.compile(r"Freesound_validated_([^_.]+)")
_YOUTUBE = re.compile(r"(?![a-z]+[_-]?\d+$)[\w-]{11}", re.IGNORECASE)  # not street_0001
_NAMED = re.compile(r"(?:^|[_-])(?:reader|speaker|spkr?|talker)[_-]?([0-9a-z]+)", re.IGNORECASE)
_PTDB = re.compile(r"(?:mic|lar)_([FM]\d\d)_")


def speech_sources(seconds: dict[str, float], whole: str) -> dict[str, str]:
    """Source of every speech file, from their lengths in seconds; ``whole`` is that of files without a folder."""
    corpora: dict[str, list[str]] = {}
    for name in seconds:
        corpora.setdefault(name.partition("/")[0], []).append(name)
    sources = {}
    for corpus, names in corpora.items():
        single_words = np.median([seconds[name] for name in names]) < SINGLE_WORDS_SECONDS
        for name in names:
            speaker = "" if single_words else speaker_folder(name)
            sources[name] = speaker or (corpus if "/" in name else whole)
    return sources


def speaker_folder(name: str) -> str:
    """The first folder below the corpus that does not only name a subset or format; "" where there is none.

    A folder that is itself divided into subsets or formats is a corpus: ``speech/LibriSpeech/train-clean-100/19``.
    """
    inner = name.split("/")[1:-1]
    if len(inner) > 2 and _DIVISION.fullmatch(inner[1]):
        inner = inner[2:]
    return next((folder for folder in inner if not _SUBSET.fullmatch(folder)), "")


def noise_source(name: str, whole: str = "noise") -> str:
    """Source of a noise file."""
    path = PurePosixPath(name)
    folder = path.parts[:-1]
    if match := _ESC50.match(path.stem):
        return f"{folder[0] if folder else whole}/{match[1]}"
    return "/".join(folder[:2]) if len(folder) > 1 else "/".join([*folder, without_number(path.stem)])


def without_number(stem: str) -> str:
    """``train_01`` -> ``train``: pieces of one recording."""
    return _PIECE.sub("", stem) or stem


def room_source(name: str) -> str:
    """Source of an impulse response: its first folder, in the SLR26 and SLR28 collections the room itself."""
    if _SLR_ROOMS.search(name):
        return dns_room(name)
    return name.split("/")[0] if "/" in name else "rir"


def each(rule: Callable[[str], str]) -> Callable[[dict[str, float]], dict[str, str]]:
    """Sources of speech files by a rule that needs the name alone."""
    return lambda seconds: {name: rule(name) for name in seconds}


# DNS Challenge


def dns_speaker(name: str) -> str:
    """The speaker a file of the DNS Challenge names; otherwise its corpus, down to the first folder in it."""
    for pattern, source in _DNS_SPEAKERS:
        if match := pattern.search(name):
            return source.format(*match.groups())
    *folder, _ = name.split("/")
    known = [place for place, part in enumerate(folder) if part.lower() in DNS_CORPORA]
    return "/".join(folder[known[-1] : known[-1] + 2]) if known else "/".join(folder[:2]) or "clean"


def dns_noise(name: str) -> str:
    """A noise of the DNS Challenge: the id of its Freesound sound or its YouTube video (AudioSet)."""
    stem = PurePosixPath(name).stem
    if match := _FREESOUND.search(stem):
        return f"freesound/{match[1]}"
    return f"audioset/{stem}" if _YOUTUBE.fullmatch(stem) else without_number(stem)


def dns_room(name: str) -> str:
    """SLR26 and the simulated part of SLR28: their rooms; the recorded part: AIR, RVB2014, RWCP as a whole."""
    *folder, file = name.split("/")
    if folder and re.fullmatch(r"Room\d+", folder[-1]):
        return "/".join(folder[-2:])
    return file.split("_")[0] if "real_rirs_isotropic_noises" in folder else "/".join(folder) or "rir"


def is_response(name: str) -> bool:
    """Whether a file is an impulse response: SLR28 also has noises."""
    file = name.rpartition("/")[2]
    return "pointsource_noises" not in name and not ("real_rirs_isotropic_noises" in name and "_noise_" in file)


# VoiceBank+DEMAND, MS-SNSD, plain folders


def first_field(name: str) -> str:
    """Who speaks, from the name of a file: a named speaker or reader, otherwise all up to the first - or _ .

    ``p226_001`` -> p226, ``19-198-0000`` -> 19, ``speaker_07_a`` -> 07, PTDB-TUG's ``mic_F01_sa1`` -> F01,
    ``clnsp12`` -> clnsp, ``0012`` -> numbered: numbers alone tell no speakers apart.
    """
    stem = PurePosixPath(name).stem
    if match := _PTDB.match(stem) or _NAMED.search(stem):
        return match[1]
    first = re.split(r"[_\- ]", stem, maxsplit=1)[0]
    return first if first != stem else re.split(r"\d", stem, maxsplit=1)[0] or "numbered"


def snsd_noise(name: str) -> str:
    """MS-SNSD's ``noise_train/Babble_12`` and ``noise_test/Babble_3``: the kind, as takes are numbered anew in each.

    Its test set has ``Neighbor_4`` beside ``NeighborSpeaking_2``.
    """
    kind = without_number(PurePosixPath(name).stem)
    return "NeighborSpeaking" if kind == "Neighbor" else kind


def plain_speakers(seconds: dict[str, float]) -> dict[str, str]:
    """As in the own layout; in a folder without speaker folders the names of the files tell the speakers."""
    sources = speech_sources(seconds, "speech")
    flat = [name for name in seconds if not speaker_folder(name)]
    return sources | {name: first_field(name) for name in flat}


def plain_room(name: str) -> str:
    """The first folder below the folder of rooms, otherwise that folder; SLR26 and SLR28 as in `room_source`."""
    if _SLR_ROOMS.search(name):
        return dns_room(name)
    return "/".join(name.split("/")[:-1][:2]) or "rir"
