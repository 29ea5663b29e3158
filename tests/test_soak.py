"""Audio for a while: a sound denoiser passes, and each fault that only time shows is seen."""

import mmap
from itertools import count

import numpy as np
import pytest
import torch

from dnslib import CONFIGURATIONS, Cruse, Denoiser, MisuseError
from dnslib.export import export_streaming
from dnslib.soak import CYCLE, Scene, chunks, scenes, soak, soak_table

RATE, HOP = 16_000, 160


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    torch.manual_seed(0)
    model, folder = Cruse(CONFIGURATIONS["P.875"]).eval(), tmp_path_factory.mktemp("soak")
    return {form: export_streaming(model, folder / f"{form}.onnx", form) for form in ("exact", "int8")}


class Through(Denoiser):
    """What comes in goes out at once; faults are added by the tests."""

    def __init__(self):
        self.kept = []

    def reset(self) -> None:
        pass

    def process(self, chunk: np.ndarray) -> np.ndarray:
        return chunk.copy()


def test_a_sound_denoiser_passes(files):
    seen = soak(files["exact"], minutes=0.5, warmup_minutes=0.05)
    assert seen.frames == 0.5 * 6_000
    assert seen.all_finite
    assert seen.silence_peak == 0
    assert 50 < seen.memory_start_mb < 5_000  # Python with ONNX Runtime and PyTorch


def test_a_moment_is_long_enough(files):
    assert soak(files["exact"], minutes=1e-3, warmup_minutes=0).frames == 6


def test_memory_that_grows_is_seen():
    """20 480 bytes kept of each hop, 360 000 hops in an hour of audio. Straight from the system: an allocator may have
    some left that is resident already.
    """

    class Leaking(Through):
        heard = 0

        def process(self, chunk):
            self.heard += len(chunk)
            while len(self.kept) < self.heard // HOP:
                self.kept.append(mmap.mmap(-1, 20_480))
                self.kept[-1].write(b"1" * 20_480)
            return chunk

    seen, hourly = soak(Leaking(), minutes=0.4, warmup_minutes=0.05), 20_480 * 360_000 / 1e6
    assert seen.memory_slope_mb_per_hour == pytest.approx(hourly, rel=0.1)
    assert seen.memory_end_mb - seen.memory_start_mb == pytest.approx(hourly * 0.4 / 60, rel=0.1)


def test_what_is_not_finite_is_seen():
    class Breaking(Through):
        def process(self, chunk):
            return np.where(chunk == 1, np.nan, chunk)  # at full scale

    assert soak(Through(), minutes=0.5, warmup_minutes=0).all_finite
    assert not soak(Breaking(), minutes=0.5, warmup_minutes=0).all_finite


def test_silence_that_is_not_silent_is_seen():
    class Humming(Through):
        def process(self, chunk):
            return chunk + np.float32(0.25)

    class Ringing(Through):
        """A frame longer than it may: silence hears the sound of 20 ms ago, and then another 10 ms of it."""

        past = np.zeros(3 * HOP, np.float32)

        def process(self, chunk):
            line = np.concatenate([self.past, chunk])
            self.past = line[-3 * HOP :]
            return line[: len(chunk)]

    assert soak(Through(), minutes=0.5, warmup_minutes=0).silence_peak == 0
    assert soak(Humming(), minutes=0.5, warmup_minutes=0).silence_peak == pytest.approx(0.25)
    assert soak(Ringing(), minutes=0.5, warmup_minutes=0).silence_peak > 0


def test_slow_silence_is_seen():
    """On a clock that moves on by 2 us a hop of sound and by 10 us a hop of silence; each fifth call is disturbed, and
    calls with more or less than a hop take a time of their own.
    """
    now_ns, calls = 0, count()

    class Slow(Through):
        def process(self, chunk):
            nonlocal now_ns
            one_hop = 2_000 if chunk.any() else 10_000
            now_ns += 90_000 if len(chunk) != HOP or next(calls) % 5 == 0 else one_hop
            return chunk

    seen = soak(Slow(), minutes=2, warmup_minutes=0, clock=lambda: now_ns)
    assert (seen.speech_us, seen.silence_us, seen.silence_ratio) == (2, 10, 5)


def test_the_audio_is_what_it_says():
    """Every kind is there, the length is right, nothing is louder than full scale, a decay ends in zeros."""
    played = list(scenes(np.random.default_rng(3), minutes=2))
    assert sum(len(samples) for _, samples, _ in played) == 2 * 60 * RATE
    assert {kind for kind, _, _ in played} == {kind for kind, _ in CYCLE}
    assert all(samples.dtype == np.float32 and np.abs(samples).max() <= 1 for _, samples, _ in played)
    decays = [samples for kind, samples, _ in played if kind == "decay"]
    assert any(((np.abs(samples) > 0) & (np.abs(samples) < 1e-38)).any() for samples in decays)  # denormal on its way
    assert all(not samples[2 * RATE :].any() for samples in decays)
    assert max(np.abs(samples).max() for kind, samples, _ in played if kind == "full scale") == 1
    again = scenes(np.random.default_rng(3), minutes=2)
    assert all(np.array_equal(one, other) for (_, one, _), (_, other, _) in zip(played, again, strict=True))


@pytest.mark.parametrize("longest_chunk", [0, 50, 5_000])
def test_chunks_are_the_samples_in_order(longest_chunk):
    scene = Scene("speech", np.arange(20_000, dtype=np.float32), longest_chunk)
    parts = list(chunks(scene, np.random.default_rng(0), given=100))
    assert np.array_equal(np.concatenate(parts), scene.samples)
    lengths = {len(part) for part in parts[1:-1]}
    assert len(parts[0]) == HOP - 100  # from there on in step with the frames
    assert lengths == {HOP} if longest_chunk == 0 else len(lengths) > 3 and max(lengths) <= longest_chunk


@pytest.mark.slow
def test_a_table_has_one_row_a_model(files, tmp_path):
    table = soak_table(files, minutes=0.05, warmup_minutes=0.01)
    assert list(table["model"]) == ["exact", "int8"]
    assert table["all_finite"].all()
    assert (table["frames"] == 300).all()
    assert (table["memory_start_mb"] > 50).all()
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(MisuseError, match="cannot be opened as an ONNX network"):  # told by the other process
        soak_table({"bad": tmp_path / "bad.onnx"}, 0.01)


def test_misuse(files, tmp_path):
    for minutes in (0, -1, float("nan")):
        with pytest.raises(MisuseError, match="longer than zero minutes"):
            soak(files["exact"], minutes)
    with pytest.raises(MisuseError, match="There is no file"):
        soak_table({**files, "none": tmp_path / "none.onnx"}, 0.01)
