"""The test set from Debian's packages: what is taken of a package, where it goes, one line for what fails."""

import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from dnslib import debian
from dnslib.data import layouts
from dnslib.errors import MisuseError

RATE = 16_000


def sound(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * RATE)), RATE)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Two packages, already unpacked: readings, and sounds of a city."""
    root = tmp_path / "archive"
    for name, seconds in (("long", 2.6), ("short", 2.4)):
        sound(root / "voices" / "wav" / "silence" / f"{name}.wav", seconds)
        sound(root / "voices" / "wav" / "deep" / f"{name}.wav", seconds)
    for name in ("Farm1", "Farm12", "Farmyard1", "Market", "unasked"):
        sound(root / "sounds" / f"{name}.wav", 1)
    sound(root / "sounds" / "jet" / "inside2.wav", 1)
    for package in ("voices", "city"):
        (root / "usr/share/doc" / package).mkdir(parents=True)
        (root / "usr/share/doc" / package / "copyright").write_text(f"of {package}")
    monkeypatch.setattr(debian, "SPEECH", (("voices", "voices/wav/**/*.wav", "book/reader"),))
    monkeypatch.setattr(debian, "NOISE", (("city", "sounds", "Farm Market jet/inside"),))

    @contextmanager
    def unpacked(package, packages):
        yield root

    monkeypatch.setattr(debian, "unpacked", unpacked)
    return root


def test_long_speech_and_named_sounds_are_laid_out_with_their_licences(archive, tmp_path):
    made = tmp_path / "made"
    assert debian.build(made) == {"speech": 1, "noise": 4}
    files = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    assert files == [
        "licences/city",
        "licences/voices",
        "noise/city/Farm/Farm1.wav",
        "noise/city/Farm/Farm12.wav",
        "noise/city/Market/Market.wav",
        "noise/city/jet_inside/inside2.wav",
        "speech/book/reader/wav_deep_long.wav",
    ]
    assert (made / "licences" / "city").read_text() == "of city"
    assert layouts.recognise(made).name == "own layout"


def test_what_is_there_is_left_alone_and_the_rest_is_made(archive, tmp_path):
    debian.build(tmp_path / "made")
    kept, lost = (tmp_path / "made" / "noise" / "city" / "Farm" / f"Farm{number}.wav" for number in (1, 12))
    kept.write_text("mine")
    lost.unlink()
    debian.build(tmp_path / "made")
    assert kept.read_text() == "mine"
    assert lost.read_bytes() == (archive / "sounds" / "Farm12.wav").read_bytes()


def test_a_package_without_what_is_expected_is_named(archive, tmp_path):
    shutil.rmtree(archive / "sounds")
    with pytest.raises(MisuseError, match="package city holds none"):
        debian.build(tmp_path / "made")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_a_package_that_is_there_is_unpacked_and_not_downloaded(tmp_path, monkeypatch):
    source, packages = tmp_path / "source", tmp_path / "packages"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN" / "control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: nothing\n"
    )
    (source / "usr").mkdir()
    (source / "usr" / "sound.wav").write_text("hear")
    packages.mkdir()
    subprocess.run(["dpkg-deb", "-b", source, packages / "tiny_1_all.deb"], check=True, capture_output=True)
    with debian.unpacked("tiny", packages) as root:
        assert (root / "usr" / "sound.wav").read_text() == "hear"
    assert not root.exists()
    asked = []
    monkeypatch.setattr(debian, "run", lambda *command, folder=None: asked.append((*command, folder)))
    with pytest.raises(ValueError, match="empty"), debian.unpacked("other", packages):
        pass
    assert asked == [("apt-get", "download", "other", packages)]


def test_programs_that_are_missing_or_fail_are_one_line(tmp_path):
    with pytest.raises(MisuseError, match=r"^no-such-program is not installed, and this needs it\.$"):
        debian.run("no-such-program")
    with pytest.raises(MisuseError, match=r"^sh failed: last$"):
        debian.run("sh", "-c", "echo first >&2; echo last >&2; exit 3")
    with pytest.raises(MisuseError, match=r"^sh failed: status 3$"):
        debian.run("sh", "-c", "exit 3")


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_one_folder_is_asked_for(arguments):
    with pytest.raises(MisuseError, match="Name one folder"):
        debian.main(arguments)


def test_a_folder_that_cannot_be_written_is_one_line(archive, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MisuseError, match=r"file.* cannot be written: .+\.$"):
        debian.main([str(tmp_path / "file")])


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_g722_is_decoded_and_its_length_known_without(tmp_path):
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)
    soundfile.write(tmp_path / "tone.wav", wave, RATE)
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", tmp_path / "tone.wav", "-f", "g722", tmp_path / "tone.g722"],
        check=True,
    )
    assert debian.seconds(tmp_path / "tone.g722") == 3
    debian.place(tmp_path / "tone.g722", tmp_path / "out" / "tone.flac")
    decoded, rate = soundfile.read(tmp_path / "out" / "tone.flac")
    assert (rate, decoded.size) == (RATE, wave.size)
    spectrum = np.abs(np.fft.rfft(decoded))
    assert spectrum.argmax() == 440 * 3
    assert np.sqrt(np.mean(decoded**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
