"""Recordings through a denoiser, second by second: an hour of audio takes no more memory than a minute.

Samples are float32 ``(samples, channels)``. Every channel is denoised by itself at 16 kHz and comes back at the rate
of its file, so nothing above 8 kHz is left. Inputs are wav, flac, ogg or mp3; a wav or flac file stays what it is, down
to its sample format, and an ogg or mp3 file becomes 16-bit wav. An input is never written to.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from math import ceil
from pathlib import Path

import numpy as np
import soundfile
import soxr

from dnslib.data.folders import UNREADABLE, Unusable, files
from dnslib.denoiser import Denoiser
from dnslib.errors import MisuseError
from dnslib.model import LOUDEST
from dnslib.networks import find_model, streaming_file
from dnslib.paths import of_caller, write_atomically
from dnslib.progress import duration, track
from dnslib.stft import SAMPLE_RATE

NOT_WRITTEN = "cannot be written to its end; is the disk full?"
WRITABLE = {".wav": "WAV", ".flac": "FLAC"}
WAV_BYTES = 4e9  # a wav file cannot say that it is longer; RF64 is the same with a longer field
LONGEST_PADDING = 0.5  # s, which a codec counts but does not deliver
SEEKABLE = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}


@dataclass
class Summary:
    """What became of some recordings."""

    out: Path
    model: Path
    enhanced: list[Path] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)  # outputs of an earlier call, left as they are
    failed: dict[Path, str] = field(default_factory=dict)  # why, by input
    audio_seconds: float = 0.0
    seconds: float = 0.0  # reading, resampling and writing included

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio."""
        return self.seconds / self.audio_seconds if self.audio_seconds else float("nan")

    def __str__(self) -> str:
        everything = len(self.enhanced) + len(self.there) + len(self.failed)
        count = f"{len(self.enhanced)} of {everything} recordings enhanced by {self.model}"
        if self.there:
            count += f", {len(self.there)} there already (--overwrite replaces them)"
        if not self.audio_seconds:
            return count
        times = f"{duration(self.audio_seconds)} of audio in {duration(self.seconds)}"
        return f"{count}, {times}, real-time factor {self.real_time_factor:.3f}: {self.out}"


def enhance_recordings(
    noisy: Path,
    out: Path | None = None,
    model: str | os.PathLike = "P.500",
    overwrite: bool = False,
    tell: Callable[[str], object] = print,
    precision: str | None = None,
) -> Summary:
    """Denoise a file, or every recording below a folder, into ``out`` (`destination` where it is not given).

    ``model`` and ``precision`` are those of `dnslib.Denoiser`; relative paths are resolved against the working folder.

    A recording that cannot be used costs one line, given to ``tell``; the others are still done. Outputs of a folder
    that exist already are kept, so the same call goes on where an earlier one was stopped. Raises MisuseError for a
    missing input, an output that is the input or cannot be written, and a model that is not streaming, before anything
    is written.
    """
    noisy = of_caller(noisy)
    closed: list[str] = []
    jobs, out = plan(noisy, of_caller(out) if out else destination(noisy), overwrite, closed)
    summary = Summary(out, find_model(model, of_caller))
    for folder in closed:
        summary.failed[noisy / folder] = "may not be listed: no permission"
        tell(f"{noisy / folder} {summary.failed[noisy / folder]}")
    denoisers = Denoisers(summary.model, precision)
    check_writable(out if noisy.is_dir() else out.parent)
    started = time.perf_counter()
    for _ in track(_all(jobs, denoisers, summary, overwrite, tell), _seconds(jobs, overwrite), "seconds of audio"):
        pass
    summary.seconds = time.perf_counter() - started
    return summary


def destination(noisy: Path) -> Path:
    """Next to the input: ``name.enhanced.wav``, or the folder ``NAME.enhanced``.

    Raises MisuseError for the root of a file system, beside which nothing lies.
    """
    if not noisy.name:
        raise MisuseError(f"Name an output: nothing can lie beside {noisy}.")
    if noisy.is_dir():
        return noisy.with_name(f"{noisy.name}.enhanced")
    return noisy.with_name(f"{noisy.stem}.enhanced{noisy.suffix if noisy.suffix.lower() in WRITABLE else '.wav'}")


def plan(noisy: Path, out: Path, overwrite: bool, closed: list[str]) -> tuple[dict[Path, Path], Path]:
    """Output by input, and where they lie. Raises MisuseError, before anything is written.

    ``closed`` collects the folders below ``noisy`` that cannot be listed.
    """
    if noisy.is_dir():
        return plan_folder(noisy, out, closed), out
    if not noisy.is_file():
        raise MisuseError(f"There is no file or folder {noisy}.")
    if out.is_dir():
        out = out / (noisy.name if noisy.suffix.lower() in WRITABLE else f"{noisy.stem}.wav")
    if out.suffix.lower() not in WRITABLE:
        raise MisuseError(f"{out.name} cannot be written: give a name that ends in {' or '.join(WRITABLE)}.")
    if out.exists() and out.samefile(noisy):
        raise MisuseError(f"The output would overwrite the input {noisy}.")
    if out.exists() and not overwrite:
        raise MisuseError(f"{out} exists already: name another output, or give --overwrite.")
    return {noisy: out}, out


def plan_folder(noisy: Path, out: Path, closed: list[str] | None = None) -> dict[Path, Path]:
    """Output by input for a whole folder; what lies in ``out`` is no input."""
    if out.resolve() == noisy.resolve():
        raise MisuseError(f"The output would overwrite the inputs in {noisy}.")
    inputs = [path for path in files(noisy, closed) if not path.resolve().is_relative_to(out.resolve())]
    if not inputs:
        if closed:
            raise MisuseError(f"The folder {noisy / closed[0]} may not be listed: no permission.")
        raise MisuseError(f"The folder {noisy} holds no recordings (wav, flac, ogg, mp3).")
    jobs, taken = {}, set()
    for path in sorted(
        inputs, key=lambda path: path.suffix.lower() not in WRITABLE
    ):  # those that keep their name first
        target = out / path.relative_to(noisy)
        if path.suffix.lower() not in WRITABLE:
            target = target.with_suffix(".wav")
            names = chain([f"{path.name}.wav"], (f"{path.name} ({number}).wav" for number in count(2)))
            while target in taken:  # a.wav and a.mp3, even a.mp3.wav
                target = target.with_name(next(names))
        jobs[path] = target
        taken.add(target)
    return dict(sorted(jobs.items()))


def check_writable(folder: Path) -> None:
    """Make the folder and try it. Raises MisuseError."""
    if folder.is_file():
        raise MisuseError(f"The output folder {folder} cannot be written: it is a file.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MisuseError(f"The output folder {folder} cannot be written: {(error.strerror or '').lower()}.") from None


def _seconds(jobs: dict[Path, Path], overwrite: bool) -> int:
    """How often `enhance_file` will yield, from the headers of what is to be done."""
    return sum(ceil(seconds_of(noisy)) for noisy, target in jobs.items() if overwrite or not target.exists())


def seconds_of(path: Path) -> float:
    """Length of a recording by its header; 0 where it cannot be read, which is reported when its turn comes."""
    try:
        return soundfile.info(os.fsencode(path)).duration
    except (soundfile.SoundFileError, OSError, *UNREADABLE):
        return 0.0


def _all(jobs, denoisers, summary: Summary, overwrite: bool, tell) -> Iterator[float]:
    inputs = {path.resolve() for path in jobs}
    for noisy, target in jobs.items():
        try:
            if target.resolve() in inputs:
                raise Unusable(f"is not done: its output would overwrite the input {target}")
            if target.exists() and not overwrite:
                summary.there.append(target)
                continue
            before = summary.audio_seconds
            for seconds in enhance_file(noisy, target, denoisers):
                summary.audio_seconds += seconds
                yield seconds
            summary.enhanced.append(target)
            missing = seconds_of(noisy) - (summary.audio_seconds - before)
            if missing > LONGEST_PADDING:  # an mp3 that was cut off is decoded without complaint
                tell(f"{noisy} ends {missing:.1f} s before the end that its header names")
        except (Unusable, OSError) as error:
            reason = str(error) if isinstance(error, Unusable) else f"cannot be done: {error.strerror or error}".lower()
            summary.failed[noisy] = reason
            tell(f"{noisy} {reason}")


# --- one file --------------------------------------------------------------------------------------------------------


class Denoisers:
    """As many denoisers of one model as a recording has channels; kept from recording to recording."""

    def __init__(self, model: Path, precision: str | None = None):
        self._kept = ExitStack()  # the streaming file, exported once and gone with this object
        self.file = self._kept.enter_context(streaming_file(model, precision))
        self.ready = [Denoiser(self.file)]

    def take(self, channels: int) -> list[Denoiser]:
        while len(self.ready) < channels:
            self.ready.append(Denoiser(self.file))
        for denoiser in self.ready:
            denoiser.reset()
        return self.ready[:channels]


class Channels:
    """A stream of ``(samples, channels)`` at any rate through one denoiser per channel; rate and length stay."""

    def __init__(self, denoisers: list[Denoiser], rate: int):
        self.denoisers = denoisers
        self.given = self.returned = 0
        self.resamplers = None
        if rate != SAMPLE_RATE:
            rates = [(rate, SAMPLE_RATE), (SAMPLE_RATE, rate)]
            self.resamplers = [soxr.ResampleStream(*pair, len(denoisers), dtype="float32") for pair in rates]

    def process(self, samples: np.ndarray) -> np.ndarray:
        """What is ready after these samples, ``(n, channels)``."""
        enhanced = self._through(samples, last=False)
        self.given += len(samples)
        self.returned += len(enhanced)
        return enhanced

    def flush(self) -> np.ndarray:
        """The rest: all pieces together are as long as the input, which two resamplers can miss by a sample."""
        due = self.given - self.returned
        rest = self._through(np.zeros((0, len(self.denoisers)), np.float32), last=True)[:due]
        return np.pad(rest, ((0, due - len(rest)), (0, 0)))

    def _through(self, samples: np.ndarray, last: bool) -> np.ndarray:
        if self.resamplers:
            samples = self.resamplers[0].resample_chunk(samples, last)
        enhanced = [denoiser.process(np.ascontiguousarray(samples[:, c])) for c, denoiser in enumerate(self.denoisers)]
        if last:
            enhanced = [np.concatenate((e, d.flush())) for e, d in zip(enhanced, self.denoisers, strict=True)]
        enhanced = np.stack(enhanced, axis=1)
        return self.resamplers[1].resample_chunk(enhanced, last) if self.resamplers else enhanced


def enhance_file(noisy: Path, target: Path, denoisers: Denoisers) -> Iterator[float]:
    """Denoise one recording into ``target``, which appears when it is whole; yields the seconds of each block.

    Raises Unusable with the reason for what is not audio, empty or not finite.
    """
    with open_recording(noisy) as source, write_atomically(target) as path:
        try:
            channels = Channels(denoisers.take(source.channels), source.samplerate)
        except (ValueError, RuntimeError):
            raise Unusable(f"has a sample rate of {source.samplerate} Hz, which cannot be converted") from None
        with closing(create_like(source, path)) as enhanced:
            for block in blocks(source):
                write(enhanced, channels.process(block))
                yield len(block) / source.samplerate
            if channels.given == 0:
                raise Unusable("is empty")
            write(enhanced, channels.flush())
        if not is_whole(path, channels.given):
            raise Unusable(NOT_WRITTEN)


def open_recording(path: Path) -> soundfile.SoundFile:
    if path.stat().st_size == 0:
        raise Unusable("is empty")
    if not os.access(path, os.R_OK):
        raise Unusable("may not be read: no permission")
    try:
        return soundfile.SoundFile(os.fsencode(path))  # bytes: a name need not be UTF-8
    except (soundfile.SoundFileError, OSError, *UNREADABLE):
        raise Unusable("cannot be decoded as audio") from None


def blocks(source: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """``(samples, channels)`` of about a second each."""
    while True:
        try:
            block = source.read(source.samplerate, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError):
            raise Unusable("cannot be decoded as audio to its end") from None
        if len(block) == 0:
            return
        if not np.abs(block).max() <= LOUDEST:  # true for NaN too
            raise Unusable("holds NaN or infinite samples")
        yield block


def create_like(source: soundfile.SoundFile, path: Path) -> soundfile.SoundFile:
    """A file to write, with the rate, the channels and, where it can hold it, the sample format of ``source``."""
    kind = WRITABLE[path.suffix.lower()]
    lossless = source.format in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC")
    subtype = source.subtype if lossless and soundfile.check_format(kind, source.subtype) else "PCM_16"
    if kind == "WAV" and source.frames * source.channels * SAMPLE_BYTES.get(subtype, 8) > WAV_BYTES:
        kind = "RF64"
    try:
        return soundfile.SoundFile(os.fsencode(path), "w", source.samplerate, source.channels, subtype, format=kind)
    except (soundfile.SoundFileError, OSError):
        layout = f"{source.channels} channels at {source.samplerate} Hz"
        raise Unusable(f"cannot be written: no {path.suffix} file of {layout} can be made") from None


def write(file: soundfile.SoundFile, samples: np.ndarray) -> None:
    try:
        file.write(samples)
    except (soundfile.SoundFileError, OSError, AssertionError):  # the package asserts that everything was written
        raise Unusable(NOT_WRITTEN) from None


@contextmanager
def closing(file: soundfile.SoundFile) -> Iterator[soundfile.SoundFile]:
    """Context around writing a file: its end is only written when it is closed, which may fail too."""
    try:
        with file:
            yield file
    except soundfile.SoundFileError:
        raise Unusable(NOT_WRITTEN) from None


def is_whole(path: Path, frames: int) -> bool:
    """Whether a file can be read up to its last sample: libsndfile does not report that closing it failed."""
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            if file.subtype in SEEKABLE:
                file.seek(frames - 1)
                return len(file.read(1)) == 1
            lengths = iter(lambda: len(file.read(file.samplerate)), 0)
            return sum(lengths) >= frames  # some codecs fill their last block
    except (soundfile.SoundFileError, OSError, *UNREADABLE):
        return False
