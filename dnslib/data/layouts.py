"""How a folder of recordings is laid out: the usual layouts, recognised by the names of their folders.

* own: ``speech/<corpus>/<speaker>/…``, ``noise/<corpus>/<class>/…``, ``rir/<room>/…``;
* DNS Challenge 1, 3, 4, 5: ``clean``, ``noise`` and ``impulse_responses`` trees, wideband or ``…_fullband``, below
  ``datasets``, ``datasets_fullband`` or nothing; corpora right beside ``noise``; ``Track1_Headset`` and the like;
* VoiceBank+DEMAND: ``clean_trainset_28spk_wav``, ``noisy_…``, ``…_testset_wav``; its noise is noisy minus clean, and
  the noise's name, which is its source, is in ``log_trainset_28spk.txt`` and ``log_testset.txt``;
* MS-SNSD: ``clean_train``, ``clean_test``, ``noise_train``, ``noise_test``; mixtures made from them are left alone;
* plain: folders whose names say clean, speech or voice, and noise; maybe rir, impulse or reverb.

Their own division into training and test sets is not used: `sources` says what may not be divided, and the splits are
made from that.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dnslib.data import folders, sources
from dnslib.data.scan import Item, item
from dnslib.errors import MisuseError
from dnslib.paths import readable

KINDS = ("speech", "noise", "rooms")
ACCEPTED = (
    "accepted are speech/ and noise/ (and rir/), a DNS Challenge tree (clean, noise, impulse_responses), "
    "VoiceBank+DEMAND (clean_trainset_28spk_wav, noisy_trainset_28spk_wav, ...), MS-SNSD (clean_train, noise_train), "
    "and folders named after clean, speech or voice and after noise"
)
_TEST_SET = re.compile(r".*(test_?set|blind).*", re.IGNORECASE)
_DNS = {
    "speech": re.compile(r"clean(_fullband)?|track[12]_(headset|speakerphone)", re.IGNORECASE),
    "noise": re.compile(r"noise(_fullband)?", re.IGNORECASE),
    "rooms": re.compile(r"impulse_responses(_fullband)?", re.IGNORECASE),
}
_VOICEBANK = re.compile(r"(clean|noisy)_((?:trainset(?:_\d+spk)?|testset))_wav.*")
_SNSD = (("clean_test", "clean_train"), ("noise_test", "noise_train"))
_PLAIN = {  # the first that matches
    "": re.compile(
        r"noisy|mix|enhanced|denoised|reverberant|(no|with)_?reverb|(clean|speech|voice).*reverb|"
        r"reverb.*(clean|speech|voice)",
        re.IGNORECASE,
    ),
    "noise": re.compile(r"^(?!rirs?_).*noise", re.IGNORECASE),  # OpenSLR28 is called RIRS_NOISES
    "rooms": re.compile(r"rirs?\b|rirs?_|impulse|reverb", re.IGNORECASE),
    "speech": re.compile(r"clean|speech|voice", re.IGNORECASE),
}


@dataclass(frozen=True)
class Layout:
    """Folders of each kind, and the rules for their sources; names are relative to ``bases[kind]``, or to ``data``."""

    name: str
    data: Path
    speech: tuple[Path, ...]
    noise: tuple[Path, ...]
    rooms: tuple[Path, ...] = ()
    speakers: Callable[[dict[str, float]], dict[str, str]] = sources.plain_speakers
    noise_source: Callable[[str], str] = sources.noise_source
    room_source: Callable[[str], str] = sources.plain_room
    bases: dict[str, Path] = field(default_factory=dict)
    clean: dict[Path, Path] = field(default_factory=dict)  # the clean folder of each folder of noisy speech

    def items(self, kind: str, closed: list[str]) -> list[Item]:
        """The recordings of a kind in the order of their names; ``closed`` collects folders that cannot be listed."""
        found = []
        for root in getattr(self, kind):
            base = self.bases.get(kind, self.data)
            prefix = "" if root == base else f"{root.relative_to(base).as_posix()}/"
            if root in self.clean:
                found += paired(root, self.clean[root], prefix, closed)
            else:
                entries = folders.entries(root, closed)
                found += [Item(prefix + one.name, (os.path.join(root, one.name),), one.stamp) for one in entries]
        found = [one._replace(name=readable(one.name)) for one in found]
        return [one for one in found if sources.is_response(one.name)] if kind == "rooms" else found

    def __str__(self) -> str:
        places = (
            f"{kind} in {', '.join(root.relative_to(self.data).as_posix() for root in getattr(self, kind))}"
            for kind in KINDS
            if getattr(self, kind)
        )
        return f"{self.name}, {'; '.join(places)}"


def recognise(data: Path) -> Layout:
    """The layout of a data folder. Raises MisuseError, one sentence, for one that is missing or is none of them."""
    check_folder(data)
    for attempt in (own, voicebank, dns, snsd, plain):
        if layout := attempt(data):
            break
    else:
        missing = "noise/" if (data / "speech").is_dir() or kind_folders(data)["speech"] else "speech/"
        raise MisuseError(f"The data folder {data} has no folder {missing}: {ACCEPTED}.")
    for kind in KINDS[:2]:
        roots = getattr(layout, kind)
        for root in roots:
            check_folder(root)
        if not any(True for root in roots for _ in folders.walk(str(root), "", set())):
            raise MisuseError(f"The folder {roots[0]} holds no recordings (wav, flac, ogg, mp3).")
    return layout


def check_folder(folder: Path) -> None:
    """Raises MisuseError where a folder is missing, is a file or may not be listed."""
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        raise MisuseError(f"The data folder {folder} does not exist.") from None
    except NotADirectoryError:
        raise MisuseError(f"The data folder {folder} is a file.") from None
    except PermissionError:
        raise MisuseError(f"The data folder {folder} may not be read: no permission.") from None


def own(data: Path) -> Layout | None:
    """The layout of this project."""
    bases = {"speech": data / "speech", "noise": data / "noise", "rooms": data / "rir"}
    if not (bases["speech"].is_dir() and bases["noise"].is_dir()):
        return None
    return Layout(
        "own layout", data, (bases["speech"],), (bases["noise"],), tuple(r for r in [bases["rooms"]] if r.is_dir()),
        speakers=lambda seconds: sources.speech_sources(seconds, "speech"),
        room_source=sources.room_source, bases=bases,
    )  # fmt: skip


def dns(data: Path) -> Layout | None:
    """A tree of the DNS Challenge; where there is a wideband and a fullband copy, the wideband one."""
    found: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    corpora = []
    for folder in below(data, 4, lambda name: any(one.fullmatch(name) for one in _DNS.values()) or is_corpus(name)):
        kind = next((kind for kind, pattern in _DNS.items() if pattern.fullmatch(folder.name)), None)
        if (kind or is_corpus(folder.name)) and not is_synthesised(folder):
            (found[kind] if kind else corpora).append(folder)
    inside = [one for root in found["speech"] for one in below(root, 5, is_corpus) if is_corpus(one.name)]
    speech = found["speech"] + corpora
    if not speech or not found["noise"] or not (inside or corpora or any(map(holds_books, speech))):
        return None
    rules = {"speakers": sources.each(sources.dns_speaker), "noise_source": sources.dns_noise}
    rules |= {"room_source": sources.dns_room}
    roots = (wideband(one, data) for one in (speech, found["noise"], found["rooms"]))
    return Layout(dns_name(data, inside + corpora), data, *roots, **rules)


def is_corpus(name: str) -> bool:
    return name.lower() in sources.DNS_CORPORA


def is_synthesised(folder: Path) -> bool:
    """Whether a folder was written by the challenge's synthesiser, beside its mixtures: copies of what lies elsewhere.

    Corpora and fullband folders are originals, even where mixtures lie beside them.
    """
    beside, mixed = folder.parent / "clean", (folder.parent / "noisy").is_dir()
    originals = folder.name.lower().endswith("_fullband") or any(
        is_corpus(one.name) for one in [folder, *below(beside, 5, is_corpus)]
    )
    return mixed and not originals


def holds_books(folder: Path) -> bool:
    """Whether the first file is named like the LibriVox readings of all challenges."""
    return "_reader_" in next((name for name in folders.walk(str(folder), "", set())), "")


def wideband(roots: list[Path], data: Path) -> tuple[Path, ...]:
    """Without fullband copies of what is there in wideband too: ``datasets_fullband/clean_fullband`` is one of
    ``datasets/clean``."""
    names = {root: root.relative_to(data).as_posix().lower() for root in roots}
    wide = {name for name in names.values() if "_fullband" not in name}
    return tuple(root for root, name in names.items() if name in wide or name.replace("_fullband", "") not in wide)


def dns_name(data: Path, corpora: list[Path]) -> str:
    """Which of the challenges it looks like: 5 has tracks, 4 VCTK or corpora without clean/, 3 ``french_data``."""
    paths = [str(path).lower() for path in [*below(data, 2, lambda name: False, skip=None), *corpora]]
    names = {path.name.lower() for path in corpora}
    if any(re.search(r"track[12]_|dnsv5|v5_", path) for path in paths):
        return "DNS Challenge 5"
    if names & {"vctk_wav48_silence_trimmed", "french_speech"}:
        return "DNS Challenge 4"
    return "DNS Challenge 3" if names & {"french_data", "mandarin_speech", "singing_voice"} else "DNS Challenge"


def voicebank(data: Path) -> Layout | None:
    """VoiceBank+DEMAND: pairs of folders, and logs that name the noises."""
    found: dict[tuple[str, str], Path] = {}
    for folder in below(data, 2, lambda name: bool(_VOICEBANK.fullmatch(name)), skip=None):
        if match := _VOICEBANK.fullmatch(folder.name):
            found.setdefault(match.groups(), folder)
    subsets = sorted(subset for kind, subset in found if kind == "clean" and ("noisy", subset) in found)
    if not subsets:
        return None
    noises = noise_names(data, subsets)
    clean, noisy = (tuple(found[kind, subset] for subset in subsets) for kind in ("clean", "noisy"))
    return Layout(
        "VoiceBank+DEMAND", data, clean, noisy, speakers=sources.each(sources.first_field),
        noise_source=lambda name: noises.get(Path(name).stem, "unnamed"), clean=dict(zip(noisy, clean, strict=True)),
    )  # fmt: skip


def noise_names(data: Path, subsets: list[str]) -> dict[str, str]:
    """The noise in every noisy file, from the logs: lines of file, noise, SNR in dB."""
    names = {}
    for subset in subsets:
        logs = sorted(data.rglob(f"log_{subset}.txt"))[:1] or sorted(data.rglob(f"log_{subset}_*.txt"))
        if not logs:
            raise MisuseError(
                f"VoiceBank+DEMAND in {data} lacks log_{subset}.txt, from its logfiles.zip: "
                "it names the noises, so that none is in training and in test."
            )
        for log in logs:
            lines = (line.split() for line in log_text(log).splitlines())
            names |= {fields[0].removesuffix(".wav"): fields[1] for fields in lines if len(fields) > 1}
    return names


def log_text(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MisuseError(f"{log}, which names the noises, cannot be read: {error.strerror}.") from None


def paired(noisy: Path, clean: Path, prefix: str, closed: list[str]) -> list[Item]:
    """Noisy files that have a clean one of the same name, each with it; a wav may pair with a flac file."""
    references = {Path(one.name).stem: os.path.join(clean, one.name) for one in folders.entries(clean, closed)}
    return [
        item(prefix + one.name, os.path.join(noisy, one.name), references[Path(one.name).stem])
        for one in folders.entries(noisy, closed)
        if Path(one.name).stem in references
    ]


def snsd(data: Path) -> Layout | None:
    """MS-SNSD, without the mixtures that its scripts make."""
    found = {folder.name: folder for folder in below(data, 2, lambda name: name in sum(_SNSD, ()))}
    if not {"clean_train", "noise_train"} <= found.keys():
        return None
    roots = (tuple(found[name] for name in names if name in found) for names in _SNSD)
    return Layout("MS-SNSD", data, *roots, speakers=sources.each(sources.first_field), noise_source=sources.snsd_noise)


def plain(data: Path) -> Layout | None:
    """Folders, at most two deep, whose names say what they hold."""
    found = kind_folders(data)
    if not found["speech"] or not found["noise"]:
        return None
    return Layout(
        "plain folders", data, *(tuple(found[kind]) for kind in KINDS),
        speakers=lambda seconds: speakers_below(seconds, "speech"),
        noise_source=lambda name: sources.noise_source(from_kind(name, "noise")),
        room_source=lambda name: sources.plain_room(from_kind(name, "rooms")),
    )  # fmt: skip


def kind_folders(data: Path) -> dict[str, list[Path]]:
    """The folders, at most two deep, whose names say what they hold, by kind; "" for what is to be left alone."""
    found: dict[str, list[Path]] = {"": [], **{kind: [] for kind in KINDS}}
    for folder in below(data, 2, lambda name: said(name) is not None):
        if (kind := said(folder.name)) is not None:
            found[kind].append(folder)
    return found


def speakers_below(seconds: dict[str, float], kind: str) -> dict[str, str]:
    """`sources.plain_speakers` for names whose folder of speech may lie in another folder."""
    short = {name: below_kind(name, kind) for name in seconds}
    found = sources.plain_speakers({short[name]: length for name, length in seconds.items()})
    return {name: found[short[name]] for name in seconds}


def below_kind(name: str, kind: str) -> str:
    """``train/clean/p226/1.wav`` -> ``train clean/p226/1.wav``: one folder, then what is below it."""
    short = from_kind(name, kind)
    above = name.removesuffix(short).replace("/", " ")
    return above + short


def from_kind(name: str, kind: str) -> str:
    """``train/noise/street/1.wav`` -> ``noise/street/1.wav``: the street of ``test/noise`` may be the same."""
    parts = name.split("/")
    depth = next((place for place, part in enumerate(parts[:-1]) if said(part) == kind), 0)
    return "/".join(parts[depth:])


def said(name: str) -> str | None:
    """The kind that the name of a folder says; "" for what is to be left alone."""
    return next((kind for kind, pattern in _PLAIN.items() if pattern.search(name)), None)


def noisy_folders(folder: Path) -> list[Path]:
    """Where the noisy clips of a test set without reference lie: its folders ``noisy`` or ``real_recordings``.

    A DNS Challenge test set also holds clean and enrolment speech. Without such folders, the folder itself.
    """
    noisy = re.compile(r"noisy|noisy_(fullband|test\w*|\w*testset\w*)", re.IGNORECASE)
    inside = list(below(folder, 6, lambda name: bool(noisy.fullmatch(name)), skip=None))
    found = [one for one in inside if noisy.fullmatch(one.name)]
    real = [one for one in inside if one.name.lower() == "real_recordings" and not any(one in n.parents for n in found)]
    return sorted(found + real) or [folder]


def below(root: Path, depth: int, stop: Callable[[str], bool], skip: re.Pattern | None = _TEST_SET) -> Iterator[Path]:
    """Folders below a folder in the order of their names, down to a depth, not into those at which to stop.

    Hidden folders and those that macOS adds to archives are left out, and test sets without reference: they are never
    trained on.
    """
    try:
        with os.scandir(root) as scanned:
            names = sorted(one.name for one in scanned if folders.leads_to_folder(one) and not hidden(one.name))
    except OSError:
        return
    for name in names:
        if skip is None or not skip.fullmatch(name):
            yield root / name
            if depth > 1 and not stop(name):
                yield from below(root / name, depth - 1, stop, skip)


def hidden(name: str) -> bool:
    return name[0] == "." or name == "__MACOSX"
