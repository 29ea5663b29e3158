"""A test set that nothing here was trained on: ``python -m dnslib.debian DIR``, on Debian or Ubuntu.

Debian's packages hold openly licensed recordings: telephone prompts in five languages, a Russian speech database, a
reading, and in games the sounds of a city, of aircraft and of machines. The packages are downloaded by ``apt-get``
(about 350 MB). What is used of them goes to ``DIR/speech/<corpus>/<speaker>`` and ``DIR/noise/<package>/<kind>``, ready
for ``--data DIR``; their copyright files go to ``DIR/licences``. Needs ``dpkg-deb``, and ``ffmpeg`` for G.722.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from dnslib.errors import MisuseError, told_in_one_line
from dnslib.paths import folder_to_fill, write_atomically
from dnslib.progress import track
from dnslib.sampling import SAMPLE_RATE

SHORTEST_SPEECH = 2.5  # s; shorter prompts are single words
SPEECH = (  # package, files in it, corpus/speaker; the English and the Spanish prompts have one speaker
    ("asterisk-core-sounds-en-g722", "usr/share/asterisk/sounds/en_US_f_Allison/**/*.g722", "asterisk/allison"),
    ("asterisk-core-sounds-es-g722", "usr/share/asterisk/sounds/es_MX_f_Allison/**/*.g722", "asterisk/allison"),
    ("asterisk-core-sounds-fr-g722", "usr/share/asterisk/sounds/fr_CA_f_June/**/*.g722", "asterisk/june"),
    ("asterisk-core-sounds-it-g722", "usr/share/asterisk/sounds/it_IT_m_Carlo/**/*.g722", "asterisk/carlo"),
    ("asterisk-core-sounds-ru-g722", "usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU/**/*.g722", "asterisk/ivrvoice"),
    ("festvox-ru", "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav/*.wav", "festvox/nsh"),
    ("pocketsphinx-testdata", "usr/share/pocketsphinx/test/data/librivox/*.wav", "pocketsphinx/librivox"),
)
NOISE = (  # package, folder in it, names of the files; numbered ones are one kind
    ("lincity-ng-data", "usr/share/games/lincity-ng/sounds",
     "Blacksmith CoalMine Commune DirtTrack Farm Fire FireStation Green Harbor Health IndustryHigh IndustryLight "
     "MarketEmpty MarketFull MarketLow MarketMed Mill OreMine OrganicFarm ParklandLake ParklandPlane PowerCoalEmpty "
     "PowerCoalFull PowerCoalLow PowerCoalMed RailTrain Recycle ResidentialHigh ResidentialLow ResidentialMed School "
     "Shanty SportsCroud Substation Tip TraficHigh TraficLow University Water WindMill"),
    ("searchandrescue-data", "usr/share/games/searchandrescue/sounds",
     "gear_down helicopter_engine_start helicopter_engine_outside hh65/engine_inside hh65/engine_start "
     "jet_engine_inside jet_engine_start"),
    ("sonic-pi-samples", "usr/share/sonic-pi/samples", "ambi_sauna loop_3d_printer vinyl_hiss"),
)  # fmt: skip


def build(folder: Path) -> dict[str, int]:
    """Fill ``folder`` with what is not there yet; returns how many files it holds of each kind.

    Raises MisuseError where a program is missing, a package cannot be downloaded, or one does not hold what it should.
    """
    for package in dict.fromkeys(rule[0] for rule in (*SPEECH, *NOISE)):
        with unpacked(package, folder / "packages") as root:
            wanted = dict(speech_files(package, root)) | dict(noise_files(package, root))
            if not wanted:
                raise MisuseError(f"The package {package} holds none of the recordings that are expected there.")
            for source, target in track(wanted.items(), total=len(wanted), description=package):
                place(source, folder / target)
            for note in (root / "usr/share/doc" / package).glob("copyright*"):
                place(note, folder / "licences" / package)
    return {kind: sum(path.is_file() for path in (folder / kind).rglob("*")) for kind in ("speech", "noise")}


def speech_files(package: str, root: Path) -> Iterator[tuple[Path, str]]:
    """Recordings of speech in an unpacked package that are long enough, each with its place in the folder."""
    for _, pattern, speaker in (rule for rule in SPEECH if rule[0] == package):
        base = root / pattern.partition("*")[0]
        for path in sorted(root.glob(pattern)):
            if seconds(path) >= SHORTEST_SPEECH and "silence" not in path.parts:
                name = f"{base.name}_{'_'.join(path.relative_to(base).parts)}"
                yield path, f"speech/{speaker}/{name.removesuffix('.g722') + '.flac' if is_g722(path) else name}"


def noise_files(package: str, root: Path) -> Iterator[tuple[Path, str]]:
    """Sounds of an unpacked package, each with its place in the folder."""
    for _, inside, names in (rule for rule in NOISE if rule[0] == package):
        for name in names.split():
            numbered = re.compile(re.escape(Path(name).name) + r"\d*\.(wav|ogg|flac)")
            for path in sorted((root / inside / name).parent.glob("*")):
                if numbered.fullmatch(path.name):
                    yield path, f"noise/{package}/{name.replace('/', '_')}/{path.name}"


def is_g722(path: Path) -> bool:
    return path.suffix == ".g722"


def seconds(path: Path) -> float:
    """Length of a recording; G.722 has no header and takes 8000 bytes a second."""
    return path.stat().st_size / 8000 if is_g722(path) else soundfile.info(path).duration


def place(source: Path, target: Path) -> None:
    """Copy a file, or decode it where it is G.722; nothing is done where the target exists."""
    if target.exists():
        return
    with write_atomically(target) as temporary:
        if is_g722(source):
            rate = str(SAMPLE_RATE)
            run("ffmpeg", "-nostdin", "-v", "error", "-f", "g722", "-i", str(source), "-ar", rate, str(temporary))
        else:
            shutil.copyfile(source, temporary)


@contextmanager
def unpacked(package: str, packages: Path) -> Iterator[Path]:
    """A temporary folder with the files of a package, which is downloaded to ``packages`` unless it is there."""
    packages.mkdir(parents=True, exist_ok=True)
    if not any(packages.glob(f"{package}_*.deb")):
        run("apt-get", "download", package, folder=packages)
    with tempfile.TemporaryDirectory(prefix="dns-study-") as root:
        run("dpkg-deb", "-x", str(max(packages.glob(f"{package}_*.deb"))), root)
        yield Path(root)


def run(*command: str, folder: Path | None = None) -> None:
    """Run a program; raises MisuseError with its last line when it fails, or when it is not installed."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise MisuseError(f"{command[0]} is not installed, and this needs it.") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise MisuseError(f"{command[0]} failed: {last[-1]}")


def main(arguments: Iterable[str]) -> None:
    """Build the test set in the folder that is named."""
    arguments = list(arguments)
    with folder_to_fill(arguments, "python -m dnslib.debian DIR") as folder:
        counts = build(folder)
    print(", ".join(f"{count} files of {kind}" for kind, count in counts.items()), "in", arguments[0])


if __name__ == "__main__":
    with told_in_one_line():
        main(sys.argv[1:])
