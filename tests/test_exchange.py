"""Clips that other denoisers get, and their answers: nothing shifted, nothing mixed up, one line for what is wrong."""

import numpy as np
import pytest
import soundfile

from dnslib import exchange
from dnslib.data import Clip
from dnslib.errors import MisuseError

RATE = 16_000


@pytest.fixture
def clips() -> list[Clip]:
    rng = np.random.default_rng(0)
    waves = rng.uniform(-0.3, 0.3, (3, RATE)).astype(np.float32)
    return [Clip(f"{index:03d}", wave, None, 0.0, -20.0, "", "") for index, wave in enumerate(waves)]


def answer(folder, clips, change=lambda wave: wave, suffix="wav", rate=RATE):
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        soundfile.write(folder / f"{clip.name}.{suffix}", change(clip.noisy), rate)


def test_clips_go_out_rounded_to_16_bits_and_come_back(tmp_path, clips):
    noisy = exchange.write_noisy(tmp_path, clips)
    (tmp_path / "copy").mkdir()
    for path in noisy.iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    back = exchange.versions(tmp_path, clips)
    assert list(back) == ["copy"]
    for clip, wave in zip(clips, back["copy"], strict=True):
        np.testing.assert_allclose(wave, clip.noisy, atol=1.6 / 32768)


def test_clips_that_are_there_stay_and_others_are_refused(tmp_path, clips):
    noisy = exchange.write_noisy(tmp_path, clips[:2])
    before = (noisy / "000.wav").stat().st_mtime_ns
    exchange.write_noisy(tmp_path, clips)  # more of the same
    assert (noisy / "000.wav").stat().st_mtime_ns == before
    assert len(list(noisy.iterdir())) == 3
    with pytest.raises(MisuseError, match=r"holds other clips, such as 002\.wav: name an empty folder"):
        exchange.write_noisy(tmp_path, clips[:2])
    bit = [Clip("000", clips[0].noisy + 0.5 / 32768, None, 0.0, -20.0, "", ""), *clips[1:]]
    exchange.write_noisy(tmp_path, bit)  # mixed by another processor
    changed = [Clip("000", -clips[0].noisy, None, 0.0, -20.0, "", "")]
    with pytest.raises(MisuseError, match=r"such as 000\.wav"):
        exchange.write_noisy(tmp_path, changed)


@pytest.mark.parametrize("delay", [0, 1, 320, 1600])
def test_a_delay_is_taken_away_and_the_end_filled_with_zeros(clips, delay):
    noisy = clips[0].noisy
    late = np.concatenate([np.zeros(delay, np.float32), 0.5 * noisy])
    np.testing.assert_array_equal(exchange.aligned(late, noisy), 0.5 * noisy)  # longer by the delay: nothing is lost
    cut = exchange.aligned(late[: noisy.size], noisy)
    np.testing.assert_array_equal(cut[: noisy.size - delay], 0.5 * noisy[: noisy.size - delay])
    assert cut.size == noisy.size
    assert not cut[noisy.size - delay :].any()


def test_versions_may_be_of_any_format_and_rate_and_quieter(tmp_path, clips):
    answer(tmp_path / "flac", clips, lambda wave: 0.5 * wave, suffix="flac")
    answer(tmp_path / "fast", clips, lambda wave: np.repeat(wave, 3), rate=3 * RATE)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "flac" / "notes.txt").write_text("not a recording")
    found = exchange.versions(tmp_path, clips)
    assert sorted(found) == ["fast", "flac"]
    np.testing.assert_allclose(found["flac"][2], 0.5 * clips[2].noisy, atol=2 / 32768)
    assert [wave.size for wave in found["fast"]] == [RATE] * 3
    assert np.corrcoef(found["fast"][1], clips[1].noisy)[0, 1] > 0.7


def test_what_is_missing_or_broken_is_one_line(tmp_path, clips):
    assert exchange.versions(tmp_path, clips) == {}
    answer(tmp_path / "other", clips[1:])
    with pytest.raises(MisuseError, match=r"other lacks 1 of 3 clips, the first is 000\.$"):
        exchange.versions(tmp_path, clips)
    (tmp_path / "other" / "000.wav").write_bytes(b"no sound")
    with pytest.raises(MisuseError, match=r"other/000\.wav cannot be decoded as audio"):
        exchange.versions(tmp_path, clips)


def test_a_folder_with_the_name_of_another_row_or_a_clip_that_is_there_twice(tmp_path, clips):
    answer(tmp_path / "P.500", clips)
    with pytest.raises(MisuseError, match=r"P\.500 bears the name of another row: rename it"):
        exchange.versions(tmp_path, clips, taken=["noisy", "P.500"])
    answer(tmp_path / "P.500" / "second", clips[2:])
    with pytest.raises(MisuseError, match=r"P\.500 holds the clip 002 twice: .*002\.wav and .*002\.wav"):
        exchange.versions(tmp_path, clips)


def test_an_answer_on_another_scale_is_brought_back_to_full_scale(tmp_path, clips):
    """Floating-point numbers of the size of 16-bit ones: the same sound, its peak at one."""
    (tmp_path / "loud").mkdir()
    for clip in clips:
        soundfile.write(tmp_path / "loud" / f"{clip.name}.wav", 32768 * clip.noisy, RATE, subtype="FLOAT")
    for clip, wave in zip(clips, exchange.versions(tmp_path, clips)["loud"], strict=True):
        np.testing.assert_allclose(wave, clip.noisy / np.abs(clip.noisy).max(), atol=1e-6)


def test_a_denoiser_may_answer_with_silence(tmp_path, clips):
    answer(tmp_path / "gate", clips, np.zeros_like)
    assert [wave.any() for wave in exchange.versions(tmp_path, clips)["gate"]] == [False] * 3
