"""Test sets without reference, as of the DNS Challenges: which of their files are noisy clips."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dnslib import paths
from dnslib.data import layouts, mixtures
from dnslib.data.mixtures import Clip


def noisy_clips(folder: str | Path) -> list[Clip]:
    """Every usable noisy recording below a folder, see `mixtures.noisy_clips`: your own calls, or a test set.

    In a test set of the DNS Challenge these are the clips in its ``noisy`` and ``real_recordings`` folders, not the
    clean and enrolment speech beside them. A clip has the name of its file; where several have the same one, their
    folders in front, and after that a number behind.
    """
    folder = paths.resolve(folder)
    roots = layouts.noisy_folders(folder) if folder.is_dir() else [folder]
    clips = [(root, clip) for root in roots for clip in mixtures.noisy_clips(root)]
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
