"""Test sets without reference, as of the DNS Challenges: which of their files are noisy clips."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from dnslib import paths
from dnslib.data import layouts, mixtures
from dnslib.data.mixtures import Clip


def noisy_clips(folder: str | Path) -> list[Clip]:
    """Every usable noisy recording below a folder, see `mixtures.noisy_clips`: your own calls, or a test set.

    In a test set of the DNS Challenge these are the clips in its ``noisy`` and ``real_recordings`` folders, not the
    clean and enrolment speech beside them. Clips of equal names get the name of their track in
    front, or a number behind.
    """
    folder = paths.resolve(folder)
    roots = layouts.noisy_folders(folder) if folder.is_dir() else [folder]
    clips = [(root, clip) for root in roots for clip in mixtures.noisy_clips(root)]
    if roots != [folder]:
        names = ", ".join(root.relative_to(folder).as_posix() for root in roots)
        print(f"recognised: a test set without reference, {len(clips)} noisy clips in {names}", flush=True)
    counts = Counter(clip.name for _, clip in clips)
    named = [
        clip
        if counts[clip.name] == 1 or root == folder
        else replace(clip, name=f"{root.relative_to(folder).as_posix()}/{clip.name}")
        for root, clip in clips
    ]
    return numbered(named)


def numbered(clips: list[Clip]) -> list[Clip]:
    """Clips whose names all differ: the second ``call`` becomes ``call (2)``. Scores are joined by these names."""
    seen: Counter = Counter()
    result = []
    for clip in clips:
        seen[clip.name] += 1
        result.append(clip if seen[clip.name] == 1 else replace(clip, name=f"{clip.name} ({seen[clip.name]})"))
    return result
