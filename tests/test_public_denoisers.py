"""Public denoisers on exchanged clips: blocks and overlaps in closed form, one line for what is missing."""

import numpy as np
import pytest
import soundfile

from dnslib import public_denoisers
from dnslib.errors import MisuseError, told_in_one_line

NOISY = np.random.default_rng(0).uniform(-0.5, 0.5, 5000).astype(np.float32)


@pytest.fixture
def transparent(monkeypatch):
    """Networks that give back what they get, or a gain of one for a spectrum's magnitudes; states are counted."""
    monkeypatch.setattr(public_denoisers, "session_of", lambda path: path)
    monkeypatch.setattr(public_denoisers, "initial_states", lambda network: [0])
    monkeypatch.setattr(
        public_denoisers,
        "step",
        lambda network, frame, states: (np.ones_like(frame) if network == "gain" else frame, [states[0] + 1]),
    )


def test_windows_of_gtcrn_add_up_to_one(transparent):
    np.testing.assert_allclose(public_denoisers.gtcrn("wave")(NOISY), NOISY, atol=1e-6)


def test_four_blocks_of_dtln_overlap_everywhere(transparent):
    """The blocks have no window: what the network is trained for is that its outputs add up to one waveform."""
    np.testing.assert_allclose(public_denoisers.dtln("gain", "wave")(NOISY), 4 * NOISY, atol=1e-5)


@pytest.mark.parametrize("hop", [128, 256])
def test_a_block_ends_with_the_newest_hop_and_every_sample_is_in_as_many(hop):
    found = list(public_denoisers.blocks(NOISY, hop))
    for start, block in found[:8]:
        np.testing.assert_array_equal(block[-hop:], NOISY[start : start + hop])
    heard = np.zeros(NOISY.size + 2 * public_denoisers.WINDOW)
    for start, _ in found:
        heard[start : start + public_denoisers.WINDOW] += 1
    assert set(heard[public_denoisers.WINDOW - hop :][: NOISY.size]) == {public_denoisers.WINDOW / hop}


def test_clips_are_enhanced_once_each(tmp_path, monkeypatch):
    (tmp_path / "noisy").mkdir()
    for name in ("000", "001"):
        soundfile.write(tmp_path / "noisy" / f"{name}.wav", NOISY, 16_000)
    made = []
    halve = lambda: lambda noisy: made.append(1) or noisy / 2  # noqa: E731
    monkeypatch.setattr(public_denoisers, "DENOISERS", {"Half": (halve, "nothing", ())})
    monkeypatch.setattr(public_denoisers, "packaged", lambda name: [])
    assert [public_denoisers.enhance_all(tmp_path, "Half") for _ in range(2)] == [2, 2]
    assert len(made) == 2
    enhanced, rate = soundfile.read(tmp_path / "Half" / "001.wav")
    assert rate == 16_000
    np.testing.assert_allclose(enhanced, NOISY / 2, atol=1 / 32768)


def test_what_is_missing_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(MisuseError, match="holds no clips: run 07_5_other_recordings") as error:
        public_denoisers.main([str(tmp_path)])
    assert "\n" not in str(error.value)
    monkeypatch.setattr(public_denoisers, "DENOISERS", {"Half": (None, "no_such_package", ("net.onnx",))})
    with pytest.raises(MisuseError, match=r"Half is not installed: see python -m dnslib\.public_denoisers --help"):
        public_denoisers.packaged("Half")
    for wrong in ([], ["a", "b"], ["--all"]):
        with pytest.raises(MisuseError, match="Name one folder"):
            public_denoisers.main(wrong)
    public_denoisers.main(["--help"])
    assert "pip install --no-deps pyrnnoise" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "said", "status"),
    [(MisuseError("No\nclips."), "No clips.\n", 2), (KeyboardInterrupt(), "interrupted; the same command", 130)],
)
def test_a_command_ends_with_one_line(raised, said, status, capsys):
    with pytest.raises(SystemExit) as end, told_in_one_line():
        raise raised
    assert end.value.code == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1
