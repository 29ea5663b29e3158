"""Recordings: aligned at any rate, each channel for itself, nothing overwritten, one line for what is unusable."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from conftest import signals_of_a_terminal
from safetensors.torch import save_file

from dnslib import Cruse, MisuseError, enhance, enhancing, published
from dnslib.__main__ import main
from dnslib.enhancing import Channels, Denoisers, destination, enhance_recordings, is_whole, plan_folder
from dnslib.export import export_streaming
from dnslib.paths import PROJECT

WIDTHS, GROUPS = (2, 4, 6), 2


@pytest.fixture(scope="module")
def model() -> Cruse:
    torch.manual_seed(0)
    return Cruse(WIDTHS, GROUPS).eval()


@pytest.fixture(scope="module")
def net(model, tmp_path_factory):
    return export_streaming(model, tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def transparent(tmp_path_factory):
    """A network that gives gain 1 to everything: what comes out is what went in."""
    model = Cruse(WIDTHS, GROUPS)
    with torch.no_grad():
        model.decoders[0].weight.zero_()
        model.decoders[0].bias.fill_(50)
    return export_streaming(model, tmp_path_factory.mktemp("transparent") / "net.onnx")


def tones(seconds: float, rate: int, *pitches_hz: float) -> np.ndarray:
    """One channel a pitch, (samples, channels), fading in and out so that no filter rings at the ends."""
    time_s = np.arange(round(seconds * rate)) / rate
    envelope = 0.5 * np.sin(np.pi * time_s / seconds) ** 2
    return np.stack([envelope * np.sin(2 * np.pi * pitch * time_s) for pitch in pitches_hz], axis=1).astype(np.float32)


def write(path, samples, rate=16_000, subtype=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


# samples


def test_a_16_khz_file_is_what_enhance_gives(model, net, tmp_path):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(40_001).astype(np.float32)
    noisy = write(tmp_path / "noisy.wav", waveform, subtype="FLOAT")
    summary = enhance_recordings(noisy, model=net)
    got, rate = soundfile.read(tmp_path / "noisy.enhanced.wav", dtype="float32")
    assert (rate, summary.out, summary.failed) == (16_000, tmp_path / "noisy.enhanced.wav", {})
    assert summary.audio_seconds == pytest.approx(40_001 / 16_000)
    np.testing.assert_allclose(got, enhance(model, waveform), atol=1e-4)
    assert np.array_equal(soundfile.read(noisy, dtype="float32")[0], waveform)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_any_rate_comes_back_aligned(transparent, tmp_path, rate):
    """A network of gain 1 leaves tones under 4 kHz as they are, in their channel, at their time."""
    samples = tones(1.7, rate, 440, 1_000)[:-3]
    noisy = write(tmp_path / "noisy.wav", samples, rate, "FLOAT")
    enhance_recordings(noisy, model=transparent)
    got, got_rate = soundfile.read(tmp_path / "noisy.enhanced.wav", dtype="float32")
    assert (got_rate, got.shape) == (rate, samples.shape)
    np.testing.assert_allclose(got, samples, atol=2e-3)


@pytest.mark.parametrize("samples", [1, 2, 100, 441])
def test_very_short_recordings_keep_their_length(net, tmp_path, samples):
    noisy = write(tmp_path / "short.wav", np.full(samples, 0.1), 44_100)
    enhance_recordings(noisy, model=net)
    assert soundfile.info(tmp_path / "short.enhanced.wav").frames == samples


def test_a_channel_does_not_hear_the_other(net):
    """The same channel beside silence and beside noise gives the same, as does the next recording."""
    denoisers = Denoisers(net)
    mine = tones(1, 16_000, 300)
    other = np.random.default_rng(0).uniform(-1, 1, mine.shape).astype(np.float32)
    results = []
    for beside in (np.zeros_like(mine), other):
        channels = Channels(denoisers.take(2), 16_000)
        parts = [channels.process(block) for block in np.array_split(np.hstack([mine, beside]), 7)]
        results.append(np.concatenate([*parts, channels.flush()])[:, 0])
    assert np.array_equal(*results)
    assert len(results[0]) == len(mine)


@pytest.mark.parametrize(
    ("name", "subtype", "expected"),
    [
        ("a.wav", "PCM_16", ("WAV", "PCM_16")),
        ("a.wav", "PCM_24", ("WAV", "PCM_24")),
        ("a.wav", "FLOAT", ("WAV", "FLOAT")),
        ("a.flac", "PCM_24", ("FLAC", "PCM_24")),
        ("a.ogg", "VORBIS", ("WAV", "PCM_16")),
        ("a.mp3", "MPEG_LAYER_III", ("WAV", "PCM_16")),
    ],
)
def test_formats(net, tmp_path, name, subtype, expected):
    noisy = write(tmp_path / name, tones(0.5, 48_000, 440), 48_000, subtype)
    enhance_recordings(noisy, model=net)
    about = soundfile.info(destination(noisy))
    assert (about.format, about.subtype) == expected
    assert about.frames == soundfile.read(noisy)[0].shape[0]


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "NMS_ADPCM_32", "ULAW"])
def test_codecs_in_wav_files_stay_whether_they_can_seek_or_not(net, tmp_path, subtype):
    """Some hold their samples in blocks, the last of which is filled up in the input already."""
    noisy = write(tmp_path / "a.wav", tones(0.5, 8_000, 440)[:-3], 8_000, subtype)
    assert enhance_recordings(noisy, model=net).failed == {}
    before, after = (soundfile.info(tmp_path / name) for name in ("a.wav", "a.enhanced.wav"))
    assert (after.subtype, after.frames) == (subtype, before.frames)


def test_loud_samples_are_clipped_not_wrapped(transparent, tmp_path):
    """A square wave at full scale overshoots after resampling; wrapped samples would jump to the other sign."""
    square = np.sign(tones(0.3, 44_100, 300)[:, 0])
    enhance_recordings(write(tmp_path / "loud.wav", square, 44_100, "PCM_16"), model=transparent)
    got = soundfile.read(tmp_path / "loud.enhanced.wav")[0]
    inner = np.abs(np.convolve(square, np.ones(41) / 41, "same")) > 0.99  # away from the edges
    assert (got[inner] * square[inner] > 0.5).all()


def test_weights_run_in_the_precision_asked_for(tmp_path, capsys):
    """The exact form gives what PyTorch gives, int8 something close to it."""
    torch.manual_seed(0)
    model = Cruse((4, 8, 16), 1).eval()  # wide enough for its largest products to be quantised
    weights = tmp_path / "model.safetensors"
    save_file(model.state_dict(), weights)
    waveform = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    noisy = write(tmp_path / "noisy.wav", waveform, subtype="FLOAT")
    errors = {}
    for precision in ("exact", "int8"):
        out = tmp_path / f"{precision}.wav"
        assert main(["enhance", str(noisy), str(out), "--model", str(weights), "--precision", precision]) == 0
        errors[precision] = np.abs(soundfile.read(out, dtype="float32")[0] - enhance(model, waveform)).max()
    assert errors["exact"] < 1e-5
    assert 1e-5 < errors["int8"] < 1e-2


# folders


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "a.mp3", "deep/b.flac"):
        write(tmp_path / "in" / name, tones(0.4, 16_000, 440))
    (tmp_path / "in" / "notes.txt").write_text("no recording")
    return tmp_path / "in"


def lengths(folder) -> dict[str, int]:
    return {
        p.relative_to(folder).as_posix(): soundfile.info(p).frames for p in folder.rglob("*.*") if p.suffix != ".txt"
    }


def test_no_two_recordings_share_an_output(tmp_path):
    for name in ("a.wav", "a.mp3", "a.ogg", "a.mp3.wav", "a.mp3 (2).wav"):
        (tmp_path / name).touch()
    targets = {one.name: target.name for one, target in plan_folder(tmp_path, tmp_path / "out").items()}
    assert len(set(targets.values())) == 5
    assert targets | {"a.wav": "a.wav", "a.mp3.wav": "a.mp3.wav", "a.ogg": "a.ogg.wav"} == targets
    assert targets["a.mp3"] == "a.mp3 (3).wav"


def test_a_name_need_not_be_utf_8(net, folder, capsys):
    name = os.fsdecode(b"\xff.wav")
    (folder / "a.wav").rename(folder / name)
    assert main(["enhance", str(folder), "--model", str(net)]) == 0
    assert "3 of 3 recordings enhanced" in capsys.readouterr().out
    assert main(["enhance", str(folder / name), str(folder.parent / name), "--model", str(net)]) == 0
    assert (folder.parent / name).read_bytes() == (folder.parent / "in.enhanced" / name).read_bytes()


def test_an_mp3_that_was_cut_off_is_told(net, tmp_path, capsys):
    """Its header still names eight seconds; what there is of it is done."""
    path = write(tmp_path / "a.mp3", tones(8.0, 16_000, 440))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert main(["enhance", str(path), "--model", str(net)]) == 0
    captured = capsys.readouterr()
    assert "1 of 1 recordings enhanced" in captured.out
    (line,) = captured.err.splitlines()
    missing = float(line.partition(" ends ")[2].partition(" s ")[0])
    heard = soundfile.info(tmp_path / "a.enhanced.wav").duration
    assert missing + heard == pytest.approx(8.0, abs=0.2)


def test_a_folder_keeps_its_shape(net, folder, capsys):
    assert main(["enhance", str(folder), "--model", str(net)]) == 0
    assert set(lengths(folder.parent / "in.enhanced")) == {"a.wav", "a.mp3.wav", "deep/b.flac"}
    assert set(lengths(folder.parent / "in.enhanced").values()) >= {6_400}
    out = capsys.readouterr().out
    assert "3 of 3 recordings enhanced" in out
    assert "real-time factor 0." in out


def test_outputs_inside_the_folder_are_no_inputs(folder):
    out = folder / "out"
    write(out / "a.wav", tones(0.1, 16_000, 440))
    assert {path.name for path in plan_folder(folder, out)} == {"a.wav", "a.mp3", "b.flac"}
    assert all(target.is_relative_to(out) for target in plan_folder(folder, out).values())


def test_bad_files_cost_one_line_each_and_the_others_are_done(net, folder, capsys):
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no audio at all")
    (folder / "film.m4a").write_bytes(bytes(100))
    (folder / "bare.raw").write_bytes(bytes(100))
    for other in ("cover.jpg", "clips.zip", "notes.txt"):  # no recordings by their names: left alone
        (folder / other).write_bytes(bytes(100))
    write(folder / "nothing.wav", np.zeros(0))
    write(folder / "nan.wav", np.array([0.1] * 50_000 + [np.nan]), subtype="FLOAT")
    write(folder / "huge.wav", np.array([0.1, 3e38]), subtype="FLOAT")
    assert main(["enhance", str(folder), "--model", str(net)]) == 1
    captured = capsys.readouterr()
    lines = {line.split("/")[-1].split()[0]: line for line in captured.err.splitlines()}
    assert set(lines) == {"empty.wav", "text.wav", "film.m4a", "bare.raw", "nothing.wav", "nan.wav", "huge.wav"}
    assert "is empty" in lines["empty.wav"]
    assert "is empty" in lines["nothing.wav"]
    assert "cannot be decoded" in lines["text.wav"]
    assert "NaN" in lines["nan.wav"]
    assert "3 of 10 recordings enhanced" in captured.out
    assert set(lengths(folder.parent / "in.enhanced")) == {"a.wav", "a.mp3.wav", "deep/b.flac"}  # and no .part


def test_a_recording_does_not_hear_one_that_broke_off_before_it(net, tmp_path):
    noise = 0.3 * np.random.default_rng(0).standard_normal(40_000)
    for folder in (tmp_path, tmp_path / "in"):
        write(folder / "b.wav", noise[:20_000], subtype="FLOAT")
    write(tmp_path / "in" / "a.wav", np.where(np.arange(40_000) < 30_000, noise, np.nan), subtype="FLOAT")
    enhance_recordings(tmp_path / "b.wav", model=net)
    assert list(enhance_recordings(tmp_path / "in", model=net).failed) == [tmp_path / "in" / "a.wav"]
    alone, after = (soundfile.read(tmp_path / name)[0] for name in ("b.enhanced.wav", "in.enhanced/b.wav"))
    assert np.array_equal(after, alone)


def test_existing_outputs_are_kept_unless_told(net, folder, capsys):
    kept = folder.parent / "in.enhanced" / "a.wav"
    write(kept, np.zeros(7))
    assert main(["enhance", str(folder), "--model", str(net)]) == 0  # as after an interruption
    assert "2 of 3 recordings enhanced" in (out := capsys.readouterr().out)
    assert "1 there already (--overwrite replaces them)" in out
    assert lengths(kept.parent) == {"a.wav": 7, "a.mp3.wav": lengths(folder)["a.mp3"], "deep/b.flac": 6_400}
    assert main(["enhance", str(folder), "--model", str(net), "--overwrite"]) == 0
    assert lengths(kept.parent)["a.wav"] == 6_400


# misuse


def one_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    return captured.err


def test_misuse_is_one_line_and_writes_nothing(net, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)  # relative names are the caller's
    (folder / "empty").mkdir()
    (folder / "net.onnx").write_bytes(b"no network")
    before = lengths(folder / "deep"), sorted(path.name for path in folder.iterdir())
    for arguments, words in [
        (["no.wav"], "There is no file or folder"),
        (["empty"], "holds no recordings"),
        (["a.wav", "a.wav", "--overwrite"], "would overwrite the input"),
        ([".", ".", "--overwrite"], "would overwrite the inputs"),
        (["a.wav", "deep/b.flac"], "exists already: name another output, or give --overwrite"),
        (["a.wav", "out.mp3"], "give a name that ends in .wav or .flac"),
        (["a.wav", "notes.txt/out.wav"], "notes.txt cannot be written"),
        (["deep", "notes.txt"], "notes.txt cannot be written"),
        (["a.wav", "--model", "net.onnx"], "net.onnx cannot be opened as an ONNX network"),
        (["a.wav", "--model", "no.onnx"], "There is no file"),
        (["a.wav", "--model", "P.600"], "did you mean P.500"),
        (["a.wav", "--precision", "int8"], "net.onnx has its precision already"),
        (["a.wav", "--precision", "int4"], "invalid choice: 'int4'"),
    ]:
        model = [] if "--model" in arguments else ["--model", str(net)]
        assert main(["enhance", *arguments, *model]) == 2, arguments
        assert words in one_line(capsys)
        assert (lengths(folder / "deep"), sorted(path.name for path in folder.iterdir())) == before
    with pytest.raises(MisuseError):
        enhance_recordings(folder / "no.wav", model=net)


def test_a_model_that_is_not_streaming(folder, capsys, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 161]) for name in ("log_power", "gain")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["log_power"], ["gain"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "g.onnx")
    assert main(["enhance", str(folder / "a.wav"), "--model", str(tmp_path / "g.onnx")]) == 2
    assert "is not a streaming network" in one_line(capsys)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_without_its_end_is_no_output(net, tmp_path, monkeypatch, suffix, capsys):
    """As on a full disk, where libsndfile loses what it writes at last and does not tell."""
    noisy = write(tmp_path / f"a.{suffix}", tones(1.0, 16_000, 440))
    assert is_whole(noisy, 16_000)
    assert not is_whole(noisy, 16_001)

    class Losing(soundfile.SoundFile):
        def close(self):
            lose = not self.closed
            super().close()
            if lose:
                os.truncate(self.name, os.path.getsize(self.name) - 600)

    def losing(source, path):
        return Losing(os.fsencode(path), "w", source.samplerate, source.channels, "PCM_16", format=suffix.upper())

    monkeypatch.setattr(enhancing, "create_like", losing)
    assert main(["enhance", str(noisy), "--model", str(net)]) == 1
    assert "cannot be written to its end; is the disk full?" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [noisy.name]


def test_dots_behind_a_link_lead_where_the_system_goes(net, tmp_path, monkeypatch):
    """``link/..`` is the folder above the one that the link leads to: nothing here is read or replaced for it."""
    here, there = tmp_path / "here", tmp_path / "elsewhere"
    mine, theirs = (
        write(folder / "a.wav", tones(length, 16_000, 440)) for folder, length in ((here, 0.1), (there, 0.2))
    )
    (there / "deep").mkdir()
    (here / "link").symlink_to(there / "deep")
    before = mine.read_bytes()
    monkeypatch.chdir(here)
    assert main(["enhance", "link/../a.wav", "out.wav", "--model", str(net)]) == 0
    assert soundfile.info(here / "out.wav").frames == soundfile.info(theirs).frames
    assert main(["enhance", "a.wav", "link/../new.wav", "--model", str(net)]) == 0
    assert soundfile.info(there / "new.wav").frames == soundfile.info(mine).frames
    assert mine.read_bytes() == before
    assert not (here / "new.wav").exists()


def test_a_link_to_the_input_is_the_input(net, folder, capsys):
    (folder / "link.wav").symlink_to(folder / "a.wav")
    assert main(["enhance", str(folder / "a.wav"), str(folder / "link.wav"), "--overwrite", "--model", str(net)]) == 2
    assert "would overwrite the input" in one_line(capsys)


def test_folders_and_files_that_may_not_be_read_cost_one_line_each(net, folder, capsys, monkeypatch):
    scandir, access = os.scandir, os.access

    def closed(path):
        if str(path).endswith("/deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("a.mp3") and access(path, mode))
    assert main(["enhance", str(folder), "--model", str(net)]) == 1
    captured = capsys.readouterr()
    assert f"{folder / 'deep'} may not be listed: no permission" in captured.err
    assert f"{folder / 'a.mp3'} may not be read: no permission" in captured.err
    assert captured.err.count("\n") == 2
    assert "1 of 3 recordings enhanced" in captured.out


@pytest.fixture(scope="module")
def an_hour(tmp_path_factory):
    return write(tmp_path_factory.mktemp("hour") / "noisy.wav", np.full((16_000 * 3600, 1), 0.01), subtype="PCM_16")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_enhancement_leaves_no_unfinished_file(net, an_hour, tmp_path, number):
    noisy = tmp_path / "noisy.wav"
    noisy.symlink_to(an_hour)
    command = [sys.executable, "-m", "dnslib", "enhance", str(noisy), "--model", str(net)]
    with signals_of_a_terminal():
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".*.part.wav")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    said = "interrupted" if number == signal.SIGINT else "stopped"
    assert words == f"dnslib: {said}; what is finished is kept, the same command goes on from there\n"
    assert [path.name for path in tmp_path.iterdir()] == ["noisy.wav"]


def test_a_folder_named_from_inside_gets_its_output_beside_it(tmp_path, net, monkeypatch):
    write(tmp_path / "calls" / "deep" / "a.wav", tones(0.2, 16_000, 440))
    monkeypatch.chdir(tmp_path / "calls" / "deep")
    assert enhance_recordings("..", model=net).out == tmp_path / "calls.enhanced"
    assert (tmp_path / "calls.enhanced" / "deep" / "a.wav").is_file()


def test_a_model_file_is_looked_for_beside_the_recordings_named_with_it(tmp_path, monkeypatch):
    """All paths of one call are against the working folder, from Python as from the command line."""
    write(tmp_path / "a.wav", tones(0.2, 16_000, 440))
    shutil.copy(published.WEIGHTS / "P.875-20ms.safetensors", tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    assert enhance_recordings("a.wav", "out.wav", "mine.safetensors").model == tmp_path / "mine.safetensors"
    assert (tmp_path / "out.wav").is_file()


@pytest.mark.parametrize("character", ["a", "é", "語"])
def test_the_longest_name_that_a_system_allows_is_written(net, tmp_path, character):
    """255 bytes, the suffix among them."""
    name = character * ((255 - len(".wav")) // len(character.encode())) + ".wav"
    write(tmp_path / "in" / name, tones(0.2, 16_000, 440))
    assert enhance_recordings(tmp_path / "in", tmp_path / "out", net).failed == {}
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_nothing_can_lie_beside_the_root(tmp_path):
    with pytest.raises(MisuseError, match="Name an output"):
        destination(type(tmp_path)(tmp_path.anchor))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_longer_recording_takes_no_more_memory(net, tmp_path, rate):
    """NumPy tells tracemalloc of its arrays; of a minute as a whole, float32 samples alone would be 4 MB."""

    def peak(seconds: int) -> int:
        noisy = write(tmp_path / f"{seconds}.wav", np.full(rate * seconds, 0.01), rate, "PCM_16")
        tracemalloc.start()
        try:
            enhance_recordings(noisy, model=net)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # imports and caches
    assert peak(60) - peak(6) < 500_000


def test_nothing_is_left_above_8_khz(net, tmp_path):
    """Neither the hiss of the input nor an image of the voice."""
    hiss = 0.1 * np.random.default_rng(0).standard_normal(3 * 48_000)
    enhance_recordings(write(tmp_path / "a.wav", hiss, 48_000, "FLOAT"), model=net)
    power = np.abs(np.fft.rfft(soundfile.read(tmp_path / "a.enhanced.wav")[0])) ** 2  # bins of 1/3 Hz
    assert power[3 * 8_100 :].mean() < 1e-6 * power[: 3 * 7_000].mean()


def test_a_wav_file_beyond_its_own_length_field_becomes_rf64(net, tmp_path, monkeypatch):
    monkeypatch.setattr(enhancing, "WAV_BYTES", 1_000)
    noisy = write(tmp_path / "a.wav", np.full(8_000, 0.1))
    assert enhance_recordings(noisy, model=net).failed == {}
    about = soundfile.info(tmp_path / "a.enhanced.wav")
    assert (about.format, about.subtype, about.frames) == ("RF64", "PCM_16", 8_000)
