"""Embedded speech: eSpeak NG through ctypes, many voices and languages, sentences of our own making.

A talker is a language, a timbre (eSpeak's "variant") and a base pitch, range and rate. Timbres are split, so a test
talker's voice is never heard in training; so are the sentences (see `sentences`). The timbres are those whose clean
speech DNSMOS P.835 rates well; whispers, robots and echoes are left out.
eSpeak keeps its state in global variables: use it from worker processes (`workers`), never from two threads.
"""

import _ctypes
import contextlib
import ctypes
import tempfile
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader
import numpy as np
import soxr

from dnslib.data import sentences
from dnslib.sampling import SAMPLE_RATE

LOCALES = {  # language of the word lists -> eSpeak voices
    "en": ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc"),
    "de": ("de",),
    "fr": ("fr", "fr-be"),
    "es": ("es", "es-419"),
    "it": ("it",),
    "pl": ("pl",),
    "sv": ("sv",),
    "fi": ("fi",),
}
TIMBRES = {
    "train": (
        "m1", "m3", "m4", "m5", "m6", "m7", "f1", "f5", "adam", "benjamin", "Alex", "Andy", "Annie", "belinda",
        "boris", "Gene", "grandpa", "Hugo", "iven", "john", "klatt4", "marcelo", "max", "Mike", "norbert", "shelby",
        "victor", "Reed",
    ),
    "validation": ("m8", "f2", "ian", "klatt3"),
    "test": ("m2", "Alicia", "Denis", "Lee", "mike2", "pablo", "sandro", "Michael"),
}  # fmt: skip
RMS = 0.06  # of every sentence, about -24 dBFS

_SYNCHRONOUS_RETRIEVAL, _DO_NOT_EXIT, _UTF8 = 1, 0x8000, 1  # constants of espeak-ng/speak_lib.h
_RATE, _PITCH, _RANGE = 1, 3, 4
_LONGEST_DATA_PATH = 120  # eSpeak NG copies the path of its data into a buffer of 160 bytes


@dataclass(frozen=True)
class Talker:
    """Who speaks: eSpeak voice and timbre, rate in words a minute, pitch and its range on eSpeak's 0..99."""

    language: str
    locale: str
    timbre: str
    rate: int
    pitch: int
    pitch_range: int

    @property
    def name(self) -> str:
        return f"{self.locale}+{self.timbre}-{self.pitch}-{self.rate}"


def talker(split: str, index: int, seed: int) -> Talker:
    """The index-th talker of a split: timbres in turn; 3 in 10 speak English."""
    rng = np.random.default_rng([seed, sorted(TIMBRES).index(split), index])
    timbres = TIMBRES[split]
    language = str(rng.choice(("en", "en", "en", *sentences.LANGUAGES[1:])))
    return Talker(
        language,
        str(rng.choice(LOCALES[language])),
        timbres[index % len(timbres)],
        rate=int(rng.integers(130, 195)),
        pitch=int(rng.integers(32, 68)),
        pitch_range=int(rng.integers(35, 70)),
    )


def speak(engine: "Engine", who: Talker, text: str) -> np.ndarray:
    """A sentence as float32 ``(samples,)`` at 16 kHz and RMS 0.06, silence at both ends trimmed."""
    speech = trimmed(soxr.resample(engine.say(who, text), engine.sample_rate, SAMPLE_RATE))
    return speech * (RMS / np.sqrt(np.mean(speech**2)))


def recite(split: str, index: int, seed: int, seconds: float) -> tuple[str, list[np.ndarray]]:
    """Name of the index-th talker of a split and sentences of theirs, at least ``seconds`` in all."""
    who = talker(split, index, seed)
    rng = np.random.default_rng([seed, sorted(TIMBRES).index(split), index, 1])
    spoken, samples = [], 0
    with Engine(seed) as engine:
        while samples < seconds * SAMPLE_RATE:
            spoken.append(speak(engine, who, sentences.sentence_for(split, who.language, rng)))
            samples += spoken[-1].size
    return who.name, spoken


def trimmed(speech: np.ndarray, below_peak_db: float = 45.0) -> np.ndarray:
    """Without what is 45 dB below the peak at both ends."""
    loud = np.flatnonzero(np.abs(speech) > np.abs(speech).max() * 10 ** (-below_peak_db / 20))
    return speech[loud[0] : loud[-1] + 1]


class Engine:
    """A freshly loaded eSpeak NG, as a context manager: one at a time in a process.

    Breath, flutter and intonation depend on what was said before and on a random generator seeded with the time of day.
    So the generator is seeded anew, and the library is unloaded at the end, which forgets its global variables:
    what a talker says is then a pure function of the talker, the sentences and the seed.
    """

    def __init__(self, seed: int):
        self.seed, self.chunks = seed, []

    def __enter__(self) -> "Engine":
        self.espeak = ctypes.CDLL(espeakng_loader.get_library_path())
        self.link = contextlib.ExitStack()
        data = short_path(Path(espeakng_loader.get_data_path()), self.link)
        self.sample_rate = self.espeak.espeak_Initialize(_SYNCHRONOUS_RETRIEVAL, 0, str(data).encode(), _DO_NOT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError("eSpeak NG could not read its data; install espeakng-loader again.")
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = prototype(self._collect)  # kept: the library holds only a pointer
        self.espeak.espeak_SetSynthCallback(self.callback)
        self.espeak.espeak_ng_SetRandSeed(ctypes.c_long(self.seed))
        return self

    def __exit__(self, *error) -> None:
        self.espeak.espeak_Terminate()
        _ctypes.dlclose(self.espeak._handle)
        self.link.close()

    def say(self, who: Talker, text: str) -> np.ndarray:
        """The sentence, float32 ``(samples,)`` at the engine's ``sample_rate``."""
        self.chunks.clear()
        if self.espeak.espeak_SetVoiceByName(f"{who.locale}+{who.timbre}".encode()):
            raise ValueError(f"eSpeak NG has no voice {who.locale}+{who.timbre}.")
        for parameter, value in ((_RATE, who.rate), (_PITCH, who.pitch), (_RANGE, who.pitch_range)):
            self.espeak.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        self.espeak.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, _UTF8, None, None)
        self.espeak.espeak_Synchronize()
        if not self.chunks:
            raise RuntimeError(f"eSpeak NG gave no sound for {text!r}.")
        return np.concatenate(self.chunks).astype(np.float32) / 32768

    def _collect(self, samples, count: int, events) -> int:
        if count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on


def short_path(data: Path, cleanup: contextlib.ExitStack) -> Path:
    """The data folder, through a link in the temporary folder where its path is too long; ``cleanup`` removes it."""
    if len(str(data).encode()) <= _LONGEST_DATA_PATH:
        return data
    link = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="dns"))) / "espeak-ng-data"
    link.symlink_to(data, target_is_directory=True)
    return link
