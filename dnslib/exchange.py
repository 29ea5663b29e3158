"""Test clips for other denoisers, and what they made of them: a folder ``noisy/`` goes out, others beside it come back.

Whatever enhances wav files can be judged this way, on the same clips and by the same scores as the study's networks.
Most denoisers answer late by a fixed delay; it is estimated and removed, or SI-SDR would punish it.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import soundfile

from dnslib import paths
from dnslib.data import Clip, folders
from dnslib.data.samples import as_int16
from dnslib.errors import MisuseError
from dnslib.stft import SAMPLE_RATE

NOISY = "noisy"
LONGEST_DELAY = SAMPLE_RATE // 10  # samples, 100 ms


def write_noisy(folder: str | Path, clips: Sequence[Clip]) -> Path:
    """Write the clips to ``folder/noisy/<name>.wav``, 16 bits, 16 kHz; returns that folder.

    What is there already is left alone. Raises MisuseError where it holds other clips: versions of those would be
    judged against these.
    """
    noisy = paths.resolve(folder) / NOISY
    wanted = {f"{clip.name}.wav": as_int16(clip.noisy) for clip in clips}
    others = [path.name for path in noisy.glob("*.wav") if not _holds(path, wanted.get(path.name))]
    if others:
        raise MisuseError(f"{noisy} holds other clips, such as {min(others)}: name an empty folder.")
    for name, samples in wanted.items():
        if not (noisy / name).exists():
            with paths.write_atomically(noisy / name) as path:
                soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
    return noisy


def _holds(path: Path, samples: np.ndarray | None) -> bool:
    """Whether a file holds these samples, but for the last bit, which depends on the processor that mixed them."""
    try:
        there = soundfile.read(path, dtype="int16")[0]
    except (soundfile.SoundFileError, OSError):
        return False
    return samples is not None and there.shape == samples.shape and bool((abs(there - samples.astype(int)) <= 1).all())


def versions(folder: str | Path, clips: Sequence[Clip], taken: Collection[str] = ()) -> dict[str, list[np.ndarray]]:
    """What other denoisers made of the clips: by the name of their folder, a waveform ``(samples,)`` per clip, aligned.

    Folders stand beside ``noisy`` and hold a file per clip under its name, in any format and rate; other files and
    hidden folders are left out. Raises MisuseError for a clip that is missing, duplicate or unreadable, and for a
    folder whose name is ``taken``.
    """
    folder = paths.resolve(folder)
    systems = sorted(path for path in folder.glob("[!.]*") if path.is_dir() and path.name != NOISY)
    if already := [system for system in systems if system.name in taken]:
        raise MisuseError(f"{already[0]} bears the name of another row: rename it.")
    return {system.name: _versions_of(system, clips) for system in systems}


def _versions_of(system: Path, clips: Sequence[Clip]) -> list[np.ndarray]:
    files: dict[str, Path] = {}
    for path in folders.files(system):
        if files.setdefault(path.stem, path) != path and path.stem in {clip.name for clip in clips}:
            raise MisuseError(f"{system} holds the clip {path.stem} twice: {files[path.stem]} and {path}.")
    missing = [clip.name for clip in clips if clip.name not in files]
    if missing:
        raise MisuseError(f"{system} lacks {len(missing)} of {len(clips)} clips, the first is {missing[0]}.")
    return [aligned(_version(files[clip.name]), clip.noisy) for clip in clips]


def _version(path: Path) -> np.ndarray:
    """What a denoiser made of a clip; it may be silent, and its floating-point numbers may have another scale."""
    try:
        return folders.within_full_scale(folders.converted(*folders.decoded(path)))
    except folders.Unusable as reason:
        raise MisuseError(f"{path} {reason}.") from None


def aligned(version: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """``version`` without its delay to ``noisy``, and equally long: padded with zeros, or cut.

    The delay, of 0 to 100 ms, is where the two correlate best.
    """
    size = version.size + noisy.size
    spectrum = np.fft.rfft(version, size) * np.fft.rfft(noisy, size).conj()
    delay = int(np.fft.irfft(spectrum, size)[: LONGEST_DELAY + 1].argmax())
    return np.pad(version[delay : delay + noisy.size], (0, max(0, noisy.size + delay - version.size)))
