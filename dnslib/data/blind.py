"""Test sets without references, such as those of the DNS Challenges: which of their files are noisy clips."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dnslib import paths
from dnslib.data import folders, layouts
from dnslib.data.clips import Clip, level_dbfs
from dnslib.errors import MisuseError
from dnslib.sampling import SAMPLE_RATE


def noisy_clips(folder: str | Path) -> list[Clip]:
    """Every usable noisy recording below a folder, see `clips_below`: your own calls, or a test set.

    In a test set of the DNS Challenge these are the clips in its ``noisy`` and ``real_recordings`` folders, not the
    clean and enrolment speech beside them. A clip is named after its file; where several share that name, their
    folders are put in front, and if need be a number is appended.
    """
    folder = paths.resolve(folder)
    roots = layouts.noisy_folders(folder) if folder.is_dir() else [folder]
    clips = [(root, clip) for root in roots for clip in clips_below(root)]
    if roots != [folder]:
        names = ", ".join(root.relative_to(folder).as_posix() for root in roots)
        print(f"recognised: a test set without reference, {len(clips)} noisy clips in {names}", flush=True)
    short = [PurePosixPath(clip.name).name for _, clip in clips]
    counts = Counter(short)
    return numbered(
        [
            replace(clip, name=name if counts[name] == 1 else paths.readable(root.relative_to(folder) / clip.name))
            for name, (root, clip) in zip(short, clips, strict=True)
        ]
    )


def clips_below(folder: Path) -> list[Clip]:
    """Every usable recording below a folder, at 16 kHz mono.

    A clip is named by its path in the folder, without the suffix. Prints one line for each file that is skipped (not
    audio, silent, NaN, shorter than a frame), converted or clipped.
    Raises MisuseError where the folder is missing or nothing in it can be used.
    """
    if not folder.is_dir():
        raise MisuseError(f"The folder of noisy clips {folder} does not exist.")
    clips = []
    for path in folders.files(folder):
        name = paths.readable(path.relative_to(folder))
        try:
            samples, rate = folders.read_as_is(path)
            noisy = folders.within_full_scale(folders.long_enough(folders.converted(samples, rate)))
        except folders.Unusable as reason:
            print(f"{name} is skipped: it {reason}.", flush=True)
            continue
        if samples.shape[1] > 1 or rate != SAMPLE_RATE:
            print(f"{name} is converted from {samples.shape[1]} channels at {rate} Hz to one at 16000 Hz.", flush=True)
        if count := folders.clipped_samples(samples):
            print(f"{name} is clipped: {count} samples stand at full scale.", flush=True)
        clips.append(
            Clip(
                name=name.removesuffix(path.suffix),
                noisy=noisy,
                clean=None,
                snr_db=float("nan"),
                level_dbfs=level_dbfs(noisy),
                speaker="",
                noise="",
            )
        )
    if not clips:
        raise MisuseError(f"The folder {folder} holds no noisy clip that can be used (wav, flac, ogg, mp3).")
    return clips


def numbered(clips: list[Clip]) -> list[Clip]:
    """Clips whose names all differ: the second ``call`` becomes ``call (2)``. Scores are joined by these names."""
    taken, seen = {clip.name for clip in clips}, set()
    result = []
    for clip in clips:
        name = clip.name
        if name in seen:
            name = next(other for count in itertools.count(2) if (other := f"{clip.name} ({count})") not in taken)
        taken.add(name)
        seen.add(name)
        result.append(replace(clip, name=name))
    return result
